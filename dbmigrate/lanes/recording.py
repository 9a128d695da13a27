"""What a revision would do: its ``upgrade()`` is called with operations that write down instead of executing.

Apart from the rules because Alembic's ways of emitting SQL (operations, batches, raw texts, the context itself) are
all met here, once: whatever would reach the server is recorded, or the revision is refused.

Alembic's ``op`` is one object for the whole process, so revisions are recorded one at a time.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from alembic import op
from alembic.ddl.mysql import MySQLImpl
from alembic.operations import BatchOperations, Operations
from alembic.operations.batch import BatchOperationsImpl
from alembic.operations.ops import ExecuteSQLOp, MigrateOperation
from alembic.runtime.migration import MigrationContext
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.sql import visitors

from dbmigrate.domain.errors import RefusedError
from dbmigrate.lanes.dialects import build_dialect

if TYPE_CHECKING:
    from alembic.script.base import Script

    from dbmigrate.domain.flavours import ServerVersion


@dataclass(frozen=True)
class RecordedOperation:
    """One operation of a revision, in the order of its calls.

    ``operation`` is Alembic's object; None for SQL that was written as text. ``statements`` are what the server would
    get, one each, without a semicolon at the end.
    """

    operation: MigrateOperation | None
    statements: tuple[str, ...]


def record_upgrade(script: Script, version: ServerVersion) -> tuple[RecordedOperation, ...]:
    """What ``script``'s ``upgrade()`` would do on a server of this version.

    Raises:
        RefusedError: it reads from the database, copies a table, or fails.
    """
    return _record(script, "upgrade", version)


def record_downgrade(script: Script, version: ServerVersion) -> tuple[RecordedOperation, ...]:
    """The same of ``downgrade()``; nothing where the revision has none."""
    return _record(script, "downgrade", version)


def record_operation(operation: MigrateOperation, version: ServerVersion) -> RecordedOperation:
    """What one operation would send.

    Raises:
        RefusedError: it reads from the database, or fails.
    """
    (recorded,) = record_calls(lambda: op.invoke(operation), version, place=type(operation).__name__)
    return recorded


def _record(script: Script, function: str, version: ServerVersion) -> tuple[RecordedOperation, ...]:
    call = getattr(script.module, function, None)
    if call is None:
        return ()
    return record_calls(call, version, place=f"{script.path} {function}()")


def record_calls(call: Callable[[], Any], version: ServerVersion, *, place: str) -> tuple[RecordedOperation, ...]:
    """What ``call`` does through Alembic's ``op``; ``place`` is how messages name it.

    Raises:
        RefusedError: see ``record_upgrade``.
    """
    tape = _Tape(place)
    operations = _RecordingOperations(_configure(build_dialect(version), tape), tape)
    operations._install_proxy()  # Operations.context() would make operations of its own
    try:
        call()
    except RefusedError:
        raise
    except Exception as fault:  # a user's function may raise anything
        raise RefusedError(
            "the revision cannot be recorded", place=place, cause=f"{type(fault).__name__}: {fault}",
            hint="write it so that it needs no database: operations and SQL texts only",
        ) from fault  # fmt: skip
    finally:
        operations._remove_proxy()
    if tape.was_read:
        raise tape.refusal()
    return tuple(tape.operations)


class _Tape:
    """Where everything that would reach the server ends up."""

    def __init__(self, place: str) -> None:
        self.operations: list[RecordedOperation] = []
        self.was_read = False
        self.place = place
        self._open: list[str] | None = None

    def write(self, statement: str) -> None:
        """One statement, by the operation that is open; outside of one it is raw SQL."""
        if self._open is not None:
            self._open.append(statement)
        else:
            self.operations.append(RecordedOperation(None, (statement,)))

    @contextmanager
    def recording(self, operation: MigrateOperation) -> Iterator[None]:
        """Statements in the block belong to ``operation``; those of operations inside it, too."""
        if self._open is not None:
            yield
            return
        self._open = []
        try:
            yield
            is_raw = isinstance(operation, ExecuteSQLOp)
            self.operations.append(RecordedOperation(None if is_raw else operation, tuple(self._open)))
        finally:
            self._open = None

    def refusal(self) -> RefusedError:
        """For a revision that wants answers."""
        self.was_read = True
        return RefusedError(
            "the revision reads from the database, so what it does cannot be known before it runs", place=self.place,
            cause="op.get_bind() was used as a connection",
            hint="move rows in a backfill, and keep operations and SQL texts in the revision",
        )  # fmt: skip


class _Unconnected:
    """Stands where a connection would: says which dialect it is, and refuses to be asked anything else."""

    def __init__(self, dialect: Dialect, tape: _Tape) -> None:
        self.dialect = dialect
        self._tape = tape

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "in_transaction":  # Alembic asks every connection, and takes no for an answer
            raise AttributeError(name)
        if name == "engine":
            return self
        raise self._tape.refusal()


class _RecordingImpl(MySQLImpl):
    """Alembic's own way to MySQL and MariaDB, ending on the tape. Without ``__dialect__``, so it is not registered."""

    tape: _Tape

    def _exec(
        self, construct: Any, execution_options: Any = None, multiparams: Any = None, params: Any = None
    ) -> None:
        if multiparams or params:
            raise TypeError("SQL parameters must be bound in the statement: sa.text(...).bindparams(...)")
        element = sa.text(construct) if isinstance(construct, str) else construct
        options: dict[str, Any] = {}
        if not isinstance(element, sa.schema.ExecutableDDLElement):
            _require_values(element)
            options = {"compile_kwargs": {"literal_binds": True}}
        compiled = element.compile(dialect=self.dialect, **options)
        self.tape.write(str(compiled).strip().rstrip(";").rstrip())

    def static_output(self, text: str) -> None:
        """BEGIN and COMMIT of ``--sql`` mode: MySQL ends transactions at every DDL anyway."""


