"""Leaving the source to the application: which share of the time rows may be read while it writes.

The throttle's default. Nobody has to know a limit: small writes made while a chunk is read are compared with the same
writes made while none is. The share begins small and doubles at each judgement until writes take too long; then it is
quartered at each that says they do, and grows slowly. So a source with room to spare is soon read at full speed. One
without is read in short reads with time between them: a write that meets one waits for no longer than that, which is
about what it takes now and then in any case (record 19 of the decisions).
"""

from __future__ import annotations

import logging
import statistics
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

log = logging.getLogger(__name__)

FIRST_SHARE = 1 / 16
"""Where it begins, as nothing is known then: after four judgements a source with room is read at full speed."""
LEAST_SHARE = 1 / 32
"""The copy never stops altogether: it would not be seen that it may go on."""
AT_ONCE_PART = 1 / 8
"""Of the share, for chunks that are read at once: they are felt for longer than they are read."""
MOST_GAP_SECONDS = 30.0
FALL = 4.0
FIRST_RISE = 2.0
"""Luck at two judgements must not lead to full speed: half of the time shows what a quarter may not."""
RISE = 2 ** (1 / 10)
"""Growth where writes were quick, after the first judgement that they were not, and at a chunk too short for one."""
LEAST_LIMIT_SECONDS = 0.001
"""Writes may take as long as this in any case."""
CALIBRATING_WRITES = 30
KEPT_WRITES = 60
LOOKED_AT_WRITES = 2
LEAST_APART_SECONDS = 0.005
"""Between writes: those that follow at once are quicker than what comes now and then. And not beside the chunk's own heartbeat."""
WRITING_SECONDS = 2.0
"""An application counts as writing for so long after a change of its own."""
JUDGED_WRITES = 32
"""A judgement needs so many: of fewer, luck makes a source without room look like one with it often enough to read a table at full
speed within seconds."""
TOO_MANY_SLOW, FEW_SLOW = 1 / 8, 1 / 16
"""Of the writes judged, besides as many as are slow while no chunk is read; between the two nothing changes."""
BETWEEN_PROBES_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class _ProbePlan:
    """How many writes are made beside a chunk, and how far apart."""

    writes: int
    apart_seconds: float


AT_ONCE, IN_SHORT_READS, SELDOM = _ProbePlan(8, 0.005), _ProbePlan(12, 0.04), _ProbePlan(5, 0.1)
"""Beside a chunk that is read by one statement; beside one in short reads, over the pauses between them as well; and there once
it is known that there is no room to spare, because these writes take the source's time, too."""
TURN = 0.618
"""The first write beside a chunk comes later by this part of the distance than at the chunk before, around and around: a short
chunk would always be met at the same moment otherwise."""


@dataclass
class _Probe:
    """Writes made since a chunk began: after how many seconds, and how long they took. ``is_at_once``: the chunk is read by one
    statement."""

    is_at_once: bool
    writes: list[tuple[float, float]] = field(default_factory=list)
    is_over: bool = False


def _begin_thread(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="pacer-probe", daemon=True).start()


class Pacer:
    """Finds the share of time for reading the source by its effect on writes. Thread-safe.

    ``time_write`` commits a small write on the source and returns its seconds; a write is slow that takes more than
    ``factor`` times their median without a copy. ``read_changes`` returns a number that moves whenever the application
    changes a row. ``begin_chunk`` and ``record_read`` of one chunk are called by one thread.
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
        self._probed_at, self._turn = float("-inf"), 0.0

    @property
    def share(self) -> float:
        """The share of the time in which rows are read, 1.0 where nothing holds them back."""
        with self._lock:
            return self._share if self._is_writing() else 1.0

    @property
    def reason(self) -> str:
        """Why rows are read for a part of the time only; empty when they are not held back."""
        with self._lock:
            if not self._is_writing() or self._share >= 1.0 or not self._was_slow:
                return ""
            return (
                f"rows are read {self._share:.1%} of the time: a write on the source took {1000 * self._slowest:.1f} ms "
                f"meanwhile, limit {1000 * self._find_limit():.1f} ms"
            )

    @property
    def is_blind(self) -> bool:
        """Whether the application writes and it is not known yet how long a write takes without us."""
        with self._lock:
            return self._is_writing() and not self._quiet

    def look(self) -> None:
        """Where the application writes, notice how long a write takes without us. Call twice a second, while no chunk is known
        to be read.

        Raises:
            DbmigrateError: the source does not answer.
        """
        with self._lock:
            if not self._is_writing() or self._share > 0.5:
                return
            wanted = LOOKED_AT_WRITES if self._quiet else CALIBRATING_WRITES
        for _ in range(wanted):
            self._sleep(LEAST_APART_SECONDS)
            seconds = self._time_write()
            with self._lock:
                self._quiet.append(seconds)

    def begin_chunk(self, *, in_short_reads: bool = False) -> float:
        """A chunk starts now; returns after how many seconds the next may, 0.0 where nothing holds it back. One that is read
        in short reads need not wait: they do."""
        self._own.probe = None
        with self._lock:
            if not self._is_writing() or not self._quiet:
                return 0.0
            now = self._clock()
            if now - self._probed_at >= BETWEEN_PROBES_SECONDS:
                self._probed_at, self._turn = now, (self._turn + TURN) % 1.0
                self._own.probe = probe = _Probe(not in_short_reads)
                plan = AT_ONCE if not in_short_reads else SELDOM if self._was_slow else IN_SHORT_READS
                self._in_background(partial(self._time_writes, probe, plan, plan.apart_seconds * self._turn))
            if in_short_reads or self._share >= 1.0:
                return 0.0
            return min(MOST_GAP_SECONDS, self._read_seconds / (self._share * AT_ONCE_PART))

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
            if not writes and probe.is_at_once:  # too short for one
                self._share = min(1.0, self._share * RISE)
            if len(self._judged) >= JUDGED_WRITES:
                self._judge()

    def _judge(self) -> None:
        slow = [took for took in self._judged if took > self._find_limit()]
        more_slow = len(slow) / len(self._judged) - self._find_share_slow_without()
        self._judged.clear()
        if more_slow >= TOO_MANY_SLOW:
            self._was_slow, self._slowest = True, max(slow)
            self._share = max(LEAST_SHARE, self._share / FALL)
        elif more_slow <= FEW_SLOW:
            self._share = min(1.0, self._share * (RISE if self._was_slow else FIRST_RISE))

    def _is_writing(self) -> bool:
        changes = self.read_changes()
        if changes != self._changes:
            self._changes, self._changed_at = changes, self._clock()
        return self._clock() - self._changed_at < WRITING_SECONDS

    def _find_limit(self) -> float:
        return max(LEAST_LIMIT_SECONDS, self._factor * statistics.median(self._quiet))

    def _find_share_slow_without(self) -> float:
        limit = self._find_limit()
        return sum(took > limit for took in self._quiet) / len(self._quiet)

    def _time_writes(self, probe: _Probe, plan: _ProbePlan, first_after: float) -> None:
        began = self._clock()
        for number in range(plan.writes):
            self._sleep(plan.apart_seconds if number else max(LEAST_APART_SECONDS, first_after))
            if probe.is_over:
                return
            since = self._clock() - began
            try:
                seconds = self._time_write()
            except Exception as fault:  # whoever looks next says so
                log.debug("a write could not be timed: %s", fault)
                return
            probe.writes.append((since, seconds))
