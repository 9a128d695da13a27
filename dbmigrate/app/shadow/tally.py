"""What the reader counts, and how often it may record: apart from it, so that every thread asks under one lock."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from dbmigrate.domain.evidence import ShadowCounts

_MOST_NAMES = 1000
_MINUTE = 60.0


class Tally:
    """Thread-safe. What belongs to a generation before the last ``reset`` is not counted any more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = ShadowCounts()
        self.generation = 0

    def read(self) -> ShadowCounts:
        """The counts since the last ``reset``."""
        return self._counts

    def reset(self) -> None:
        """Begin at zero."""
        with self._lock:
            self.generation += 1
            self._counts = ShadowCounts()

    def add(self, generation: int, *names: str, latencies: tuple[float, float] | None = None) -> None:
        """Add one to each of these, and a sample to the owner's and the candidate's times."""
        with self._lock:
            if generation != self.generation:
                return
            more: dict[str, Any] = {name: getattr(self._counts, name) + 1 for name in names}
            if latencies is not None:
                more["control"] = self._counts.control.with_sample(latencies[0])
                more["candidate"] = self._counts.candidate.with_sample(latencies[1])
            self._counts = replace(self._counts, **more)


class RateLimit:
    """Thread-safe. Lets each name through so many times a minute."""

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self._most, self._clock = per_minute, clock
        self._times: OrderedDict[tuple[str, ...], deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def lets_through(self, *name: str) -> bool:
        """Whether this one is within the limit; if so it counts."""
        with self._lock:
            now = self._clock()
            times = self._times.setdefault(name, deque())
            self._times.move_to_end(name)
            while len(self._times) > _MOST_NAMES:
                self._times.popitem(last=False)
            while times and now - times[0] >= _MINUTE:
                times.popleft()
            if len(times) >= self._most:
                return False
            times.append(now)
            return True
