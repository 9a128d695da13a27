"""The fence row as the application sees it: read, locked and completed through any SQLAlchemy connection.

Apart from ``mysql.fence``, which is the runner's side of the same row: an application comes with its own driver, its
own session settings and an account that may do little, so nothing here goes beyond plain SQL text.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from dbmigrate.app.faults import error_number, is_missing, is_refused
from dbmigrate.domain.errors import ConfigurationError, FatalError
from dbmigrate.domain.ownership import FenceRow
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Side
from dbmigrate.mysql.identifiers import quote_string

_COLUMNS = "epoch, owner, phase, mirror, read_share, shadow_share"
_FROM = "FROM _dbmigrate.fence WHERE migration_id ="
_AS_IT_IS = {"no_parameters": True}
_COMPLETE = sa.text(
    "UPDATE _dbmigrate.fence SET owner = :owner, phase = :phase, mirror = :mirror, read_share = :read_share, "
    "shadow_share = :shadow_share, epoch = :epoch WHERE migration_id = :id AND epoch < :epoch"
)

def read_row(connection: sa.Connection, migration_id: str) -> FenceRow | None:
    """What the side's row says at this moment; None where it has none, or no control tables.

    Raises:
        ConfigurationError: the account may not read it.
    """
    return _fetch(connection, f"SELECT {_COLUMNS}, 0 {_FROM} {quote_string(migration_id)}")


def lock_row(connection: sa.Connection, migration_id: str) -> FenceRow | None:
    """The same, and nobody changes the row before the connection's transaction ends.

    Waits while a switch is being made. As a locking read it makes no snapshot: plain reads after it see what was
    committed before the lock was granted.

    Raises:
        ConfigurationError: the connection commits by itself, so the lock is gone already.
    """
    return _fetch(
        connection,
        f"SELECT {_COLUMNS}, @@SESSION.autocommit {_FROM} {quote_string(migration_id)} LOCK IN SHARE MODE",
    )


def read_other_ids(connection: sa.Connection) -> list[str]:
    """The migrations that have a row on this side; none where there are no control tables, or they may not be read."""
    try:
        return list(connection.exec_driver_sql("SELECT migration_id FROM _dbmigrate.fence LIMIT 5").scalars())
    except sa.exc.DBAPIError:
        return []


def _fetch(connection: sa.Connection, statement: str) -> FenceRow | None:
    """As plain text: every write transaction pays for this, and a construct costs as much again as the server."""
    try:
        found = connection.exec_driver_sql(statement, execution_options=_AS_IT_IS).fetchone()
    except sa.exc.DBAPIError as fault:
        if is_missing(fault):
            return None
        if is_refused(fault):
            raise ConfigurationError(
                "the application's account may not read the fence row", place=_place(connection),
                cause=f"error {error_number(fault)}", hint="GRANT SELECT, UPDATE ON _dbmigrate.fence to it, on both servers",
            ) from fault  # fmt: skip
        raise
    if found is None:
        return None
    *values, commits_by_itself = found
    if commits_by_itself:
        raise ConfigurationError(
            "a write in autocommit cannot be held back during a switch", place=_place(connection),
            cause="the connection's isolation level is AUTOCOMMIT", hint="write in a transaction; only reads may do so",
        )  # fmt: skip
    return _parse(*values)


def _parse(epoch: Any, owner: Any, phase: Any, mirror: Any, read_share: Any, shadow_share: Any) -> FenceRow:
    try:
        return FenceRow(
            int(epoch), Side(owner), Phase(phase), mirror=bool(mirror), read_share=float(read_share),
            shadow_share=float(shadow_share),
        )  # fmt: skip
    except ValueError as fault:
        raise FatalError(
            "the fence row says something that this version of dbmigrate does not know", place="_dbmigrate.fence",
            cause=str(fault), hint="deploy the application with the version of dbmigrate that runs the migration",
        ) from fault  # fmt: skip


def complete_row(connection: sa.Connection, migration_id: str, row: FenceRow) -> None:
    """Make a side's row say what the other side's already says, unless it says something later.

    The switch commits the giving side's row first. Whoever comes between the two commits makes the second himself,
    because after the first one nothing can call the switch back.
    """
    connection.execute(
        _COMPLETE,
        {
            "id": migration_id, "epoch": row.epoch, "owner": row.owner.value, "phase": row.phase.value,
            "mirror": row.mirror, "read_share": row.read_share, "shadow_share": row.shadow_share,
        },
    )  # fmt: skip


def _place(connection: sa.Connection) -> str:
    url = connection.engine.url
    return f"{url.host or 'localhost'}:{url.port or 3306}"
