"""What a transaction has written so far: keys by table, and statements whose rows nobody knows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import sqlalchemy as sa

from dbmigrate.mysql.mirror_plan import MirrorPlan

KeyValues: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Touched:
    """Rows of one table: key columns as the application types them, and their values.

    The rows named may be more than those that changed, never fewer.
    """

    plan: MirrorPlan
    columns: tuple[sa.ColumnClause[Any], ...]
    keys: tuple[KeyValues, ...]


class TouchedRows:
    """Of one transaction; used by one thread at a time."""

    def __init__(self) -> None:
        self._noted: list[Touched] = []
        self._marks: dict[str, int] = {}

    def note(self, touched: Touched) -> None:
        """These rows were written."""
        self._noted.append(touched)

    def mark(self, name: str) -> None:
        """A savepoint begins; one of the same name is replaced, as in SQL."""
        self._marks[name] = len(self._noted)

    def rollback_to(self, name: str) -> None:
        """What was written since the savepoint was not. Without a mark of that name everything stays noted, which is
        right too: rows are read back as they are."""
        del self._noted[self._marks.get(name, len(self._noted)) :]

    def collect(self) -> list[Touched]:
        """One entry a table, each key once."""
        by_table: dict[Any, tuple[Touched, dict[KeyValues, None]]] = {}
        for touched in self._noted:
            _, keys = by_table.setdefault(touched.plan.origin, (touched, {}))
            keys.update(dict.fromkeys(touched.keys))
        return [Touched(first.plan, first.columns, tuple(keys)) for first, keys in by_table.values()]


def as_key(values: Iterable[Any]) -> KeyValues:
    """A key that can be compared with others: driver values that cannot be hashed become bytes."""
    return tuple(bytes(value) if isinstance(value, bytearray | memoryview) else value for value in values)
