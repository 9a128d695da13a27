"""Walking the phases: one runner per migration, from whatever point the last one left.

The runner owns the loop, the lease and the transitions; what a phase means is in ``domain.phases``, what it does in
``phases``. A second thread, the keeper, renews the lease, passes requests of other processes on, and publishes the
status.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from dbmigrate.domain.errors import AmbiguousError, DbmigrateError, FatalError, RefusedError
from dbmigrate.domain.ownership import decide_owner
from dbmigrate.domain.phases import MEANINGS, Phase, path_to
from dbmigrate.domain.routes import Side
from dbmigrate.mysql.binlog import PositionLost
from dbmigrate.mysql.control import MigrationState
from dbmigrate.mysql.faults import ServerRefusedError
from dbmigrate.mysql.fence import create_fence_tables, load_fence_row
from dbmigrate.streaming.stream import Stream
from dbmigrate.workflow.abort import abort
from dbmigrate.workflow.announcing import announce_state, ensure_announced
from dbmigrate.workflow.instances import read_application_status
from dbmigrate.workflow.migration import Migration
from dbmigrate.workflow.phases import WORK
from dbmigrate.workflow.phases.contract import begin_contract, require_not_done
from dbmigrate.workflow.phases.expand import CREATED
from dbmigrate.workflow.phases.plan import require_no_obstacles
from dbmigrate.workflow.run import Run

log = logging.getLogger(__name__)

T = TypeVar("T")

LEASE_SECONDS = 15.0
KEEPER_SECONDS = 0.5
RENEW_SECONDS = 4.0
MOST_RESYNCS = 5


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How a run ended: the phase it left the migration in, and whether it was interrupted."""

    phase: Phase
    was_interrupted: bool


def build_actor() -> str:
    """Who this process is, for the lease and the audit."""
    return f"{socket.gethostname()}:{os.getpid()}"


