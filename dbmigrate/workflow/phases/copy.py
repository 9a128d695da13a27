"""Copy: rows in chunks while changes stream, then the secondary indexes that waited for them."""

from __future__ import annotations

from concurrent.futures import Executor, ThreadPoolExecutor

from dbmigrate.copying.copier import Copier, CopyLimits
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Direction
from dbmigrate.mysql.faults import ServerRefusedError
from dbmigrate.streaming.cascades import Cascades
from dbmigrate.workflow.migration import Migration
from dbmigrate.workflow.phases.expand import load_deferred_indexes
from dbmigrate.workflow.run import Run

DUPLICATE_INDEX = 1061
DRAIN_SECONDS = 600.0
FOLLOWING_SECONDS = 1.0
"""For the stream to show whether the application writes, which decides how rows are read."""
GATHERING_SECONDS = 0.2
"""Nobody reads the target yet, so changes may gather: the source is asked for changed rows five times a second."""


def build_copier(migration: Migration) -> Copier:
    """The copier of this migration, along its forward routes."""
    config, observer = migration.config.copy_, migration.around.observer
    return Copier(
        migration.require_routes(Direction.FORWARD), origin=migration.source, destination=migration.target,
        store=migration.store, chunks=migration.build_chunk_executor(config.executor), in_flight=migration.in_flight,
        throttle=migration.throttle,
        limits=CopyLimits(config.workers, config.target_chunk_seconds, config.max_chunk_bytes),
        on_rows=lambda table, rows: observer.rows_copied(str(table), rows),
    )  # fmt: skip


def work(run: Run) -> Phase | None:
    """Copy everything that is missing. The stream starts first: what changes from here on is in it."""
    stream = run.ensure_stream(Direction.FORWARD)
    run.copier = copier = build_copier(run.migration)
    copier.plan()
    stream.await_delivery(FOLLOWING_SECONDS)
    if run.should_stop:
        return None
    with ThreadPoolExecutor(run.migration.config.copy_.workers, thread_name_prefix="copy") as executor:
        with stream.gathering(GATHERING_SECONDS, spares_origin=lambda: run.migration.throttle.holds_back):
            is_complete = copier.run(executor)
        if not is_complete:
            if run.stream is not None:
                run.stream.require_healthy()
            return None
        _follow_cascades(run)
        run.migration.store.save_evidence("copy", {"rows": sum(p.rows for p in copier.read_progress())})
        _build_indexes(run.migration, executor)
    return Phase.CATCH_UP


def _follow_cascades(run: Run) -> None:
    """Rows that a cascade changed through a parent that was not copied yet: found now by the parent that they lack."""
    stream = run.ensure_stream(Direction.FORWARD)
    cascades = Cascades(run.migration.require_routes(Direction.FORWARD))
    for orphans in cascades.find_orphans(run.migration.target.pool):
        stream.enqueue({table: list(keys) for table, keys in orphans.items()})
        stream.drain(timeout_seconds=DRAIN_SECONDS)


def _build_indexes(migration: Migration, executor: Executor) -> None:
    """Build the deferred indexes, tables in parallel; one that is there already was built before a crash."""

    def build(statements: list[str]) -> None:
        for statement in statements:
            migration.retry.retrying(lambda statement=statement: _build_index(migration, statement), idempotent=True)  # type: ignore[misc]

    for future in [executor.submit(build, s) for s in load_deferred_indexes(migration).values()]:
        future.result()


def _build_index(migration: Migration, statement: str) -> None:
    with migration.target.pool.borrow() as session:
        try:
            session.execute(statement, doing="building secondary indexes")
        except ServerRefusedError as refused:
            if refused.number != DUPLICATE_INDEX:
                raise
