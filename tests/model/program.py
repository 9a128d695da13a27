"""One runner, step by step: copier, stream, flusher, switch, recovery. See ``protocol``.

Names of steps are the names of the product's step points, where it has one at that place.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from model.servers import Commit, Row, Server, Steps, Transaction

from dbmigrate.domain.keys import Key, MovedKey
from dbmigrate.domain.ownership import FenceRow, decide_owner
from dbmigrate.domain.phases import MEANINGS, Phase, may_follow
from dbmigrate.domain.positions import Position
from dbmigrate.domain.routes import Direction, Side
from dbmigrate.domain.schema import ForeignKey, TableName
from dbmigrate.streaming.cascades import Cascades, Keys
from dbmigrate.streaming.pending import PendingKeys, Snapshot

if TYPE_CHECKING:
    from model.world import World

BATCH_KEYS = 2
CHUNK_KEYS = 2


class RefusedError(Exception):
    """The runner must not do this any more: another one has taken over, or the phase has changed."""


class UndoneError(Exception):
    """This attempt to switch was undone."""


class LostError(Exception):
    """The connection was lost."""


@dataclass
class Checkpoint:
    """Where a stream resumes."""

    position: int
    beat: int


@dataclass
class Stripe:
    """A key range of a table and how far it is copied; ``upper`` is the highest key that needs a copy."""

    table: TableName
    cursor: Key | None
    upper: Key

    @property
    def is_done(self) -> bool:
        """Whether nothing of it is missing."""
        return self.cursor is not None and self.cursor >= self.upper


@dataclass
class Store:
    """The control tables: every change is one transaction on the target, beside the data."""

    phase: Phase = Phase.COPY
    epoch: int = 1
    generation: int = 0
    checkpoints: dict[Direction, Checkpoint] = field(default_factory=dict)
    stripes: list[Stripe] | None = None

    def save_phase(self, epoch: int, phase: Phase) -> None:
        """Compare and set, by the product's table of transitions."""
        if self.epoch != epoch:
            raise RefusedError
        assert may_follow(self.phase, phase), (self.phase, phase)
        self.phase, self.epoch = phase, epoch + 1


class FenceSession:
    """The session that holds the giving side's fence. It outlives the client until the server notices."""

    def __init__(self, world: World, server: Server) -> None:
        self._world, self._server = world, server
        self.is_cut = self.is_commit_sent = self.is_answered = self.is_over = False
        world.fence_sessions.append(self)

    def send_commit(self, row: FenceRow) -> None:
        """From here the server commits, whatever becomes of the client."""
        self.is_commit_sent = True
        self._world.spawn(None, "late commit", self._commit(row))

    def _commit(self, row: FenceRow) -> Steps:
        yield "the server has the COMMIT"
        commit = self._server.build_fence_commit(row, holder=self)
        commit.on_visible.append(lambda: self._server.tenure_holders.discard(self))
        yield from self._server.commit(commit)
        self.is_answered = True

    def rollback(self) -> None:
        """The server ends the transaction without a trace."""
        self.is_over = True
        self._server.free_fence(self)
        self._server.tenure_holders.discard(self)

    def abandon(self) -> None:
        """The client is gone: the server rolls back when it notices, unless it has been told to commit."""
        if not self.is_commit_sent and not self.is_over:
            self.is_over = True
            self._world.spawn(None, "late rollback", self._notice())

    def _notice(self) -> Steps:
        yield "the server notices"
        self.rollback()


class ModelCascades(Cascades):
    """The product's walk along the foreign keys, looking into the model's servers."""

    def __init__(self, runner: Runner) -> None:
        super().__init__(runner.world.shape.routes())
        self._looks_at_destination = runner.protocol.cascades_are_looked_up_on_destination

    def _look_up_side(
        self, pool: Any, foreign_key: ForeignKey, keys: Sequence[Key], *, on_destination: bool
    ) -> set[Key]:
        if on_destination and not self._looks_at_destination:
            return set()
        rows = pool.visible[foreign_key.table]
        return {key for key, row in rows.items() if row.parent in keys}

    def _page_orphans(self, foreign_key: ForeignKey, destination: Any, parent_keys: Sequence[Key]) -> Iterator[list[Key]]:
        parents = destination.visible[foreign_key.referenced_table]
        yield [
            key
            for key, row in destination.visible[foreign_key.table].items()
            if row.parent is not None and row.parent not in parents and (not parent_keys or row.parent in parent_keys)
        ]


