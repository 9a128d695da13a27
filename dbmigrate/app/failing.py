"""Which of the application's transactions failed because of a server or of the move: evidence for the gates.

An application's own mistakes (a constraint, a deadlock of its own, a rollback) are none of it. The engines' error event
costs nothing while nothing fails, and is the only place that sees a COMMIT fail.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import event

from dbmigrate.app.faults import is_of_the_move
from dbmigrate.domain.errors import DbmigrateError

if TYPE_CHECKING:
    from sqlalchemy.engine import ExceptionContext

    from dbmigrate.app.instance import Instance
    from dbmigrate.app.unit import Unit

_OURS = "_dbmigrate.fence"


class Failures:
    """Counts them for one instance. Thread-safe."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance

    def listen(self) -> None:
        """Once, before the first session."""
        for engine in self._instance.engines.values():
            event.listen(engine, "handle_error", self._on_error)

    def refuse(self, unit: Unit, fault: BaseException) -> None:
        """A transaction could not even begin to write."""
        if isinstance(fault, DbmigrateError) or is_of_the_move(fault):
            self._count(unit)

    def _on_error(self, context: ExceptionContext) -> None:
        fault = context.original_exception
        if context.connection is None or not (context.is_disconnect or self._concerns(context, fault)):
            return
        unit = self._instance.units.get(context.connection)
        if unit is None:
            return
        if unit.write_side is not None:
            self._count(unit)
        elif context.connection.engine is self._instance.engines[self._instance.owner]:
            self._instance.counts.add(errors=1)  # who reads the other side is answered by the owner

    def _concerns(self, context: ExceptionContext, fault: BaseException) -> bool:
        return is_of_the_move(fault) or _OURS in (context.statement or "")

    def _count(self, unit: Unit) -> None:
        if not unit.has_failed:
            unit.has_failed = True
            self._instance.counts.add(failed=1)

