"""The built-in workload: changes, inserts and deletes of random rows of whatever tables there are.

It knows nothing of what rows mean. Rows are changed in columns that no key and no foreign key uses, copied under a new
key where the server makes keys, and deleted where nothing references them. A constraint that refuses is counted apart.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from dbmigrate.domain.errors import DbmigrateError
from dbmigrate.domain.schema import Column, Table, TableName
from dbmigrate.mysql.faults import ConnectionLostError
from dbmigrate.mysql.identifiers import quote_columns, quote_identifier, quote_table
from dbmigrate.mysql.literals import key_literal_expression
from dbmigrate.mysql.sessions import Session
from dbmigrate.rehearsal.generating import writable_columns
from dbmigrate.rehearsal.settings import WorkloadKind
from dbmigrate.rehearsal.values import make_value
from dbmigrate.rehearsal.workload.connecting import connect
from dbmigrate.rehearsal.workload.counting import classify
from dbmigrate.rehearsal.workload.following import OwnerAddress
from dbmigrate.rehearsal.workload.running import Workload

MOST_KEYS = 2_000
_CHANGES, _INSERTS = 0.7, 0.2
_PAUSE_AFTER_FAULT_SECONDS = 0.05
_SESSION = (
    "SET time_zone = '+00:00'",
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    "SET lock_wait_timeout = 5, innodb_lock_wait_timeout = 5",
)


@dataclass
class TargetTable:
    """A table as the workload sees it: the name on either side may differ, keys are literals of its key columns."""

    table: Table
    names: dict[str, str]
    columns: tuple[Column, ...]
    keys: list[str] = field(default_factory=list)

    @property
    def may_insert(self) -> bool:
        """Whether a copy of a row is a new row: the server makes the key, and nothing else must be unique."""
        key = self.table.key_columns
        unique = [index for index in self.table.indexes if index.is_unique]
        return len(key) == 1 and key[0].is_auto_increment and len(unique) == 1


class GenericWorkload(Workload):
    """Writers at a steady pace, each on a connection of its own to the owner."""

    kind = WorkloadKind.GENERIC

    def __init__(self, address: OwnerAddress, tables: Sequence[TargetTable], *, workers: int, rate: float) -> None:
        super().__init__()
        self._address, self._tables = address, tables
        self._workers, self._pace = workers, workers / rate

    def threads_wanted(self) -> int:
        """One a worker, none where there is nothing to write to."""
        return self._workers if self._tables else 0

    def prepare(self) -> None:
        """Learn keys of rows that are there."""
        with contextlib.closing(connect(self._address.parameters, ())) as session:
            for one in self._tables:
                one.keys = read_keys(session, one, self._address.parameters.database)
        self._tables = [one for one in self._tables if one.keys]
        if not self._tables:
            self.note = "no table has rows and a key: nothing was written"

    def work(self, number: int) -> None:
        """Write until stopped; after a fault, connect again to whoever owns the data now."""
        random = Random(number)  # noqa: S311  # which rows, no secret
        while not self.stop_event.is_set():
            try:
                with contextlib.closing(connect(self._address.parameters, _SESSION)) as session:
                    self._write_steadily(session, random)
            except DbmigrateError as fault:
                self.tally.count_failure(classify(fault))
                self.stop_event.wait(_PAUSE_AFTER_FAULT_SECONDS)

    def _write_steadily(self, session: Session, random: Random) -> None:
        due = time.monotonic()
        while not self.stop_event.is_set():
            self._write_once(session, random)
            due = max(due + self._pace, time.monotonic() - 1)  # a pause is not made up for by a burst
            self.stop_event.wait(max(0.0, due - time.monotonic()))

    def _write_once(self, session: Session, random: Random) -> None:
        """One write; faults of the connection, and of a side that does not own the data, go to the caller."""
        one = random.choice(self._tables)
        statement = build_write(one, self._name(one), random)
        if statement is None:
            return
        try:
            session.execute(statement, doing="a write of the workload")
            self.tally.count_success()
        except ConnectionLostError:
            raise
        except DbmigrateError as fault:
            kind = classify(fault)
            if kind == "held off by the fence":
                raise
            self.tally.count_failure(kind)

    def _name(self, one: TargetTable) -> str:
        return quote_table(TableName(self._address.parameters.database, one.names[self._address.owner.value]))


def read_keys(session: Session, one: TargetTable, database: str) -> list[str]:
    """Conditions that find a row each, for up to ``MOST_KEYS`` rows."""
    key = one.table.key_columns
    parts = ", ".join(key_literal_expression(column) for column in key)
    sql = f"SELECT {parts} FROM {quote_table(TableName(database, one.table.name.name))} LIMIT {MOST_KEYS}"
    rows = session.execute(sql, doing="learning keys").rows
    names = [quote_identifier(column.name) for column in key]
    return [
        " AND ".join(f"{name} = {(value or b'').decode('utf8')}" for name, value in zip(names, row, strict=True))
        for row in rows
    ]


def build_write(one: TargetTable, name: str, random: Random) -> str | None:
    """A random statement on one table; None where there is none left that makes sense."""
    if not one.keys:
        return None
    place = random.randrange(len(one.keys))
    row, dice = one.keys[place], random.random()
    if one.columns and (dice < _CHANGES or not one.may_insert):
        column = random.choice(one.columns)
        value = make_value(column, random, random.randrange(10_000))
        return f"UPDATE {name} SET {quote_identifier(column.name)} = {value} WHERE {row}"
    if one.may_insert and dice < _CHANGES + _INSERTS:
        columns = quote_columns(c.name for c in one.table.stored_columns if not c.is_auto_increment)
        return f"INSERT INTO {name} ({columns}) SELECT {columns} FROM {name} WHERE {row}"
    if len(one.keys) > 10:
        one.keys[place] = one.keys[-1]
        del one.keys[-1]
        return f"DELETE FROM {name} WHERE {row}"
    return None


def find_targets(tables: Sequence[Table], target_tables: Sequence[Table], names: dict[str, str]) -> list[TargetTable]:
    """The tables that can be written to alike on both sides: the same key and the columns that both have.

    ``names`` gives a source table's name on the target.
    """
    by_name = {table.name.name: table for table in target_tables}
    found = []
    for table in tables:
        twin = by_name.get(names.get(table.name.name, table.name.name))
        if not table.key_columns:
            continue
        shared = {c.name.casefold() for c in twin.stored_columns} if twin else {c.name.casefold() for c in table.columns}
        if not {c.name.casefold() for c in table.key_columns} <= shared:
            continue
        columns = tuple(c for c in writable_columns(table) if c.name.casefold() in shared and _is_makeable(c))
        sides = {"source": table.name.name, "target": names.get(table.name.name, table.name.name)}
        found.append(TargetTable(table, sides, columns))
    return found


def _is_makeable(column: Column) -> bool:
    try:
        make_value(column, Random(0), 0)  # noqa: S311
    except ValueError:
        return False
    return True
