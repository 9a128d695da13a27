"""The keys flushed since the last verification: what is still unproved at the switch.

Bounded: past the bound it only remembers that too much changed, and a new verification is due.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

from dbmigrate.domain.keys import Key
from dbmigrate.domain.schema import TableName

MOST_KEYS = 500_000


class TouchedKeys:
    """A set of keys by table that is emptied by taking it. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keys: dict[TableName, set[Key]] | None = {}

    def add(self, keys: Mapping[TableName, Iterable[Key]]) -> None:
        """Remember keys that were written."""
        with self._lock:
            if self._keys is None:
                return
            for table, found in keys.items():
                self._keys.setdefault(table, set()).update(found)
            if sum(map(len, self._keys.values())) > MOST_KEYS:
                self._keys = None

    def count(self) -> int | None:
        """How many keys are remembered; None when there were too many."""
        with self._lock:
            return None if self._keys is None else sum(map(len, self._keys.values()))

    def take(self) -> dict[TableName, list[Key]] | None:
        """The keys since the last call, then start anew; None when there were too many to remember."""
        with self._lock:
            taken, self._keys = self._keys, {}
        return None if taken is None else {table: list(found) for table, found in taken.items()}
