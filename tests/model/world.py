"""Everything around a runner: writers, crashes, frozen runners, lost connections, and who does the next step.

What must hold is checked here: when a write is accepted, the side that takes it has every change acknowledged before,
and when everything has come to rest, both sides equal what was acknowledged.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from model.program import Checkpoint, FenceSession, LostError, RefusedError, Runner, Store, UndoneError
from model.protocol import PROGRAM, Protocol
from model.servers import KEYS, Commit, RejectedError, Row, Rows, Server, Shape, Steps

from dbmigrate.domain.errors import AmbiguousError
from dbmigrate.domain.ownership import decide_owner
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Direction, Side

CODES = (None, 1, 2, 3)
MOST_STEPS_TO_REST = 20_000


class ViolationError(AssertionError):
    """The protocol broke a promise."""


@dataclass(eq=False)
class Actor:
    """A thread: of a runner, of a server (no owner), or of the application."""

    name: str
    steps: Steps
    owner: Runner | None
    condition: Callable[[], bool] | None = None
    has_ended: bool = False
    stands_at: str = ""

    @property
    def can_step(self) -> bool:
        """Whether it is not waiting."""
        return self.condition is None or self.condition()


class World:
    """Two servers, an application, and the runners of one migration."""

    def __init__(
        self,
        shape: Shape,
        *,
        protocol: Protocol = PROGRAM,
        seed: int = 0,
        uses_read_only: bool = False,
        writers: int = 2,
        runners_freeze: bool = True,
        is_copied: bool = False,
    ) -> None:
        self.shape, self.protocol, self.uses_read_only = shape, protocol, uses_read_only
        self.runners_freeze = runners_freeze
        self.servers = {side: Server(side, shape) for side in Side}
        self.store = Store()
        self.expected: Rows = {table: {} for table in shape.tables}
        self.actors: list[Actor] = []
        self.fence_sessions: list[FenceSession] = []
        self.is_closing = False
        self.is_cutover_wanted = self.is_revert_wanted = False
        self.accepted = 0
        self._owner = Side.SOURCE
        self.switches = 0
        self.steps_done = 0
        self._remark = 0
        self._dice = random.Random(seed)
        for server in self.servers.values():
            self.spawn(None, f"{server.side.value} engine", self._show(server))
        self._fill(8)
        if is_copied:
            self._start_copied()
        for _ in range(writers):
            self.spawn(None, "writer", self._write())
        self.live: Runner | None = None
        self.start_runner()

    # --- scheduling ---

    def spawn(self, owner: Runner | None, name: str, steps: Steps) -> Actor:
        """Let an actor take part."""
        actor = Actor(name, steps, owner)
        self.actors.append(actor)
        return actor

    def choose(self, count: int) -> int:
        """A decision that the model leaves open."""
        return self._dice.randrange(count)

    def reseed(self, seed: int) -> None:
        """Where the decisions come from next."""
        self._dice.seed(seed)

    def list_ready(self) -> list[Actor]:
        """Who can do a step now."""
        return [actor for actor in self.actors if actor.can_step]

    def step(self, actor: Actor) -> None:
        """One atomic step of one actor."""
        self.steps_done += 1
        actor.condition = None
        try:
            found = next(actor.steps)
        except StopIteration:
            self._end(actor)
        except (RefusedError, UndoneError, LostError):
            self._end(actor)
            if actor.owner is not None:
                actor.owner.failed = True
        except AmbiguousError as ambiguous:
            raise ViolationError("nobody knows who owns the data") from ambiguous
        else:
            if isinstance(found, str):
                actor.stands_at = found
            else:
                actor.stands_at, actor.condition = "", found

    def _end(self, actor: Actor) -> None:
        actor.has_ended = True
        self.actors.remove(actor)

    def bury(self, actor: Actor) -> None:
        """The actor is gone; what it has not committed is rolled back."""
        self.actors.remove(actor)  # and whoever waits for its end, waits for ever
        actor.steps.close()  # type: ignore[attr-defined]

    # --- what happens to runners ---

    def start_runner(self) -> None:
        """`dbmigrate run`: a new generation, while an earlier runner may still be acting."""
        self.store.generation += 1
        self.live = Runner(self, self.store.generation)
        self.live.spawn("main", self.live.main())

    def crash(self) -> None:
        """kill -9 of the live runner; what it has sent may still be executed later, or never."""
        runner, self.live = self.live, None
        for actor in [actor for actor in self.actors if actor.owner is runner]:
            if self.choose(3) or not self.runners_freeze:
                self.bury(actor)

    def freeze(self) -> None:
        """The live runner stands still until its lease is over; later it may go on without knowing."""
        self.live = None

    def bury_ghost(self) -> None:
        """An actor of an earlier runner comes to its end."""
        ghosts = self.list_ghosts()
        if ghosts:
            self.bury(ghosts[self.choose(len(ghosts))])

    def list_ghosts(self) -> list[Actor]:
        """Actors of runners that are not the live one."""
        return [actor for actor in self.actors if actor.owner is not None and actor.owner is not self.live]

    def spend_budget(self) -> None:
        """The write pause has taken too long."""
        if self.live is not None:
            self.live.is_budget_spent = True

    def cut_fence_session(self) -> None:
        """The connection that holds the fence is lost."""
        if self.fence_sessions:
            self.fence_sessions[-1].is_cut = True

    def disturb(self) -> None:
        """Something from outside."""
        if self.live is None or self.live.failed:
            if self.live is not None:
                self.crash()
            self.start_runner()
            return
        what = self.choose(12)
        if what == 0:
            self.crash()
        elif what == 1 and self.runners_freeze:
            self.freeze()
        elif what in (2, 3):
            self.bury_ghost()
        elif what == 4:
            self.spend_budget()
        elif what == 5:
            self.cut_fence_session()
        else:
            self.is_revert_wanted, self.is_cutover_wanted = self.choose(2) == 0, self.choose(4) > 0

    def may_cut_over(self) -> bool:
        """Whether the move goes on from catch_up."""
        return self.is_cutover_wanted and not self.is_closing

    def may_revert(self) -> bool:
        """Whether a person has asked for the way back."""
        return self.is_revert_wanted and not self.is_closing

    # --- servers and application ---

    @staticmethod
    def _show(server: Server) -> Steps:
        while True:
            yield lambda: server.shown < len(server.log)
            server.show_next()

    def _start_copied(self) -> None:
        """A move whose copy is behind it, but for a few changes that nobody has streamed yet."""
        source, target = self.servers[Side.SOURCE], self.servers[Side.TARGET]
        target.log_commit(
            Commit(changes=[(t, key, row) for t, rows in source.rows.items() for key, row in rows.items()])
        )
        target.show_next()
        self.store.phase, self.store.stripes = Phase.CATCH_UP, []
        self.store.checkpoints[Direction.FORWARD] = Checkpoint(len(source.log), 0)
        self._fill(3)
        self.is_cutover_wanted = True

    def _fill(self, count: int) -> None:
        source = self.servers[Side.SOURCE]
        for _ in range(count):
            commit = self._build_change(source)
            if commit is not None:
                self._accept(source, commit)
        while source.shown < len(source.log):
            source.show_next()

    def _write(self) -> Steps:
        while not self.is_closing:
            yield "a customer comes"
            rows = {}
            for side in Side:
                rows[side] = self.servers[side].visible_fence
                yield "fence row read"
            owner = decide_owner(rows[Side.SOURCE], rows[Side.TARGET])
            assert owner is not None
            if owner.owner is not Side.SOURCE and self.choose(2):
                # Whoever finds the row of the new owner behind completes the step.
                yield from self.servers[owner.owner].save_fence(owner)
            if self.uses_read_only:
                yield from self._write_where_not_read_only(self.servers[owner.owner])
            else:
                yield from self._write_by_fence_row(self.servers[owner.owner])

    def _write_by_fence_row(self, server: Server) -> Steps:
        token = object()
        if self.protocol.writers_lock_fence_row:
            yield lambda: server.fence_holder is None
            if server.is_guarded and server.fence.owner is not server.side:
                return
            server.fence_readers.add(token)
        elif server.visible_fence.owner is not server.side:
            return
        yield "statements"
        commit = self._build_change(server)
        if commit is None:
            server.fence_readers.discard(token)
            return
        commit.on_visible.append(lambda: server.fence_readers.discard(token))
        yield from self._commit(server, commit)

    def _write_where_not_read_only(self, server: Server) -> Steps:
        yield "statements"
        if server.is_read_only:
            return
        commit = self._build_change(server)
        if commit is None:
            return
        server.writers_committing += 1

        def end() -> None:
            server.writers_committing -= 1

        commit.on_visible.append(end)
        yield from self._commit(server, commit)

    def _commit(self, server: Server, commit: Commit) -> Steps:
        seq = self._accept(server, commit)
        yield lambda: server.shown >= seq

    def _accept(self, server: Server, commit: Commit) -> int:
        if server.rows != self.expected:
            raise ViolationError(
                f"the {server.side.value} takes a write and lacks an earlier one: {self._explain(server)}"
            )
        for table, key, row in commit.changes:
            if row is None:
                self.expected[table].pop(key, None)
            else:
                self.expected[table][key] = row
        self.accepted += 1
        self.switches += server.side is not self._owner
        self._owner = server.side
        return server.log_commit(commit)

    def _build_change(self, server: Server) -> Commit | None:
        """One or two statements of an application, in one transaction; None if a constraint refuses them."""
        transaction = server.begin()
        try:
            for _ in range(1 + self.choose(2)):
                self._change(transaction)
        except RejectedError:
            return None
        return transaction.build()

    def _change(self, transaction) -> None:  # type: ignore[no-untyped-def]
        table = self.shape.tables[self.choose(len(self.shape.tables))]
        key, what = KEYS[self.choose(len(KEYS))], self.choose(8)
        if what == 0:
            transaction.delete(table, key)
        elif what == 1:
            transaction.move(table, key, KEYS[self.choose(len(KEYS))])
        else:
            present = transaction.get(table, key)
            self._remark += 1
            row = present._replace(remark=self._remark) if present else Row(None, None, self._remark)
            if table in self.shape.references and (present is None or what < 5):
                parents = sorted(transaction.scan(self.shape.references[table][0]))
                row = row._replace(parent=parents[self.choose(len(parents))] if parents else None)
            if table in self.shape.unique:
                row = row._replace(code=CODES[self.choose(len(CODES))])
            transaction.save(table, key, row)

    # --- the end ---

    def come_to_rest(self) -> None:
        """Writers stop, whatever is under way ends, a runner works until nothing is left; then everything is equal."""
        self.is_closing = True
        self._run_until_still()
        for ghost in self.list_ghosts():
            self.bury(ghost)
        self._run_until_still()
        if self.store.phase not in (Phase.CATCH_UP, Phase.SOAK):
            # A ghost has moved the phase under the live runner, which ends at its next transition: run again.
            self.crash()
            for ghost in self.list_ghosts():
                self.bury(ghost)
            self._run_until_still()
        if self.store.phase not in (Phase.CATCH_UP, Phase.SOAK):
            raise ViolationError(f"stuck in {self.store.phase.value}")
        for server in self.servers.values():
            if server.rows != self.expected:
                raise ViolationError(f"the {server.side.value} lacks an acknowledged change: {self._explain(server)}")

    def _run_until_still(self) -> None:
        until = self.steps_done + MOST_STEPS_TO_REST
        while True:
            if self.live is None or self.live.failed:
                self.disturb()
            ready = self.list_ready()
            if not ready:
                return
            for actor in ready:
                if actor in self.actors and actor.can_step:
                    self.step(actor)
            if self.steps_done > until:
                raise ViolationError(f"no rest in {self.store.phase.value}")

    def _explain(self, server: Server) -> str:
        return ", ".join(
            f"{table.name} {key.decode()}: {server.rows[table].get(key)} instead of {self.expected[table].get(key)}"
            for table in self.shape.tables
            for key in sorted({*server.rows[table], *self.expected[table]})
            if server.rows[table].get(key) != self.expected[table].get(key)
        )
