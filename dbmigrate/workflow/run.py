"""What the phases share while a runner works: the state, the one live stream, and when to stop.

A phase's work gets a ``Run``, does its part and says which phase follows, or None when it was asked to stop first.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import dataclass, field

from dbmigrate.copying.copier import Copier
from dbmigrate.domain.errors import FatalError, RefusedError
from dbmigrate.domain.ownership import FenceRow
from dbmigrate.domain.phases import MEANINGS, Phase
from dbmigrate.domain.routes import Direction
from dbmigrate.domain.schema import TableName
from dbmigrate.mysql.binlog import PositionLost
from dbmigrate.mysql.control import MigrationState
from dbmigrate.streaming.stream import Stream
from dbmigrate.verifying.verifier import Verifier
from dbmigrate.workflow.drift import require_same_definitions
from dbmigrate.workflow.migration import Migration
from dbmigrate.workflow.status import ApplicationStatus, RunStatus, TableStatus

log = logging.getLogger(__name__)

RESYNC = "resync"
RATE_WINDOW_SECONDS = 5.0


@dataclass
class Run:
    """One runner at work. Written by the runner's thread, read by the keeper's.

    ``has_verified``: this runner has seen a clean verification, so it knows every key flushed since. What an earlier
    runner flushed is not known, and a new verification is due. ``row`` is the fence row as this runner announced it
    last, ``passed_because`` what the gate that has just passed said, for the audit.
    """

    migration: Migration
    state: MigrationState
    actor: str
    assume_yes: bool = False
    until: Phase | None = None
    stream: Stream | None = None
    copier: Copier | None = None
    verifier: Verifier | None = None
    waiting_for: str = ""
    requested: str = ""
    max_lag_seconds: float = 0.0
    has_verified: bool = False
    row: FenceRow | None = None
    passed_because: str = ""
    application: ApplicationStatus | None = None
    interrupted: threading.Event = field(default_factory=threading.Event)
    _rates: dict[TableName, deque[tuple[float, int]]] = field(default_factory=dict)
    _rates_lock: threading.Lock = field(default_factory=threading.Lock)
    _seen_lag: bool = False
    _streamed_before: int = 0
    _flushed_before: int = 0

    # --- stopping ---

    @property
    def should_stop(self) -> bool:
        """Whether the phase's work should return: Ctrl-C, a request, or a lost lease."""
        return self.interrupted.is_set()

    def interrupt(self) -> None:
        """Ask the phase's work to return soon; everything in flight is finished or undone."""
        self.interrupted.set()
        copier, verifier = self.copier, self.verifier
        if copier is not None:
            copier.stop()
        if verifier is not None:
            verifier.stop()

    def wait(self, seconds: float, *, reason: str = "") -> None:
        """Let time pass, or return early when asked to stop; raises what ended the stream."""
        self.waiting_for = reason
        self.interrupted.wait(seconds)
        if self.stream is not None:
            self.stream.require_healthy()

    # --- the stream ---

    def ensure_stream(self, direction: Direction) -> Stream:
        """The running stream of a direction, resumed from its checkpoint, or begun where it misses nothing."""
        if self.stream is not None and self.stream.direction is direction:
            return self.stream
        self.stop_stream()
        store = self.migration.store
        start = store.load_checkpoint(direction)
        if start is None:
            start = self.migration.note_start(direction)
            store.save_checkpoint(direction, start)
        if direction is Direction.FORWARD:
            require_same_definitions(self.migration)  # after the position: later DDL is in the stream
        stream = self.stream = self.migration.build_stream(direction, start)
        self.migration.throttle.watch_changes(lambda: stream.keys_seen)
        stream.start()
        return stream

    def stop_stream(self) -> None:
        """End the live stream and save how far it came."""
        stream, self.stream = self.stream, None
        if stream is not None:
            stream.stop()
            status = stream.read_status()
            self._streamed_before += status.rows_streamed
            self._flushed_before += status.keys_flushed

    def begin_resync(self) -> None:
        """On a person's word: leave what the stream cannot read behind, and let verification repair.

        Raises:
            RefusedError: nothing streams in this phase.
        """
        direction = MEANINGS[self.state.phase].streaming
        if direction is None:
            raise RefusedError(
                f"nothing streams in phase {self.state.phase.value}", place="--resync", hint="run without --resync"
            )
        self._start_from_now(direction, "asked for by --resync")
        if self.state.phase in (Phase.CUTOVER, Phase.RAMP_READS):
            self.state = self.migration.store.save_phase(
                self.state, Phase.CATCH_UP, actor=self.actor, reason="the stream starts from now; verify again"
            )

    def _start_from_now(self, direction: Direction, cause: str) -> None:
        self.migration.store.save_checkpoint(direction, self.migration.note_start(direction))
        self.migration.store.save_evidence(RESYNC, {"direction": direction.value, "cause": cause})
        self.has_verified = False

    def resync(self, lost: PositionLost) -> None:
        """The binlog no longer reaches back to the checkpoint: stream from now, and let verification repair.

        Raises:
            FatalError: nothing was streaming.
        """
        if self.stream is None:
            raise FatalError("a position was lost without a stream") from lost
        direction = self.stream.direction
        log.warning("%s; streaming from now, a verification with repair follows", lost.message)
        self.stream.stop()
        self.stream = None
        self._start_from_now(direction, str(lost))

    # --- status ---

    def read_status(self) -> RunStatus:
        """A snapshot for the terminal and the control tables."""
        stream, meaning = self.stream, MEANINGS[self.state.phase]
        status = stream.read_status() if stream is not None else None
        if status is not None:
            # The first beats of a stream that resumes tell how long it was away, not how slow it is.
            self._seen_lag = self._seen_lag or status.lag_seconds < 1.0
            if self._seen_lag:
                self.max_lag_seconds = max(self.max_lag_seconds, status.lag_seconds)
        tables = self._read_tables()
        return RunStatus(
            migration_id=self.migration.id, phase=self.state.phase.value, epoch=self.state.epoch,
            owner=meaning.owner.value if meaning.owner else "unknown",
            streaming=stream.direction.value if stream else "",
            lag_seconds=status.lag_seconds if status else None, max_lag_seconds=self.max_lag_seconds,
            backlog_keys=status.backlog_keys if status else None,
            rows_streamed=self._streamed_before + (status.rows_streamed if status else 0),
            keys_flushed=self._flushed_before + (status.keys_flushed if status else 0), position=str(status.position) if status else "",
            rows_copied=sum(t.rows for t in tables), waiting_for=self.waiting_for or self.migration.throttle.reason,
            is_paused=self.migration.throttle.is_paused, holder=self.actor, tables=tables,
            application=self.application,
        )  # fmt: skip

    def _read_tables(self) -> tuple[TableStatus, ...]:
        copier, verifier = self.copier, self.verifier
        if copier is None:  # copied by an earlier run: show what it published last
            return tuple(
                TableStatus(**{**one, "rows_per_second": 0.0}) for one in self.state.progress.get("tables", ())
            )
        verified = verifier.result.tables if verifier is not None else {}
        found = []
        for progress in copier.read_progress():
            rate = self._rate(progress.table, progress.rows)
            left = max(0, progress.estimated_rows - progress.rows)
            eta = None if progress.is_done or rate <= 0 else left / rate
            found.append(
                TableStatus(
                    str(progress.table),
                    progress.rows,
                    progress.estimated_rows,
                    rate,
                    eta,
                    progress.is_done,
                    verified.get(progress.table, 0),
                )
            )
        return tuple(found)

    def _rate(self, table: TableName, rows: int) -> float:
        with self._rates_lock:  # the terminal and the keeper both ask
            now = self.migration.around.clock()
            seen = self._rates.setdefault(table, deque())
            seen.append((now, rows))
            while now - seen[0][0] > RATE_WINDOW_SECONDS:
                seen.popleft()
            elapsed = now - seen[0][0]
            return (rows - seen[0][1]) / elapsed if elapsed > 0 else 0.0
