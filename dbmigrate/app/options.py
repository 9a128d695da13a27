"""What an application may set of the library in its own process. What concerns all instances alike comes with the fence
row and the migration's configuration instead."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa


@dataclass(frozen=True, slots=True)
class Options:
    """``strict``: a write whose rows cannot be captured is refused while writes are mirrored, instead of being counted
    and left to the stream. ``mirror_timeout_seconds``: how long a commit waits for the mirror at most.
    ``mirror_max_rows``: transactions that touch more rows are left to the stream. ``mirror_threads``: how many mirrors a
    process writes at the same time (sync engines only). ``metadata``: tables that the application uses without mapping a
    class to them; an instance reports which columns it knows before one is dropped."""

    strict: bool = False
    mirror_timeout_seconds: float = 1.0
    mirror_max_rows: int = 1000
    mirror_threads: int = 8
    metadata: tuple[sa.MetaData, ...] = ()