class Stream:
    """One direction: reads the origin's binlog, flushes pending keys, saves checkpoints."""

    def __init__(self, runner: Runner, direction: Direction, start: Checkpoint) -> None:
        self._runner, self._protocol, self._world = runner, runner.protocol, runner.world
        self.direction = direction
        self._origin = runner.world.servers[direction.origin]
        self._destination = runner.world.servers[direction.origin.other]
        self.delivered = start.position
        self.reached = Checkpoint(start.position, start.beat)
        self.is_flushing = False
        self.is_stopping = False
        self._changed = False
        self._saved = Checkpoint(start.position, start.beat)
        self._rounds_running = 0
        self.pending = PendingKeys(Position("binlog", start.position), beat=start.beat)
        self._cascades = ModelCascades(runner)
        self._vanished: Keys = {}

    def start(self) -> None:
        """Begin to follow and flush."""
        self._runner.spawn("reader", self._read())
        self._runner.spawn("flusher", self._flush_forever())
        self._runner.spawn("checkpointer", self._checkpoint())

    def stop(self) -> Steps:
        """End after the round in hand, and save the checkpoint."""
        self.is_stopping = True
        yield lambda: not self.is_flushing or self._runner.failed
        if not self._runner.failed:
            yield "stream.checkpoint"
            self._save(self.reached)

    @property
    def is_idle(self) -> bool:
        """Whether everything in the log has been delivered and flushed."""
        return self.reached.position == len(self._origin.log)

    # --- reading ---

    def _read(self) -> Steps:
        while not self.is_stopping:
            yield lambda: self.is_stopping or self.delivered < len(self._origin.log)
            if self.is_stopping:
                return
            commit = self._origin.log[self.delivered]
            self.delivered += 1
            self.pending.add(commit.keys, Position("binlog", self.delivered), commit.beat)
            self._changed = True

    # --- flushing ---

    def _flush_forever(self) -> Steps:
        while not self.is_stopping:
            yield lambda: self._changed or self.is_stopping
            if self.is_stopping:
                return
            self._changed = False
            self.is_flushing = True
            snapshot = self.pending.take()
            if not snapshot.is_empty:
                if self._protocol.rounds_do_not_overlap:
                    yield from self._flush(snapshot)
                else:
                    self._rounds_running += 1
                    self._runner.spawn("round", self._count(self._flush(snapshot)))
            self.pending.finish()
            self.is_flushing = False
            self.reached = Checkpoint(snapshot.position.offset, max(snapshot.beat, self.reached.beat))

    def _count(self, work: Steps) -> Steps:
        yield from work
        self._rounds_running -= 1

    def _flush(self, snapshot: Snapshot) -> Steps:
        keys = {table: dict(found) for table, found in snapshot.keys.items()}
        yield "flush.begin"
        tables = self._cascades.add_looked_up({*keys, *self._cascades.find_descendants(snapshot.moved)})
        if not self._protocol.flush_waits_for_child_chunks:
            tables = set(keys)
        if self._protocol.flush_waits_for_chunks:
            yield from self._runner.wait_for_chunks(tables)
            yield "flush.chunks_done"
        if self._protocol.flush_passes_barrier:
            yield from self._origin.pass_barrier()
            yield "flush.barrier"
        if self._protocol.cascades_are_looked_up:
            self._cascades.add_children(keys, snapshot.moved, origin=self._origin, destination=self._destination)
            yield "children added"
        yield from self._write(keys)
        while self._vanished and self._protocol.vanished_rows_are_followed:
            yield from self._follow_vanished()

    def _write(self, keys: Keys) -> Steps:
        tasks = [task for table, found in keys.items() for task in self._tasks(table, list(found))]
        running = [self._runner.spawn("batch", task) for task in tasks]
        yield lambda: all(actor.has_ended for actor in running)
        if self._runner.failed:
            raise RefusedError

    def _follow_vanished(self) -> Steps:
        vanished, self._vanished = self._vanished, {}
        yield from self._runner.wait_for_chunks(self._cascades.find_descendants(vanished))
        yield from self._origin.pass_barrier()
        gone = {table: list(found) for table, found in vanished.items()}
        orphans = self._cascades.find_orphans_of(gone, self._destination)  # type: ignore[arg-type]
        yield "orphans found"
        if any(orphans.values()):
            moved = {table: list(found) for table, found in orphans.items()}
            self._cascades.add_children(orphans, moved, origin=self._origin, destination=self._destination)
            yield from self._write(orphans)

    def enqueue_orphans(self) -> None:
        """After the copy: rows whose parent was not copied when a cascade went through it."""
        for orphans in self._cascades.find_orphans(self._destination):  # type: ignore[arg-type]
            moved = {table: [MovedKey(key) for key in keys] for table, keys in orphans.items()}
            self.pending.add(moved, self.pending.position, None)
            self._changed = True

    def _tasks(self, table: TableName, keys: list[Key]) -> list[Steps]:
        batches = [keys[start : start + BATCH_KEYS] for start in range(0, len(keys), BATCH_KEYS)]
        if table in self._world.shape.unique and self._protocol.unique_batches_are_serial:
            return [self._flush_in_order(table, batches)]
        return [self._flush_in_order(table, [batch]) for batch in batches]

    def _flush_in_order(self, table: TableName, batches: list[list[Key]]) -> Steps:
        for batch in batches:
            rows = self._origin.read_rows(table, batch)
            yield "flush.batch.read"

            def write(transaction: Transaction, batch: list[Key] = batch, rows: dict[Key, Row] = rows) -> None:
                if len(rows) < len(batch):
                    for key in batch:
                        transaction.discard(table, key)
                for key, row in rows.items():
                    transaction.replace(table, key, row)

            yield from self._runner.write(self._destination, write)
            if len(rows) < len(batch) and self._cascades.may_vanish(table):
                self._vanished.setdefault(table, {}).update(dict.fromkeys(batch))
            yield "flush.batch.committed"

    # --- checkpoint ---

    def _checkpoint(self) -> Steps:
        """Now and then, when the scheduler lets it; the program does it at most once a second."""
        while not self.is_stopping:
            yield lambda: self._next_checkpoint().position > self._saved.position or self.is_stopping
            checkpoint = self._next_checkpoint()
            yield "stream.checkpoint"
            self._save(checkpoint)

    def _next_checkpoint(self) -> Checkpoint:
        if self._protocol.checkpoint_follows_flush:
            return self.reached
        return Checkpoint(self.delivered, self.reached.beat)

    def _save(self, checkpoint: Checkpoint) -> None:
        self._saved = checkpoint
        self._runner.save_checkpoint(self.direction, checkpoint)

    def drain(self, is_expired: Any) -> Steps:
        """Make the destination equal to the origin as of now."""
        mark = self._origin.beat + 1
        if self._protocol.drain_is_a_heartbeat:
            yield from self._origin.pass_barrier()
        position = len(self._origin.log)

        def is_drained() -> bool:
            if not self._protocol.drain_waits_for_flush:
                return self.delivered >= position
            if not self._protocol.drain_is_a_heartbeat:
                return self.reached.position >= position
            return self.reached.beat >= mark

        yield lambda: is_drained() or self._runner.failed or is_expired()
        if self._runner.failed or not is_drained():
            raise UndoneError


