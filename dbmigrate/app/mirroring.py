"""When a transaction is mirrored: hooks on the engines, and the decision what is worth it.

Apart from the session because the database's commit happens on a connection, at a moment that no session event marks:
after the last flush, before the COMMIT is sent.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy import event

from dbmigrate.app.capture.touched import Touched
from dbmigrate.app.faults import describe
from dbmigrate.app.mirror import Mirrors, read_back
from dbmigrate.domain.ownership import FenceRow

if TYPE_CHECKING:
    from dbmigrate.app.instance import Instance
    from dbmigrate.app.unit import Unit

log = logging.getLogger(__name__)


class Mirroring:
    """Mirrors what the transactions of one instance write."""

    def __init__(self, instance: Instance, mirrors: Mirrors) -> None:
        self._instance, self._mirrors = instance, mirrors

    def listen(self, connection: sa.Connection) -> None:
        """Mirror what this connection commits."""
        event.listen(connection, "commit", self._before_commit)

    def start_anew(self) -> None:
        """In the child of a fork: the parent keeps its connections and threads."""
        self._mirrors.start_anew()

    def close(self) -> None:
        """Mirror no more."""
        self._mirrors.close()

    def _before_commit(self, connection: sa.Connection) -> None:
        unit = self._instance.units.get(connection)
        if unit is None or unit.row is None or unit.mirror is not None:
            return
        if connection.engine is not self._instance.engines[unit.row.owner]:
            return
        touched = unit.touched()
        if touched:
            self._write(connection, unit, unit.row, touched)

    def _write(self, connection: sa.Connection, unit: Unit, row: FenceRow, touched: list[Touched]) -> None:
        counts = self._instance.counts
        rows = sum(len(one.keys) for one in touched)
        if rows > self._instance.options.mirror_max_rows or not self._mirrors.breaker.lets_through():
            counts.add(mirror_skipped=1)
            return
        try:
            batches = read_back(connection, touched)
        except sa.exc.SQLAlchemyError as fault:
            log.warning("a transaction's rows cannot be read back for the mirror: %s", describe(fault))
            counts.add(mirror_failed=1)
            return
        unit.mirror = self._mirrors.write(row.owner.other, row.epoch, batches)
        if unit.mirror is None:
            counts.add(mirror_failed=1)

    def committed(self, unit: Unit) -> None:
        """The owner has committed this transaction. The mirror commits while the session cleans up after it."""
        if unit.mirror is not None:
            mirror, unit.mirror = unit.mirror, None
            unit.commit = self._mirrors.begin_commit(mirror)

    def ended(self, unit: Unit) -> None:
        """The transaction is over: what the session does next finds its writes on both sides. A mirror that is still
        there was not committed by the owner."""
        if unit.commit is not None:
            commit, unit.commit = unit.commit, None
            done = self._mirrors.commit(commit)
            self._instance.counts.add(**{"mirrored" if done else "mirror_failed": 1})
        if unit.mirror is not None:
            mirror, unit.mirror = unit.mirror, None
            self._mirrors.rollback(mirror)
