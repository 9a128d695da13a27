"""Leaving the source to the application: which share of the time chunks may be read while it writes.

The throttle's default. Nobody has to know a limit: a small write made while a chunk is read is compared with the same
write made while none is. The share begins small and doubles from chunk to chunk until a write takes too long; then it is
halved at each that does, and grows slowly. So a source with room to spare is soon read at full speed, and one without is
read in rare moments, in which few of the application's writes fall. Nothing is measured where nobody writes.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

log = logging.getLogger(__name__)

FIRST_SHARE = 1 / 16
LEAST_SHARE = 1 / 64
"""The copy never stops altogether: it would not be seen that it may go on."""
RISE = 2 ** (1 / 25)
"""Growth at a write that was quick, after the first that was not: one in 25 may be slow without the share falling."""
LEAST_LIMIT_SECONDS = 0.001
"""Writes may take as long as this in any case."""
CALIBRATING_WRITES = 20
KEPT_WRITES = 40
WRITING_SECONDS = 2.0
"""An application counts as writing for so long after a change of its own."""
PROBE_AFTER_SECONDS = 0.01
BETWEEN_PROBES_SECONDS = 0.1


def _begin_thread(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="pacer-probe", daemon=True).start()


class Pacer:
    """Finds the share of time for reading the source by its effect on writes. Thread-safe.

    ``time_write`` commits a small write on the source and returns its seconds; ``factor`` says how many times as long
    as without a copy it may take. ``read_changes`` returns a number that moves whenever the application changes a row.
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
        self._last_write = 0.0
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
                f"chunks are read {self._share:.0%} of the time: a write on the source took {1000 * self._last_write:.1f} ms "
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
        with self._lock:
            if not self._is_writing() or not self._quiet:
                return 0.0
            now = self._clock()
            if now - self._probed_at >= BETWEEN_PROBES_SECONDS:
                self._probed_at = now
                self._in_background(self._probe)
            return self._read_seconds / self._share if self._share < 1.0 else 0.0

    def record_read(self, seconds: float) -> None:
        """A chunk took so long to read."""
        with self._lock:
            self._read_seconds = seconds

    def _is_writing(self) -> bool:
        return self._clock() - self._changed_at < WRITING_SECONDS

    def _find_limit(self) -> float:
        """All but the slowest twentieth of the writes without us, times the factor."""
        ordered = sorted(self._quiet)
        return max(LEAST_LIMIT_SECONDS, self._factor * ordered[(len(ordered) * 19 - 1) // 20])

    def _probe(self) -> None:
        self._sleep(PROBE_AFTER_SECONDS)  # by then the chunk is being read
        try:
            seconds = self._time_write()
        except Exception as fault:  # whoever looks next says so
            log.debug("a write could not be timed: %s", fault)
            return
        with self._lock:
            self._last_write = seconds
            if seconds > self._find_limit():
                self._was_slow, self._share = True, max(LEAST_SHARE, self._share / 2)
            else:
                self._share = min(1.0, self._share * (RISE if self._was_slow else 2.0))
