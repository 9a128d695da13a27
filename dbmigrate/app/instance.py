"""One application process in a migration: what it knows of the fence row, and what it tells the runner.

Apart from the sessions, which come and go with requests: the state they share lives here, and so does the one
background thread, which looks at the row and reports. The thread keeps sessions from having to look; nothing depends
on it being on time. What a session may write is decided by the row that it has locked itself, or, where there was no
migration, by a look so recent that the runner has waited longer than that before any switch.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.util import await_only

from dbmigrate.app.bounded import Bounded, InEventLoop, InThreads
from dbmigrate.app.capture.listening import Capture
from dbmigrate.app.counting import Counts
from dbmigrate.app.engines import detached_engine
from dbmigrate.app.failing import Failures
from dbmigrate.app.faults import describe, is_missing
from dbmigrate.app.mapped import MappedColumns
from dbmigrate.app.mirror import Mirrors, find_plans
from dbmigrate.app.mirroring import Mirroring
from dbmigrate.app.options import Options
from dbmigrate.app.reading import Latencies
from dbmigrate.app.rows import complete_row, read_other_ids, read_row
from dbmigrate.app.shadowing import Shadowing
from dbmigrate.domain.errors import AmbiguousError, DbmigrateError
from dbmigrate.domain.evidence import InstanceReport
from dbmigrate.domain.mappings import digest_columns
from dbmigrate.domain.ownership import IDLE_LOOK_SECONDS, STATE_EXPIRES_SECONDS, FenceRow, decide_owner
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Direction, Side
from dbmigrate.domain.schema import TableName
from dbmigrate.mysql.application_rules import ApplicationRules, load_rules
from dbmigrate.mysql.evidence import remove_instance, save_report
from dbmigrate.mysql.mappings import remove_mapping, save_mapping
from dbmigrate.mysql.mirror_plan import MirrorPlan, load_plans

if TYPE_CHECKING:
    from dbmigrate.app.unit import Unit

log = logging.getLogger(__name__)

_VERSION = version("dbmigrate")

LOOK_SECONDS = 0.25
"""How often the row is looked at while a migration is in progress."""
SWITCHING_LOOK_SECONDS = 0.05
"""How often while the owner may change: until it has looked, an instance reads from the side that was the owner."""
REPORT_SECONDS = 1.0

_SWITCHING = frozenset({Phase.CUTOVER, Phase.REVERTING})


@dataclass(frozen=True, slots=True)
class Known:
    """What the instance believes: the row, None where there is no migration, and since when (monotonic seconds)."""

    row: FenceRow | None
    looked_at: float


class Instance:
    """Thread-safe; one per process and pair of engines. Follows in the background from its first use on."""

    def __init__(
        self,
        source: sa.Engine,
        target: sa.Engine,
        migration_id: str,
        options: Options,
        *,
        is_async: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.engines = {Side.SOURCE: source, Side.TARGET: target}
        self.migration_id, self.options = migration_id, options
        self.counts = Counts()
        # Only of connections that somebody listens to: noting each would cost every read.
        self.units: weakref.WeakKeyDictionary[sa.Connection, Unit] = weakref.WeakKeyDictionary()
        bounded: Bounded = InEventLoop() if is_async else InThreads(options.mirror_threads)
        self.mirroring = Mirroring(self, Mirrors(self.engines, bounded, timeout_seconds=options.mirror_timeout_seconds))
        self.capture, self.latencies, self.shadowing = Capture(self), Latencies(self), Shadowing(self)
        self.failures = Failures(self)
        self.failures.listen()
        self.rules = ApplicationRules()
        self._mapped, self._saved_mapping = MappedColumns(options.metadata), ""
        self._is_async, self._clock = is_async, clock
        self._plans: dict[Direction, dict[TableName, MirrorPlan]] = {}
        self._orders_for: tuple[Phase, bool, bool] | None = None
        self._lock = threading.Lock()
        self._known: Known | None = None
        self._looked = threading.Event()
        self._unfenced = 0
        self._acknowledged = 0
        self._has_warned_of_others = False
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._pid = 0
        self.instance_id = ""

    # --- what sessions ask ---

    @property
    def known(self) -> FenceRow | None:
        """The newest row seen; None where there is no migration, or nobody has looked yet."""
        return self._known.row if self._known is not None else None

    @property
    def owner(self) -> Side:
        """The side that is believed to own the data. A write locks that side's row and obeys what it says."""
        row = self.known
        return row.owner if row is not None else Side.SOURCE

    def wait_for_look(self) -> None:
        """Until somebody has looked at the row for the first time, nobody knows which side to read; not for long."""
        if self._known is not None or self._looked.is_set():
            return
        if self._is_async:
            waiting = asyncio.get_running_loop().run_in_executor(None, self._looked.wait, STATE_EXPIRES_SECONDS)
            await_only(waiting)
        else:
            self._looked.wait(STATE_EXPIRES_SECONDS)
        self._looked.set()  # if nobody has, no other session waits again

    def plans(self, owner: Side) -> Mapping[TableName, MirrorPlan]:
        """How to mirror what is written on this side; nothing until the runner's plans were read."""
        return self._plans.get(Direction.FORWARD if owner is Side.SOURCE else Direction.REVERSE, {})

    def find_plan(self, owner: Side, table: TableName) -> MirrorPlan | None:
        """How one table is mirrored; None where it does not move."""
        plans = self.plans(owner)
        found = plans.get(table)
        return found or plans.get(TableName(table.schema.casefold(), table.name.casefold()))

    def enter_unfenced(self) -> bool:
        """Begin to write without looking at the row, if there was none a moment ago.

        Until ``leave_unfenced`` the instance acknowledges no epoch, and the runner waits.
        """
        with self._lock:
            known = self._known
            is_idle = (
                known is not None and known.row is None and self._clock() - known.looked_at < STATE_EXPIRES_SECONDS
            )
            self._unfenced += is_idle
            return is_idle

    def leave_unfenced(self) -> None:
        """The transaction that ``enter_unfenced`` let begin has ended."""
        with self._lock:
            self._unfenced -= 1

    def learn(self, row: FenceRow | None, looked_at: float | None = None, *, is_both_sides: bool = False) -> None:
        """A side said this, to a question asked at ``looked_at``. A later epoch wins.

        An earlier epoch, or none, is believed only of both sides, and only when nothing was learned since the question:
        the migration was aborted, and perhaps begun anew.
        """
        asked_at = self._clock() if looked_at is None else looked_at
        with self._lock:
            known = self._known
            is_newer_known = known is not None and (not is_both_sides or known.looked_at > asked_at)
            if is_newer_known and _is_before(row, self.known):
                return
            if known is None or asked_at >= known.looked_at or row != known.row:
                self._known = Known(row, max(asked_at, known.looked_at) if known is not None else asked_at)
                self._looked.set()
        if row is not None and self.counts.enter(row.phase):
            self.shadowing.reset()

    def complete(self, side: Side, row: FenceRow) -> None:
        """Make this side's row as new as the one that was found on the other side."""
        with self.engines[side].begin() as connection:
            complete_row(connection, self.migration_id, row)

    # --- the thread ---

    def follow(self) -> None:
        """Look and report in the background from now on; in every process that a server forks as well."""
        if self._pid == os.getpid():
            return
        with self._lock:
            if self._pid == os.getpid():
                return
            if self._pid:
                self._forget_the_parents_threads()
            self._pid = os.getpid()
            self.instance_id = f"{socket.gethostname()[:24]}-{self._pid}-{uuid.uuid4().hex[:12]}"
            self._stopping = threading.Event()
            self._thread = threading.Thread(target=self._run, name="dbmigrate-follower", daemon=True)
            self._thread.start()

    def _forget_the_parents_threads(self) -> None:
        """After a fork: threads stayed with the parent, and connections belong to it."""
        self.mirroring.start_anew()
        self._saved_mapping = ""
        self.shadowing = Shadowing(self)

    def close(self) -> None:
        """Stop following and take the instance out of the runner's list, so that it waits for it no longer."""
        thread = self._thread
        self._stopping.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=5)
        self.shadowing.close()
        self.mirroring.close()

    def _run(self) -> None:
        """An async engine's connections belong to an event loop, so the thread has a loop and connections of its own."""
        if not self._is_async:
            self._follow()
            return
        from sqlalchemy.ext.asyncio import AsyncSession

        async def main() -> None:
            async with AsyncSession() as session:
                await session.run_sync(lambda _: self._follow())

        asyncio.run(main())

    def _follow(self) -> None:
        own = {side: detached_engine(engine) for side, engine in self.engines.items()}
        report_at = 0.0
        try:
            while not self._stopping.wait(self._pause()):
                self._look(own)
                self._watch_stream(own)
                if self.known is not None and self._clock() >= report_at:
                    report_at = self._clock() + REPORT_SECONDS
                    self._report(own[Side.TARGET])
            self._leave(own[Side.TARGET])
        finally:
            for engine in own.values():
                engine.dispose()

    def _pause(self) -> float:
        if self._known is None:
            return 0.0
        row = self.known
        if row is None:
            return IDLE_LOOK_SECONDS
        return SWITCHING_LOOK_SECONDS if row.phase in _SWITCHING else LOOK_SECONDS

    def _look(self, own: dict[Side, sa.Engine]) -> None:
        asked_at = self._clock()
        rows: dict[Side, FenceRow | None] = {}
        for side in (Side.SOURCE, Side.TARGET):
            try:
                with own[side].connect() as connection:
                    rows[side] = read_row(connection, self.migration_id)
                    if rows[side] is None:
                        self._warn_of_others(connection)
            except (sa.exc.SQLAlchemyError, DbmigrateError, OSError) as fault:
                log.warning("the fence row of %s cannot be read: %s", side.value, describe(fault))
            if side is Side.SOURCE and rows.get(side, ...) is None and self.known is None:
                break  # no migration: the target need not even be there
        if not rows:
            if self._known is None:
                self._stopping.wait(LOOK_SECONDS)  # nobody has answered yet: not in a tight loop
            return
        try:
            row = decide_owner(rows.get(Side.SOURCE), rows.get(Side.TARGET))
        except AmbiguousError as fault:
            log.error("%s", fault)
            return
        if row is not None or Side.SOURCE in rows:
            self.learn(row, asked_at, is_both_sides=len(rows) == 2 or row is None)
        if row is not None and self._orders_for != _asks(row):
            self._load_orders(own[Side.TARGET], row)

    def _warn_of_others(self, connection: sa.Connection) -> None:
        """An id with a slip in it looks like no migration at all, and writes would not be held back."""
        others = [] if self._has_warned_of_others else read_other_ids(connection)
        if others:
            self._has_warned_of_others = True
            log.warning(
                "no migration has the id %r, and this application follows none; the server knows %s: is migration_id "
                "what [migration] id says?", self.migration_id, ", ".join(map(repr, others)),
            )  # fmt: skip

    def _load_orders(self, target: sa.Engine, row: FenceRow) -> None:
        """What the runner has written down for all instances: before the epoch that asks for it is acknowledged."""
        try:
            with target.connect() as connection:
                self._follow_rules(connection)
                if row.mirror:
                    self._plans = {
                        direction: find_plans(load_plans(connection, self.migration_id, direction))
                        for direction in Direction
                    }
            self._orders_for = _asks(row)
        except (sa.exc.SQLAlchemyError, OSError) as fault:
            log.warning("what the runner has left for the application cannot be read: %s", describe(fault))

    def _follow_rules(self, target: sa.Connection) -> None:
        try:
            self.rules = load_rules(target, self.migration_id)
        except sa.exc.DBAPIError as fault:
            if not is_missing(fault):
                raise
            self.rules = ApplicationRules()  # a runner that has none for us
        self.shadowing.follow(self.rules)

    def _watch_stream(self, own: dict[Side, sa.Engine]) -> None:
        try:
            self.shadowing.watch(own[Side.SOURCE], own[Side.TARGET])
        except (sa.exc.SQLAlchemyError, OSError) as fault:
            log.warning("how far the stream is cannot be read: %s", describe(fault))

    def _report(self, target: sa.Engine) -> None:
        row = self.known
        if row is None:
            return
        with self._lock:
            if self._unfenced == 0 and self._orders_for == _asks(row):
                self._acknowledged = row.epoch
        self._save_mapping(target)
        report = InstanceReport(
            instance_id=self.instance_id, host=socket.gethostname(), pid=os.getpid(), library_version=_VERSION,
            epoch=self._acknowledged, seen_at=datetime.now(UTC), phase=row.phase, writes=self.counts.writes(),
            shadow=self.shadowing.counts(), reads=self.counts.reads(), mapping_digest=self._saved_mapping,
        )  # fmt: skip
        try:
            with target.begin() as connection:
                save_report(connection, self.migration_id, report)
            self.shadowing.save_mismatches(target)
            with target.connect() as connection:
                self._follow_rules(connection)
        except (sa.exc.SQLAlchemyError, OSError) as fault:
            log.warning("the report of this instance cannot be saved: %s", describe(fault))

    def _save_mapping(self, target: sa.Engine) -> None:
        """Say which columns the models map, where that is new. A runner that has no table for it asks nobody."""
        columns = self._mapped.read()
        if (digest := digest_columns(columns)) == self._saved_mapping:
            return
        try:
            with target.begin() as connection:
                save_mapping(connection, self.migration_id, self.instance_id, columns)
            self._saved_mapping = digest
        except (sa.exc.SQLAlchemyError, OSError) as fault:
            log.debug("the columns of this instance cannot be saved: %s", describe(fault))

    def _leave(self, target: sa.Engine) -> None:
        if self.known is None:
            return
        try:
            with target.begin() as connection:
                remove_instance(connection, self.migration_id, self.instance_id)
            with target.begin() as connection:
                remove_mapping(connection, self.migration_id, self.instance_id)
        except (sa.exc.SQLAlchemyError, OSError):
            log.info("this instance stays registered until it expires")


def _asks(row: FenceRow) -> tuple[Phase, bool, bool]:
    """What must have been read before a row is followed: plans of mirrors, rules of shadow reads."""
    return row.phase, row.mirror, row.shadow_share > 0


def _is_before(row: FenceRow | None, known: FenceRow | None) -> bool:
    return known is not None and (row is None or row.epoch < known.epoch)
