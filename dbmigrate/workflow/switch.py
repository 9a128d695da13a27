"""Changing ownership: the cutover, and the way back with the roles exchanged.

Within one budget: fence, drain, verify what is still unproved, open the way back, carry what belongs to the owner,
then commit the new owner on the side that gives up, then on the side that takes over. Until the first of these two
commits everything can be undone, and is, when anything fails or takes too long; after it only forward leads on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from dbmigrate.domain.errors import ConfigurationError, DbmigrateError, FatalError, RefusedError, TransientError
from dbmigrate.domain.ownership import FenceRow, row_for
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Direction, Side
from dbmigrate.domain.schema import ObjectKind, TableName
from dbmigrate.mysql.activity import end_connection, interrupting_after
from dbmigrate.mysql.control import MigrationState
from dbmigrate.mysql.faults import RolledBackError
from dbmigrate.mysql.fence import build_fence_lock, build_fence_save, load_fence_row
from dbmigrate.mysql.open_transactions import read_open_transactions
from dbmigrate.mysql.sessions import WAIT_TIMEOUT_SECONDS, Session
from dbmigrate.streaming.stream import Stream
from dbmigrate.workflow.announcing import build_application_settings
from dbmigrate.workflow.carrying import (
    Program,
    build_programs,
    create_triggers,
    disable_events,
    drop_events,
    drop_triggers,
    dump_programs,
    enable_events,
    find_counters_behind,
    load_programs,
    prepare_events,
)
from dbmigrate.workflow.drift import require_same_definitions
from dbmigrate.workflow.fences import Fence, build_fence
from dbmigrate.workflow.guards import QuietMoments
from dbmigrate.workflow.migration import Migration
from dbmigrate.workflow.verification import verify_touched

log = logging.getLogger(__name__)

PRE_DRAIN_SECONDS = 30.0
LOOK_AGAIN_SECONDS = 0.12  # InnoDB shows what it read up to 0.1 s ago
MOST_NAMED = 3
GUARD_SECONDS = 60
LATE_ANSWER_SECONDS = 0.25
"""How long after the budget's end a step may still say itself why it did not fit."""
PROGRAMS = "programs"
SWITCH = "switch"


class SwitchUndoneError(TransientError):
    """This attempt was undone: writers went on where they were. Try again later."""


@dataclass(frozen=True, slots=True)
class SwitchReport:
    """A switch that happened. ``pause_seconds`` is how long writers were held back; ``steps`` says on what."""

    direction: Direction
    pause_seconds: float
    steps: dict[str, float] = field(default_factory=dict)