def _require_values(element: sa.ClauseElement) -> None:
    """A parameter without a value would be written as NULL."""
    parts = visitors.iterate(element)
    missing = [part.key for part in parts if isinstance(part, sa.BindParameter) and part.required]
    if missing:
        raise ValueError(f"the statement has bind parameters without a value: {', '.join(missing)}")


def _configure(dialect: Dialect, tape: _Tape) -> MigrationContext:
    context = MigrationContext.configure(dialect=dialect, opts={"as_sql": True, "output_buffer": io.StringIO()})
    unconnected: Any = _Unconnected(dialect, tape)
    context.impl = _RecordingImpl(dialect, unconnected, True, None, io.StringIO(), {"literal_binds": True})
    context.impl.tape = tape
    context.connection = unconnected
    return context


class _RecordingOperations(Operations):
    """``op`` while a revision is recorded."""

    def __init__(self, context: MigrationContext, tape: _Tape) -> None:
        super().__init__(context)
        self._tape = tape

    def invoke(self, operation: Any) -> Any:
        """Record what the operation's own implementation emits."""
        with self._tape.recording(operation):
            return super().invoke(operation)

    @contextmanager
    def batch_alter_table(  # type: ignore[override]  # the options that only a copied table has are passed on together
        self, table_name: str, schema: str | None = None, recreate: str = "auto", **options: Any
    ) -> Iterator[BatchOperations]:
        """A batch is recorded one operation after the other, as MySQL would get it."""
        if recreate == "always":
            raise RefusedError(
                f"batch_alter_table({table_name!r}, recreate='always') copies the table", place=self._tape.place,
                cause="rows that are written meanwhile stay behind in the table that is dropped",
                hint="use the operations without recreate",
            )  # fmt: skip
        batch = BatchOperationsImpl(  # type: ignore[no-untyped-call]  # Alembic leaves it untyped
            self, table_name, schema, recreate, options.get("copy_from"), options.get("table_args", ()),
            options.get("table_kwargs", {}), (), {}, options.get("naming_convention"), None,
        )  # fmt: skip
        yield _RecordingBatch(self.migration_context, batch, self._tape)


_RecordingOperations._setups[_RecordingOperations] = Operations._setups[Operations]  # it stands in for the same ``op``


class _RecordingBatch(BatchOperations):
    """``batch_op``: every operation leaves for the tape at once."""

    def __init__(self, context: MigrationContext, batch: BatchOperationsImpl, tape: _Tape) -> None:
        super().__init__(context, impl=batch)
        self._batch, self._tape = batch, tape

    def invoke(self, operation: Any) -> Any:
        """Record what the operation's own implementation emits."""
        with self._tape.recording(operation):
            result = super().invoke(operation)
            self._batch.flush()
            self._batch.batch.clear()
            return result
