"""How far the stream is, for somebody who is not the runner: the application, which waits before it reads again.

The runner commits numbered beats on the origin and notes the last one that it has worked off on the target. Commits become
visible in binlog order, so whatever is visible on the origin while beat ``b`` is its newest stands before ``b + 1`` in the
binlog, and is on the target once ``b + 1`` was worked off.
"""

from __future__ import annotations

import sqlalchemy as sa

from dbmigrate.domain.routes import Direction

_NEWEST = sa.text("SELECT MAX(beat) FROM _dbmigrate.heartbeat WHERE migration_id = :id")
_REACHED = sa.text("SELECT beat FROM _dbmigrate.checkpoint WHERE migration_id = :id AND direction = :direction")


def read_newest_beat(origin: sa.Connection, migration_id: str) -> int | None:
    """The newest beat that is visible on the origin; None before the first."""
    found = origin.execute(_NEWEST, {"id": migration_id}).scalar()
    return None if found is None else int(found)


def read_reached_beat(target: sa.Connection, migration_id: str, direction: Direction) -> int | None:
    """The last beat of which the target knows that everything before it was worked off; up to a second old."""
    found = target.execute(_REACHED, {"id": migration_id, "direction": direction.value}).scalar()
    return None if found is None else int(found)
