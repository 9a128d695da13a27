"""How long a writer would have waited: measured beside a statement, on the tables that it locks.

A probe asks for the lock of a writer again and again and touches no row: ``SELECT ... WHERE FALSE FOR UPDATE`` takes
the table's metadata lock as an INSERT does, logs nothing and fires no trigger. It needs no right to see other
connections' statements, and finds what a look at the process list every few milliseconds would miss.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from dbmigrate.domain.errors import DbmigrateError
from dbmigrate.domain.schema import TableName
from dbmigrate.mysql.dependents import OWN_MARK
from dbmigrate.mysql.identifiers import quote_table
from dbmigrate.mysql.sessions import Endpoint, SessionPool

BETWEEN_SECONDS = 0.005
_PATIENT = ("SET lock_wait_timeout = 600, wait_timeout = 600",)


class StallMeter:
    """Measures while the block lasts. ``longest_seconds`` is None where nothing could be measured."""

    def __init__(
        self, endpoint: Endpoint, tables: Sequence[TableName], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._pool = SessionPool(endpoint, statements=_PATIENT)
        self._tables, self._clock = tables, clock
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self.longest_seconds: float | None = None

    def __enter__(self) -> StallMeter:
        for table in self._tables:
            is_ready = threading.Event()
            thread = threading.Thread(target=self._probe, args=(table, is_ready), name="stall-probe", daemon=True)
            thread.start()
            self._threads.append(thread)
            is_ready.wait(5)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        self._pool.close()

    def _probe(self, table: TableName, is_ready: threading.Event) -> None:
        statement = f"SELECT 1 AS {OWN_MARK} FROM {quote_table(table)} WHERE FALSE FOR UPDATE"
        try:
            with self._pool.borrow() as session:
                while True:
                    began_at = self._clock()
                    session.execute(statement, doing="probing a table")
                    self._note(self._clock() - began_at)
                    is_ready.set()
                    if self._ended.wait(BETWEEN_SECONDS):
                        return
        except DbmigrateError:  # the table is not there (any more), or may not be locked by this account
            is_ready.set()

    def _note(self, seconds: float) -> None:
        with self._lock:
            self.longest_seconds = max(self.longest_seconds or 0.0, seconds)
