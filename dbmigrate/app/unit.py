"""One root transaction of a session: where it reads and writes, and under which fence row.

Apart from the session because a session lives through many of them, and because the engine events that capture and
mirror writes know connections, not sessions.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import sqlalchemy as sa

from dbmigrate.app.capture.touched import Touched, TouchedRows
from dbmigrate.app.rows import lock_row
from dbmigrate.domain.errors import RefusedError, TransientError
from dbmigrate.domain.ownership import FenceRow
from dbmigrate.domain.routes import Side
from dbmigrate.domain.schema import TableName
from dbmigrate.mysql.mirror_plan import MirrorPlan

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbmigrate.app.instance import Instance
    from dbmigrate.app.mirror import Commit, Mirror

log = logging.getLogger(__name__)

_MOST_MOVES = 20
"""How often ownership may change while one transaction begins."""


class Unit:
    """Used by one thread at a time, like the session that it belongs to."""

    def __init__(self, instance: Instance, *, wants_mirror: bool = True) -> None:
        self.instance, self._wants_mirror = instance, wants_mirror
        self.row: FenceRow | None = None
        self.write_side: Side | None = None
        self.read_side: Side | None = None
        self.rows: TouchedRows | None = None
        self.mirror: Mirror | None = None
        self.commit: Commit | None = None
        self.has_failed = False
        self._is_unfenced = False

    def _begin_to_note(self, connection: sa.Connection) -> None:
        if self._wants_mirror:
            self.rows = TouchedRows()
            self.instance.capture.listen(connection)
            self.instance.mirroring.listen(connection)
        else:
            self.instance.counts.add(mirror_skipped=1)

    # --- where ---

    def begin_writing(self, connect: Callable[[sa.Engine], sa.Connection], *, is_nested: bool) -> Side:
        """The side that owns the data, for as long as this transaction lasts.

        Its fence row is locked in share mode first, so a switch waits for this transaction, or this transaction for the
        switch. Waits at most the session's ``innodb_lock_wait_timeout``.

        Raises:
            TransientError: the owner changed faster than it could be followed.
        """
        if self.write_side is not None:
            return self.write_side
        if self._enter_unfenced(Side.SOURCE):
            return Side.SOURCE
        for _ in range(_MOST_MOVES):
            side = self.instance.owner
            if self._take(side, connect, is_nested=is_nested):
                return side
        raise TransientError(
            "the owner of the data keeps changing", place="_dbmigrate.fence", hint="run the transaction again"
        )

    def _enter_unfenced(self, side: Side) -> bool:
        self._is_unfenced = self.instance.enter_unfenced()
        if self._is_unfenced:
            self.write_side = side
        return self._is_unfenced

    def begin_writing_on(self, connection: sa.Connection) -> None:
        """The same on a connection that the application has opened, whose transaction outlives the session's.

        Raises:
            RefusedError: its side does not own the data, and nobody can take the transaction elsewhere.
        """
        side = next(side for side, engine in self.instance.engines.items() if engine is connection.engine)
        if self._enter_unfenced(side):
            return
        row = lock_row(connection, self.instance.migration_id)
        self.instance.learn(row)
        if self.instance.owner is not side:
            raise RefusedError(
                "this connection leads to a database that has moved", place=side.value,
                cause=f"{self.instance.owner.value} owns the data",
                hint="let the session connect by itself, or open the connection on the engine of the owner",
            )  # fmt: skip
        self.row, self.write_side = row, side
        if row is not None:
            self.instance.units[connection] = self
        if row is not None and row.mirror:
            self.instance.counts.add(mirror_skipped=1)  # its commit is the application's: nobody can tell when

    def _take(self, side: Side, connect: Callable[[sa.Engine], sa.Connection], *, is_nested: bool) -> bool:
        """Lock this side's row; whether the side is the owner."""
        connection = connect(self.instance.engines[side])
        row = lock_row(connection, self.instance.migration_id)
        if row is None and side is Side.TARGET:
            # The target's row is made after the source's; what is believed came from there.
            known = self.instance.known
            if known is not None and known.owner is Side.SOURCE:
                return False
            raise TransientError(
                "the target has no fence row, though it owns the data", place="_dbmigrate.fence",
                hint="see what `dbmigrate status` says",
            )  # fmt: skip
        self.instance.learn(row)
        known = self.instance.known
        if row is None or (row.owner is side and (known is None or known.epoch <= row.epoch)):
            self.row, self.write_side = row, side
            if row is not None:
                self.instance.units[connection] = self
            if row is not None and row.mirror and self.instance.plans(side):
                self._begin_to_note(connection)
            return True
        if not is_nested:
            _release(connection)
        newest = known if known is not None and known.epoch > row.epoch else row
        if newest.owner is not side:
            self.instance.complete(newest.owner, newest)
        else:
            self.instance.complete(side, newest)
        return False

    def touched(self) -> list[Touched]:
        """The rows to mirror; none where this transaction is not mirrored."""
        return self.rows.collect() if self.rows is not None else []

    def is_on(self, connection: sa.Connection) -> bool:
        """Whether this is the connection to the owner."""
        return self.write_side is not None and connection.engine is self.instance.engines[self.write_side]

    def find_plan(self, table: TableName) -> MirrorPlan | None:
        """How this table is mirrored; None where it does not move."""
        return None if self.write_side is None else self.instance.find_plan(self.write_side, table)

    def committed(self) -> None:
        """The owner has committed."""
        if self.write_side is not None and self.row is not None:
            self.instance.counts.add(transactions=1)
            self.instance.mirroring.committed(self)

    def end(self) -> None:
        """The root transaction is over."""
        if self.commit is not None or self.mirror is not None:
            self.instance.mirroring.ended(self)
        if self._is_unfenced:
            self._is_unfenced = False
            self.instance.leave_unfenced()


def _release(connection: sa.Connection) -> None:
    """End the database's transaction under SQLAlchemy's: it holds nothing but a lock that others wait for."""
    connection.dialect.do_rollback(connection.connection)
