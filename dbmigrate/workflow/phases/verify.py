"""Verify: both sides compared in full, under live traffic, table by table."""

from __future__ import annotations

from dbmigrate.domain.phases import Phase, following_phase
from dbmigrate.domain.routes import Direction
from dbmigrate.domain.schema import TableName
from dbmigrate.mysql.control import Evidence
from dbmigrate.verifying.verifier import Verification
from dbmigrate.workflow.differences import DifferencesFoundError
from dbmigrate.workflow.instances import await_followers
from dbmigrate.workflow.run import RESYNC, Run
from dbmigrate.workflow.verification import (
    VERIFICATION,
    build_executors,
    build_verifier,
    describe,
    mismatched_keys,
    settle_with,
)

REPAIR_ROUNDS = 3


def work(run: Run) -> Phase | None:
    """Compare everything; after a lost position, repair what differs first.

    Raises:
        DifferencesFoundError: rows differ; the phase stays, `dbmigrate verify --repair` mends them.
    """
    result = verify_completely(run, Direction.FORWARD, repair=must_repair(run, Direction.FORWARD))
    if result is None:
        return None
    if not result.is_clean:
        raise DifferencesFoundError(describe(result, direction=Direction.FORWARD, position=""))
    if not await_followers(run):
        return None
    return following_phase(Phase.VERIFY, has_application=run.migration.config.app.enabled)


def must_repair(run: Run, direction: Direction) -> bool:
    """Whether the stream lost its place since the last verification, so that differences are expected."""
    resync = run.migration.store.load_evidence(RESYNC)
    verified = run.migration.store.load_evidence(VERIFICATION)
    if resync is None or resync.content["direction"] != direction.value:
        return False
    return verified is None or verified.id < resync.id or not _is_clean(verified)


def _is_clean(verified: Evidence) -> bool:
    return bool(verified.content["is_complete"]) and not verified.content["mismatches"]


def verify_completely(run: Run, direction: Direction, *, repair: bool) -> Verification | None:
    """Compare every table and record the result as evidence; None when asked to stop.

    With ``repair`` differing rows are handed to the stream and everything is compared again.
    """
    stream = run.ensure_stream(direction)
    for attempt in range(REPAIR_ROUNDS if repair else 1):
        stream.touched.take()  # from here on: what changes after its chunk was compared
        result = _verify_once(run, direction)
        if not result.is_complete:
            stream.require_healthy()
            return None
        content = describe(result, direction=direction, position=str(stream.read_status().position))
        run.migration.store.save_evidence(VERIFICATION, content)
        run.migration.around.observer.mismatches_found(len(result.mismatches))
        run.has_verified = result.is_clean
        if result.is_clean or not repair or attempt == REPAIR_ROUNDS - 1:
            break
        stream.enqueue(mismatched_keys(result))
        stream.drain(timeout_seconds=600)
    return result


def _verify_once(run: Run, direction: Direction) -> Verification:
    """One pass; tables already compared by a pass that was interrupted less than an hour ago are skipped."""
    executors = build_executors(run.migration.config.verify.workers)
    stream = run.ensure_stream(direction)
    verifier = build_verifier(
        run.migration, direction, settle_with(stream), executors, kind=run.migration.config.verify.executor
    )
    run.verifier = verifier
    try:
        result = verifier.run(skip=_load_done_tables(run, direction))
    finally:
        for executor in executors:
            executor.shutdown()
    if not result.is_complete:
        _save_done_tables(run, direction, result)
    else:
        run.migration.store.save_evidence(PARTIAL, {"direction": direction.value, "tables": {}})
    return result


PARTIAL = "partial_verification"


def _save_done_tables(run: Run, direction: Direction, result: Verification) -> None:
    clean = {str(t): n for t, n in result.tables.items() if t not in {m.table for m in result.mismatches}}
    run.migration.store.save_evidence(PARTIAL, {"direction": direction.value, "tables": clean})


def _load_done_tables(run: Run, direction: Direction) -> dict[TableName, int]:
    partial = run.migration.store.load_evidence(PARTIAL)
    if partial is None or partial.content["direction"] != direction.value:
        return {}
    resync = run.migration.store.load_evidence(RESYNC)
    if resync is not None and resync.id > partial.id:
        return {}  # what was compared before the stream lost its place may have missed changes since
    if run.migration.store.read_age_seconds(partial) > run.migration.config.gates.max_verification_age_seconds:
        return {}
    origin = run.migration.schema_name(direction.origin)
    return {TableName(origin, name.removeprefix(f"{origin}.")): n for name, n in partial.content["tables"].items()}
