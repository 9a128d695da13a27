"""Running the verifier in a migration: under live traffic, inside the write pause, and from the command line."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from dbmigrate.config import ExecutorKind
from dbmigrate.domain.keys import Key
from dbmigrate.domain.routes import Direction
from dbmigrate.domain.schema import TableName
from dbmigrate.streaming.stream import Stream
from dbmigrate.verifying.verifier import Verification, Verifier
from dbmigrate.workflow.migration import Migration

log = logging.getLogger(__name__)

VERIFICATION = "verification"
SETTLE_SECONDS = 60.0
PARTS_A_WORKER = 4
"""Large tables are cut into more parts than there are workers, because parts are not of one size."""
MOST_TOUCHED_IN_PAUSE = 5_000
MOST_NAMED = 5


def build_verifier(
    migration: Migration, direction: Direction, settle: Callable[[], None], executors: tuple[ThreadPoolExecutor, ThreadPoolExecutor],
    *, kind: ExecutorKind,
) -> Verifier:  # fmt: skip
    """A verifier along the routes of a direction; ``executors`` run tables and the second half of each pair that is judged,
    chunks are compared by an executor of the ``kind``."""
    origin, destination = migration.servers[direction.origin], migration.servers[direction.origin.other]
    observer = migration.around.observer
    return Verifier(
        migration.require_routes(direction), origin=origin, destination=destination,
        begins_at=direction.origin, chunks=migration.build_chunk_executor(kind), executor=executors[0], pair_executor=executors[1], settle=settle,
        chunk_rows=migration.config.verify.chunk_rows, parts=PARTS_A_WORKER * migration.config.verify.workers,
        wait_to_start=migration.throttle.wait, on_read=migration.throttle.record_read,
        on_chunk=lambda table, rows: observer.chunk_verified(), on_step=migration.around.on_step,
    )  # fmt: skip


def build_executors(workers: int) -> tuple[ThreadPoolExecutor, ThreadPoolExecutor]:
    """One pool for tables, one for the halves they wait for (in one pool they could wait for each other)."""
    return (
        ThreadPoolExecutor(workers, thread_name_prefix="verify"),
        ThreadPoolExecutor(workers, thread_name_prefix="verify-pair"),
    )


def settle_with(stream: Stream) -> Callable[[], None]:
    """Wait until the stream has passed everything committed before the call."""

    def settle() -> None:
        stream.drain(timeout_seconds=SETTLE_SECONDS)

    return settle


def verify_touched(migration: Migration, stream: Stream, *, is_still: bool) -> bool:
    """Compare the rows flushed since the last verification; False when some differ or there are too many to tell.

    ``is_still``: nothing changes meanwhile, one look decides.
    """
    touched = stream.touched.take()
    if touched is None or (is_still and sum(map(len, touched.values())) > MOST_TOUCHED_IN_PAUSE):
        return False
    executors = build_executors(1)
    try:
        settle = (lambda: None) if is_still else settle_with(stream)
        verifier = build_verifier(migration, stream.direction, settle, executors, kind=ExecutorKind.THREADS)
        result = verifier.verify_keys(touched)
    finally:
        for executor in executors:
            executor.shutdown()
    if not result.is_clean:
        named = "; ".join(f"{m.table} key {m.key.decode('ascii', 'replace')}" for m in result.mismatches[:MOST_NAMED])
        log.warning("rows differ that were flushed since the last verification: %s", named)
        stream.touched.add(touched)
    return result.is_clean


def describe(result: Verification, *, direction: Direction, position: str) -> dict[str, Any]:
    """The result as evidence: what it is true for, never a row's values."""
    return {
        "direction": direction.value,
        "position": position,
        "is_complete": result.is_complete,
        "rows": result.rows,
        "chunks": result.chunks,
        "moving": result.moving,
        "mismatches": len(result.mismatches),
        "examples": [
            {"table": str(m.table), "key": m.key.decode("ascii", "replace"), "columns": list(m.columns)}
            for m in result.mismatches[:100]
        ],
        "orphans": [{"table": str(o.table), "foreign_key": o.foreign_key, "rows": o.rows} for o in result.orphans],
        "tables": {str(table): rows for table, rows in result.tables.items()},
    }


def mismatched_keys(result: Verification) -> dict[TableName, list[Key]]:
    """The differing keys by table, for a repair."""
    keys: dict[TableName, list[Key]] = {}
    for mismatch in result.mismatches:
        keys.setdefault(mismatch.table, []).append(mismatch.key)
    return keys
