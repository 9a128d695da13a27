"""Cutover: wait for approval and fresh evidence, then switch, as often as it takes within the configured attempts."""

from __future__ import annotations

import logging

from dbmigrate.config import Approval, FenceKind
from dbmigrate.domain.errors import RefusedError, TransientError
from dbmigrate.domain.ownership import FenceRow, decide_owner
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Direction, Side
from dbmigrate.domain.schema import ObjectKind
from dbmigrate.mysql.fence import GUARD_PREFIX, build_fence_save, load_fence_row
from dbmigrate.workflow.announcing import announce_step, ensure_announced
from dbmigrate.workflow.carrying import enable_events, load_programs
from dbmigrate.workflow.fences import build_fence, lift_leftovers
from dbmigrate.workflow.gates import GateResult, judge_approval, judge_verification
from dbmigrate.workflow.instances import await_followers
from dbmigrate.workflow.migration import Migration
from dbmigrate.workflow.phases.expand import follow_objects
from dbmigrate.workflow.phases.plan import was_read_only
from dbmigrate.workflow.run import Run
from dbmigrate.workflow.switch import PROGRAMS, Switch, SwitchReport, remove_programs, settle_after_switch
from dbmigrate.workflow.verification import VERIFICATION

log = logging.getLogger(__name__)


def work(run: Run) -> Phase | None:
    """Switch to the target.

    Raises:
        RefusedError: every attempt was undone; writers are on the source as before.
    """
    if finish_interrupted_switch(run, Direction.FORWARD):
        return Phase.SOAK
    if not ensure_announced(run):
        return None
    run.ensure_stream(Direction.FORWARD)
    while not run.should_stop:
        freshness = judge_freshness(run)
        if not freshness.has_passed:
            run.migration.store.save_evidence("cutover_gate", {"reason": freshness.reason})
            return Phase.CATCH_UP
        approval = judge_consent(run)
        if approval.has_passed:
            follow_objects(run.migration)
            return Phase.SOAK if switch_within_attempts(run, Direction.FORWARD) else None
        run.wait(0.5, reason=approval.reason)
    return None


def judge_freshness(run: Run) -> GateResult:
    """Whether the last verification still counts."""
    verified = run.migration.store.load_evidence(VERIFICATION)
    is_forward = verified is not None and verified.content["direction"] == Direction.FORWARD.value
    touched = run.stream.touched.count() if run.stream is not None else 0
    return judge_verification(
        is_complete=bool(
            verified and is_forward and verified.content["is_complete"] and touched is not None and run.has_verified
        ),
        mismatches=verified.content["mismatches"] if verified and is_forward else 0,
        age_seconds=run.migration.store.read_age_seconds(verified) if verified else None,
        max_age_seconds=run.migration.config.gates.max_verification_age_seconds,
    )


def judge_consent(run: Run) -> GateResult:
    """Whether a person said yes to this evidence, where one has to."""
    store, required = run.migration.store, run.migration.config.cutover.approval is Approval.REQUIRED
    verified, approval = store.load_evidence(VERIFICATION), store.load_approval(Phase.CUTOVER)
    return judge_approval(
        is_required=required and not run.assume_yes,
        approved_evidence=approval.evidence_id if approval else None,
        shown_evidence=verified.id if verified else None,
    )


def switch_within_attempts(run: Run, direction: Direction) -> SwitchReport | None:
    """Try the switch until it fits its budget; None when asked to stop.

    Raises:
        RefusedError: the last attempt was undone, too.
    """
    cutover = run.migration.config.cutover
    last: TransientError | None = None
    for attempt in range(1, cutover.max_attempts + 1):
        if run.should_stop or not _is_application_ready(run, direction):
            return None
        stream = run.ensure_stream(direction)
        run.waiting_for = f"switching, attempt {attempt} of {cutover.max_attempts}"
        try:
            return Switch(run.migration, stream, run.state).attempt()
        except TransientError as undone:
            last = undone
            stream.require_healthy()
            log.warning("attempt %d of %d: %s", attempt, cutover.max_attempts, undone)
            run.migration.store.save_evidence("switch_undone", {"attempt": attempt, "cause": str(undone)})
        if attempt < cutover.max_attempts:
            run.wait(cutover.retry_seconds, reason=f"attempt {attempt} was undone: {last.cause or last.message}")
    raise RefusedError(
        f"the switch was undone {cutover.max_attempts} times", place=f"migration {run.migration.id}",
        cause=(last.cause or last.message) if last else "", hint="let a transaction that is named end, or KILL its "
        "connection, and run again when the server is calmer, or allow a longer [cutover] max_write_pause_seconds",
    )  # fmt: skip


def _is_application_ready(run: Run, direction: Direction) -> bool:
    """Wait until the application can bear a switch; False when asked to stop.

    Going back never waits for more than the instances that live: where none does, none has to follow.
    """
    # Triggers are created while the giving side is closed, and stay for a moment should the attempt be undone, or its
    # runner die: a mirrored row would fire them, and what they then write would be on one side only.
    must_pause = run.row is not None and run.row.mirror and _moves_triggers(run.migration)
    if must_pause and not announce_step(run, "mirrors pause: triggers are about to change sides", mirror=False):
        return False
    return await_followers(
        run, min_instances=None if direction is Direction.FORWARD else 0,
        for_a_switch=run.migration.config.cutover.fence is FenceKind.APP,
    )  # fmt: skip


def _moves_triggers(migration: Migration) -> bool:
    moving = set(migration.table_names(Side.SOURCE))
    return any(
        stored.table in moving and not stored.name.name.startswith(GUARD_PREFIX)
        for stored in migration.read_schema(Side.SOURCE, anew=True).of_kind(ObjectKind.TRIGGER)
    )


def _load_final_row(migration: Migration, side: Side) -> FenceRow | None:
    with migration.servers[side].pool.borrow() as session:
        return load_fence_row(session, migration.id, is_final=True)


def finish_interrupted_switch(run: Run, direction: Direction) -> bool:
    """After a crash inside a switch: complete it if the giving side had committed, else undo what it left.

    Raises:
        AmbiguousError: the fence rows contradict each other.
    """
    migration, giving, taking = run.migration, direction.origin, direction.origin.other
    rows = {}
    for side in Side:
        rows[side] = migration.retry.retrying(lambda side=side: _load_final_row(migration, side), idempotent=True)  # type: ignore[misc]
    row = decide_owner(rows[Side.SOURCE], rows[Side.TARGET])
    saved = migration.store.load_evidence(PROGRAMS)
    programs = load_programs(saved.content) if saved else ()
    if row is not None and row.owner is taking and row.epoch > run.state.epoch:
        log.warning("completing a switch that was interrupted after it had been committed")
        with migration.servers[taking].pool.borrow() as session:
            session.execute(build_fence_save(migration.id, row), doing="taking over ownership")
        fence = build_fence(
            migration.config.cutover.fence, migration.id, migration.servers,
            {side: migration.table_names(side) for side in Side}, giving=giving,
            pause=migration.stopping.wait,
        )  # fmt: skip
        fence.open_other(migration.servers[taking])
        settle_after_switch(migration, giving, programs)
        return True
    lift_leftovers(
        migration.servers[giving], migration.config.cutover.fence, was_read_only=was_read_only(migration, giving)
    )
    if programs:
        # An attempt that died before its commit may have created programs there and disabled events here.
        with migration.servers[giving].pool.borrow() as session:
            enable_events(session, programs, migration.schema_name(giving))
        remove_programs(migration, taking, programs)
    return False
