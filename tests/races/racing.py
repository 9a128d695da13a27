"""One move with an injection at an exact moment: the steps call the injection in the thread that passes them.

The runner, its streams and its switch are the product's own, in this process, on real servers; only chunks are smaller.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pymysql
from databases import Pair
from fake_replica import open_window
from moves import Move

from dbmigrate.config import load_config
from dbmigrate.domain.errors import TransientError
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Side
from dbmigrate.telemetry import SilentObserver
from dbmigrate.throwaway.row_comparison import compare
from dbmigrate.workflow.migration import Migration, Surroundings
from dbmigrate.workflow.runner import Runner

CHUNK_ROWS = 50
PATIENCE_SECONDS = 90.0
DELAY_SECONDS = 0.02
APPLICATION = {"user": "shop_app", "password": "app"}
REFUSALS = {1205, 1290, 1644}
"""What a fence says to a writer: it waits too long, the server is read-only, a guard."""

Injection = Callable[[], object]


class LatePair(Pair):
    """Commits of whoever owns the data become visible late."""


@dataclass(frozen=True, slots=True)
class Moment:
    """The ``count``-th passing of a step, counted while a chunk of ``table`` is in flight where one is named."""

    step: str
    count: int = 1
    table: str = ""


class _Phases(SilentObserver):
    """Tells the race which phase begins, in the runner's own thread."""

    def __init__(self, entered: Callable[[str], None]) -> None:
        self._entered = entered

    def phase_entered(self, phase: str) -> None:
        self._entered(phase)


