"""How many rows the next chunk takes, as many as fit the target time and the byte budget, and each of its pieces.

Pure arithmetic, apart from the copier so that it can be tested without a server.
"""

from __future__ import annotations

import threading

FIRST_ROWS = 1_000
MOST_ROWS = 100_000
GROWTH = 2.0
FILLED = 0.8
"""Of a budget: rows vary."""
PIECE_BYTES = 4 * 1024 * 1024
"""One statement at either server, which costs our program about as much as a megabyte passed on (measured with 310 MB in rows
of 2.6 kB, our CPU time for pieces of 512 kB 0.75 s, 1 MB 0.60, 2 MB 0.52 to 0.55, 4 MB 0.46, 8 MB 0.47; with 2 MB instead of
512 kB the copy took 3.1 s instead of 3.5)."""
LOADED_PIECE_BYTES = 512 * 1024
"""Of a load, which is one statement in any case: what the kernel buffers on the way to a server, so that sending a piece does
not wait for the one before to be loaded."""

SHORT_READ_ROWS, SHORT_READ_BYTES = 20, 8 * 1024
"""What a short read takes at most, if a row is not larger: about as long as its statement alone. A write that meets one waits for
it (record 19 of the decisions)."""


class ChunkSizer:
    """Adapts the rows of a table's chunks to measured time and bytes. Shared by the workers of one table.

    ``max_bytes`` bounds a chunk, ``max_piece_bytes`` what of it is read by one statement; ``row_bytes`` is the server's
    guess of a row, 0 where it has none.
    """

    def __init__(
        self, *, target_seconds: float, max_bytes: int, max_piece_bytes: int | None = None, row_bytes: int = 0
    ) -> None:
        self._target_seconds = target_seconds
        self._max_bytes = max_bytes
        self._max_piece_bytes = max_bytes if max_piece_bytes is None else max_piece_bytes
        self._lock = threading.Lock()
        # Hex text doubles binary columns, and the estimate counts pages, so begin with a quarter of the budget.
        fitting = min(max_bytes, self._max_piece_bytes) // (4 * row_bytes) if row_bytes else FIRST_ROWS
        self._rows = max(1, min(FIRST_ROWS, fitting))
        self._largest_row_bytes = 0.0

    @property
    def rows(self) -> int:
        """Rows to ask for in the next chunk; at least 1."""
        with self._lock:
            return self._rows

    def find_fitting(self, size_bytes: int) -> int:
        """Rows of so many bytes, as far as one statement may read them; at least 1."""
        with self._lock:
            most = min(size_bytes, self._max_piece_bytes * FILLED)
            return max(1, int(most / self._largest_row_bytes)) if self._largest_row_bytes else self._rows

    def record(self, *, rows: int, size_bytes: int, seconds: float) -> None:
        """Learn from a chunk that was copied."""
        if rows <= 0:
            return
        with self._lock:
            per_row = size_bytes / rows
            self._largest_row_bytes = max(per_row, self._largest_row_bytes * 0.9)
            by_time = rows * self._target_seconds / max(seconds, 1e-4)
            by_bytes = self._max_bytes * FILLED / max(self._largest_row_bytes, 1.0)
            wanted = min(by_time, by_bytes, self._rows * GROWTH, MOST_ROWS)
            self._rows = max(1, int(wanted))

    def shrink(self) -> None:
        """A chunk did not fit: ask for half as many."""
        with self._lock:
            self._rows = max(1, self._rows // 2)
