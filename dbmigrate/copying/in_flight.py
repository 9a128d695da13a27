"""Which chunks are being copied right now.

The stream must not flush a key while a chunk that may hold an older version of its row is on the way: it waits for
the chunks that were in flight when it asked, not for later ones, which see the change behind their own barrier.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from dbmigrate.domain.schema import TableName


class ChunksInFlight:
    """Registry of running chunks, by table. Thread-safe."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._running: dict[int, TableName] = {}
        self._next_ticket = 0

    @contextmanager
    def running(self, table: TableName) -> Iterator[None]:
        """Hold a ticket from before the chunk's barrier until its rows are committed."""
        with self._condition:
            ticket = self._next_ticket
            self._next_ticket += 1
            self._running[ticket] = table
        try:
            yield
        finally:
            with self._condition:
                del self._running[ticket]
                self._condition.notify_all()

    def wait_for(self, tables: Collection[TableName]) -> None:
        """Return once the chunks of these tables that are in flight now have ended."""
        with self._condition:
            waited_for = {ticket for ticket, table in self._running.items() if table in tables}
            self._condition.wait_for(lambda: not (waited_for & self._running.keys()))
