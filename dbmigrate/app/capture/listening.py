"""The listeners on the engines that note what passes.

Two nets, one behind the other: SQLAlchemy's constructs are understood before and after they run; whatever else reaches
a cursor and may write is counted by the tripwire, or refused in strict mode.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.sql.dml import Delete, Insert, Update, UpdateBase

from dbmigrate.app.capture.raw import digest, may_write
from dbmigrate.app.capture.statements import (
    Target,
    UncapturedError,
    find_changed,
    find_inserted,
    find_table,
    find_target,
    require_insert,
)
from dbmigrate.domain.errors import RefusedError
from dbmigrate.domain.schema import TableName

if TYPE_CHECKING:
    from dbmigrate.app.instance import Instance
    from dbmigrate.app.unit import Unit


class UncapturedWriteError(RefusedError):
    """Strict mode: a write whose rows cannot be captured was not executed."""


class Capture:
    """Notes in the unit of each connection what its statements write, while the unit is mirrored."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._listeners: tuple[tuple[str, Callable[..., Any]], ...] = (
            ("before_execute", self._before_execute),
            ("after_execute", self._after_execute),
            ("before_cursor_execute", self._before_cursor_execute),
            ("savepoint", self._savepoint),
            ("rollback_savepoint", self._rollback_savepoint),
        )

    def listen(self, connection: sa.Connection) -> None:
        """Note what passes this connection from now on.

        By connection, not by engine: it costs nothing where nothing is mirrored, and changes no list of listeners that
        other threads are walking through.
        """
        for name, listener in self._listeners:
            event.listen(connection, name, listener)

    def _unit(self, connection: sa.Connection) -> Unit | None:
        unit = self._instance.units.get(connection)
        return unit if unit is not None and unit.rows is not None and unit.is_on(connection) else None

    # --- constructs ---

    def _before_execute(
        self, connection: sa.Connection, statement: Any, many: Any, given: Any, options: Mapping[str, Any]
    ) -> None:
        if not isinstance(statement, UpdateBase) or (unit := self._unit(connection)) is None:
            return
        try:
            target = self._find_target(connection, unit, statement)
            if target is None or unit.rows is None:
                return
            if isinstance(statement, Insert):
                require_insert(statement, target)
            elif isinstance(statement, Update | Delete):
                keys = find_changed(statement, target, many or ([given] if given else []), connection)
                unit.rows.note(target.touch(keys))
        except UncapturedError as reason:
            self._miss(str(statement), str(reason))

    def _after_execute(
        self, connection: sa.Connection, statement: Any, many: Any, given: Any, options: Any, result: Any
    ) -> None:
        if not isinstance(statement, Insert) or (unit := self._unit(connection)) is None or unit.rows is None:
            return
        try:
            target = self._find_target(connection, unit, statement)
            if target is None:
                return
            require_insert(statement, target)
        except UncapturedError:
            return  # counted before it ran
        try:
            keys = find_inserted(statement, target, result)
            unit.rows.note(target.touch(keys))
        except UncapturedError:
            self._count()

    def _find_target(self, connection: sa.Connection, unit: Unit, statement: UpdateBase) -> Target | None:
        table = find_table(statement)
        name = TableName(str(table.schema or connection.engine.url.database), table.name)
        plan = unit.find_plan(name)
        return None if plan is None else find_target(table, plan)

    # --- anything ---

    def _before_cursor_execute(
        self, connection: sa.Connection, cursor: Any, sql: str, given: Any, context: Any, many: bool
    ) -> None:
        unit = self._unit(connection)
        if unit is None or _is_construct(context) or not may_write(sql):
            return
        self._miss(sql, "it is plain SQL")

    def _miss(self, sql: str, reason: str) -> None:
        if self._instance.options.strict or self._instance.rules.strict:
            raise UncapturedWriteError(
                "a write was refused because it cannot be mirrored", place=digest(sql), cause=reason,
                hint="write it as an INSERT, UPDATE or DELETE of SQLAlchemy with the key, or leave strict off: the stream "
                "carries it all the same",
            )  # fmt: skip
        self._count()

    def _count(self) -> None:
        self._instance.counts.add(uncaptured=1)

    # --- savepoints ---

    def _savepoint(self, connection: sa.Connection, name: str) -> None:
        unit = self._unit(connection)
        if unit is not None and unit.rows is not None:
            unit.rows.mark(name)

    def _rollback_savepoint(self, connection: sa.Connection, name: str, context: Any) -> None:
        unit = self._unit(connection)
        if unit is not None and unit.rows is not None:
            unit.rows.rollback_to(name)


def _is_construct(context: Any) -> bool:
    """Whether the statement came through ``before_execute`` as a construct that is understood there."""
    compiled = getattr(context, "compiled", None)
    return compiled is not None and isinstance(compiled.statement, UpdateBase | sa.Select | sa.CompoundSelect)