class Runner:
    """One process's work on one migration."""

    def __init__(
        self,
        migration: Migration,
        *,
        until: Phase | None = None,
        assume_yes: bool = False,
        request: str = "",
        resync: bool = False,
    ) -> None:
        self._migration = migration
        self._until = until
        self._assume_yes = assume_yes
        self._request = request
        self._resync = resync
        self._actor = build_actor()
        self._ctrl_c = False
        self._lost_lease = False
        self._generation = 0
        self._observed_rows = 0
        self._ended = threading.Event()
        self.current: Run | None = None
        if until is not None and not path_to(until, has_application=migration.config.app.enabled):
            raise RefusedError(
                f"a move without an application never passes {until.value}", place="--until",
                hint="see docs/phases.md for the phases",
            )  # fmt: skip

    @property
    def is_interrupted(self) -> bool:
        """Whether somebody has asked to stop."""
        return self._ctrl_c

    def interrupt(self) -> None:
        """Ctrl-C: finish what is in flight, save, and return."""
        self._ctrl_c = True
        if self.current is not None:
            self.current.interrupt()

    def run(self) -> RunOutcome:
        """Start or resume, and go on until the end, ``until``, or an interruption.

        Raises:
            RefusedError: a check, a gate or the lease says no.
            DbmigrateError: the work failed; everything done is kept, run again.
        """
        run = self._begin()
        with self._kept(run):
            self._walk(run)
        return RunOutcome(run.state.phase, self._ctrl_c)

    def run_once(self, work: Callable[[Run], T]) -> T:
        """Hold the lease for one piece of work instead of walking the phases."""
        run = self._begin()
        with self._kept(run):
            return work(run)

    @contextmanager
    def _kept(self, run: Run) -> Iterator[None]:
        """The keeper works during the block; afterwards the stream has stopped and the lease is free."""
        keeper = threading.Thread(target=self._keep, args=(run,), name="keeper", daemon=True)
        keeper.start()
        try:
            yield
        except AmbiguousError as unknown:
            self._hold(run, unknown)
            raise
        finally:
            run.interrupt()
            self._ended.set()
            keeper.join()
            self._release(run)

    def _release(self, run: Run) -> None:
        try:
            run.stop_stream()
            if not self._lost_lease:
                self._migration.store.save_progress(run.read_status().to_json())
                self._migration.store.release_lease(self._generation)
        except DbmigrateError as fault:
            log.warning("the lease could not be given back: %s", fault.message)

    # --- beginning ---

    def _begin(self) -> Run:
        store = self._migration.store
        if not store.exists() or store.load_state() is None:
            require_no_obstacles(self._migration)  # before anything is written anywhere
        store.create_tables()
        store.create_migration(
            source=self._migration.source.place, target=self._migration.target.place,
            configuration=self._migration.config.migration.model_dump_json(),
        )  # fmt: skip
        self._generation = store.acquire_lease(self._actor, seconds=LEASE_SECONDS)
        try:
            return self._take_over()
        except BaseException:
            store.release_lease(self._generation)
            raise

    def _take_over(self) -> Run:
        """With the lease: wait until earlier writes have ended, and see where the migration stands."""
        store, state = self._migration.store, self._load()
        require_not_done(state, self._request)
        if state.phase is not Phase.DONE:  # then nothing of the move is left, and nothing of it is made again
            self._create_fences()
            self._migration.begin_tenure(self._generation)
            state = self._load()
        if state.phase is Phase.ABORTED and self._request != "abort":
            store.restart_migration(state, actor=self._actor)
            store.save_evidence(CREATED, {"tables": [], "deferred": {}})
            state = self._load()
        if self._request:
            store.save_request(self._request)
        run = Run(self._migration, state, self._actor, assume_yes=self._assume_yes, until=self._until)
        self.current = run
        if state.phase is Phase.HELD:
            self._leave_held(run)
        if self._resync:
            run.begin_resync()
        self._migration.around.observer.phase_entered(state.phase.value)
        return run

    def _create_fences(self) -> None:
        for side in Side:
            with self._migration.servers[side].pool.borrow() as session:
                create_fence_tables(session)
            self._migration.servers[side].heartbeat.ensure_row()

    def _load(self) -> MigrationState:
        state = self._migration.store.load_state()
        if state is None:
            raise FatalError("the migration's row is gone", place=f"migration {self._migration.id}")
        return state

    # --- the loop ---

    def _has_passed(self, phase: Phase) -> bool:
        """Whether the migration already stands behind the phase to stop after."""
        is_behind = phase in (Phase.SOAK, Phase.CONTRACT, Phase.DONE)
        path = path_to(self._until, has_application=self._migration.config.app.enabled) if self._until else ()
        return self._until is not None and is_behind and phase not in path

    def _walk(self, run: Run) -> None:
        resyncs = 0
        while not self._is_over(run):
            if self._is_asked(run):
                if not self._obey(run):
                    return
                continue
            if self._has_passed(run.state.phase):
                return
            work = WORK.get(run.state.phase)
            if work is None:
                return
            if not self._has_announced(run):
                continue
            try:
                following = work(run)
            except PositionLost as lost:
                resyncs += 1
                if resyncs > MOST_RESYNCS:
                    raise
                run.resync(lost)
                if run.state.phase in (Phase.CUTOVER, Phase.RAMP_READS):
                    self._enter(run, Phase.CATCH_UP, "the binlog was purged; verify again")
                continue
            except ServerRefusedError:
                if run.stream is not None:
                    run.stream.explain_refusal()
                raise
            if following is None:
                if not self._lost_lease and not self._is_asked(run):
                    return
                continue
            left = run.state.phase
            if self._goes_back(left, following):
                self._enter(run, following, "the evidence is not fresh enough: verify again")
                continue
            because = f": {run.passed_because}" if run.passed_because else ""
            self._enter(run, following, f"the gate of {left.value} has passed{because}")
            if left is self._until:
                return

    def _has_announced(self, run: Run) -> bool:
        """Whether the application can see this phase, which a runner that died may not have told it.

        Where an interrupted switch has to be finished first, the phase's own work says it.
        """
        return run.state.phase in (Phase.CUTOVER, Phase.REVERTING) or ensure_announced(run)

    @staticmethod
    def _goes_back(left: Phase, following: Phase) -> bool:
        """Whether a phase was left without its gate: only those behind the verification do that."""
        return left in (Phase.RAMP_READS, Phase.CUTOVER) and following is Phase.CATCH_UP

    def _is_asked(self, run: Run) -> bool:
        """Whether another process wants something else done now."""
        return bool(run.requested or self._load().requested)

    def _is_over(self, run: Run) -> bool:
        if self._lost_lease:
            raise RefusedError(
                "another runner has taken the lease over", place=f"migration {self._migration.id}",
                hint="`dbmigrate status` shows who works on it",
            )  # fmt: skip
        return self._ctrl_c or MEANINGS[run.state.phase].is_final or run.state.phase is Phase.HELD

    def _enter(self, run: Run, phase: Phase, reason: str) -> None:
        """Record the transition, then show it in both fence rows, the owner's first."""
        run.state = self._migration.store.save_phase(run.state, phase, actor=self._actor, reason=reason)
        run.passed_because = ""
        self._migration.around.observer.phase_entered(phase.value)
        log.info("phase %s: %s", phase.value, reason)
        announce_state(run)
        run.waiting_for = ""

    def _hold(self, run: Run, unknown: AmbiguousError) -> None:
        if Phase.HELD in {run.state.phase} or not MEANINGS[run.state.phase].owner:
            return
        try:
            run.state = self._migration.store.save_phase(
                run.state, Phase.HELD, actor=self._actor, reason=unknown.message
            )
        except DbmigrateError as fault:
            log.warning("the migration could not be held: %s", fault.message)

    def _leave_held(self, run: Run) -> None:
        """A person has corrected the fence rows: go on with the owner that they name now.

        Raises:
            AmbiguousError: they still contradict each other.
        """
        rows = []
        for side in Side:
            with self._migration.servers[side].pool.borrow() as session:
                rows.append(load_fence_row(session, self._migration.id))
        row = decide_owner(*rows)
        owner = row.owner if row is not None else Side.SOURCE
        self._enter(run, Phase.SOAK if owner is Side.TARGET else Phase.CATCH_UP, f"a person decided: {owner.value}")

    # --- requests of other processes ---

    def _obey(self, run: Run) -> bool:
        """Carry out a request; False when there is nothing more to do in this run."""
        requested, run.requested = self._load().requested, ""
        run.interrupted.clear()
        if self._ctrl_c:
            run.interrupted.set()
        self._migration.store.save_request("")
        meaning = MEANINGS[run.state.phase]
        if requested == "abort":
            if not meaning.may_abort:
                raise _refuse(run, "abort", "the target owns the data: `dbmigrate revert` goes back first")
            following = abort(run)
            self._enter(run, following, "abort was requested")
            return following is not Phase.ABORTED
        if requested == "revert":
            if not meaning.may_revert:
                raise _refuse(run, "revert", "only a switched migration can be reverted: `dbmigrate abort` ends others")
            if run.state.phase is Phase.SOAK:
                self._enter(run, Phase.REVERTING, "revert was requested")
            run.until = self._until = Phase.REVERTING
            return True
        if requested == "contract":
            if reason := begin_contract(run):
                self._enter(run, Phase.CONTRACT, reason)
            return True
        log.warning("unknown request %r ignored", requested)
        return True

    # --- the keeper ---

    def _keep(self, run: Run) -> None:
        renewed_at = self._migration.around.clock()
        while not self._ended.wait(KEEPER_SECONDS):
            try:
                if self._migration.around.clock() - renewed_at >= RENEW_SECONDS:
                    renewed_at = self._migration.around.clock()
                    self._renew(run)
                self._look_around(run)
            except DbmigrateError as fault:
                log.warning("the control tables cannot be reached: %s", fault.message)
            except Exception:
                log.exception("the keeper failed and goes on: without it the lease would expire")

    def _renew(self, run: Run) -> None:
        if not self._migration.store.renew_lease(self._generation, seconds=LEASE_SECONDS):
            self._lost_lease = True
            run.interrupt()

    def _look_around(self, run: Run) -> None:
        """Requests, pauses, repairs, the stream's health, the status."""
        state = self._load()
        if state.requested and not run.requested:
            run.requested = state.requested
            run.interrupt()
        self._migration.throttle.is_paused = state.is_paused
        run.application = read_application_status(run)
        self._migration.store.save_progress(run.read_status().to_json())
        if run.application is not None:
            seen = run.application
            self._migration.around.observer.application_seen(
                instances=len(seen.instances), lagging=sum(one.behind > 0 for one in seen.instances),
                read_share=seen.read_share, counts={"writes": seen.writes, "shadow": seen.shadow, "reads": seen.reads},
            )  # fmt: skip
        stream = run.stream
        if stream is None:
            return
        self._observe(run, stream)
        try:
            stream.require_healthy()
        except DbmigrateError:
            if run.copier is not None:
                run.copier.stop()
            if run.verifier is not None:
                run.verifier.stop()
            return
        last_id, keys = self._migration.store.take_repairs()
        if keys:
            stream.enqueue(keys)
            stream.drain(timeout_seconds=60)
            self._migration.store.finish_repairs(last_id)

    def _observe(self, run: Run, stream: Stream) -> None:
        """Feed the metrics with what the stream has done since the last look."""
        status, observer = stream.read_status(), self._migration.around.observer
        observer.backlog_seen(status.backlog_keys, status.lag_seconds)
        streamed = run.read_status().rows_streamed
        observer.rows_streamed(streamed - self._observed_rows)
        self._observed_rows = streamed


def _refuse(run: Run, what: str, hint: str) -> RefusedError:
    return RefusedError(
        f"{what} is not possible in phase {run.state.phase.value}", place=f"migration {run.migration.id}", hint=hint
    )
