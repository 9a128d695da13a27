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
from dbmigrate.app.mirror import Mirrors, find_plans
from dbmigrate.app.mirroring import Mirroring
from dbmigrate.app.options import Options
from dbmigrate.app.reading import Latencies
from dbmigrate.app.rows import complete_row, read_row
from dbmigrate.domain.errors import AmbiguousError, DbmigrateError
from dbmigrate.domain.evidence import InstanceReport
from dbmigrate.domain.ownership import IDLE_LOOK_SECONDS, STATE_EXPIRES_SECONDS, FenceRow, decide_owner
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Direction, Side
from dbmigrate.domain.schema import TableName
from dbmigrate.mysql.evidence import remove_instance, save_report
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
        self.units: weakref.WeakKeyDictionary[sa.Connection, Unit] = weakref.WeakKeyDictionary()
        bounded: Bounded = InEventLoop() if is_async else InThreads(options.mirror_threads)
        self.mirroring = Mirroring(self, Mirrors(self.engines, bounded, timeout_seconds=options.mirror_timeout_seconds))
        self.capture, self.latencies = Capture(self), Latencies(self)
        self._is_async, self._clock = is_async, clock
        self._plans: dict[Direction, dict[TableName, MirrorPlan]] = {}
        self._plans_phase: Phase | None = None
        self._lock = threading.Lock()
        self._known: Known | None = None
        self._looked = threading.Event()
        self._unfenced = 0
        self._acknowledged = 0
        self._saved_phase: Phase | None = None
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
        if row is not None:
            self.counts.enter(row.phase)

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
            self._pid = os.getpid()
            self.instance_id = f"{socket.gethostname()[:24]}-{self._pid}-{uuid.uuid4().hex[:12]}"
            self._stopping = threading.Event()
            self._thread = threading.Thread(target=self._run, name="dbmigrate-follower", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Stop following and take the instance out of the runner's list, so that it waits for it no longer."""
        thread = self._thread
        self._stopping.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=5)
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
            except (sa.exc.SQLAlchemyError, DbmigrateError, OSError) as fault:
                log.warning("the fence row of %s cannot be read: %s", side.value, type(fault).__name__)
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
        if row is not None and row.mirror and self._plans_phase is not row.phase:
            self._load_plans(own[Side.TARGET], row.phase)

    def _load_plans(self, target: sa.Engine, phase: Phase) -> None:
        try:
            with target.connect() as connection:
                self._plans = {
                    direction: find_plans(load_plans(connection, self.migration_id, direction))
                    for direction in Direction
                }
            self._plans_phase = phase
        except (sa.exc.SQLAlchemyError, OSError) as fault:
            log.warning("how to mirror cannot be read: %s", type(fault).__name__)

    def _report(self, target: sa.Engine) -> None:
        row = self.known
        if row is None:
            return
        with self._lock:
            if self._unfenced == 0 and (not row.mirror or self._plans_phase is row.phase):
                self._acknowledged = row.epoch
        report = InstanceReport(
            instance_id=self.instance_id, host=socket.gethostname(), pid=os.getpid(), library_version=_VERSION,
            epoch=self._acknowledged, seen_at=datetime.now(UTC), phase=row.phase, writes=self.counts.writes(),
            shadow=self.counts.shadow(), reads=self.counts.reads(),
        )  # fmt: skip
        try:
            with target.begin() as connection:
                save_report(connection, self.migration_id, report)
        except (sa.exc.SQLAlchemyError, OSError) as fault:
            log.warning("the report of this instance cannot be saved: %s", type(fault).__name__)

    def _leave(self, target: sa.Engine) -> None:
        if self.known is None:
            return
        try:
            with target.begin() as connection:
                remove_instance(connection, self.migration_id, self.instance_id)
        except (sa.exc.SQLAlchemyError, OSError):
            log.info("this instance stays registered until it expires")


def _is_before(row: FenceRow | None, known: FenceRow | None) -> bool:
    return known is not None and (row is None or row.epoch < known.epoch)
