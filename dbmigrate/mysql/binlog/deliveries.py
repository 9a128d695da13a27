"""What a reader hands over, and the error that lets the caller start anew.

Apart from the reader so that code that only takes deliveries, and its tests, need neither a socket nor a
driver.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from dbmigrate.domain.errors import FatalError
from dbmigrate.domain.keys import Key
from dbmigrate.domain.positions import Position
from dbmigrate.domain.schema import TableName


@dataclass(frozen=True, slots=True)
class Truncated:
    """A followed table was emptied. ``position`` is the boundary behind it."""

    table: TableName
    position: Position


@dataclass(frozen=True, slots=True)
class SchemaChanged:
    """DDL that touches followed tables, or, with no ``tables``, that cannot be told not to.

    ``schema`` is the default database of the session; ``position`` the boundary behind the statement.
    """

    statement: str
    schema: str
    tables: tuple[TableName, ...]
    position: Position


ChangeEvent: TypeAlias = Truncated | SchemaChanged


@dataclass(frozen=True, slots=True)
class Delivery:
    """Everything decoded between two reads.

    ``keys`` are in order of arrival, duplicates included. ``events`` holds at most one, and it came after the
    keys of this delivery and before those of the next. ``position`` is the last transaction boundary reached:
    a reader that starts there delivers again whatever came after it. It does not pass an XA transaction that
    is prepared and not decided. ``rows`` counts row changes, an update as one. ``is_boundary``: nothing that
    comes after ``position`` has been delivered yet.
    """

    keys: Mapping[TableName, list[Key]]
    events: tuple[ChangeEvent, ...]
    position: Position
    rows: int = field(default=0)
    is_boundary: bool = field(default=True)


class PositionLost(FatalError):  # noqa: N818 - named for what happened, as callers resync on it
    """The stream cannot go on from this position and never will: start from now, then verify with repair."""
