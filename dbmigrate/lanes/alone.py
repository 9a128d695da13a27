"""One runner at a time: a session with the settings of the lanes, which holds the lock of a database.

The lock belongs to the session that executes the steps. Should its client die in the middle of a long ALTER, the
server goes on with it and keeps the lock until it has ended: nobody can begin beside it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from dbmigrate.domain.errors import RefusedError
from dbmigrate.mysql.identifiers import quote_identifier, quote_string
from dbmigrate.mysql.processlist import hide_values, read_connections
from dbmigrate.mysql.sessions import Endpoint, Session, SessionPool

LOCK_WAIT_SECONDS = 5
"""Long enough for the server to notice that a client has gone."""

_SETTINGS = (
    "SET time_zone = '+00:00', foreign_key_checks = 1, wait_timeout = 600, net_read_timeout = 600, "
    "sql_mode = CONCAT_WS(',', NULLIF(@@GLOBAL.sql_mode, ''), 'STRICT_TRANS_TABLES')",
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
)


def build_lock_name(schema: str) -> str:
    """The lock of a database; names of any length become one that every server takes."""
    return f"dbmigrate_lanes_{hashlib.sha256(schema.encode()).hexdigest()[:32]}"


@contextmanager
def working_alone(endpoint: Endpoint, schema: str) -> Iterator[Session]:
    """A session inside ``schema``, while nobody else runs its lanes.

    Raises:
        RefusedError: somebody does; their connection is named.
    """
    pool = SessionPool(endpoint, statements=(*_SETTINGS, f"USE {quote_identifier(schema)}"))
    session = pool.open()
    try:
        name = quote_string(build_lock_name(schema))
        if session.fetch_value(f"SELECT GET_LOCK({name}, {LOCK_WAIT_SECONDS})", doing="locking the lanes") != b"1":
            raise RefusedError(
                f"another runner works on the lanes of {schema}", place=endpoint.place, cause=_describe_holder(session, name),
                hint="let it end; if its client is dead, the server is still busy with its last statement",
            )  # fmt: skip
        yield session
    finally:
        session.close()


def _describe_holder(session: Session, name: str) -> str:
    holder = int(session.fetch_value(f"SELECT IS_USED_LOCK({name})") or 0)
    if not holder:
        return "it has ended just now"
    found = read_connections(session, whole_statements=True).get(holder)
    if found is None:
        return f"connection {holder}"
    doing = f", {hide_values(found.statement)}" if found.statement else ""
    return f"connection {holder} of {found.account}, {found.command} for {found.seconds} s{doing}"
