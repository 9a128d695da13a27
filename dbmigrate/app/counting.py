"""What an instance counts for its reports. Counts begin anew with every phase, because gates judge a phase's own."""

from __future__ import annotations

import threading
from dataclasses import fields, replace
from typing import Any

from dbmigrate.domain.evidence import LatencyHistogram, ReadCounts, WriteCounts
from dbmigrate.domain.phases import Phase


class Counts:
    """Thread-safe counters of one instance."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._phase: Phase | None = None
        self._writes = WriteCounts()
        self._reads = ReadCounts()

    def enter(self, phase: Phase) -> bool:
        """A phase was seen; whether it is a new one, which begins at zero."""
        with self._lock:
            if phase is self._phase:
                return False
            self._phase, self._writes, self._reads = phase, WriteCounts(), ReadCounts()
            return True

    def add(self, **more: int) -> None:
        """Add to the counts of writes or reads by their names, which differ; other names are errors."""
        with self._lock:
            names = {each.name for each in fields(WriteCounts)}
            writes = {name: getattr(self._writes, name) + n for name, n in more.items() if name in names}
            reads = {name: getattr(self._reads, name) + n for name, n in more.items() if name not in names}
            self._writes, self._reads = replace(self._writes, **writes), replace(self._reads, **reads)

    def add_latency(self, name: str, seconds: float) -> None:
        """Add a sample to ``owner_latency`` or ``target_latency``."""
        with self._lock:
            histogram: LatencyHistogram = getattr(self._reads, name)
            more: dict[str, Any] = {name: histogram.with_sample(seconds)}
            self._reads = replace(self._reads, **more)

    def writes(self) -> WriteCounts:
        """Write transactions since the phase began."""
        return self._writes

    def reads(self) -> ReadCounts:
        """Reads since the phase began."""
        return self._reads
