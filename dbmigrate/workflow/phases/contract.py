"""Contract: the way back has ended; what only served the move is removed, and the contract lane runs.

Each removal may be repeated. What the application's instances stand on goes last: without a fence row they would take the
old side for the owner again, so none of them may live any more then.
"""

from __future__ import annotations

from dbmigrate.config import FenceKind
from dbmigrate.domain.errors import RefusedError
from dbmigrate.domain.lanes import Lane
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Direction, Side
from dbmigrate.mysql.control import MigrationState
from dbmigrate.mysql.fence import drop_control_schema, forget_migration
from dbmigrate.workflow.announcing import ensure_announced, forget_rows
from dbmigrate.workflow.gates import GateResult, judge_soak
from dbmigrate.workflow.guards import ABORT_PATIENCE_SECONDS, QuietMoments, find_removals
from dbmigrate.workflow.instances import MOST_NAMED, read_instances
from dbmigrate.workflow.lanes import open_lanes, target_of
from dbmigrate.workflow.migration import Migration
from dbmigrate.workflow.run import Run
from dbmigrate.workflow.switch import SWITCH

CONTRACTED = "contracted"
LOCK_SECONDS = 1


def judge_contract(migration: Migration) -> GateResult:
    """Whether the way back was open long enough."""
    switched = migration.store.load_evidence(SWITCH)
    age = migration.store.read_age_seconds(switched) if switched else 0.0
    return judge_soak(age_seconds=age, min_soak_seconds=migration.config.gates.min_soak_seconds)


def begin_contract(run: Run) -> str:
    """Why the phase may begin now, for the audit; empty where it has begun already.

    Raises:
        RefusedError: the way back was not open long enough, or the target does not own the data.
    """
    if run.state.phase is Phase.CONTRACT:
        return ""
    place = f"migration {run.migration.id}"
    if run.state.phase is not Phase.SOAK:
        raise RefusedError(
            f"contract is not possible in phase {run.state.phase.value}", place=place,
            hint="it ends the way back, after the switch and the soak",
        )  # fmt: skip
    gate = judge_contract(run.migration)
    if not gate.has_passed:
        raise RefusedError(
            "contract is not possible yet", place=place, cause=gate.reason, hint="wait, or lower [gates] min_soak_seconds"
        )
    return f"contract was requested: {gate.reason}"


def require_not_done(state: MigrationState, request: str) -> None:
    """Nothing can be asked of a move that is over.

    Raises:
        RefusedError: it is.
    """
    if state.phase is Phase.DONE and request:
        raise RefusedError(
            f"{request} is not possible in phase done", place=f"migration {state.id}",
            hint="the move is over, and nothing of it is left but its audit",
        )  # fmt: skip


def work(run: Run) -> Phase | None:
    """End what only served the move.

    Raises:
        RefusedError: the contract lane waits (what it drops is used, or not hidden long enough), or instances of the
            application still follow the fence row. What is done stays done; run again.
    """
    migration = run.migration
    run.stop_stream()
    if not ensure_announced(run):
        return None
    if not _run_contract_lane(run):
        return None
    migration.around.on_step("contract.lanes")
    _require_no_instances(migration)
    for side in Side:
        _drop_guards(migration, side)
    migration.around.on_step("contract.guards")
    forget_rows(migration)
    for side in Side:
        migration.retry.retrying(lambda side=side: _forget(migration, side), idempotent=True)  # type: ignore[misc]
        migration.around.on_step("contract.rows")
    for direction in Direction:
        migration.store.delete_checkpoint(direction)
    migration.store.delete_migration()
    migration.around.on_step("contract.removed")
    return Phase.DONE


def _run_contract_lane(run: Run) -> bool:
    """False when asked to stop first. The tighten lane comes before: what is dropped may be what it was filled from."""
    migration = run.migration
    if migration.config.lanes.directory is None:
        return True
    lanes = open_lanes(
        target_of(migration.config, migration.config.lanes.directory), around=migration.around, stopping=migration.stopping, should_stop=lambda: run.should_stop
    )
    for lane in (Lane.TIGHTEN, Lane.CONTRACT):
        run.waiting_for = f"the {lane.value} lane on the target"
        report = lanes.run(lane)
        migration.store.save_evidence(
            CONTRACTED, {"lane": lane.value, "revisions": report.revisions, "not_searched": report.not_searched}
        )
        if report.was_stopped:
            return False
    return True


def _require_no_instances(migration: Migration) -> None:
    if not migration.config.app.enabled:
        return
    live = read_instances(migration).live
    if live:
        named = ", ".join(f"{one.instance_id} on {one.host} (pid {one.pid})" for one in live[:MOST_NAMED])
        raise RefusedError(
            f"{len(live)} instances of the application still follow the fence row", place=f"migration {migration.id}",
            cause=f"{named}: without it they would take the source for the owner",
            hint="deploy the application with the target's engine alone (docs/application.md), then run "
            "`dbmigrate contract` again; everything before is done",
        )  # fmt: skip


def _drop_guards(migration: Migration, side: Side) -> None:
    """Before the row that they read. The writers of the owner wait in moments of no length that matters."""
    server = migration.servers[side]
    quiet = QuietMoments(
        migration.target, migration.id, migration.stopping.wait, patience_seconds=ABORT_PATIENCE_SECONDS
    )
    quiet.execute(server, find_removals(server, migration.schema_name(side)), doing="dropping the guards")


def _forget(migration: Migration, side: Side) -> None:
    with migration.servers[side].pool.borrow() as session:
        session.execute(f"SET SESSION innodb_lock_wait_timeout = {LOCK_SECONDS}, lock_wait_timeout = {LOCK_SECONDS}")
        try:
            forget_migration(session, migration.id)
            if side is Side.SOURCE:
                drop_control_schema(session)
        finally:
            session.execute("SET SESSION innodb_lock_wait_timeout = 10, lock_wait_timeout = 60")


def describe_end(migration_fence: FenceKind) -> str:
    """What a person is told before saying yes."""
    closed = (
        "The source stays read_only." if migration_fence is FenceKind.READ_ONLY
        else "The source is no longer guarded against writers: retire it, or close it yourself."
    )  # fmt: skip
    return (
        "This ends the way back: the stream to the source stops for good, and `dbmigrate revert` is no longer possible. "
        f"Guards, fence and control tables of the move are removed; the audit stays on the target. {closed}"
    )
