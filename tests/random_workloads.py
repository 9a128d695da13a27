"""Random transactions as data, and the application that executes them wherever the data is owned.

Statements may fail (duplicates, foreign keys, a fence): that is part of the work. The error is swallowed and the
transaction goes on, unless the server has ended it.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pymysql
from hypothesis import strategies as st
from random_schemas import Column, Schema, Table, quote

from dbmigrate.domain.routes import Side

STATEMENTS = (
    "insert", "insert_many", "insert_ignore", "replace", "upsert", "insert_select", "load_replace", "load_ignore",
    "update_value", "update_all", "update_key", "rotate_keys", "update_unique", "swap_unique", "update_reference",
    "delete", "delete_many", "update_two", "delete_two", "truncate", "savepoint", "rollback_to",
)  # fmt: skip
_OFTEN = ("insert", "update_key", "update_key", "update_unique", "swap_unique", "update_reference", "delete", "insert_many",
          "replace", "upsert", "rotate_keys")  # fmt: skip
ENDS_TRANSACTION = {1213, 1290, 1205, 3572, 1836, 1792}
READ_ONLY = 1290
GONE = {2006, 2013, 2055}


@dataclass(frozen=True)
class Statement:
    """A kind of statement on a table, with the numbers of rows that it is about."""

    kind: str
    table: int
    one: int
    other: int


@dataclass(frozen=True)
class Transaction:
    """Statements that end in COMMIT or ROLLBACK."""

    statements: tuple[Statement, ...]
    commits: bool


_numbers = st.integers(0, 45)
_statement = st.builds(
    Statement, kind=st.sampled_from(STATEMENTS[:-3] + STATEMENTS[-2:] + _OFTEN), table=st.integers(0, 4),
    one=_numbers, other=_numbers,
)  # fmt: skip
_truncating = st.builds(Statement, kind=st.just("truncate"), table=st.integers(0, 4), one=_numbers, other=_numbers)
_ordinary = st.builds(
    Transaction, st.lists(_statement, min_size=1, max_size=5).map(tuple), commits=st.sampled_from((True, True, True, False))
)
_emptying = st.builds(Transaction, st.tuples(_truncating), commits=st.just(True))
transactions = st.one_of(*[_ordinary] * 12, _emptying)


class Wording:
    """From a statement as data to SQL."""

    def __init__(self, schema: Schema, directory: Path) -> None:
        self._schema = schema
        self._directory = directory
        self._files = itertools.count()

    def sql(self, statement: Statement, shift: int = 0) -> list[str]:
        """The statements to execute, one after the other."""
        table = self._schema.tables[statement.table % len(self._schema.tables)]
        other = self._schema.tables[(statement.table + 1) % len(self._schema.tables)]
        made = getattr(self, f"_{statement.kind}")(table, statement.one + shift, statement.other + shift, other)
        return [made] if isinstance(made, str) else made

    def row(self, table: Table, number: int, other: int | None = None) -> str:
        """The literals of a row; what is not its key comes from another number."""
        rest = number if other is None else other
        key = set(table.key)
        return "(" + ", ".join(_value(c, number if c in key else rest, table) for c in table.columns) + ")"

    def _into(self, table: Table) -> str:
        return f"INTO {quote(table.name)} ({', '.join(quote(c.name) for c in table.columns)})"

    def _insert(self, t: Table, one: int, two: int, _: Table) -> str:
        return f"INSERT {self._into(t)} VALUES {self.row(t, one, two)}"

    def _insert_many(self, t: Table, one: int, two: int, _: Table) -> str:
        rows = ", ".join(self.row(t, one + 46 + step, two + step) for step in range(4))
        return f"INSERT {self._into(t)} VALUES {rows}"

    def _insert_ignore(self, t: Table, one: int, two: int, _: Table) -> str:
        rows = ", ".join(self.row(t, one + step, two + step) for step in range(4))
        return f"INSERT IGNORE {self._into(t)} VALUES {rows}"

    def _replace(self, t: Table, one: int, two: int, _: Table) -> str:
        return f"REPLACE {self._into(t)} VALUES {self.row(t, one, two)}, {self.row(t, two, one)}"

    def _upsert(self, t: Table, one: int, two: int, _: Table) -> str:
        key = t.key[-1]
        changed = [c for c in t.columns if c not in t.key]
        sets = ", ".join(f"{quote(c.name)} = VALUES({quote(c.name)})" for c in changed)
        moved = f"{quote(key.name)} = {key.literal(two)}"
        return f"INSERT {self._into(t)} VALUES {self.row(t, one, two)} ON DUPLICATE KEY UPDATE {sets if one % 3 else moved}"

    def _insert_select(self, t: Table, one: int, two: int, _: Table) -> str:
        key = set(t.key)
        unique = {c for u in t.uniques for c in u.columns}
        taken = ", ".join(_value(c, two, t) if c in key | unique else quote(c.name) for c in t.columns)
        return f"INSERT {self._into(t)} SELECT {taken} FROM {quote(t.name)} WHERE {t.where(one)}"

    def _load(self, t: Table, one: int, two: int, duplicates: str) -> str:
        path = self._directory / f"load{next(self._files) % 50}.txt"
        path.write_text("1\n2\n3\n")
        key = set(t.key)
        sets = []
        for c in t.columns:
            values = [_value(c, (one if c in key else two) + step, t) for step in range(3)]
            sets.append(f"{quote(c.name)} = CASE @n WHEN '1' THEN {values[0]} WHEN '2' THEN {values[1]} ELSE {values[2]} END")
        return f"LOAD DATA LOCAL INFILE '{path}' {duplicates} INTO TABLE {quote(t.name)} (@n) SET {', '.join(sets)}"

    def _load_replace(self, t: Table, one: int, two: int, _: Table) -> str:
        return self._load(t, one, two, "REPLACE")

    def _load_ignore(self, t: Table, one: int, two: int, _: Table) -> str:
        return self._load(t, one + 46, two, "IGNORE")

    def _update_value(self, t: Table, one: int, two: int, _: Table) -> str:
        c = t.values[two % len(t.values)]
        return f"UPDATE {quote(t.name)} SET {quote(c.name)} = {c.literal(two)} WHERE {t.where(one)}"

    def _update_all(self, t: Table, one: int, two: int, _: Table) -> str:
        c = t.values[one % len(t.values)]
        return f"UPDATE {quote(t.name)} SET {quote(c.name)} = {c.literal(two)}"

    def _update_key(self, t: Table, one: int, two: int, _: Table) -> str:
        sets = ", ".join(f"{quote(c.name)} = {c.literal(two)}" for c in t.key)
        return f"UPDATE {quote(t.name)} SET {sets} WHERE {t.where(one)}"

    def _rotate_keys(self, t: Table, one: int, two: int, _: Table) -> list[str]:
        spare = one + 700
        steps = ((one, spare), (two, one), (two + 1, two), (spare, two + 1))
        return [self._update_key(t, here, there, t) for here, there in steps]

    def _unique_columns(self, t: Table) -> tuple[Column, ...]:
        return t.uniques[0].columns if t.uniques else t.values

    def _set_unique(self, t: Table, row: int, value: int | None) -> str:
        columns = self._unique_columns(t)
        parts = [
            f"{quote(c.name)} = {'NULL' if value is None and c.is_nullable else c.literal(999 if value is None else value)}"
            for c in columns
        ]
        return f"UPDATE {quote(t.name)} SET {', '.join(parts)} WHERE {t.where(row)}"

    def _update_unique(self, t: Table, one: int, two: int, _: Table) -> str:
        return self._set_unique(t, one, two)

    def _swap_unique(self, t: Table, one: int, two: int, _: Table) -> list[str]:
        return [self._set_unique(t, one, None), self._set_unique(t, two, one), self._set_unique(t, one, two)]

    def _update_reference(self, t: Table, one: int, two: int, _: Table) -> str:
        if not t.references:
            return self._update_value(t, one, two, t)
        columns = t.references[two % len(t.references)].columns
        parts = [f"{quote(c.name)} = {'NULL' if c.is_nullable and two % 9 == 0 else c.literal(two)}" for c in columns]
        return f"UPDATE {quote(t.name)} SET {', '.join(parts)} WHERE {t.where(one)}"

    def _delete(self, t: Table, one: int, two: int, _: Table) -> str:
        return f"DELETE FROM {quote(t.name)} WHERE {t.where(one)}"

    def _delete_many(self, t: Table, one: int, two: int, _: Table) -> str:
        return f"DELETE FROM {quote(t.name)} ORDER BY {quote(t.key[0].name)} LIMIT {1 + two % 4}"

    def _update_two(self, t: Table, one: int, two: int, o: Table) -> str:
        mine, theirs = t.values[0], o.values[0]
        return (
            f"UPDATE {quote(t.name)} x, {quote(o.name)} y SET x.{quote(mine.name)} = {mine.literal(two)}, "
            f"y.{quote(theirs.name)} = {theirs.literal(one)} WHERE {t.where(one, 'x.')} AND {o.where(two, 'y.')}"
        )

    def _delete_two(self, t: Table, one: int, two: int, o: Table) -> str:
        return (
            f"DELETE x, y FROM {quote(t.name)} x LEFT JOIN {quote(o.name)} y ON {o.where(two, 'y.')} WHERE {t.where(one, 'x.')}"
        )

    def _truncate(self, t: Table, one: int, two: int, _: Table) -> str:
        return f"TRUNCATE TABLE {quote(t.name)}"

    def _savepoint(self, t: Table, one: int, two: int, _: Table) -> str:
        return f"SAVEPOINT s{one % 2}"

    def _rollback_to(self, t: Table, one: int, two: int, _: Table) -> str:
        return f"ROLLBACK TO SAVEPOINT s{one % 2}"


def _value(column: Column, number: int, table: Table) -> str:
    """Every seventh optional reference is empty, so that children without parents exist."""
    is_reference = any(column in reference.columns for reference in table.references)
    if column.is_nullable and number % 7 == 6 and (is_reference or column.kind.name != "timestamp"):
        return "NULL"
    return column.literal(number)


@dataclass
class Statistics:
    """What really happened: how many statements of a kind were tried, took effect, and failed with which error."""

    tried: Counter[str] = field(default_factory=Counter)
    effective: Counter[str] = field(default_factory=Counter)
    errors: Counter[tuple[str, int]] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def record(self, kind: str, *, rows: int = 0, error: int = 0) -> None:
        """One statement executed."""
        with self._lock:
            self.tried[kind] += 1
            if error:
                self.errors[kind, error] += 1
            elif rows or kind in ("truncate", "savepoint", "rollback_to"):
                self.effective[kind] += 1

    def end(self, how: str) -> None:
        """One transaction ended."""
        with self._lock:
            self.ends[how] += 1


class Application:
    """Executes transactions where the data is owned at that moment."""

    def __init__(self, connect: Callable[[Side], Any], read_owner: Callable[[], Side], wording: Wording,
                 statistics: Statistics) -> None:  # fmt: skip
        self._connect, self._read_owner = connect, read_owner
        self._wording, self._statistics = wording, statistics
        self._local = threading.local()
        self._connections: list[Any] = []
        self._owner: Side | None = None  # as an application does: asked for when a server refuses to be written
        self.log: list[str] = []

    def execute(self, transaction: Transaction, shift: int = 0) -> None:
        """One transaction; never raises what a database says."""
        side = self._owner or self._read_owner()
        self._owner = side
        connection = self._find_connection(side)
        done: list[str] = []
        try:
            with connection.cursor() as cursor:
                connection.begin()
                for place, statement in enumerate(transaction.statements):
                    if place in (0, len(transaction.statements) // 2):
                        cursor.execute(f"SAVEPOINT s{min(place, 1)}")  # so that most have where to roll back to
                    if not self._execute_one(cursor, statement, shift, done):
                        connection.rollback()
                        self._statistics.end("broken off")
                        return
                if transaction.commits:
                    connection.commit()
                else:
                    connection.rollback()
                self._statistics.end("committed" if transaction.commits else "rolled back")
                self.log.append(f"-- {side.value} {threading.current_thread().name}\n" + ";\n".join(done))
        except pymysql.err.Error as error:
            self._statistics.end(f"lost {error.args[0] if error.args else ''}")
            self._owner = None
            with contextlib.suppress(Exception):
                connection.close()
            self._local.connections.pop(side, None)

    def _execute_one(self, cursor: Any, statement: Statement, shift: int, done: list[str]) -> bool:
        """False when the transaction must end."""
        for sql in self._wording.sql(statement, shift):
            try:
                rows = cursor.execute(sql)
                self._statistics.record(statement.kind, rows=rows)
                done.append(f"{sql} /* {rows} */")
            except pymysql.err.Error as error:
                code = error.args[0] if error.args else 0
                self._statistics.record(statement.kind, error=code)
                done.append(f"{sql} /* error {code} */")
                if code in GONE:
                    raise
                if code == READ_ONLY:
                    self._owner = None
                if code in ENDS_TRANSACTION:
                    return False
        return True

    def _find_connection(self, side: Side) -> Any:
        if not hasattr(self._local, "connections"):
            self._local.connections = {}
        connection = self._local.connections.get(side)
        if connection is None:
            connection = self._local.connections[side] = self._connect(side)
            self._connections.append(connection)
        return connection

    def close(self) -> None:
        """Close every thread's connections."""
        for connection in self._connections:
            with contextlib.suppress(Exception):
                connection.close()


class FreeWriters:
    """Threads that execute transactions over and over, each time on other rows, until the block ends."""

    def __init__(self, application: Application, lanes: list[tuple[Transaction, ...]]) -> None:
        self._stop = threading.Event()
        self.failure: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._work, args=(application, lane), name=f"writer{i}")
            for i, lane in enumerate(lanes)
        ]
        self.rounds = 0

    def _work(self, application: Application, lane: tuple[Transaction, ...]) -> None:
        try:
            for number in itertools.count():
                for transaction in lane:
                    if number % 20 and any(one.kind == "truncate" for one in transaction.statements):
                        continue  # a stream makes one TRUNCATE a round; an application does not do it all day either
                    if self._stop.wait(0.004):  # leaves the processors to the servers
                        return
                    application.execute(transaction, shift=number * 3 % 40)
                self.rounds += 1
        except BaseException as failure:
            self.failure = failure

    def __enter__(self) -> FreeWriters:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self.failure is not None and exception[0] is None:
            raise self.failure
