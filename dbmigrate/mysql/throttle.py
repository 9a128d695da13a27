"""Sparing the servers: when a copy or a backfill must hold its breath.

Fails closed: a load that cannot be read counts as too high. Apart from the copier because backfills of the lanes obey
the same limits.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Protocol

from dbmigrate.domain.errors import DbmigrateError
from dbmigrate.mysql.pacing import Pacer

LOOK_SECONDS = 0.5
FIRST_GAP_SECONDS = 0.5
LEAST_GAP_SECONDS = 0.05
MOST_GAP_SECONDS = 8.0
"""Between the starts of two chunks. The copy never stops altogether: it would not be seen that it may go on."""
WAIT_FOR_OTHERS_SECONDS = 0.02


class Limits(Protocol):
    """What the operator allows; ``config.ThrottleSection`` is one."""

    @property
    def max_threads_running(self) -> int | None: ...
    @property
    def max_replica_lag_seconds(self) -> float | None: ...
    @property
    def max_rows_per_second(self) -> int | None: ...
    @property
    def max_source_write_ms(self) -> float | None: ...
    def is_open(self, at: datetime) -> bool:
        """Whether work is allowed at this time."""


class Throttle:
    """Decides before every chunk whether it may start. Thread-safe.

    ``load_readings`` give the number of running threads of each server, ``lag_readings`` the lag in seconds of
    each watched replica, ``measure_write`` the seconds that a small write takes on the source; readings are cached for
    half a second. With a limit in milliseconds chunks start apart: ever further while writes take too long, ever closer
    where they do not, so that a source with room to spare is read at full speed after some seconds.
    Without a limit in milliseconds the ``pacer`` decides for what share of the time rows are read: in short reads where
    chunks are begun with ``reading``, otherwise by starting them apart.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        load_readings: Sequence[Callable[[], int]],
        lag_readings: Sequence[Callable[[], float]] = (),
        measure_write: Callable[[], float] | None = None,
        pacer: Pacer | None = None,
        clock: Callable[[], float],
        now: Callable[[], datetime],
        sleep: Callable[[float], object],
    ) -> None:
        self._limits = limits
        self._load_readings = load_readings
        self._lag_readings = lag_readings
        self._measure_write = measure_write
        self._pacer = pacer
        self._gap_seconds = FIRST_GAP_SECONDS if limits.max_source_write_ms is not None and measure_write else 0.0
        self._clock = clock
        self._now = now
        self._sleep = sleep
        self._lock = threading.Lock()
        self._checked_at = float("-inf")
        self._reason = ""
        self._may_start_at = float("-inf")
        self._short_reads = threading.Lock()
        self.is_paused = False

    @property
    def reason(self) -> str:
        """Why work waits now; empty when it does not."""
        if self.is_paused:
            return "paused by the operator"
        return self._reason or (self._pacer.reason if self._pacer else "")

    @property
    def spaces_chunks(self) -> bool:
        """Whether chunks start apart, by a limit in milliseconds."""
        return self._gap_seconds > 0

    @property
    def holds_back(self) -> bool:
        """Whether rows are read for a part of the time only."""
        return self.spaces_chunks or (self._pacer is not None and self._pacer.share < 1.0)

    def watch_changes(self, read_changes: Callable[[], int]) -> None:
        """Take this number's movement for changes by the application."""
        if self._pacer:
            self._pacer.read_changes = read_changes

    def record_read(self, seconds: float) -> None:
        """Account for a chunk that took so long to read."""
        if self._pacer:
            self._pacer.record_read(seconds)

    def wait(self, should_stop: Callable[[], bool]) -> None:
        """Return when a chunk may start, or when ``should_stop``."""
        while not should_stop():
            wait_seconds = self._wait_seconds()
            if wait_seconds <= 0:
                return
            self._sleep(min(wait_seconds, 0.25))

    @contextmanager
    def reading(self, should_stop: Callable[[], bool]) -> Iterator[float]:
        """Wait as ``wait`` does, and hold the chunk's share of the time: below 1.0 it has to be read in short reads, no more of
        the time than that, and no other such chunk begins before it has ended."""
        while not should_stop():
            if self._pacer is None or self._pacer.share >= 1.0:
                self.wait(should_stop)
                break
            if not self._short_reads.acquire(blocking=False):
                self._sleep(WAIT_FOR_OTHERS_SECONDS)
                continue
            try:
                wait_seconds = self._wait_seconds(in_short_reads=True)
                if wait_seconds <= 0:
                    yield self._pacer.share
                    return
            finally:
                self._short_reads.release()
            self._sleep(min(wait_seconds, 0.25))
        yield 1.0

    def record_rows(self, rows: int) -> None:
        """Account for copied rows, for the limit in rows per second."""
        rate = self._limits.max_rows_per_second
        if rate:
            with self._lock:
                self._may_start_at = max(self._may_start_at, self._clock()) + rows / rate

    def _wait_seconds(self, *, in_short_reads: bool = False) -> float:
        with self._lock:
            now = self._clock()
            if now - self._checked_at >= LOOK_SECONDS or (self._pacer and self._pacer.is_blind):
                self._checked_at, self._reason = now, self._find_reason()
            if self.is_paused or self._reason:
                return 0.25
            if self._may_start_at > now:
                return self._may_start_at - now
            gap = max(self._gap_seconds, self._pacer.begin_chunk(in_short_reads=in_short_reads) if self._pacer else 0.0)
            if gap:
                self._may_start_at = now + gap
            return 0.0

    def _find_reason(self) -> str:
        if not self._limits.is_open(self._now()):
            return "outside the allowed time windows"
        try:
            self._adapt_gap()
            if self._pacer:
                self._pacer.look()
            return self._find_load() or self._find_lag()
        except DbmigrateError as fault:
            return f"the load cannot be read: {fault.message}"

    def _adapt_gap(self) -> None:
        """Twice as far apart at each look while writes on the source take too long, a quarter closer otherwise."""
        limit = self._limits.max_source_write_ms
        if limit is None or self._measure_write is None:
            return
        if self._measure_write() * 1000 > limit:
            self._gap_seconds = min(MOST_GAP_SECONDS, max(LEAST_GAP_SECONDS, self._gap_seconds * 2))
        else:
            self._gap_seconds = self._gap_seconds * 0.75 if self._gap_seconds > LEAST_GAP_SECONDS else 0.0

    def _find_load(self) -> str:
        limit = self._limits.max_threads_running
        if limit is None:
            return ""
        highest = max((read() for read in self._load_readings), default=0)
        return f"{highest} threads running, limit {limit}" if highest > limit else ""

    def _find_lag(self) -> str:
        limit = self._limits.max_replica_lag_seconds
        if limit is None:
            return ""
        highest = max((read() for read in self._lag_readings), default=0.0)
        return f"replica lag {highest:.1f} s, limit {limit:.1f} s" if highest > limit else ""