@dataclass
class Race:
    """A migration of a pair, and what is injected into it."""

    pair: Pair
    path: Path
    environment: dict[str, str]
    passed: list[str] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    _injections: list[tuple[Moment, Injection, threading.Event]] = field(default_factory=list)
    _counts: dict[int, int] = field(default_factory=dict)
    _faults: list[str] = field(default_factory=list)
    _at_phase: dict[str, Injection] = field(default_factory=dict)
    _failures: list[BaseException] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _migration: Migration | None = None
    _expected: dict[str, Any] | None = None

    def write(self, text: str = "", **cutover: object) -> None:
        """The configuration: one copying worker, so that the n-th chunk is the same in every run."""
        settings = {"approval": '"auto"', "max_write_pause_seconds": 20.0, "retry_seconds": 0.1} | cutover
        lines = "\n".join(f"{name} = {value}" for name, value in settings.items())
        Move(self.pair, self.path, self.environment).write(
            f"[copy]\nworkers = 1\ntarget_chunk_seconds = 30\n[verify]\nchunk_rows = 100\n[cutover]\n{lines}\n{text}"
        )

    # --- what is injected ---

    def at(self, moment: Moment | str, injection: Injection) -> None:
        """Call ``injection`` once, in the step's own thread, at this moment."""
        found = Moment(moment) if isinstance(moment, str) else moment
        self._injections.append((found, injection, threading.Event()))

    def at_first(self, steps: Sequence[str], injection: Injection) -> None:
        """Call ``injection`` once, at whichever of these steps comes first."""
        happened = threading.Event()
        self._injections += [(Moment(step), injection, happened) for step in steps]

    def fail_at(self, step: str) -> None:
        """Let the step itself fail once, as a lost connection would."""
        self._faults.append(step)

    def on_entering(self, phase: Phase, injection: Injection) -> None:
        """Call ``injection`` in the runner's thread when a phase has been entered for the first time."""
        self._at_phase[phase.value] = injection

    def provoke(self, provocation: Injection, moment: Moment | str, injection: Injection) -> None:
        """After the copy: ``provocation``, then ``injection`` at a moment of what follows from it."""

        def begin() -> None:
            self.at(moment, injection)
            happened = self._injections[-1][2]
            provocation()
            if not happened.wait(PATIENCE_SECONDS):
                raise AssertionError(f"{moment} did not come")

        self.on_entering(Phase.CATCH_UP, begin)

    def write_source(self, *statements: str) -> None:
        """One transaction of the application on the source, after which nothing else may change there."""
        self._write(self.pair.source, statements)
        self._expected = self._dump(self.pair.source)

    def write_target(self, *statements: str) -> None:
        """One transaction of the application on the target."""
        self._write(self.pair.target, statements)

    def try_to_write(self, side: Side, *statements: str) -> bool:
        """One transaction of the application; whether it was committed. Only a fence may refuse it."""
        database = self.pair.source if side is Side.SOURCE else self.pair.target
        return self.may_be_refused(lambda: self._write(database, statements))

    def may_be_refused(self, write: Injection) -> bool:
        """Whether the fence let a write pass."""
        try:
            write()
        except pymysql.err.MySQLError as error:
            if error.args[0] not in REFUSALS:
                raise
            self.refused.append(error.args[0])
            return False
        return True

    def connect(self, side: Side) -> Any:
        """A connection of the application, with autocommit off."""
        database = self.pair.source if side is Side.SOURCE else self.pair.target
        connection = database.connect(**APPLICATION, autocommit=False, read_timeout=PATIENCE_SECONDS)
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION lock_wait_timeout = 1, innodb_lock_wait_timeout = 1")
        return connection

    def _write(self, database: Any, statements: Sequence[str]) -> None:
        side = Side.SOURCE if database is self.pair.source else Side.TARGET
        with contextlib.closing(self.connect(side)) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            connection.commit()

    # --- the move ---

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Migration]:
        around = Surroundings(on_step=self._on_step, observer=_Phases(self._on_phase))
        migration = Migration(load_config(self.path), around=around)
        self._migration = migration
        try:
            yield migration
        finally:
            self._migration = None
            migration.close()

    def move(self, until: Phase = Phase.CUTOVER, *, request: str = "") -> None:
        """Run to the end of a phase; every injection registered so far must have happened."""
        with self._opened() as migration:
            Runner(migration, until=None if request else until, assume_yes=True, request=request).run()
        self.require_happened()

    @property
    def migration(self) -> Migration:
        """The migration while it moves."""
        assert self._migration is not None
        return self._migration

    def revert(self) -> None:
        """Run until the source owns the data again."""
        with contextlib.ExitStack() as stack:
            if isinstance(self.pair, LatePair):
                stack.enter_context(open_window(self.pair.target.server, delay_seconds=DELAY_SECONDS))
            self.move(request="revert")

    def require_happened(self) -> None:
        """Raise what an injection raised; every one must have come to its turn."""
        if self._failures:
            raise self._failures[0]
        late = [moment for moment, _, happened in self._injections if not happened.is_set()]
        late += [Moment(step) for step in self._faults]
        assert not late, f"never passed: {late}; passed {sorted(set(self.passed))}"

    def _on_phase(self, phase: str) -> None:
        injection = self._at_phase.pop(phase, None)
        if injection is not None:
            injection()

    def _on_step(self, name: str) -> None:
        due = []
        with self._lock:
            self.passed.append(name)
            for index, (moment, injection, happened) in enumerate(self._injections):
                if moment.step != name or happened.is_set() or not self._is_about(moment.table):
                    continue
                self._counts[index] = self._counts.get(index, 0) + 1
                if self._counts[index] == moment.count:
                    due.append((injection, happened))
        for injection, happened in due:
            try:
                injection()
            except BaseException as failure:  # the step's thread must go on: the test reports it
                self._failures.append(failure)
            finally:
                happened.set()
        if name in self._faults:
            self._faults.remove(name)
            raise TransientError("injected", place=name)

    def _is_about(self, table: str) -> bool:
        migration = self._migration
        if not table or migration is None:
            return True
        return table in {name.name for name in migration.in_flight._running.values()}

    # --- the outcome ---

    def require_equal(self) -> None:
        """Both sides, row by row and byte by byte, by queries that have nothing to do with the product's own."""
        with self.pair.source.connect() as source, self.pair.target.connect() as target:
            result = compare(source, target, self.pair.source.schema)
        assert result.differing == 0, result.first
        if self._expected is not None:
            assert self._dump(self.pair.target) == self._expected

    @staticmethod
    def _dump(database: Any) -> dict[str, Any]:
        tables = [name for (name,) in database.execute("SHOW TABLES")]
        return {name: database.execute(f"SELECT * FROM `{name}` ORDER BY 1, 2") for name in tables}

    def read(self, side: Side, query: str) -> tuple[tuple[Any, ...], ...]:
        """What one side holds."""
        return (self.pair.source if side is Side.SOURCE else self.pair.target).execute(query)

    def require_everywhere(self, query: str, *expected: tuple[Any, ...]) -> None:
        """Both sides answer the query with these rows."""
        assert {side: self.read(side, query) for side in Side} == dict.fromkeys(Side, expected)