class Switch:
    """One attempt to move ownership along a running stream, from its origin to its destination."""

    def __init__(self, migration: Migration, stream: Stream, state: MigrationState) -> None:
        self._migration, self._stream, self._state = migration, stream, state
        self._direction = stream.direction
        self._giving, self._taking = self._direction.origin, self._direction.origin.other
        self._origin, self._destination = migration.servers[self._giving], migration.servers[self._taking]
        self._clock = migration.around.clock
        self._budget = migration.config.cutover.max_write_pause_seconds
        self._steps: dict[str, float] = {}
        self._programs: tuple[Program, ...] = ()
        self._began = 0.0
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="switch")
        self._unanswered: Future[object] | None = None
        self._guard: Session | None = None

    # --- the attempt ---

    def attempt(self) -> SwitchReport:
        """Switch, or undo.

        Raises:
            SwitchUndoneError: everything is as before, with the cause.
            FatalError: how it went cannot be found out, or what follows cannot be done, until a server is
                reachable again: the next run does that first.
            DbmigrateError: the stream itself has failed.
        """
        fence = self._prepare()
        session = self._open_silent(0)
        try:
            self._require_tenure()
            return self._attempt_on(session, fence)
        finally:
            session.close()
            if self._guard is not None:
                self._guard.close()
            self._worker.shutdown(wait=False)

    def _open_silent(self, longer: int) -> Session:
        """A session that may say nothing for as long as the pause takes."""
        session = self._origin.pool.open()
        session.execute(
            f"SET SESSION wait_timeout = {WAIT_TIMEOUT_SECONDS + int(self._budget) + longer}, "
            f"innodb_lock_wait_timeout = {int(self._budget) + 10}"
        )
        return session

    def _require_tenure(self) -> None:
        """Hold the tenure for the whole attempt: fences, triggers and ownership are nothing that a transaction of
        their own could guard. While it is held no other runner can begin; once it is lost one may have.

        Raises:
            FatalError: another runner has taken over.
        """
        if self._guard is not None:
            try:
                self._guard.execute("SELECT 1", doing="checking the lease")
                return
            except TransientError:
                self._guard.close()
        # The server keeps it longer than the fence's session, so that what that one left undone is over before.
        self._guard = self._open_silent(GUARD_SECONDS)
        self._guard.execute("START TRANSACTION")
        self._migration.tenure(self._giving).require_newest(self._guard)

    def _attempt_on(self, session: Session, fence: Fence) -> SwitchReport:
        try:
            is_closed = fence.seize(session)
            self._began = self._clock()
            self._timed("fence", lambda: self._close(session, fence, is_closed=is_closed))
            if self._migration.config.app.enabled:
                self._bounded("mirrors", lambda: fence.wait_for_mirrors(self._remaining()))
            self._bounded("drain", lambda: self._stream.drain(timeout_seconds=self._remaining()))
            self._bounded("verify", self._verify)
            self._bounded("carry", self._carry)
            self._bounded("way_back", self._open_way_back)
            self._require_budget()
            self._step("switch.before_commit")
            self._timed("commit", lambda: self._commit_giving(session))
        except BaseException as fault:
            self._resolve(session, fence, fault)
        try:
            return self._complete(session, fence)
        except TransientError as fault:
            # Never an attempt that was undone: repeating it would forget where the way back begins.
            raise FatalError(
                "the switch has been committed, but not everything that belongs to it could be done",
                place=self._destination.place, cause=str(fault).replace("\n", "; "),
                hint="run again at once: it is completed before anything else",
            ) from fault  # fmt: skip

    def _complete(self, session: Session, fence: Fence) -> SwitchReport:
        self._step("switch.origin_committed")
        self._take_over(fence)
        report = SwitchReport(self._direction, self._clock() - self._began, dict(self._steps))
        self._release(session, fence)
        self._record(report)
        return report

    def _step(self, name: str) -> None:
        self._migration.around.on_step(name)

    def _timed(self, name: str, work: Callable[[], object]) -> None:
        self._step(f"switch.{name}")
        began = self._clock()
        try:
            self._require_tenure()
            work()
        finally:
            self._steps[name] = self._clock() - began

    def _bounded(self, name: str, work: Callable[[], object]) -> None:
        """A step that needs both servers: one that does not answer must not hold the other's writers longer."""
        self._timed(name, lambda: self._within_budget(name, work))

    def _within_budget(self, name: str, work: Callable[[], object]) -> None:
        future: Future[object] = self._worker.submit(work)
        if not wait([future], self._remaining() + LATE_ANSWER_SECONDS).done:
            self._unanswered = future
            raise SwitchUndoneError(f"the write pause of {self._budget:g} s was used up", cause=f"no answer to: {name}")
        future.result()

    def _remaining(self) -> float:
        return max(0.0, self._budget - (self._clock() - self._began))

    def _require_budget(self) -> None:
        if self._remaining() <= 0:
            spent = ", ".join(f"{name} {seconds * 1000:.0f} ms" for name, seconds in self._steps.items())
            raise SwitchUndoneError(f"the write pause of {self._budget:g} s was used up", cause=spent)

    # --- before the pause ---

    def _prepare(self) -> Fence:
        """Everything slow that may happen while the application writes."""
        if self._direction is Direction.FORWARD:
            require_same_definitions(self._migration)  # a table that is new is not in the stream
        self._programs = self._load_programs()
        fence = build_fence(
            self._migration.config.cutover.fence, self._migration.id, self._migration.servers,
            {side: self._migration.table_names(side) for side in Side}, giving=self._giving,
            pause=self._migration.stopping.wait,
        )  # fmt: skip
        self._arm(fence)
        if self._programs:
            with self._destination.pool.borrow() as session:
                prepare_events(session, self._programs, self._taking, self._migration.schema_name(self._taking))
        self._carry_counters_early()
        self._stream.drain(timeout_seconds=PRE_DRAIN_SECONDS)
        if not verify_touched(self._migration, self._stream, is_still=False):
            raise RefusedError("rows differ: verify again before the switch", place=f"migration {self._migration.id}")
        return fence

    def _arm(self, fence: Fence) -> None:
        self._began = self._clock()
        try:
            fence.prepare()
        except RolledBackError as waited:
            raise SwitchUndoneError(
                "the fence could not be prepared; writers go on as before", place=self._origin.place,
                cause=self._describe(waited), hint="it is tried again",
            ) from waited  # fmt: skip

    def _load_programs(self) -> tuple[Program, ...]:
        """Forward: as the source defines them now, saved for the way back. Backward: as saved."""
        if self._direction is Direction.FORWARD:
            programs = build_programs(
                self._migration.read_schema(Side.SOURCE, anew=True), self._migration.table_names(Side.SOURCE),
                source_version=self._origin.version, target_version=self._destination.version,
                target_schema=self._migration.schema_name(Side.TARGET),
            )  # fmt: skip
            self._migration.store.save_evidence(PROGRAMS, dump_programs(programs))
            return programs
        saved = self._migration.store.load_evidence(PROGRAMS)
        return load_programs(saved.content) if saved else ()

    def _carry_counters_early(self) -> None:
        """While the application mirrors its writes there, only in moments in which it does not: MariaDB's ALTER TABLE
        locks the table and then waits for writers of tables that refer to it, who wait for the table."""
        statements = self._find_counters_behind()
        if not self._migration.config.app.enabled:
            self._carry_counters(statements)
            return
        quiet = QuietMoments(self._origin, self._migration.id, self._migration.stopping.wait)
        try:
            quiet.execute(self._destination, statements, doing="carrying AUTO_INCREMENT and sequences")
        except RolledBackError as waited:
            log.info("counters are carried in the write pause: %s", waited.message)

    def _carry_counters(self, statements: Sequence[str]) -> None:
        with self._destination.pool.borrow() as session:
            for statement in statements:
                session.execute(statement, doing="carrying AUTO_INCREMENT and sequences")

    def _find_counters_behind(self) -> list[str]:
        routes = self._migration.require_routes(self._direction)
        sequences: dict[TableName, TableName] = {}
        for stored in self._migration.read_schema(Side.SOURCE).of_kind(ObjectKind.SEQUENCE):
            names = {
                Side.SOURCE: stored.name,
                Side.TARGET: TableName(self._migration.schema_name(Side.TARGET), stored.name.name),
            }
            sequences[names[self._giving]] = names[self._taking]
        counted = {
            route.origin.name: route.destination.name
            for route in routes
            if any(column.is_auto_increment for column in route.destination.columns)
        }
        return find_counters_behind(self._origin, self._destination, counted, sequences)

    # --- inside the pause ---

    def _close(self, session: Session, fence: Fence, *, is_closed: bool) -> None:
        if not is_closed:
            with interrupting_after(self._remaining(), self._origin.pool, session):
                fence.close(session)
        self._wait_for_unfinished(session, fence)
        if self._programs:
            with self._origin.pool.borrow() as other:
                disable_events(other, self._programs, self._migration.schema_name(self._giving))

    def _wait_for_unfinished(self, session: Session, fence: Fence) -> None:
        """Transactions that were open when the fence closed must end, or they could still commit behind it.

        Raises:
            SwitchUndoneError: one of them takes longer than the budget; it is named.
        """
        unfinished = fence.find_unfinished(session)
        waited_for = {one.id for one in unfinished}
        while unfinished:
            if self._remaining() <= LOOK_AGAIN_SECONDS:
                raise SwitchUndoneError(
                    f"the write pause of {self._budget:g} s was used up by waiting for open transactions",
                    cause="; ".join(map(str, unfinished[:MOST_NAMED])),
                )
            self._migration.stopping.wait(LOOK_AGAIN_SECONDS)
            unfinished = tuple(one for one in fence.find_unfinished(session) if one.id in waited_for)

    def _verify(self) -> None:
        if not verify_touched(self._migration, self._stream, is_still=True):
            raise SwitchUndoneError("rows differ after the drain", hint="`dbmigrate verify --repair`, then try again")
        # A server that forgot rows when it was restarted, after they were compared, says so to the next write at the
        # latest; the switch may come before that.
        with self._destination.pool.borrow() as session, self._migration.tenure(self._taking).transaction(session):
            pass
        self._require_budget()

    def _open_way_back(self) -> None:
        """The position from which the opposite stream misses no write of the new owner: before it may write.

        After everything was carried, so that the stream back does not meet the statements that did it.
        """
        back = Direction.REVERSE if self._direction is Direction.FORWARD else Direction.FORWARD
        self._migration.store.save_checkpoint(back, self._migration.note_start(back))

    def _carry(self) -> None:
        self._carry_counters(self._find_counters_behind())
        if self._programs:
            with self._destination.pool.borrow() as session:
                schema = self._migration.schema_name(self._taking)
                create_triggers(session, self._programs, self._taking, schema)
                enable_events(session, self._programs, schema)

    @property
    def _next_row(self) -> FenceRow:
        phase = Phase.SOAK if self._taking is Side.TARGET else Phase.CATCH_UP
        row = row_for(phase, self._state.epoch + 1, build_application_settings(self._migration))
        assert row is not None and row.owner is self._taking  # noqa: S101, PT018  # the meanings and the direction agree
        return row

    def _commit_giving(self, session: Session) -> None:
        session.execute(build_fence_save(self._migration.id, self._next_row), doing="handing over ownership")
        self._step("switch.row_written")
        self._require_tenure()
        session.execute("COMMIT", doing="committing the switch")

    def _take_over(self, fence: Fence) -> None:
        def verb() -> None:
            self._require_tenure()
            with self._destination.pool.borrow() as session:
                session.execute(build_fence_save(self._migration.id, self._next_row), doing="taking over ownership")

        self._migration.retry.retrying(verb, idempotent=True)
        self._step("switch.destination_committed")

        def opened() -> None:
            self._require_tenure()
            fence.open_other(self._destination)

        self._migration.retry.retrying(opened, idempotent=True)

    def _release(self, session: Session, fence: Fence) -> None:
        try:
            fence.keep(session)
        except DbmigrateError as fault:
            log.warning("releasing the fence's session failed, closing it instead: %s", fault.message)

        def settled() -> None:
            self._require_tenure()
            settle_after_switch(self._migration, self._giving, self._programs)

        self._migration.retry.retrying(settled, idempotent=True)

    def _record(self, report: SwitchReport) -> None:
        self._migration.around.observer.writes_paused(report.pause_seconds)
        self._migration.store.save_evidence(
            SWITCH,
            {
                "direction": report.direction.value,
                "pause_ms": round(report.pause_seconds * 1000, 2),
                "steps_ms": {name: round(seconds * 1000, 2) for name, seconds in report.steps.items()},
            },
        )

    # --- when something fails ---

    def _resolve(self, session: Session, fence: Fence, fault: BaseException) -> None:
        """Find out by reading whether the switch has happened; undo if it has not, go on if it has."""
        if self._has_happened(session):
            return
        cause = self._describe(fault)
        self._undo(session, fence)
        if isinstance(fault, DbmigrateError) and not isinstance(fault, RefusedError | ConfigurationError):
            self._stream.require_healthy()
            raise SwitchUndoneError(
                "the switch was undone; writers go on as before", place=self._origin.place, cause=cause,
                hint=fault.hint or "it is tried again",
            ) from fault  # fmt: skip
        raise fault

    def _has_happened(self, session: Session) -> bool:
        """Whether the giving side has committed: asked on the session itself while it lives, else once it has ended.

        A COMMIT whose answer was lost may still be on its way to the server, so that connection is ended first, and
        the row is read with a lock, which waits for whatever it was doing.
        """
        if "commit" not in self._steps:
            return False
        if not session.is_broken:
            try:
                session.execute("ROLLBACK")
                return self._is_handed_over(session)
            except TransientError as fault:
                log.warning("the session of the switch was lost: %s", fault.message)

        def verb() -> bool:
            end_connection(self._origin.pool, session.connection_id)
            with self._origin.pool.borrow() as fresh, fresh.transaction():
                fresh.execute(build_fence_lock(self._migration.id), doing="waiting for the switch's transaction to end")
                return self._is_handed_over(fresh)

        session.close()
        try:
            return bool(self._migration.retry.retrying(verb, idempotent=True))
        except TransientError as fault:
            raise FatalError(
                "whether the switch was committed cannot be found out now", place=self._origin.place,
                cause=str(fault).replace("\n", "; "),
                hint="run again as soon as the server answers: the next run finds out, and completes or undoes it",
            ) from fault  # fmt: skip

    def _is_handed_over(self, session: Session) -> bool:
        row = load_fence_row(session, self._migration.id)
        return row is not None and row.epoch == self._next_row.epoch and row.owner is self._taking

    def _describe(self, fault: BaseException) -> str:
        text = str(fault).replace("\n", "; ")
        try:
            with self._origin.pool.borrow() as session:
                found = read_open_transactions(session, at_least_seconds=int(self._clock() - self._began))
        except DbmigrateError:
            return text
        blocking = [one for one in found if self._guard is None or one.connection_id != self._guard.connection_id]
        if not blocking or "open for" in text:
            return text
        return f"{text}; open meanwhile: {'; '.join(map(str, blocking[:MOST_NAMED]))}"

    def _undo(self, session: Session, fence: Fence) -> None:
        """Writers first, then everything else.

        Raises:
            FatalError: a server cannot be reached for that; the next run does it before anything else.
        """
        self._step("switch.undo")
        if "carry" in self._steps and self._programs:
            # Until they are gone again, what the stream writes would fire the triggers created for the new owner.
            self._stream.hold_flushing()
        self._insist(lambda: self._lift(session, fence), "the fence could not be lifted: writers are still held back")
        if not self._programs:
            return
        self._insist(self._give_events_back, "events could not be enabled again")
        if self._unanswered is not None:
            log.warning("waiting for an answer that may still come: nothing may be created after it is removed")
            wait([self._unanswered])
        self._insist(
            lambda: remove_programs(self._migration, self._taking, self._programs), "triggers could not be removed"
        )
        self._stream.resume_flushing()

    def _lift(self, session: Session, fence: Fence) -> None:
        if not session.is_broken:
            try:
                fence.lift(session)
                return
            except DbmigrateError as fault:
                log.warning("lifting the fence once more, on another connection: %s", fault.message)
        session.close()
        end_connection(self._origin.pool, session.connection_id)
        with self._origin.pool.borrow() as fresh:
            fence.lift(fresh)

    def _give_events_back(self) -> None:
        with self._origin.pool.borrow() as other:
            enable_events(other, self._programs, self._migration.schema_name(self._giving))

    def _insist(self, work: Callable[[], None], otherwise: str) -> None:
        def verb() -> None:
            self._require_tenure()
            work()

        try:
            self._migration.retry.retrying(verb, idempotent=True)
        except TransientError as fault:
            raise FatalError(
                f"the switch did not happen, but {otherwise}", place=fault.place, cause=fault.cause or fault.message,
                hint="run again as soon as the server answers: the next run does it before anything else",
            ) from fault  # fmt: skip


def remove_programs(migration: Migration, side: Side, programs: tuple[Program, ...]) -> None:
    """Take triggers and events off a side that does not own the data."""
    with migration.servers[side].pool.borrow() as session:
        drop_triggers(session, programs, migration.schema_name(side))
        drop_events(session, programs, migration.schema_name(side))


def settle_after_switch(migration: Migration, giving: Side, programs: tuple[Program, ...]) -> None:
    """After the switch, before the stream back writes: the side that gave up loses triggers and running events."""
    if programs:
        with migration.servers[giving].pool.borrow() as session:
            drop_triggers(session, programs, migration.schema_name(giving))
            disable_events(session, programs, migration.schema_name(giving))
