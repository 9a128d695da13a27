"""A session as the application: the same driver and the same mapping of faults as everywhere, another account."""

from __future__ import annotations

from collections.abc import Sequence

from dbmigrate.mysql.sessions import Session, connect_as
from dbmigrate.rehearsal.workload.following import ConnectionParameters


def connect(parameters: ConnectionParameters, statements: Sequence[str]) -> Session:
    """A session, set up by ``statements``.

    Raises:
        DbmigrateError: it cannot be opened.
    """
    session = connect_as(
        parameters.host, parameters.port, parameters.user, parameters.password, place="the workload",
        schema=parameters.database,
    )  # fmt: skip
    try:
        for statement in statements:
            session.execute(statement, doing="setting up a session")
    except BaseException:
        session.close()
        raise
    return session
