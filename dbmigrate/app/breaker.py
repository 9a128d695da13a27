"""A circuit breaker: after repeated failures of the other side nobody waits for it any more, until it has had a pause."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Breaker:
    """Thread-safe. Opens after ``failures`` in a row; each ``pause_seconds`` one attempt is let through."""

    def __init__(
        self, *, failures: int = 5, pause_seconds: float = 5.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most, self._pause, self._clock = failures, pause_seconds, clock
        self._lock = threading.Lock()
        self._failures = 0
        self._tried_at = 0.0

    @property
    def is_open(self) -> bool:
        """Whether attempts are held back at this moment."""
        return self._failures >= self._most

    def lets_through(self) -> bool:
        """Whether to try now. While the breaker is open, true once in every pause."""
        if self._failures < self._most:
            return True
        with self._lock:
            now = self._clock()
            if now - self._tried_at < self._pause:
                return False
            self._tried_at = now
            return True

    def succeeded(self) -> None:
        """The attempt came to its end; the breaker closes."""
        self._failures = 0

    def failed(self) -> None:
        """The attempt failed."""
        with self._lock:
            self._failures += 1
            self._tried_at = self._clock()
