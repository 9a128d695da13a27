"""Where a read goes: to the owner, or, for a share of the readers, to the target that is to become the owner.

Apart from writes, which have no choice. A reader of the target never notices that it is one: what fails there is
answered by the owner, and a session that has written reads from the owner until its transaction ends.
"""

from __future__ import annotations

import logging
import random
import time
import zlib
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import event, orm

from dbmigrate.domain.routes import Side

if TYPE_CHECKING:
    from dbmigrate.app.instance import Instance
    from dbmigrate.app.unit import Unit

log = logging.getLogger(__name__)

READ_KEY = "dbmigrate_read_key"
"""The key of ``Session.info`` under which an application puts what a reader is known by: a customer's id, say."""


def choose_read_side(instance: Instance, key: Any) -> Side:
    """The side that this reader reads from. The same key stays on one side while the share stays."""
    row = instance.known
    if row is None or row.read_share <= 0 or row.owner is Side.TARGET:
        return instance.owner
    place = random.random() * 100 if key is None else _place(str(key))  # noqa: S311  # no secret depends on it
    return Side.TARGET if place < row.read_share else row.owner


def _place(key: str) -> float:
    """Where a key stands between 0 and 100; the same in every process. A larger share only adds readers."""
    return zlib.crc32(key.encode()) / 0x1_0000_0000 * 100


def forget_connection(session: orm.Session, engine: sa.Engine) -> None:
    """Take a broken connection out of the session's transaction, which goes on without it."""
    transaction = session.get_nested_transaction() or session.get_transaction()
    connection: sa.Connection | None = None
    while transaction is not None:
        found = transaction._connections.pop(engine, None)  # there is no public way
        if found is not None:
            connection = found[0]
            transaction._connections.pop(connection, None)
        transaction = transaction.parent
    if connection is not None:
        connection.invalidate()
        connection.close()


class Latencies:
    """Measures reads on both sides while a share of them goes to the target."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance

    def listen(self, connection: sa.Connection, unit: Unit) -> None:
        """Measure the reads of this connection, which belongs to this unit from now on."""
        self._instance.units[connection] = unit
        if not event.contains(connection, "before_cursor_execute", self._before):
            event.listen(connection, "before_cursor_execute", self._before)
            event.listen(connection, "after_cursor_execute", self._after)

    def _before(self, connection: sa.Connection, cursor: Any, sql: str, given: Any, context: Any, many: bool) -> None:
        unit = self._instance.units.get(connection)
        row = self._instance.known
        if unit is not None and unit.write_side is None and row is not None and row.read_share > 0:
            context._dbmigrate_began_at = time.perf_counter()

    def _after(self, connection: sa.Connection, cursor: Any, sql: str, given: Any, context: Any, many: bool) -> None:
        began_at = getattr(context, "_dbmigrate_began_at", None)
        if began_at is None:
            return
        side = "target" if connection.engine is self._instance.engines[Side.TARGET] else "owner"
        self._instance.counts.add(**{side: 1})
        self._instance.counts.add_latency(f"{side}_latency", time.perf_counter() - began_at)
