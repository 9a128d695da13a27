"""Leaving the source to the application: which share of the time chunks may be read while it writes.

The throttle's default. Nobody has to know a limit: small writes made while a chunk is read are compared with the same
writes made while none is. The share begins small and is four times as large at each judgement until writes take too long; then it
is quartered at each that says they do, and grows slowly. So a source with room to spare is soon read at full
speed, and one without is read in rare moments, in which few of the application's writes fall: what a percentile of theirs
takes cannot be promised by slower reading, only by seldom reading (record 19 of the decisions: on a source with one core
500 rows every 3 ms make the p99 of writes 4.6 ms, 10,000 rows every second leave it at the 1.5 ms that it is without).
"""

from __future__ import annotations

import logging
import statistics
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

log = logging.getLogger(__name__)

FIRST_SHARE = 1 / 64
"""Where it begins, as nothing is known then: one judgement later a source without room is left alone, after three one with
room is read at full speed."""
LEAST_SHARE = 1 / 256
"""The copy never stops altogether: it would not be seen that it may go on."""
MOST_GAP_SECONDS = 30.0
FALL = 4.0
FIRST_RISE = 4.0
RISE = 2 ** (1 / 10)
"""Growth where writes were quick, after the first judgement that they were not, and at a chunk too short for one."""
LEAST_LIMIT_SECONDS = 0.001
"""Writes may take as long as this in any case."""
CALIBRATING_WRITES = 20
KEPT_WRITES = 40
WRITING_SECONDS = 2.0
"""An application counts as writing for so long after a change of its own."""
WRITES_A_CHUNK = 8
JUDGED_WRITES = 24
"""A judgement needs so many. On a source with one core a fifth to a half of the writes are slow beside a chunk. If it is a fifth,
at most one in sixteen seems slow to one judgement in three where it is of five writes, one in six of eight, one in seven of
sixteen and one in thirty of twenty-four; and two or three that luck made good are enough to read a table at full speed."""
TOO_MANY_SLOW, FEW_SLOW = 1 / 8, 1 / 16
"""Of the writes judged, the former besides as many as are slow while no chunk is read; between the two nothing changes."""
BETWEEN_WRITES_SECONDS = 0.005
BETWEEN_PROBES_SECONDS = 0.1


@dataclass
class _Probe:
    """Writes made since a chunk began: after how many seconds, and how long they took."""

    writes: list[tuple[float, float]] = field(default_factory=list)
    is_over: bool = False


def _begin_thread(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="pacer-probe", daemon=True).start()


class Pacer:
    """Finds the share of time for reading the source by its effect on writes. Thread-safe.

    ``time_write`` commits a small write on the source and returns its seconds; ``factor`` says how many times the median
    without a copy it may take. ``read_changes`` returns a number that moves whenever the application changes a row.
    ``begin_chunk`` and ``record_read`` of one chunk are called by one thread.
    """

    def __init__(
        self,
        factor: float,
        *,
        time_write: Callable[[], float],
        clock: Callable[[], float],
        sleep: Callable[[float], object],
        in_background: Callable[[Callable[[], None]], None] = _begin_thread,
    ) -> None:
        self._factor, self._time_write = factor, time_write
        self._clock, self._sleep, self._in_background = clock, sleep, in_background
        self.read_changes: Callable[[], int] = lambda: 0
        self._lock = threading.Lock()
        self._quiet: deque[float] = deque(maxlen=KEPT_WRITES)
        self._share, self._was_slow = FIRST_SHARE, False
        self._slowest = 0.0
        self._judged: list[float] = []
        self._own = threading.local()
        self._read_seconds = 0.0
        self._changes, self._changed_at = 0, float("-inf")
        self._probed_at = float("-inf")

    @property
    def share(self) -> float:
        """The share of the time in which chunks are read, 1.0 where nothing holds them back."""
        with self._lock:
            return self._share if self._is_writing() else 1.0

    @property
    def reason(self) -> str:
        """Why chunks are read for a part of the time only; empty when they are not held back."""
        with self._lock:
            if not self._is_writing() or self._share >= 1.0 or not self._was_slow:
                return ""
            return (
                f"chunks are read {self._share:.1%} of the time: a write on the source took {1000 * self._slowest:.1f} ms "
                f"meanwhile, limit {1000 * self._find_limit():.1f} ms"
            )

    def look(self) -> None:
        """Notice whether the application writes, and how long a write takes without us. Call twice a second, while no
        chunk is known to be read.

        Raises:
            DbmigrateError: the source does not answer.
        """
        changes = self.read_changes()
        with self._lock:
            if changes != self._changes:
                self._changes, self._changed_at = changes, self._clock()
            if not self._is_writing() or self._share > 0.5:
                return
            wanted = 1 if self._quiet else CALIBRATING_WRITES
        seconds = [self._time_write() for _ in range(wanted)]
        with self._lock:
            self._quiet.extend(seconds)

    def begin_chunk(self) -> float:
        """A chunk starts now; returns after how many seconds the next may, 0.0 where nothing holds it back."""
        self._own.probe = None
        with self._lock:
            if not self._is_writing() or not self._quiet:
                return 0.0
            now = self._clock()
            if now - self._probed_at >= BETWEEN_PROBES_SECONDS:
                self._probed_at = now
                self._own.probe = probe = _Probe()
                self._in_background(lambda: self._time_writes(probe))
            return min(MOST_GAP_SECONDS, self._read_seconds / self._share) if self._share < 1.0 else 0.0

    def record_read(self, seconds: float) -> None:
        """The chunk took so long to read: judge the writes made meanwhile, as soon as there are enough."""
        probe: _Probe | None = getattr(self._own, "probe", None)
        with self._lock:
            self._read_seconds = seconds
            if probe is None:
                return
            probe.is_over = True
            writes = [took for began, took in probe.writes if began < seconds]
            self._judged += writes
            if not writes:  # too short for one
                self._share = min(1.0, self._share * RISE)
            elif len(self._judged) >= JUDGED_WRITES:
                self._judge()

    def _judge(self) -> None:
        slow = [took for took in self._judged if took > self._find_limit()]
        share_slow = len(slow) / len(self._judged)
        self._judged.clear()
        if share_slow >= TOO_MANY_SLOW + self._find_share_slow_without():
            self._was_slow, self._slowest = True, max(slow)
            self._share = max(LEAST_SHARE, self._share / FALL)
        elif share_slow <= FEW_SLOW:
            self._share = min(1.0, self._share * (RISE if self._was_slow else FIRST_RISE))

    def _is_writing(self) -> bool:
        return self._clock() - self._changed_at < WRITING_SECONDS

    def _find_limit(self) -> float:
        return max(LEAST_LIMIT_SECONDS, self._factor * statistics.median(self._quiet))

    def _find_share_slow_without(self) -> float:
        limit = self._find_limit()
        return sum(took > limit for took in self._quiet) / len(self._quiet)

    def _time_writes(self, probe: _Probe) -> None:
        began = self._clock()
        for _ in range(WRITES_A_CHUNK):
            self._sleep(BETWEEN_WRITES_SECONDS)  # the first not beside the chunk's own heartbeat
            if probe.is_over:
                return
            since = self._clock() - began
            try:
                seconds = self._time_write()
            except Exception as fault:  # whoever looks next says so
                log.debug("a write could not be timed: %s", fault)
                return
            probe.writes.append((since, seconds))
