"""Which tables and columns an instance of the application maps: what it says of itself before something is dropped."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InstanceMapping:
    """One live instance. ``columns`` holds ``table.column`` in lower case; None where it has reported none."""

    instance_id: str
    host: str
    pid: int
    columns: frozenset[str] | None

    def may_use(self, table: str, column: str) -> bool:
        """Whether it maps the column (or, without one, any of the table); yes, where nobody knows."""
        if self.columns is None:
            return True
        if column:
            return f"{table}.{column}".lower() in self.columns
        return any(name.startswith(f"{table.lower()}.") for name in self.columns)

    def describe(self) -> str:
        """For a message."""
        unknown = " (it reports no columns)" if self.columns is None else ""
        return f"{self.instance_id} on {self.host} (pid {self.pid}){unknown}"


def list_columns(tables: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """``table.column`` in lower case, sorted."""
    return tuple(sorted(f"{table}.{column}".lower() for table, columns in tables.items() for column in columns))


def digest_columns(columns: Iterable[str]) -> str:
    """What changes when the list does."""
    return hashlib.sha256("\n".join(columns).encode()).hexdigest()
