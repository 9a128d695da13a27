"""How many rows the next chunk takes, as many as fit the target time and the byte budget, and each of its pieces.

Pure arithmetic, apart from the copier so that it can be tested without a server.
"""

from __future__ import annotations

import threading

FIRST_ROWS = 1_000
MOST_ROWS = 100_000
GROWTH = 2.0
PIECE_BYTES = 512 * 1024
"""What the kernel buffers on the way to a server, so that sending a piece does not wait for the one before to be loaded."""


class ChunkSizer:
    """Adapts the rows of a table's chunks to measured time and bytes. Shared by the workers of one table."""

    def __init__(self, *, target_seconds: float, max_bytes: int, row_bytes: int = 0) -> None:
        self._target_seconds = target_seconds
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        # Hex text doubles binary columns, and the estimate counts pages, so begin with a quarter of the budget.
        fitting = max_bytes // (4 * row_bytes) if row_bytes else FIRST_ROWS
        self._rows = max(1, min(FIRST_ROWS, fitting))
        self._largest_row_bytes = 0.0

    @property
    def rows(self) -> int:
        """Rows to ask for in the next chunk; at least 1."""
        with self._lock:
            return self._rows

    @property
    def piece_rows(self) -> int:
        """Rows to read at a time while those before are loaded; at least 1."""
        with self._lock:
            return max(1, int(PIECE_BYTES / self._largest_row_bytes)) if self._largest_row_bytes else self._rows

    def record(self, *, rows: int, size_bytes: int, seconds: float) -> None:
        """Learn from a chunk that was copied."""
        if rows <= 0:
            return
        with self._lock:
            per_row = size_bytes / rows
            self._largest_row_bytes = max(per_row, self._largest_row_bytes * 0.9)
            by_time = rows * self._target_seconds / max(seconds, 1e-4)
            by_bytes = self._max_bytes * 0.8 / max(self._largest_row_bytes, 1.0)
            wanted = min(by_time, by_bytes, self._rows * GROWTH, MOST_ROWS)
            self._rows = max(1, int(wanted))

    def shrink(self) -> None:
        """A chunk did not fit: ask for half as many."""
        with self._lock:
            self._rows = max(1, self._rows // 2)
