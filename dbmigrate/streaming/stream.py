"""One direction of the change stream, running: a thread reads the binlog, a thread flushes, a thread beats.

The checkpoint is saved after the flush it stands for and is never ahead of a pending key, so a crash at any moment
costs re-reading and nothing else.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from dbmigrate.domain.errors import DbmigrateError, FatalError, TransientError
from dbmigrate.domain.keys import Key, MovedKey
from dbmigrate.domain.positions import Position
from dbmigrate.domain.routes import Direction, Route
from dbmigrate.domain.schema import Column, Index, Table, TableName
from dbmigrate.domain.steps import StepHook, no_step
from dbmigrate.mysql.binlog import BinlogReader, Delivery, PositionLost, SchemaChanged, Truncated
from dbmigrate.mysql.control import ControlStore, StreamCheckpoint
from dbmigrate.mysql.faults import ServerRefusedError
from dbmigrate.mysql.heartbeat import HEARTBEAT_TABLE, parse_beat
from dbmigrate.mysql.servers import Server
from dbmigrate.streaming.flusher import Flusher
from dbmigrate.streaming.pending import PendingKeys, Snapshot
from dbmigrate.streaming.touched import TouchedKeys

log = logging.getLogger(__name__)

READ_TIMEOUT_SECONDS = 0.25
CHECKPOINT_SECONDS = 1.0
BEAT_SECONDS = 0.5
RECONNECT_SECONDS = 120.0
EXPLAIN_SECONDS = 15.0
STUCK_SECONDS = 15.0

_HEARTBEAT_AS_TABLE = Table(
    name=HEARTBEAT_TABLE,
    engine="InnoDB",
    columns=(
        Column("migration_id", 0, "varchar", "varchar(64)", False, "ascii", "ascii_bin", 64, 64),
        Column("beat", 1, "bigint", "bigint(20)", False),
        Column("beaten_at", 2, "datetime", "datetime(6)", False, fraction_digits=6),
    ),
    indexes=(),
    foreign_keys=(),
    key=Index("PRIMARY", ("migration_id", "beat"), is_unique=True, is_primary=True, prefix_lengths=(None, None)),
    create_statement="",
)


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """Where a stream stands. ``lag_seconds`` is the age of the oldest heartbeat not yet worked off."""

    backlog_keys: int
    lag_seconds: float
    rows_streamed: int
    keys_flushed: int
    position: Position


class DrainTimedOutError(TransientError):
    """The stream did not reach the mark in time. Nothing is lost: lift the fence and try again."""


class Stream:
    """Follows one server's binlog and keeps another server equal, until stopped.

    A failure of any of its threads ends it; ``require_healthy`` raises what happened.
    """

    def __init__(
        self,
        direction: Direction,
        routes: Sequence[Route],
        *,
        origin: Server,
        flusher: Flusher,
        store: ControlStore,
        start: StreamCheckpoint,
        server_id: int,
        clock: Callable[[], float],
        on_flushed: Callable[[int], None] = lambda keys: None,
        on_step: StepHook = no_step,
    ) -> None:
        self.direction = direction
        self._origin, self._flusher, self._store = origin, flusher, store
        self._clock, self._on_flushed, self._on_step = clock, on_flushed, on_step
        followed: dict[TableName, Table] = {route.name: route.origin for route in routes}
        self._followed = frozenset(followed)
        self._reader = BinlogReader(
            origin.endpoint.connect,
            version=origin.version,
            start=start.position,
            tables={**followed, HEARTBEAT_TABLE: _HEARTBEAT_AS_TABLE},
            server_id=server_id,
            marks_inserts=flusher.marks_inserts,
        )
        self._pending = PendingKeys(start.position, beat=start.beat)
        self._progress = threading.Condition()
        self._reached_beat = start.beat
        self._reached_position = start.position
        self._saved_at = clock()
        self._last_beat = start.beat
        self._awaited: tuple[int, float] | None = None
        self._touched = TouchedKeys()
        self._rows_streamed = 0
        self._keys_seen = 0
        self._keys_flushed = 0
        self._holding = threading.Lock()
        self._is_held = False
        self._failure: DbmigrateError | None = None
        self._gather_seconds = 0.0
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    # --- life ---

    def start(self) -> None:
        """Begin to follow and flush."""
        for work in (self._read_forever, self._flush_forever, self._beat_forever):
            thread = threading.Thread(
                target=self._guarded,
                args=(work,),
                name=f"{self.direction.value}-{work.__name__.strip('_')}",
                daemon=True,
            )
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """End all threads after the batch in hand and save the checkpoint of what has been flushed."""
        self._stopping.set()
        self._pending.wake()
        self._reader.interrupt()
        for thread in self._threads:
            thread.join()
        self._reader.close()
        if self._threads and self._failure is None:
            self._save_checkpoint()

    def require_healthy(self) -> None:
        """Raise the failure of the thread that ended the stream, if one did."""
        if self._failure is not None:
            raise self._failure

    def explain_refusal(self) -> None:
        """A server refused a statement of ours: raise the DDL that is the cause, if the binlog holds any up to now."""
        self._await_schema_change()
        self.require_healthy()

    def await_delivery(self, timeout_seconds: float) -> None:
        """Let the reader come to everything logged before this call, or to what it has to stop at; not longer than this."""
        mark = self._origin.heartbeat.pass_barrier()
        until = self._clock() + timeout_seconds
        while self._pending.beat < mark and self._clock() < until and not self._stopping.wait(0.02):
            pass

    def _await_schema_change(self) -> None:
        with suppress(DbmigrateError):
            self.await_delivery(EXPLAIN_SECONDS)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except DbmigrateError as failure:
            if isinstance(failure, ServerRefusedError) and work != self._read_forever:
                self._await_schema_change()
            self._fail(failure)
        except Exception as fault:
            log.exception("the stream failed unexpectedly")
            self._fail(FatalError("the stream failed unexpectedly", cause=f"{type(fault).__name__}: {fault}"))

    def _fail(self, failure: DbmigrateError) -> None:
        with self._progress:
            self._failure = self._failure or failure
            self._stopping.set()
            self._progress.notify_all()
        self._pending.wake()

    # --- reading ---

    def _read_forever(self) -> None:
        lost_at: float | None = None
        while not self._stopping.is_set():
            try:
                delivery = self._reader.read(timeout_seconds=READ_TIMEOUT_SECONDS)
            except TransientError as fault:
                if self._stopping.is_set():
                    return
                lost_at = self._clock() if lost_at is None else lost_at
                if self._clock() - lost_at > RECONNECT_SECONDS:
                    raise
                log.warning("binlog connection lost, resuming at the last transaction: %s", fault.message)
                self._stopping.wait(0.5)
                continue
            lost_at = None
            if delivery is not None:
                self._deliver(delivery)
            elif self._is_stuck():
                log.warning("the server sends nothing although it commits: asking again from the last transaction")
                self._reader.close()

    def _is_stuck(self) -> bool:
        """Whether a beat was committed long ago and has not come, with nothing else on the way.

        A dump may go on waiting at the end of a file that RESET MASTER has removed.
        """
        awaited = self._awaited
        if awaited is None or self._pending.beat >= awaited[0]:
            self._awaited = None
            return False
        if self._clock() - awaited[1] < STUCK_SECONDS:
            return False
        self._awaited = None
        return True

    def _deliver(self, delivery: Delivery) -> None:
        keys = dict(delivery.keys)
        beats = [
            beat
            for key in keys.pop(HEARTBEAT_TABLE, ())
            if (beat := parse_beat(key, self._store.migration_id)) is not None
        ]
        self._on_step("stream.delivered")
        self._rows_streamed += delivery.rows
        self._keys_seen += sum(map(len, keys.values()))
        for event in delivery.events:
            if isinstance(event, SchemaChanged):
                # Before anything of this delivery is pending: its position lies behind the statement, and a checkpoint
                # there would let the next run pass over it.
                raise _refuse_schema_change(event, self.direction)
        self._require_no_gap(beats, delivery.position)
        self._pending.add(keys, delivery.position, max(beats, default=None))
        for event in delivery.events:
            if isinstance(event, Truncated) and event.table in self._followed:
                self._pending.add_truncated(event.table, delivery.position)
        self._pending.wait_for_room(self._stopping.is_set)

    def _require_no_gap(self, beats: Sequence[int], position: Position) -> None:
        """Each beat is logged as an update from the number before, so a number left out is binlog left out.

        Positions alone do not show it: after RESET MASTER or on a restored server, files and GTIDs are used again.

        Raises:
            PositionLost: a part of the binlog has been passed over.
        """
        for beat, following in zip(beats, [*beats[1:], 0], strict=False):
            is_before_image = following == beat + 1
            if beat > self._last_beat + (0 if is_before_image else 1):
                raise PositionLost(
                    "the binlog does not continue what was read before", place=f"binlog position {position}",
                    cause=f"heartbeat {beat} follows {self._last_beat}: the server's log was reset, or it is another "
                    "server's", hint="`dbmigrate run --resync` streams from now and repairs what was missed",
                )  # fmt: skip
            self._last_beat = max(self._last_beat, beat)

    def _pass_barrier(self) -> int:
        """Commit a beat; its number is greater than any that has been delivered, or commits were taken back.

        Raises:
            PositionLost: the server no longer has transactions that were streamed.
        """
        delivered = self._pending.beat
        beat = self._origin.heartbeat.pass_barrier()
        if beat <= delivered:
            raise PositionLost(
                "the server has lost transactions that were streamed already", place=self._origin.place,
                cause=f"it commits heartbeat {beat}, and {delivered} was read from its binlog: a failover to a replica "
                "that lacked them, or a server restored to an earlier state",
                hint="`dbmigrate run --resync` streams from now and makes the other side equal to what it has now",
            )  # fmt: skip
        return beat

    # --- flushing ---

    def _flush_forever(self) -> None:
        while not self._stopping.is_set():
            self._pending.wait_for_change(READ_TIMEOUT_SECONDS)
            self._stopping.wait(self._gather_seconds)
            self._pending.wait_out_rush()
            snapshot = self._take_unless_held()
            if snapshot is None:
                self._stopping.wait(READ_TIMEOUT_SECONDS)
                continue
            if not snapshot.is_empty:
                self._flush(snapshot)
            self._pending.finish()
            self._reach(snapshot.position, snapshot.beat)

    def _take_unless_held(self) -> Snapshot | None:
        with self._holding:
            return None if self._is_held else self._pending.take()

    def _flush(self, snapshot: Snapshot) -> None:
        try:
            flushed = self._flusher.flush(snapshot)
        except BaseException:
            self._pending.put_back(snapshot)
            raise
        self._touched.add(flushed)
        count = sum(map(len, flushed.values()))
        self._keys_flushed += count
        self._on_flushed(count)

    @property
    def keys_seen(self) -> int:
        """Keys of changed rows so far, without those of heartbeats: it stands still while no application writes."""
        return self._keys_seen

    @contextmanager
    def gathering(self, seconds: float, *, spares_origin: Callable[[], bool]) -> Iterator[None]:
        """Let changes gather for so long between rounds, for as long as nobody needs them at once: fewer statements, in
        which rows that changed often are read once. And read them a few at a time where the origin is to be spared."""
        self._gather_seconds, self._flusher.spares_origin = seconds, spares_origin
        try:
            yield
        finally:
            self._gather_seconds, self._flusher.spares_origin = 0.0, lambda: False

    def hold_flushing(self) -> None:
        """Begin no other round: keys that arrive from now on are kept until ``resume_flushing``."""
        with self._holding:
            self._is_held = True

    def resume_flushing(self) -> None:
        """Go on after ``hold_flushing``."""
        with self._holding:
            self._is_held = False

    def _reach(self, position: Position, beat: int) -> None:
        with self._progress:
            self._reached_position, self._reached_beat = position, max(beat, self._reached_beat)
            self._progress.notify_all()
        if self._clock() - self._saved_at >= CHECKPOINT_SECONDS:
            self._save_checkpoint()

    def _save_checkpoint(self) -> None:
        with self._progress:
            checkpoint = StreamCheckpoint(self._reached_position, self._reached_beat)
        self._on_step("stream.checkpoint")
        self._store.save_checkpoint(self.direction, checkpoint)
        self._saved_at = self._clock()

    def _beat_forever(self) -> None:
        while not self._stopping.wait(BEAT_SECONDS):
            beat = self._pass_barrier()
            if self._awaited is None:
                self._awaited = beat, self._clock()

    # --- asking ---

    def enqueue(self, keys: Mapping[TableName, Sequence[Key]]) -> None:
        """Make these rows equal as if they had been deleted and inserted again: always harmless."""
        known = {table: [MovedKey(key) for key in found] for table, found in keys.items() if table in self._followed}
        self._pending.add(known, self._pending.position, None)

    def drain(self, *, timeout_seconds: float) -> Position:
        """Make the destination equal to the origin as of this call, and return how far that reaches.

        Commits a heartbeat and waits until everything before it has been flushed. With the origin fenced, both
        sides are equal on return.

        Raises:
            DrainTimedOutError: nothing is lost.
            DbmigrateError: the stream has failed.
        """
        try:
            mark = self._pass_barrier()
        except PositionLost as lost:
            self._fail(lost)
            raise
        with self._progress:
            reached = self._progress.wait_for(
                lambda: self._failure is not None or self._stopping.is_set() or self._reached_beat >= mark,
                timeout_seconds,
            )
            self.require_healthy()
            if not reached or self._reached_beat < mark:
                raise DrainTimedOutError(
                    f"the stream did not drain within {timeout_seconds:.1f} s", place=self._origin.place,
                    cause=f"{self._pending.backlog} keys pending", hint="try again when the backlog is lower",
                )  # fmt: skip
            return self._reached_position

    @property
    def touched(self) -> TouchedKeys:
        """The keys flushed since the last verification, for the verification inside the write pause."""
        return self._touched

    def save_now(self) -> None:
        """Save the checkpoint of what has been reached."""
        self._save_checkpoint()

    def read_status(self) -> StreamStatus:
        """Backlog, lag and counters as of now."""
        with self._progress:
            beat, position = self._reached_beat, self._reached_position
        lag = self._origin.heartbeat.lag_seconds(beat)
        return StreamStatus(self._pending.backlog, lag, self._rows_streamed, self._keys_flushed, position)


_AFTER_SCHEMA_CHANGE = {
    Direction.FORWARD: "abort and start again with the new schema (`dbmigrate abort`, then `dbmigrate run`); next time "
    "make the change before the move or after it",
    Direction.REVERSE: "make the same change on the source, then `dbmigrate run --resync`, which streams back from now "
    "and repairs the source; until then there is no way back",
}


class SchemaChangedError(FatalError):
    """DDL on a moving table, by its statement and position."""


def _refuse_schema_change(event: SchemaChanged, direction: Direction) -> SchemaChangedError:
    tables = ", ".join(map(str, event.tables)) or event.schema
    return SchemaChangedError(
        "the schema of a moving table changed", place=f"{tables} at {event.position}",
        cause=event.statement[:300],
        hint=_AFTER_SCHEMA_CHANGE[direction],
    )  # fmt: skip
