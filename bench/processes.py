"""CPU time of processes by id, as the kernel counts it: what servers and our own program used during a stretch."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def read_cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of these processes and all of their threads, so far. Raises OSError when one is gone."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / _TICKS
