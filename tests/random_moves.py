"""One random move: a random schema, moved there and back in this process while random transactions run on it.

Besides free writer threads, transactions are executed synchronously at step points of the engines, which repeats better.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from random_schemas import Schema, depth, quote, schemas
from random_workloads import Application, FreeWriters, Statistics, Transaction, Wording, transactions

import dbmigrate.copying.copier
import dbmigrate.copying.loading
import dbmigrate.copying.sizing
import dbmigrate.copying.stripes
import dbmigrate.streaming.flusher
import dbmigrate.workflow.phases.expand
from dbmigrate.config import load_config
from dbmigrate.domain.errors import DbmigrateError
from dbmigrate.domain.flavours import Flavour
from dbmigrate.domain.ownership import FenceRow, decide_owner
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Side
from dbmigrate.throwaway.local_servers import LocalServer
from dbmigrate.throwaway.row_comparison import Comparison, compare
from dbmigrate.workflow.check import check_migration
from dbmigrate.workflow.migration import Migration, Surroundings
from dbmigrate.workflow.preflight.finding import Severity
from dbmigrate.workflow.runner import Runner

STEPS = (
    "stream.position_noted", "copy.chunk.begin", "copy.chunk.barrier", "copy.chunk.read", "copy.chunk.piece",
    "copy.chunk.written", "copy.chunk.committed", "flush.begin", "flush.chunks_done", "flush.barrier", "flush.batch.read",
    "flush.batch.written", "flush.batch.committed", "verify.range.compared", "switch.fence", "switch.drain",
    "switch.committed",
)  # fmt: skip
CONFIGURATION = """
[migration]
id = "random"
[source]
url = "{source}"
password_env = "RANDOM_SOURCE"
[target]
url = "{target}"
password_env = "RANDOM_TARGET"
[copy]
workers = 3
defer_secondary_indexes = {defer}
[throttle]
max_source_write_factor = 0
[cutover]
approval = "auto"
max_write_pause_seconds = 20.0
retry_seconds = 0.1
max_attempts = 200
[gates]
max_lag_seconds = 60.0
[verify]
chunk_rows = 100
"""

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Injection:
    """A transaction executed at the nth passing of a step."""

    step: str
    nth: int
    transaction: Transaction


@dataclass(frozen=True)
class RandomMove:
    """Everything about one move."""

    schema: Schema
    lanes: tuple[tuple[Transaction, ...], ...]
    injections: tuple[Injection, ...]
    defers_indexes: bool


def random_moves(flavours: frozenset[Flavour] = frozenset({Flavour.MARIADB})) -> st.SearchStrategy[RandomMove]:
    """Moves between servers of these flavours."""
    injections = st.builds(Injection, st.sampled_from(STEPS), st.integers(1, 6), transactions)
    lane = st.lists(transactions, min_size=6, max_size=14).map(tuple)
    return st.builds(
        RandomMove, schemas(flavours), st.tuples(lane, lane),
        st.lists(injections, min_size=4, max_size=16).map(tuple), st.booleans(),
    )  # fmt: skip


@dataclass
class Seen:
    """What all moves of a test went through, to be asserted on."""

    statistics: Statistics = field(default_factory=Statistics)
    kinds: Counter[str] = field(default_factory=Counter)
    actions: Counter[str] = field(default_factory=Counter)
    steps: Counter[str] = field(default_factory=Counter)
    moves: int = 0
    refused: list[str] = field(default_factory=list)
    rows: int = 0
    deepest: int = 0

    def record(self, schema: Schema) -> None:
        """Count what a schema consists of."""
        for index, table in enumerate(schema.tables):
            self.kinds.update({c.kind.name for c in table.key})
            self.kinds.update({f"unique {c.kind.name}" for u in table.uniques for c in u.columns})
            self.kinds["composite key"] += len(table.key) > 1
            self.kinds["nullable unique"] += any(c.is_nullable for u in table.uniques for c in u.columns)
            self.kinds["composite unique"] += any(len(u.columns) > 1 for u in table.uniques)
            self.kinds["prefix unique"] += any(u.prefix for u in table.uniques)
            self.kinds["self-reference"] += any(r.parent == index for r in table.references)
            self.kinds["key that cascades rewrite"] += any(r.columns[0] in table.key for r in table.references if r.parent != index)
            for reference in table.references:
                self.actions[f"ON DELETE {reference.on_delete}"] += 1
                self.actions[f"ON UPDATE {reference.on_update}"] += 1
        self.deepest = max(self.deepest, depth(schema))

    def describe(self) -> str:
        """What happened, in a few lines."""
        made = self.statistics
        return "\n".join(
            [
                f"{self.moves} moves, {len(self.refused)} refused, {self.rows} rows compared",
                f"statements: {dict(made.tried)}", f"with effect: {dict(made.effective)}", f"errors: {dict(made.errors)}",
                f"transactions: {dict(made.ends)}", f"steps: {dict(self.steps)}",
                f"kinds: {dict(self.kinds)}", f"actions: {dict(self.actions)}", *self.refused,
            ]
        )  # fmt: skip


class RefusedSchemaError(Exception):
    """The preflight named a reason against this schema."""


class Mover:
    """Makes random moves between two servers."""

    def __init__(self, source: LocalServer, target: LocalServer, directory: Path, seen: Seen) -> None:
        self.servers = {Side.SOURCE: source, Side.TARGET: target}
        self.directory, self.seen = directory, seen

    def move(self, example: RandomMove) -> None:
        """Copy, switch, soak and go back under load; both sides must be equal at every rest."""
        schema = f"random_{next(_numbers)}"
        os.environ["RANDOM_SOURCE"] = self.servers[Side.SOURCE].password
        os.environ["RANDOM_TARGET"] = self.servers[Side.TARGET].password
        try:
            self._create(schema, example.schema)
            _Attempt(self, schema, example).run()
        finally:
            self._remove(schema)

    def connect(self, side: Side, **options: Any) -> Any:
        """An administrative connection."""
        return self.servers[side].connect(**options)

    def _create(self, schema: str, wanted: Schema) -> None:
        for side, server in self.servers.items():
            server.execute(f"CREATE DATABASE {schema} CHARACTER SET utf8mb4", f"DROP USER IF EXISTS 'app'@'{server.host}'")
            # What an application has, and nothing that passes read_only.
            server.create_user("app", "app", f"ALL PRIVILEGES ON {schema}.*")
            if side is Side.SOURCE:
                with contextlib.closing(server.connect(database=schema)) as connection:
                    self._fill(connection, wanted)

    def _fill(self, connection: Any, wanted: Schema) -> None:
        wording = Wording(wanted, self.directory)
        with connection.cursor() as cursor:
            cursor.execute(SESSION)
            for statement in wanted.statements():
                cursor.execute(statement)
            for table in wanted.tables:
                names = ", ".join(quote(c.name) for c in table.columns)
                for start in range(0, table.rows, 100):
                    rows = ", ".join(wording.row(table, n) for n in range(start, min(start + 100, table.rows)))
                    cursor.execute(f"INSERT IGNORE INTO {quote(table.name)} ({names}) VALUES {rows}")
                cursor.execute(f"ANALYZE TABLE {quote(table.name)}")

    def _remove(self, schema: str) -> None:
        for server in self.servers.values():
            server.execute(
                "SET GLOBAL read_only = OFF", "SET SESSION lock_wait_timeout = 20, foreign_key_checks = 0",
                f"DROP DATABASE IF EXISTS {schema}", "DROP DATABASE IF EXISTS _dbmigrate",
                f"DROP USER IF EXISTS 'app'@'{server.host}'",
            )  # fmt: skip


SESSION = (
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES', innodb_lock_wait_timeout = 2, "
    "lock_wait_timeout = 2"
)
_TIME_ZONES = itertools.cycle(("+00:00", "+05:30", "-08:00"))


class _Attempt:
    """One move on its way."""

    def __init__(self, mover: Mover, schema: str, example: RandomMove) -> None:
        self._mover, self._schema, self._example = mover, schema, example
        self._lock = threading.Lock()
        self._is_resting = False
        self._passed: Counter[str] = Counter()
        self._due = {(i.step, i.nth): i.transaction for i in example.injections}
        self._path = mover.directory / f"{schema}.toml"
        self._path.write_text(
            CONFIGURATION.format(
                source=mover.servers[Side.SOURCE].url(schema), target=mover.servers[Side.TARGET].url(schema),
                defer=str(example.defers_indexes).lower(),
            )
        )
        self._application = Application(
            self._connect, self._read_owner, Wording(example.schema, mover.directory), mover.seen.statistics
        )

    def run(self) -> None:
        self._mover.seen.record(self._example.schema)
        self._require_possible()
        try:
            self._stage("moved there", Phase.CUTOVER, Phase.SOAK, Side.TARGET)
            self._stage("moved back", None, Phase.VERIFY, Side.SOURCE)
        finally:
            self._application.close()
        self._mover.seen.moves += 1

    def _stage(self, name: str, until: Phase | None, rest: Phase, owner: Side) -> None:
        """Under load to ``until`` (None: back), some more load on the new owner, then at rest compare."""
        with FreeWriters(self._application, list(self._example.lanes)):
            self._run(until, request="" if until else "revert")
            for lane in self._example.lanes:
                for transaction in lane[:4]:
                    self._application.execute(transaction)
        assert self._read_owner() is owner
        self._is_resting = True  # what is written after the last drain is rightly not there
        self._run(rest)
        self._is_resting = False
        self._compare(name)

    def _run(self, until: Phase | None, *, request: str = "") -> None:
        with self._reset_steps():
            migration = Migration(load_config(self._path), around=Surroundings(on_step=self._on_step))
            try:
                Runner(migration, until=until, assume_yes=True, request=request).run()
            except DbmigrateError as fault:
                raise AssertionError(f"{type(fault).__name__}: {fault}\n{self._describe()}") from fault
            finally:
                migration.close()

    def _require_possible(self) -> None:
        migration = Migration(load_config(self._path))
        try:
            findings = check_migration(migration, is_first_run=True)
        finally:
            migration.close()
        obstacles = [f for f in findings if f.severity is Severity.OBSTACLE]
        if obstacles:
            assert all(f.message and f.remedy for f in obstacles)
            reason = "; ".join(f"{f.place}: {f.message}" for f in obstacles)
            self._mover.seen.refused.append(reason)
            raise RefusedSchemaError(reason)

    @contextlib.contextmanager
    def _reset_steps(self) -> Iterator[None]:
        with self._lock:
            self._passed.clear()
        yield

    def _on_step(self, name: str) -> None:
        with self._lock:
            self._passed[name] += 1
            self._mover.seen.steps[name] += 1
            transaction = self._due.get((name, self._passed[name]))
        if transaction is not None and not self._is_resting:
            self._application.execute(transaction)

    def _connect(self, side: Side) -> Any:
        with self._lock:
            zone = next(_TIME_ZONES)
        return self._mover.connect(
            side, database=self._schema, user="app", password="app", local_infile=True, autocommit=False,
            init_command=f"{SESSION}, time_zone = '{zone}'",
        )  # fmt: skip

    def _read_owner(self) -> Side:
        """From the fence rows themselves."""
        rows = []
        for side in Side:
            try:
                found = self._mover.servers[side].execute("SELECT epoch, owner, phase FROM _dbmigrate.fence")
            except Exception:
                found = ()
            rows.append(FenceRow(found[0][0], Side(found[0][1]), Phase(found[0][2])) if found else None)
        row = decide_owner(*rows)
        return row.owner if row and row.owner else Side.SOURCE

    def _compare(self, name: str) -> Comparison:
        with (
            contextlib.closing(self._mover.connect(Side.SOURCE)) as source,
            contextlib.closing(self._mover.connect(Side.TARGET)) as target,
        ):
            result = compare(source, target, self._schema)
        self._mover.seen.rows += result.rows
        if result.differing:
            rows = "\n".join(f"{d.table} {d.key!r}\n  source {d.source!r}\n  target {d.target!r}" for d in result.first)
            raise AssertionError(f"{name}: {result.differing} of {result.rows} rows differ\n{rows}\n{self._describe()}")
        return result

    def _describe(self) -> str:
        wording = Wording(self._example.schema, self._mover.directory)
        lanes = [
            f"-- lane {number}, transaction {index}, {'commit' if t.commits else 'rollback'}\n"
            + ";\n".join(sql for s in t.statements for sql in wording.sql(s))
            for number, lane in enumerate(self._example.lanes)
            for index, t in enumerate(lane)
        ]
        injected = [
            f"-- at {i.step} number {i.nth}, {'commit' if i.transaction.commits else 'rollback'}\n"
            + ";\n".join(sql for s in i.transaction.statements for sql in wording.sql(s))
            for i in self._example.injections
        ]
        return "\n".join([repr(self._example.schema), *lanes, *injected, "-- executed last:", *self._application.log[-40:]])


@pytest.fixture(scope="module")
def small_pieces() -> Iterator[None]:
    """Chunks, stripes and batches of a few rows, so that many of them interleave on small tables."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dbmigrate.copying.sizing, "FIRST_ROWS", 7)
        patch.setattr(dbmigrate.copying.sizing, "MOST_ROWS", 13)
        patch.setattr(dbmigrate.copying.copier, "PIECE_BYTES", 200)
        patch.setattr(dbmigrate.copying.loading, "has_short_rows", lambda table: len(table.columns) % 2 == 0)
        patch.setattr(dbmigrate.copying.stripes, "LEAST_ROWS", 30)
        patch.setattr(dbmigrate.workflow.phases.expand, "LEAST_DEFERRED_BYTES", 0)
        patch.setattr(dbmigrate.streaming.flusher, "BATCH_KEYS", 5)
        patch.setattr(dbmigrate.streaming.flusher, "LEAST_LOADED_KEYS", 4)
        yield


MoverFactory = Callable[[Flavour, Flavour, Seen], Mover]

__all__ = ["Injection", "Mover", "MoverFactory", "RandomMove", "RefusedSchemaError", "Seen", "random_moves", "small_pieces"]
