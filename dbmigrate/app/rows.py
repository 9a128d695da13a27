"""The fence row as the application sees it: read, locked and completed through any SQLAlchemy connection.

Apart from ``mysql.fence``, which is the runner's side of the same row: an application comes with its own driver, its
own session settings and an account that may do little, so nothing here goes beyond plain SQL text.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from dbmigrate.domain.errors import ConfigurationError, FatalError
from dbmigrate.domain.ownership import FenceRow
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Side

_SELECT = "SELECT epoch, owner, phase, mirror, read_share, shadow_share FROM _dbmigrate.fence WHERE migration_id = :id"
_READ = sa.text(_SELECT)
_LOCK = sa.text(_SELECT.replace(" FROM", ", @@SESSION.autocommit AS keeps_no_lock FROM", 1) + " LOCK IN SHARE MODE")
_COMPLETE = sa.text(
    "UPDATE _dbmigrate.fence SET owner = :owner, phase = :phase, mirror = :mirror, read_share = :read_share, "
    "shadow_share = :shadow_share, epoch = :epoch WHERE migration_id = :id AND epoch < :epoch"
)

_NOT_THERE = frozenset({1049, 1146})  # no such database, no such table
_NOT_ALLOWED = frozenset({1044, 1142, 1143})
CONNECTION_LOST = frozenset({2002, 2003, 2006, 2013, 2055, 1053, 1927, 3169, 4031})


def error_number(fault: BaseException | None) -> int:
    """The server's or client library's error number in a driver's exception, whatever the driver; 0 without one."""
    original = getattr(fault, "orig", None) or fault
    number = getattr(original, "errno", None)
    if isinstance(number, int):
        return number
    given = getattr(original, "args", ())
    return given[0] if given and isinstance(given[0], int) else 0


def read_row(connection: sa.Connection, migration_id: str) -> FenceRow | None:
    """What the side's row says at this moment; None where it has none, or no control tables.

    Raises:
        ConfigurationError: the account may not read it.
    """
    return _fetch(connection, _READ, migration_id)


def lock_row(connection: sa.Connection, migration_id: str) -> FenceRow | None:
    """The same, and nobody changes the row before the connection's transaction ends.

    Waits while a switch is being made. As a locking read it makes no snapshot: plain reads after it see what was
    committed before the lock was granted.

    Raises:
        ConfigurationError: the connection commits by itself, so the lock is gone already.
    """
    return _fetch(connection, _LOCK, migration_id)


def _fetch(connection: sa.Connection, statement: sa.TextClause, migration_id: str) -> FenceRow | None:
    try:
        found = connection.execute(statement, {"id": migration_id}).one_or_none()
    except sa.exc.DBAPIError as fault:
        number = error_number(fault)
        if number in _NOT_THERE:
            return None
        if number in _NOT_ALLOWED:
            raise ConfigurationError(
                "the application's account may not read the fence row", place=_place(connection),
                cause=f"error {number}", hint="GRANT SELECT, UPDATE ON _dbmigrate.fence to it, on both servers",
            ) from fault  # fmt: skip
        raise
    if found is not None and getattr(found, "keeps_no_lock", False):
        raise ConfigurationError(
            "a write in autocommit cannot be held back during a switch", place=_place(connection),
            cause="the connection's isolation level is AUTOCOMMIT", hint="write in a transaction; only reads may do so",
        )  # fmt: skip
    return None if found is None else _parse(found)


def _parse(found: Any) -> FenceRow:
    try:
        return FenceRow(
            int(found.epoch), Side(found.owner), Phase(found.phase), mirror=bool(found.mirror),
            read_share=float(found.read_share), shadow_share=float(found.shadow_share),
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
