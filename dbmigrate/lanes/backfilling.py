"""Running a backfill: batches along the key, one short transaction each, together with how far it is.

Each batch takes the locks of its own rows, for as long as its UPDATE. Where the application holds one of them, the batch
waits a second at most and is tried again. After a kill it goes on behind the last committed batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from dbmigrate.domain.errors import RefusedError
from dbmigrate.domain.keys import Key
from dbmigrate.domain.schema import Table, TableName
from dbmigrate.domain.steps import StepHook, no_step
from dbmigrate.lanes.backfill import Backfill
from dbmigrate.lanes.patience import Patient
from dbmigrate.mysql.dependents import OWN_MARK, mark_query
from dbmigrate.mysql.identifiers import quote_identifier, quote_table
from dbmigrate.mysql.key_predicates import KeyRange, range_predicate
from dbmigrate.mysql.lane_journal import Journal, StepIdentity
from dbmigrate.mysql.sessions import Session
from dbmigrate.mysql.statements import build_boundary_probe

BATCH_SECONDS = 0.25
"""A batch that takes longer is followed by a smaller one."""
LEAST_ROWS = 10
MOST_COUNTED = 1000


def describe_backfill(backfill: Backfill) -> str:
    """The backfill as one text: what the journal compares."""
    assignments = ", ".join(f"{column} = {expression}" for column, expression in backfill.set.items())
    return f"UPDATE {backfill.table} SET {assignments} WHERE {backfill.where}"


def build_batch(table: TableName, key_columns: tuple[str, ...], backfill: Backfill, keys: KeyRange) -> str:
    """The statement of one batch."""
    assignments = ", ".join(f"{quote_identifier(column)} = ({text})" for column, text in backfill.set.items())
    return (
        f"UPDATE {quote_table(table)} SET {assignments} WHERE {range_predicate(key_columns, keys)} "
        f"AND ({backfill.where}\n) AND (SELECT TRUE AS {OWN_MARK})"
    )


def build_count_of_left(table: TableName, backfill: Backfill) -> str:
    """How many rows are not done yet; counted no further than ``MOST_COUNTED``."""
    return (
        f"SELECT COUNT(*) FROM (SELECT 1 FROM {quote_table(table)} WHERE ({backfill.where}\n) "
        f"LIMIT {MOST_COUNTED}) AS {OWN_MARK}"
    )


@dataclass
class Backfilling:
    """One backfill at work on one session.

    ``wait`` returns when a batch may start (or asks to stop, by ``should_stop``), ``pause`` lets time pass.
    """

    session: Session
    table: Table
    backfill: Backfill
    step: StepIdentity
    journal: Journal
    patient: Patient
    wait: Callable[[], None]
    should_stop: Callable[[], bool]
    pause: Callable[[float], object]
    on_step: StepHook = no_step
    clock: Callable[[], float] = field(default=time.monotonic)

    def run(self, cursor: Key | None) -> bool:
        """Pass once over the rows behind ``cursor``; False when asked to stop first.

        Raises:
            RefusedError: the table has no key to walk along.
            FatalError: an expression gave a warning, so values would not be what was asked for.
            TransientError: rows stayed locked.
        """
        if self.table.key is None:
            raise RefusedError(
                "a backfill needs a key to walk along", place=str(self.table.name),
                hint="give the table a primary key, or a unique key over NOT NULL columns",
            )  # fmt: skip
        size = self.backfill.batch_rows
        while True:
            self.wait()
            if self.should_stop():
                return False
            keys = KeyRange(cursor, self._read_boundary(KeyRange(cursor), size))
            seconds = self._run_batch(keys)
            self.on_step("lanes.backfill.batch")
            if keys.upper is None:
                return True
            cursor = keys.upper
            size = max(LEAST_ROWS, size // 2) if seconds > BATCH_SECONDS else min(self.backfill.batch_rows, size * 2)
            if self.backfill.pause_seconds:
                self.pause(self.backfill.pause_seconds)

    def count_left(self) -> int:
        """Rows that are not done, up to ``MOST_COUNTED``."""
        count = self.session.fetch_value(
            build_count_of_left(self.table.name, self.backfill), doing="looking for rows that a backfill left"
        )
        return int(count or 0)

    def _read_boundary(self, keys: KeyRange, rows: int) -> Key | None:
        probe = mark_query(build_boundary_probe(self.table, keys, rows))
        return self.session.fetch_value(probe, doing="finding a batch")

    def _run_batch(self, keys: KeyRange) -> float:
        names = tuple(column.name for column in self.table.key_columns)
        statement = build_batch(self.table.name, names, self.backfill, keys)

        def verb() -> float:
            began_at = self.clock()
            with self.session.transaction():
                rows = self.session.execute_exactly(statement, doing=f"the backfill of {self.table.name}").affected
                self.on_step("lanes.backfill.written")
                if keys.upper is not None:
                    self.journal.save_progress(self.step, keys.upper, rows)
            return self.clock() - began_at

        # Row locks are waited for, not tables: whoever holds the table by a transaction may go on.
        return self.patient.attempt(verb, (), doing=f"the backfill of {self.table.name}")