class Runner:
    """One process at work: what it knows is lost with it."""

    def __init__(self, world: World, generation: int) -> None:
        self.world, self.generation = world, generation
        self.protocol, self.store = world.protocol, world.store
        self.failed = False
        self.is_budget_spent = False
        self.stream: Stream | None = None
        self._epoch = 0
        self._in_flight: dict[int, TableName] = {}
        self._next_ticket = 0

    def spawn(self, name: str, steps: Steps) -> Any:
        """A thread of this process."""
        return self.world.spawn(self, name, steps)

    # --- writing under tenure ---

    def _begin_tenure(self, server: Server) -> Steps:
        if self.protocol.tenure_guards_writes:
            yield lambda: not server.tenure_holders
        server.generation = max(server.generation, self.generation)
        yield from server.commit(Commit())

    def hold_tenure(self, server: Server, holder: Any) -> None:
        """Lock the runner's row shared, and look whether it still names this runner."""
        if server.generation != self.generation:
            raise RefusedError
        server.tenure_holders.add(holder)

    def write(self, server: Server, work: Any, *, also: Any = lambda: None) -> Steps:
        """A write transaction of the data path; ``also`` is what the control tables get in it."""
        token = object()
        if self.protocol.tenure_guards_writes:
            self.hold_tenure(server, token)
        try:
            yield "the transaction has begun"
            transaction = server.begin()
            work(transaction)
            commit = transaction.build()
            commit.on_visible.append(lambda: server.tenure_holders.discard(token))
            token_is_free_at_commit = True
            seq = server.log_commit(commit)
            also()
        except BaseException:
            server.tenure_holders.discard(token)
            raise
        assert token_is_free_at_commit
        yield lambda: server.shown >= seq

    def save_checkpoint(self, direction: Direction, checkpoint: Checkpoint) -> None:
        """One statement on the target."""
        if self.protocol.checkpoint_checks_lease and self.store.generation != self.generation:
            raise RefusedError
        self.store.checkpoints[direction] = checkpoint

    # --- chunks in flight ---

    @contextmanager
    def _running(self, table: TableName) -> Iterator[None]:
        ticket = self._next_ticket
        self._next_ticket += 1
        self._in_flight[ticket] = table
        try:
            yield
        finally:
            del self._in_flight[ticket]

    def wait_for_chunks(self, tables: Collection[TableName]) -> Steps:
        """Until the chunks of these tables that are in flight now have ended."""
        waited_for = {ticket for ticket, table in self._in_flight.items() if table in tables}
        yield lambda: not (waited_for & self._in_flight.keys()) or self.failed

    # --- copying ---

    def _plan(self) -> Steps:
        source = self.world.servers[Side.SOURCE]
        yield from source.pass_barrier()
        stripes = []
        for table, rows in source.visible.items():
            present = sorted(rows)
            if present:
                middle = present[len(present) // 2]
                if middle != present[-1]:
                    stripes.append(Stripe(table, None, middle))
                    stripes.append(Stripe(table, middle, present[-1]))
                else:
                    stripes.append(Stripe(table, None, present[-1]))
        yield "stripes planned"
        self.store.stripes = stripes

    def _copy_stripe(self, stripe: Stripe) -> Steps:
        source, target = self.world.servers[Side.SOURCE], self.world.servers[Side.TARGET]
        while not stripe.is_done and not self.failed:
            with self._running(stripe.table):
                yield "copy.chunk.begin"
                if self.protocol.chunk_passes_barrier:
                    yield from source.pass_barrier()
                    yield "copy.chunk.barrier"
                after = [k for k in sorted(source.visible[stripe.table]) if stripe.cursor is None or k > stripe.cursor]
                upper = min([*after[CHUNK_KEYS - 1 : CHUNK_KEYS], stripe.upper])
                lower = stripe.cursor
                yield "boundary probed"
                rows = {
                    key: row
                    for key, row in source.visible[stripe.table].items()
                    if (lower is None or key > lower) and key <= upper
                }
                yield "copy.chunk.read"

                def write(transaction: Transaction, rows: dict[Key, Row] = rows) -> None:
                    for key, row in rows.items():
                        transaction.replace(stripe.table, key, row)

                def advance(upper: Key = upper) -> None:
                    stripe.cursor = upper

                if not self.protocol.cursor_is_saved_with_rows:
                    advance()
                    yield "cursor saved"
                yield from self.write(target, write, also=advance)
                yield "copy.chunk.committed"

    # --- walking the phases ---

    def main(self) -> Steps:
        """From whatever point the last runner left."""
        yield "lease acquired"
        for server in self.world.servers.values():
            yield from self._begin_tenure(server)
        self._epoch = self.store.epoch
        while not self.failed:
            phase = self.store.phase
            if phase is Phase.COPY:
                yield from self._copy()
                yield from self._enter(Phase.CATCH_UP)
            elif phase is Phase.CATCH_UP:
                yield from self._ensure_stream(Direction.FORWARD)
                yield self.world.may_cut_over
                yield from self._enter(Phase.VERIFY)
            elif phase is Phase.VERIFY:
                yield from self._ensure_stream(Direction.FORWARD)
                yield from self._enter(Phase.CUTOVER)
            elif phase is Phase.CUTOVER:
                yield from self._change_owner(Direction.FORWARD)
            elif phase is Phase.SOAK:
                yield from self._ensure_stream(Direction.REVERSE)
                yield self.world.may_revert
                yield from self._enter(Phase.REVERTING)
            elif phase is Phase.REVERTING:
                yield from self._change_owner(Direction.REVERSE)

    def _enter(self, phase: Phase) -> Steps:
        yield f"entering {phase.value}"
        if self.protocol.phase_checks_lease and self.store.generation != self.generation:
            raise RefusedError
        self.store.save_phase(self._epoch, phase)
        self._epoch += 1
        owner = MEANINGS[phase].owner
        assert owner is not None
        for side in (owner, owner.other):
            yield "the fence row"
            yield from self.world.servers[side].save_fence(FenceRow(self._epoch, owner, phase))

    def _copy(self) -> Steps:
        yield from self._ensure_stream(Direction.FORWARD)
        if self.store.stripes is None:
            yield from self._plan()
        assert self.store.stripes is not None
        workers = [self.spawn("copier", self._copy_stripe(stripe)) for stripe in self.store.stripes]
        yield lambda: all(worker.has_ended for worker in workers)
        if self.failed:
            raise RefusedError
        if self.protocol.orphans_are_sought_after_copy:
            assert self.stream is not None
            self.stream.enqueue_orphans()
            yield from self.stream.drain(lambda: False)

    def _ensure_stream(self, direction: Direction) -> Steps:
        if self.stream is not None and self.stream.direction is direction:
            return
        if self.stream is not None:
            stream, self.stream = self.stream, None
            yield from stream.stop()
        start = self.store.checkpoints.get(direction)
        if start is None:
            yield from self._note_start(direction)
            start = self.store.checkpoints[direction]
        self.stream = Stream(self, direction, start)
        self.stream.start()

    def _note_start(self, direction: Direction) -> Steps:
        """A position from which the stream of this direction misses nothing."""
        origin = self.world.servers[direction.origin]
        position = len(origin.log)
        yield "stream.position_noted"
        if self.protocol.start_passes_barrier:
            yield from origin.pass_barrier()
        yield "start proved"
        self.save_checkpoint(direction, Checkpoint(position, origin.beat - 1))

    # --- the switch ---

    def _change_owner(self, direction: Direction) -> Steps:
        following = Phase.SOAK if direction is Direction.FORWARD else Phase.CATCH_UP
        if (yield from self._finish_interrupted_switch(direction)):
            yield from self._enter(following)
            return
        yield from self._ensure_stream(direction)
        while not self.failed:
            try:
                yield from self._switch(direction)
            except UndoneError:
                self.is_budget_spent = False
                if self.failed:
                    raise RefusedError from None
                if direction is Direction.FORWARD and self.world.choose(2):
                    yield from self._enter(Phase.CATCH_UP)
                    return
                yield "attempt undone"
            else:
                yield from self._enter(following)
                return

    def _next_row(self, taking: Side) -> FenceRow:
        return FenceRow(self._epoch + 1, taking, Phase.SOAK if taking is Side.TARGET else Phase.CATCH_UP)

    def _switch(self, direction: Direction) -> Steps:
        assert self.stream is not None
        giving, taking = self.world.servers[direction.origin], self.world.servers[direction.origin.other]
        row = self._next_row(taking.side)
        giving.is_guarded = True
        yield "pre-drain"
        yield from self.stream.drain(lambda: self.is_budget_spent)
        self.is_budget_spent = False
        session = FenceSession(self.world, giving)
        try:
            yield from self._attempt_or_undo(direction, session, row)
        finally:
            session.abandon()
        yield "switch.origin_committed"
        if self.protocol.giving_side_commits_first:
            yield from taking.save_fence(row)
        yield "switch.destination_committed"
        yield from self._open(taking)
        if not self.protocol.way_back_precedes_switch:
            yield from self._note_start(_opposite(direction))

    def _attempt_or_undo(self, direction: Direction, session: FenceSession, row: FenceRow) -> Steps:
        giving = self.world.servers[direction.origin]
        try:
            yield from self._attempt(direction, session, row)
        except (UndoneError, LostError):
            if not (yield from self._has_happened(session, giving, row)):
                yield "switch.undo"
                if not session.is_cut:
                    session.rollback()
                yield from self._open(giving)
                raise UndoneError from None

    def _attempt(self, direction: Direction, session: FenceSession, row: FenceRow) -> Steps:
        assert self.stream is not None
        giving, taking = self.world.servers[direction.origin], self.world.servers[direction.origin.other]
        yield from self._close(giving, session)
        yield "switch.drain"
        yield from self.stream.drain(lambda: self.is_budget_spent or session.is_cut)
        yield "switch.way_back"
        if self.protocol.way_back_precedes_switch:
            yield from self._note_start(_opposite(direction))
        self._require(session, may_be_late=False)
        yield "switch.before_commit"
        if not self.protocol.giving_side_commits_first:
            yield from taking.save_fence(row)
        self._require(session, may_be_late=True)
        yield "switch.row_written"
        self._require(session, may_be_late=True)
        session.send_commit(row)
        yield lambda: session.is_answered or session.is_cut
        if not session.is_answered:
            raise LostError

    def _require(self, session: FenceSession, *, may_be_late: bool) -> None:
        if self.failed or session.is_cut or (self.is_budget_spent and not may_be_late):
            raise UndoneError

    def _close(self, giving: Server, session: FenceSession) -> Steps:
        """Wait for writers in the middle of something, and let no other commit."""
        yield "switch.fence"
        if self.protocol.tenure_guards_switch:
            self.hold_tenure(giving, session)
        if self.world.uses_read_only:
            giving.is_read_only = True
            yield lambda: not giving.writers_committing or self.is_budget_spent or session.is_cut
            self._require(session, may_be_late=False)
        if self.protocol.fence_waits_for_writers:
            yield lambda: giving.is_fence_free() or self.is_budget_spent or session.is_cut
            self._require(session, may_be_late=False)
        giving.fence_holder = session

    def _has_happened(self, session: FenceSession, giving: Server, row: FenceRow) -> Steps:
        if not session.is_commit_sent:
            return False
        yield "asking whether it has happened"
        found = yield from self._load_fence_row(giving)
        return found.epoch == row.epoch and found.owner is row.owner

    def _load_fence_row(self, server: Server) -> Steps:
        if self.protocol.recovery_reads_with_lock:
            yield lambda: server.fence_holder is None
            return server.fence
        return server.visible_fence

    def _finish_interrupted_switch(self, direction: Direction) -> Steps:
        giving, taking = self.world.servers[direction.origin], self.world.servers[direction.origin.other]
        rows = {}
        for side in Side:
            rows[side] = yield from self._load_fence_row(self.world.servers[side])
            yield "fence row read"
        row = decide_owner(rows[Side.SOURCE], rows[Side.TARGET])
        assert row is not None
        if row.owner is taking.side and row.epoch > self._epoch:
            yield from taking.save_fence(row)
            yield "completing an interrupted switch"
            yield from self._open(taking)
            return True
        yield "lifting what an attempt left"
        yield from self._open(giving)
        return False

    def _open(self, server: Server) -> Steps:
        """Let writers in; a setting of the whole server is in no transaction, so one beside it holds the tenure."""
        holder = object()
        if self.protocol.tenure_guards_read_only:
            self.hold_tenure(server, holder)
        try:
            yield "lifting read_only"
            server.is_read_only = False
        finally:
            server.tenure_holders.discard(holder)


def _opposite(direction: Direction) -> Direction:
    return Direction.REVERSE if direction is Direction.FORWARD else Direction.FORWARD
