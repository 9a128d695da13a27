"""How one table's rows travel: which columns, computed how, under which name, found by which key.

A route is the only thing copier, stream and verifier know about a table, so a rename, a filter or a column
expression of the configuration holds for all three or for none.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from dbmigrate.domain.schema import Column, Table, TableName


class Side(Enum):
    """The two databases of a migration, by their fixed roles."""

    SOURCE = "source"
    TARGET = "target"

    @property
    def other(self) -> Side:
        """The side across."""
        return Side.TARGET if self is Side.SOURCE else Side.SOURCE


class Direction(Enum):
    """Which way changes are streamed."""

    FORWARD = "forward"
    REVERSE = "reverse"

    @property
    def origin(self) -> Side:
        """The side whose binlog is read."""
        return Side.SOURCE if self is Direction.FORWARD else Side.TARGET


@dataclass(frozen=True, slots=True)
class CarriedColumn:
    """One column written on the destination.

    ``expression`` is SQL over the origin's columns, given by the configuration; None means that ``origin`` is
    carried as it is.
    """

    destination: Column
    origin: Column | None = None
    expression: str | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """The way of one table from an origin to a destination (source to target, or back).

    ``destination_key`` names the destination's columns that hold the origin's key, in the order of that key.
    ``where`` limits which rows of the origin belong; a row that leaves it is deleted on the destination.
    """

    origin: Table
    destination: Table
    columns: tuple[CarriedColumn, ...]
    destination_key: tuple[str, ...]
    where: str | None = None

    @property
    def name(self) -> TableName:
        """The origin's table: the name under which its keys are pending."""
        return self.origin.name

    def destination_name(self, origin_column: str) -> str:
        """What an origin's column is called on the destination; its own name where it is not carried as it is."""
        for carried in self.columns:
            if carried.origin is not None and carried.origin.name.casefold() == origin_column.casefold():
                return carried.destination.name
        return origin_column

    @property
    def allows_parallel_batches(self) -> bool:
        """Whether two batches of this table may be written at once.

        Not where a write can evict another row (a secondary unique key on the destination), and not where two
        different literals can mean one row (keys that a collation compares).
        """
        if self.destination.secondary_unique_indexes:
            return False
        return all(column.collation in (None, "binary") for column in self.origin.key_columns)
