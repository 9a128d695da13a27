"""What the session hands over of a read that the owner has answered, and what the reader asks back.

Apart from the reader, because the session speaks these words on the user's thread and needs nothing else for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Protocol

import sqlalchemy as sa

Row = tuple[Any, ...]
Parameters = Mapping[str, Any] | Sequence[Any] | None


class ResultColumn(NamedTuple):
    """A column of a result: its name, and its type as a number of the client protocol where the driver tells it."""

    name: str
    type_code: int | None = None


def columns_of(description: Sequence[Sequence[Any]] | None) -> tuple[ResultColumn, ...]:
    """The columns of a DB-API ``cursor.description``."""
    return tuple(
        ResultColumn(str(each[0]), each[1] if isinstance(each[1], int) else None) for each in description or ()
    )


@dataclass(frozen=True, slots=True)
class Reading:
    """One answer of one side; ``is_truncated`` where rows beyond the limit were not taken."""

    columns: tuple[ResultColumn, ...]
    rows: Sequence[Row]
    is_truncated: bool = False


@dataclass(frozen=True, slots=True)
class ControlRead:
    """A SELECT that the owner has answered outside of a transaction with uncommitted writes.

    ``sql`` and ``parameters`` are what the driver was given, ``rows`` what it gave back: tuples, before SQLAlchemy's
    types have changed them. Nothing of it may be changed after ``submit``. ``seconds`` is how long the owner took.
    ``is_ordered`` False says that the order means nothing to the caller; otherwise the statement decides. ``tables``
    are the names of the tables that the caller knows of, for mismatches of statements that cannot be parsed.
    """

    sql: str
    parameters: Parameters
    columns: Sequence[tuple[str, int | None]]
    rows: Sequence[Row]
    seconds: float
    is_ordered: bool = True
    tables: tuple[str, ...] = ()
    read_at: datetime | None = None


class Recheck(Protocol):
    """What it takes to read a difference again."""

    @property
    def control_engine(self) -> sa.Engine:
        """Connects to the owner. Only read from, over connections of the reader's own."""
        ...

    def wait_for_stream(self, timeout_seconds: float) -> bool:
        """Wait until everything that the owner had committed before this call is visible on the candidate.

        Called from the reader's threads, several at a time. False when it was not so within the time.
        """
        ...
