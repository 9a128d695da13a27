"""Running one step of a revision so that it may be killed anywhere and be started again.

The journal says that a step has begun before anything happens, together with a print of the tables' definitions. A DDL
statement either took effect or did not: after a kill, the print now tells which. A statement that changes rows and its
line in the journal are one transaction.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from dbmigrate.domain.errors import AmbiguousError, DbmigrateError, RefusedError
from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.domain.schema import ForeignKey, TableName
from dbmigrate.domain.steps import StepHook, no_step
from dbmigrate.lanes.backfilling import Backfilling
from dbmigrate.lanes.hiding import build_hiding, build_restoring, hidden_name
from dbmigrate.lanes.ladder import Rung, climb
from dbmigrate.lanes.patience import Patience, Patient
from dbmigrate.lanes.revisions import LaneStep, StepKind
from dbmigrate.lanes.stalls import StallMeter
from dbmigrate.lanes.statements import Dropped, Statement, StatementKind, parse_statement, shorten
from dbmigrate.mysql.definition_prints import read_print
from dbmigrate.mysql.dependents import mark_query
from dbmigrate.mysql.foreign_key_lookups import build_orphan_count
from dbmigrate.mysql.identifiers import quote_identifier, quote_string, quote_table
from dbmigrate.mysql.introspection import read_table
from dbmigrate.mysql.lane_journal import Journal, JournalledStep, StepState
from dbmigrate.mysql.sessions import Endpoint, Session, SessionPool

MOST_PASSES = 5
"""A backfill that must be complete looks at its table so often: rows of an old version may come in meanwhile."""


@dataclass(frozen=True)
class LaneDatabase:
    """Where the lanes run. ``migration_id`` marks what is measured there."""

    endpoint: Endpoint
    version: ServerVersion
    schema: str
    migration_id: str = ""


@dataclass(frozen=True)
class LaneSettings:
    """What the operator allows."""

    patience: Patience = field(default_factory=Patience)
    may_copy: frozenset[str] = frozenset()
    dwell_seconds: float = 86_400.0
    quiet_seconds: float = 60.0
    accepted: tuple[str, ...] = ()
    lints: bool = True


@dataclass(frozen=True)
class LaneSurroundings:
    """Sleep, throttle and step points. ``wait_for_batch`` returns when a batch may start, or to stop."""

    pause: Callable[[float], object] = time.sleep
    wait_for_batch: Callable[[], None] = lambda: None
    should_stop: Callable[[], bool] = lambda: False
    on_step: StepHook = no_step
    clock: Callable[[], float] = time.monotonic


class StepRunner:
    """Runs steps on the session that holds the lock of the database."""

    def __init__(
        self, database: LaneDatabase, session: Session, settings: LaneSettings, around: LaneSurroundings
    ) -> None:
        self.database, self.session, self._settings, self._around = database, session, settings, around
        self.journal = Journal(session, database.schema, database.migration_id)
        self._patient = Patient(
            session, database.version, settings.patience, around.pause,
            pool=SessionPool(database.endpoint, statements=()), clock=around.clock,
        )  # fmt: skip

    def run(self, step: LaneStep, *, must_be_complete: bool = False) -> bool:
        """Run a step, or what is missing of it; False when asked to stop first.

        ``must_be_complete``: a backfill may leave no row, also where it was done before.

        Raises:
            RefusedError: no way, or no permission, to do it; or the revision was changed since it began.
            TransientError: a table stayed in use. Nothing of the step was done.
            AmbiguousError: the definition is neither what it was nor what the step makes it.
        """
        known = self._load(step)
        if step.kind is StepKind.BACKFILL:
            return self._fill(step, known, must_be_complete=must_be_complete)
        if known is not None and known.state is not StepState.BEGUN:
            return True
        statement = self._prepare(step, known)
        self._around.on_step("lanes.step.begun")
        if statement is None:
            self.journal.finish(step.identity)
        elif statement.kind is StatementKind.ROWS:
            self._change_rows(step, statement)
        elif known is not None and self._has_changed(known, statement):
            self._require_effect(statement)
            self._close_foreign_keys(statement)
            self.journal.finish(step.identity, rung=known.rung)
        else:
            self._change_definition(step, statement)
        self._around.on_step("lanes.step.done")
        return True

    def _load(self, step: LaneStep) -> JournalledStep | None:
        known = next((one for one in self.journal.load(step.identity.revision) if one.number == step.identity.number), None)
        if known is not None and known.digest != step.identity.digest:
            raise RefusedError(
                "the revision was changed after it had begun", place=f"revision {step.identity.revision}",
                cause=f"step {step.identity.number} was: {shorten(known.statement)}; now: {shorten(step.identity.statement)}",
                hint="restore its file and run again, or take back what is done: --undo",
            )  # fmt: skip
        return known

    # --- definitions ---

    def _prepare(self, step: LaneStep, known: JournalledStep | None) -> Statement | None:
        """The statement to run, noted in the journal; None where nothing is to be done."""
        if known is None:
            statement, saved = self._build(step)
            tables = statement.tables if statement is not None else ()
            self.journal.begin(step.identity, print_before=self._read_print(tables), saved=saved)
            return statement
        if step.kind is StepKind.HIDE:
            return self._parse(known.saved.partition("\n")[0])
        return self._find_statement(step)

    def _build(self, step: LaneStep) -> tuple[Statement | None, str]:
        """What runs, and what takes it back later: hiding says both in its line of the journal."""
        if step.kind is StepKind.HIDE and step.dropped is not None:
            hiding = build_hiding(self.session, self.database.version, step.dropped, step.identity.revision)
            return self._parse(hiding.hide), f"{hiding.hide}\n{hiding.show}"
        statement = self._find_statement(step)
        saved = [build_restoring(self.session, one) for one in statement.dropped] if statement else []
        return statement, ";\n".join(saved)

    def _parse(self, text: str) -> Statement | None:
        return parse_statement(text, self.database.schema) if text else None

    def _find_statement(self, step: LaneStep) -> Statement | None:
        """A table was hidden under another name before it is dropped."""
        statement = step.statement
        if statement is None or not statement.dropped or statement.dropped[0].column:
            return statement
        gone = hidden_name(statement.dropped[0].table, step.identity.revision)
        return replace(statement, text=f"DROP TABLE {quote_table(gone)}", tables=(gone,), dropped=(Dropped(gone),))

    def tables_of(self, step: LaneStep) -> tuple[TableName, ...]:
        """The tables whose definitions a statement's step changes."""
        statement = self._find_statement(step)
        return statement.tables if statement is not None else ()

    def _read_print(self, tables: Sequence[TableName]) -> str:
        return read_print(self.session, self.database.schema, tables)

    def _has_changed(self, known: JournalledStep, statement: Statement) -> bool:
        return self._read_print(statement.tables) != known.print

    def _change_definition(self, step: LaneStep, statement: Statement) -> None:
        began_at = self._around.clock()
        try:
            with StallMeter(self.database.endpoint, statement.tables, clock=self._around.clock) as meter:
                rung, attempts = self.execute(statement)
        except DbmigrateError:
            self._forget_unless_changed(step, statement)
            raise
        self._around.on_step("lanes.step.executed")
        self._require_effect(statement)
        self._close_foreign_keys(statement)
        self.journal.finish(
            step.identity, rung=rung.value, attempts=attempts, seconds=self._around.clock() - began_at,
            longest_stall_seconds=meter.longest_seconds,
        )  # fmt: skip

    def _forget_unless_changed(self, step: LaneStep, statement: Statement) -> None:
        """What the server has refused has not begun: the revision may be corrected, or tried again."""
        known = self._load(step)
        if not self.session.is_broken and known is not None and not self._has_changed(known, statement):
            self.journal.forget(step.identity.revision, from_number=step.identity.number)

    def execute(self, statement: Statement) -> tuple[Rung, int]:
        """Down the ladder, patiently; returns the rung and the attempts of the last statement.

        Raises:
            RefusedError, TransientError: nothing was changed.
        """
        doing, before = shorten(statement.text, 60), self._read_print(statement.tables)
        may_copy = any(table.name in self._settings.may_copy for table in statement.tables[:1])
        if statement.adds_foreign_key:  # with checks its rows would be copied; they are checked afterwards
            self.session.execute("SET SESSION foreign_key_checks = 0")
        try:
            rung = climb(
                statement, self.database.version,
                lambda sql: self._patient.execute(
                    sql, statement.tables, doing=doing, is_done=lambda: self._read_print(statement.tables) != before
                ),
                may_copy=may_copy,
            )  # fmt: skip
        finally:
            if statement.adds_foreign_key and not self.session.is_broken:
                self.session.execute("SET SESSION foreign_key_checks = 1")
        return rung, self._patient.attempts

    def _require_effect(self, statement: Statement) -> None:
        """The columns that it adds are there, those that it drops are not.

        Raises:
            AmbiguousError: somebody else has changed the table as well.
        """
        columns = self._read_columns(statement.tables[0]) if statement.tables else frozenset()
        if not columns or statement.kind is not StatementKind.ALTER_TABLE:
            return
        missing = [name for name in statement.added if name.casefold() not in columns]
        left = [one.column for one in statement.dropped if one.column.casefold() in columns]
        if missing or left:
            raise AmbiguousError(
                "the table was changed, but not by this step alone", place=str(statement.tables[0]),
                cause=f"missing: {', '.join(missing) or 'none'}; still there: {', '.join(left) or 'none'}",
                hint="find out who else changes it; make it what the step says, then run again",
            )  # fmt: skip

    def _read_columns(self, table: TableName) -> frozenset[str]:
        rows = self.session.execute(
            f"SELECT column_name FROM information_schema.columns WHERE table_schema = {quote_string(table.schema)} "
            f"AND table_name = {quote_string(table.name)}",
            doing="reading columns",
        ).rows
        return frozenset((row[0] or b"").decode().casefold() for row in rows)

    # --- foreign keys ---

    def _close_foreign_keys(self, statement: Statement) -> None:
        """New rows obey a key from its creation on; those from before are looked at now.

        Raises:
            RefusedError: some point at nothing. The key was taken back.
        """
        if not statement.adds_foreign_key:
            return
        for key in self._read_foreign_keys(statement):
            count = int(self.session.fetch_value(mark_query(build_orphan_count(key)), doing="looking for orphans") or 0)
            if count:
                drop = f"ALTER TABLE {quote_table(key.table)} DROP FOREIGN KEY {quote_identifier(key.name)}"
                self.execute(parse_statement(drop, self.database.schema))
                raise RefusedError(
                    f"{count} rows reference a row that does not exist", place=f"{key.table} {', '.join(key.columns)}",
                    cause=f"the foreign key {key.name} was taken back",
                    hint="mend or delete these rows (a backfill can), then run again",
                )  # fmt: skip

    def _read_foreign_keys(self, statement: Statement) -> tuple[ForeignKey, ...]:
        connection = self.database.endpoint.connect()
        try:
            table = read_table(connection, self.database.version, statement.tables[0])
        finally:
            connection.close()
        return tuple(key for key in table.foreign_keys if key.referenced_table in statement.tables[1:])

    # --- rows ---

    def _change_rows(self, step: LaneStep, statement: Statement) -> None:
        began_at = self._around.clock()

        def verb() -> None:
            with self.session.transaction():
                self.session.execute_exactly(statement.text, doing=shorten(statement.text, 60))
                self._around.on_step("lanes.step.executed")
                self.journal.finish(
                    step.identity, rung=Rung.PLAIN.value, attempts=1, seconds=self._around.clock() - began_at
                )

        self._patient.attempt(verb, (), doing=shorten(statement.text, 60))

    def _fill(self, step: LaneStep, known: JournalledStep | None, *, must_be_complete: bool) -> bool:
        """Pass over the rows once, and again where none may be left."""
        filling = self._build_filling(step)
        if known is None:
            self.journal.begin(step.identity)
            self._around.on_step("lanes.step.begun")
        is_done = known is not None and known.state is not StepState.BEGUN
        cursor = known.cursor if known is not None and not is_done else None
        passes = 0
        while not is_done or (must_be_complete and filling.count_left()):
            if is_done:
                self.journal.restart_progress(step.identity)
            if passes == MOST_PASSES:
                raise self._refuse_incomplete(step, filling.count_left())
            began_at = self._around.clock()
            if not filling.run(cursor):
                return False
            self.journal.finish(step.identity, attempts=passes + 1, seconds=self._around.clock() - began_at)
            is_done, cursor, passes = True, None, passes + 1
        self._around.on_step("lanes.step.done")
        return True

    def _build_filling(self, step: LaneStep) -> Backfilling:
        backfill, around = step.backfill, self._around
        assert backfill is not None  # noqa: S101  # that is what makes it a backfill
        connection = self.database.endpoint.connect()
        try:
            table = read_table(connection, self.database.version, TableName(self.database.schema, backfill.table))
        finally:
            connection.close()
        return Backfilling(
            self.session, table, backfill, step.identity, self.journal, self._patient, wait=around.wait_for_batch,
            should_stop=around.should_stop, pause=around.pause, on_step=around.on_step, clock=around.clock,
        )  # fmt: skip

    def _refuse_incomplete(self, step: LaneStep, left: int) -> RefusedError:
        return RefusedError(
            f"the backfill is not complete: at least {left} rows are left", place=shorten(step.identity.statement),
            cause=f"after {MOST_PASSES} passes: an old version of the application still writes such rows, or setting the "
            "columns does not make the condition false",
            hint="deploy the version that writes both everywhere, correct the backfill where it cannot finish, run again",
        )  # fmt: skip
