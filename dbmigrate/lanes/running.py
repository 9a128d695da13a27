"""Running a lane: the revisions that are missing, step by step, and taking the last one back.

Alembic decides the order and keeps its table; the journal keeps what Alembic cannot, how far a revision is that was
interrupted. A revision of another lane is never run along: the lanes belong to different moments of a move.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dbmigrate.domain.errors import RefusedError
from dbmigrate.domain.lanes import Lane
from dbmigrate.domain.mappings import InstanceMapping
from dbmigrate.lanes.alone import working_alone
from dbmigrate.lanes.environment import Environment, lane_of_revision
from dbmigrate.lanes.guarding import Guard
from dbmigrate.lanes.judging import require_clean
from dbmigrate.lanes.revisions import RevisionPlan, StepKind, find_backfills, plan_revision
from dbmigrate.lanes.steps import LaneDatabase, LaneSettings, LaneSurroundings, StepRunner
from dbmigrate.lanes.undoing import undo_steps
from dbmigrate.lanes.versions import Versions
from dbmigrate.mysql.lane_journal import Journal, JournalledStep, StepState
from dbmigrate.mysql.sessions import SessionPool

if TYPE_CHECKING:
    from alembic.script.base import Script

log = logging.getLogger(__name__)


@dataclass
class LaneReport:
    """What a run did: ids of revisions, and what it could not search before dropping something."""

    lane: Lane
    revisions: list[str] = field(default_factory=list)
    not_searched: list[str] = field(default_factory=list)
    was_stopped: bool = False


class LaneRunner:
    """The lanes of one database. ``read_instances`` gives the application's live instances."""

    def __init__(
        self,
        database: LaneDatabase,
        environment: Environment,
        settings: LaneSettings | None = None,
        *,
        around: LaneSurroundings | None = None,
        read_instances: Callable[[], Sequence[InstanceMapping]] = tuple,
    ) -> None:
        self._database, self._environment = database, environment
        self._settings = settings or LaneSettings()
        self._around = around or LaneSurroundings()
        self._read_instances = read_instances
        self._versions = Versions(database.endpoint, database.schema, environment)

    def run(self, lane: Lane) -> LaneReport:
        """Run every revision of a lane that the database does not have yet.

        Raises:
            RefusedError: the lint refuses a revision, another runner is at work, a revision needs one of another lane first, something that would be
                dropped is used or has not been hidden long enough, or the server would copy a table.
            TransientError: a table stayed in use; run again.
        """
        report = LaneReport(lane)
        with self._working() as steps:
            applied = self._sweep(steps)
            if self._settings.lints:
                begun = {step.revision for step in steps.journal.load()} - applied
                require_clean(
                    self._environment, self._database.endpoint, lane, begun=begun, may_copy=self._settings.may_copy
                )
            for script in self._environment.walk(lane):
                if script.revision in applied:
                    continue
                self._require_before(script, applied)
                if not self._run_revision(steps, self._plan(script, lane), report):
                    report.was_stopped = True
                    break
                applied |= {script.revision}
                report.revisions.append(script.revision)
        return report

    def find_pending(self, lane: Lane) -> tuple[str, ...]:
        """The revisions of a lane that the database does not have."""
        applied = self._versions.load_applied()
        return tuple(script.revision for script in self._environment.walk(lane) if script.revision not in applied)

    def read_journal(self) -> tuple[JournalledStep, ...]:
        """The steps that were run or begun, oldest first. Waits for nobody."""
        session = SessionPool(self._database.endpoint, statements=()).open()
        try:
            journal = Journal(session, self._database.schema)
            return journal.load() if journal.exists() else ()
        finally:
            session.close()

    def adopt(self, heads: Sequence[str]) -> None:
        """Tell a database whose tables were made from another's which revisions it has, unless it says so itself."""
        if not self._versions.load_applied():
            self._versions.stamp(heads)

    @contextmanager
    def _working(self) -> Iterator[StepRunner]:
        with working_alone(self._database.endpoint, self._database.schema) as session:
            steps = StepRunner(self._database, session, self._settings, self._around)
            steps.journal.create()
            yield steps

    def _sweep(self, steps: StepRunner) -> frozenset[str]:
        """Make journal and Alembic's table agree: a kill may have come between them, or somebody used Alembic alone."""
        applied = self._versions.load_applied()
        states: dict[str, set[StepState]] = {}
        for step in steps.journal.load():
            states.setdefault(step.revision, set()).add(step.state)
        for revision, found in states.items():
            if revision in applied and found != {StepState.APPLIED}:
                steps.journal.mark_applied(revision)
            elif revision not in applied and found == {StepState.APPLIED}:
                steps.journal.forget(revision)  # taken back since: what it did then says nothing of now
        return applied

    def _plan(self, script: Script, lane: Lane) -> RevisionPlan:
        return plan_revision(script, lane, self._database.version, self._database.schema)

    def _require_before(self, script: Script, applied: frozenset[str]) -> None:
        missing = [name for name in self._versions.requirements(script) if name not in applied]
        if not missing:
            return
        first = self._environment.find(missing[0])
        lane = lane_of_revision(first)
        raise RefusedError(
            f"revision {script.revision} needs {', '.join(missing)} first",
            place=self._database.schema, cause=f"{missing[0]} is in {lane.value if lane else 'no'} lane and not there yet",
            hint=f"dbmigrate lanes run {lane.value if lane else 'expand'}",
        )  # fmt: skip

    def _run_revision(self, steps: StepRunner, plan: RevisionPlan, report: LaneReport) -> bool:
        """False when asked to stop first."""
        log.info("revision %s (%s): %d steps", plan.revision, plan.lane.value, len(plan.steps))
        if plan.lane is Lane.TIGHTEN and not self._complete_backfills(steps, plan):
            return False
        if plan.dropped:
            report.not_searched += self._hide(steps, plan)
        for step in plan.steps:
            if self._around.should_stop() or not steps.run(step, must_be_complete=plan.lane is Lane.TIGHTEN):
                return False
        self._around.on_step("lanes.revision.done")
        self._versions.save_upgraded(plan.script)
        self._around.on_step("lanes.revision.saved")
        steps.journal.mark_applied(plan.revision)
        return True

    # --- what a rule depends on ---

    def _complete_backfills(self, steps: StepRunner, plan: RevisionPlan) -> bool:
        """Whether no row is left of the backfills that ``plan`` depends on; they are run again where rows came since."""
        for script in self._find_backfilled(plan):
            lane = lane_of_revision(script) or Lane.EXPAND
            for step in self._plan(script, lane).steps:
                if step.kind is StepKind.BACKFILL and not steps.run(step, must_be_complete=True):
                    return False
        return True

    def _find_backfilled(self, plan: RevisionPlan) -> list[Script]:
        """The revisions with backfills that it names, or else those whose backfills fill one of its tables."""
        needed = set(self._versions.requirements(plan.script))
        named = [script for script in self._environment.walk() if script.revision in needed and find_backfills(script)]
        if named:
            return list(named)
        tables = {table.name for step in plan.steps for table in step.tables[:1]}
        return [
            script
            for script in self._environment.walk(Lane.EXPAND)
            if any(backfill.table in tables for backfill in find_backfills(script))
        ]

    # --- what is dropped ---

    def _hide(self, steps: StepRunner, plan: RevisionPlan) -> tuple[str, ...]:
        """Search, hide, and require that it has been hidden long enough and that nobody has missed it since."""
        known = {step.number: step for step in steps.journal.load(plan.revision)}
        hiding = [step for step in plan.steps if step.kind is StepKind.HIDE]
        if any(step.identity.number in known for step in plan.steps if step.kind is StepKind.STATEMENT):
            return ()  # the drop itself has begun
        if not all(_is_done(known.get(step.identity.number)) for step in hiding):
            self._search(steps, plan, self._settings.quiet_seconds)
            for step in hiding:
                steps.run(step)
            known = {step.number: step for step in steps.journal.load(plan.revision)}
        hidden_for = min(known[step.identity.number].done_seconds_ago or 0.0 for step in hiding)
        left = self._settings.dwell_seconds - hidden_for
        if left > 0:
            raise RefusedError(
                f"hidden, not dropped yet: {', '.join(map(str, plan.dropped))}", place=f"revision {plan.revision}",
                cause=f"hidden for {hidden_for:.0f} s of [lanes] dwell_seconds = {self._settings.dwell_seconds:g}",
                hint=f"run it again in {left:.0f} s; `dbmigrate lanes run {plan.lane.value} --undo` shows everything again",
            )  # fmt: skip
        return self._search(steps, plan, hidden_for)

    def _search(self, steps: StepRunner, plan: RevisionPlan, seconds: float) -> tuple[str, ...]:
        guard = Guard(steps.session, self._read_instances, self._settings.accepted)
        texts = [step.identity.statement for step in plan.steps if step.kind is StepKind.STATEMENT]
        return guard.require_unused(plan.dropped, statements=texts, seen_within_seconds=seconds)

    # --- undo ---

    def undo(self, lane: Lane) -> LaneReport:
        """Take back what is done of the revision that was interrupted, or else the last revision of the lane.

        Raises:
            RefusedError: the journal knows of none, or ``downgrade()`` does not say how.
        """
        report = LaneReport(lane)
        with self._working() as steps:
            applied = self._sweep(steps)
            script = self._find_last(steps, lane, applied)
            if script.revision in applied:
                self._require_last(script, applied)
            plan = self._plan(script, lane)
            undo_steps(steps, plan, lambda: self._take_out(plan, applied))
            report.revisions.append(plan.revision)
        return report

    def _take_out(self, plan: RevisionPlan, applied: frozenset[str]) -> None:
        if plan.revision in applied:
            self._versions.save_downgraded(plan.script)

    def _find_last(self, steps: StepRunner, lane: Lane, applied: frozenset[str]) -> Script:
        journalled = {step.revision for step in steps.journal.load() if step.lane == lane.value}
        known = [script for script in self._environment.walk(lane) if script.revision in journalled]
        if not known:
            raise RefusedError(
                f"the journal knows of no revision of the {lane.value} lane", place=self._database.schema,
                hint="what Alembic has run alone, `alembic downgrade` takes back",
            )  # fmt: skip
        interrupted = [script for script in known if script.revision not in applied]
        return (interrupted or known)[-1]

    def _require_last(self, script: Script, applied: frozenset[str]) -> None:
        """Nothing that is there builds on it."""
        revision = script.revision
        above = [
            one.revision
            for one in self._environment.walk()
            if one.revision in applied and revision in self._versions.requirements(one)
        ]
        if above:
            raise RefusedError(
                f"revision {revision} is what {', '.join(above)} builds on", place=self._database.schema,
                hint="take those back first",
            )  # fmt: skip


def _is_done(step: JournalledStep | None) -> bool:
    return step is not None and step.state is not StepState.BEGUN
