"""Counting what a workload's writes came to, from any number of threads."""

from __future__ import annotations

import threading
import time
from collections import Counter

from dbmigrate.domain.errors import ConfigurationError, DbmigrateError, RefusedError
from dbmigrate.mysql.faults import ConnectionLostError, RolledBackError, ServerRefusedError

_READ_ONLY = frozenset({1290, 1792, 1836, 1644})
"""Read-only servers, and SIGNAL, by which guard triggers hold writers off a database that has moved."""
_CONSTRAINTS = frozenset({1022, 1048, 1062, 1169, 1216, 1217, 1264, 1364, 1406, 1451, 1452, 1586, 1761, 1762, 3819, 4025})

CONSTRAINT = "constraint"


def classify(fault: DbmigrateError) -> str:
    """The kind of a failed write, in a word or two."""
    match fault:
        case ServerRefusedError() if fault.number in _READ_ONLY:
            return "held off by the fence"
        case ServerRefusedError() if fault.number in _CONSTRAINTS:
            return CONSTRAINT
        case ServerRefusedError():
            return f"error {fault.number}"
        case RolledBackError():
            return "rolled back"
        case ConnectionLostError() | ConfigurationError():
            return "connection lost"
        case RefusedError():
            return "not allowed"
        case _:
            return "other"


class Tally:
    """Successes, failures by kind, and the longest time without a success of any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._committed = 0
        self._failures: Counter[str] = Counter()
        self._last_at: float | None = None
        self._longest = 0.0

    def count_success(self) -> None:
        """One write was acknowledged."""
        now = time.monotonic()
        with self._lock:
            self._committed += 1
            if self._last_at is not None:
                self._longest = max(self._longest, now - self._last_at)
            self._last_at = now

    def count_failure(self, kind: str) -> None:
        """One write failed. A refused CONSTRAINT is no failure of the move, but is told apart all the same."""
        with self._lock:
            self._failures[kind] += 1

    @property
    def committed(self) -> int:
        """Writes that were acknowledged."""
        with self._lock:
            return self._committed

    @property
    def failures(self) -> dict[str, int]:
        """Failed writes by kind."""
        with self._lock:
            return dict(self._failures.most_common())

    @property
    def failed(self) -> int:
        """Failed writes, but for those that a constraint of the user's tables refused."""
        return sum(count for kind, count in self.failures.items() if kind != CONSTRAINT)

    @property
    def longest_gap_ms(self) -> float | None:
        """The longest time between two successes; None before there were two."""
        with self._lock:
            return round(self._longest * 1000, 1) if self._longest else None
