"""A SQLAlchemy session that follows the owner of the data.

It stands in for ``sqlalchemy.orm.Session`` on the source engine. What is sent to that engine goes to the side that
owns the data; what is bound to other engines is left alone.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import event, orm
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.selectable import GenerativeSelect

from dbmigrate.app.capture.raw import only_reads
from dbmigrate.app.reading import READ_KEY, choose_read_side, forget_connection
from dbmigrate.app.unit import Unit
from dbmigrate.domain.errors import ConfigurationError
from dbmigrate.domain.routes import Side

if TYPE_CHECKING:
    from dbmigrate.app.instance import Instance

log = logging.getLogger(__name__)


MIRROR = "dbmigrate_mirror"
"""The key of ``Session.info`` under which False leaves the session's transactions to the stream."""


class Session(orm.Session):
    """Made by ``dbmigrate.app.sessionmaker``. Used like SQLAlchemy's own, by one thread at a time."""

    dbmigrate_instance: Instance

    def __init__(self, *args: Any, dbmigrate_instance: Instance, **options: Any) -> None:
        if options.get("twophase"):
            raise ConfigurationError(
                "sessions with two-phase commit cannot be moved", place="twophase=True",
                cause="XA transactions hold the fence beyond the session", hint="leave twophase out",
            )  # fmt: skip
        super().__init__(*args, **options)
        self.dbmigrate_instance = dbmigrate_instance
        self._dbmigrate_unit: Unit | None = None
        dbmigrate_instance.follow()

    def get_bind(
        self, mapper: Any = None, *, clause: Any = None, bind: Any = None, **options: Any
    ) -> sa.Engine | sa.Connection:
        """The engine of the side that this statement belongs on."""
        found = super().get_bind(mapper, clause=clause, bind=bind, **options)
        if found is not self.dbmigrate_instance.engines[Side.SOURCE]:
            return found
        return self.dbmigrate_instance.engines[self._choose_side(clause)]

    def _choose_side(self, clause: Any) -> Side:
        unit = self.dbmigrate_unit()
        if unit.write_side is not None:
            return unit.write_side
        if self._flushing or not _only_reads(clause):
            return unit.begin_writing(self._connect, is_nested=self.in_nested_transaction())
        return self._choose_read_side(unit)

    def _choose_read_side(self, unit: Unit) -> Side:
        if unit.read_side is None:
            unit.read_side = choose_read_side(self.dbmigrate_instance, self.info.get(READ_KEY))
        return unit.read_side

    def _connect(self, engine: sa.Engine) -> sa.Connection:
        return self.connection(bind_arguments={"bind": engine})

    def dbmigrate_unit(self) -> Unit:
        """The state of the transaction that is running, or of the one that the next statement begins."""
        if self._dbmigrate_unit is None:
            wants_mirror = bool(self.info.get(MIRROR, True))
            self._dbmigrate_unit = Unit(self.dbmigrate_instance, wants_mirror=wants_mirror)
        return self._dbmigrate_unit


def _only_reads(clause: Any) -> bool:
    """Whether a statement certainly changes and locks nothing. No statement at all: nobody knows what comes."""
    if clause is None:
        return False
    if isinstance(clause, sa.TextClause):
        return only_reads(clause.text)
    if isinstance(clause, UpdateBase):
        return False
    if isinstance(clause, GenerativeSelect):
        return clause._for_update_arg is None
    return isinstance(clause, sa.Select | sa.sql.expression.FunctionElement | sa.sql.elements.ColumnElement)


@event.listens_for(Session, "do_orm_execute")
def _on_execute(state: orm.ORMExecuteState) -> sa.Result[Any] | None:
    """Answer a read from the target, or from the owner after all."""
    session = state.session
    assert isinstance(session, Session)  # noqa: S101  # the event is registered on this class
    unit, instance = session.dbmigrate_unit(), session.dbmigrate_instance
    row = instance.known
    if row is None or row.read_share <= 0 or unit.write_side is not None or not _only_reads(state.statement):
        return None
    if session._choose_read_side(unit) is instance.owner:
        return None
    try:
        return state.invoke_statement()
    except (sa.exc.DBAPIError, sa.exc.TimeoutError) as fault:
        log.warning("a read failed on the target and goes to the owner: %s", type(fault).__name__)
        instance.counts.add(fallbacks=1, errors=1)
    forget_connection(session, instance.engines[Side.TARGET])
    unit.read_side = instance.owner
    return state.invoke_statement()


@event.listens_for(Session, "after_begin")
def _after_begin(session: Session, transaction: orm.SessionTransaction, connection: sa.Connection) -> None:
    if connection.engine in session.dbmigrate_instance.engines.values():
        session.dbmigrate_instance.units[connection] = session.dbmigrate_unit()


@event.listens_for(Session, "after_commit")
def _after_commit(session: Session) -> None:
    unit = session._dbmigrate_unit
    if unit is not None and not session.in_nested_transaction():
        unit.committed()


@event.listens_for(Session, "after_transaction_end")
def _after_transaction_end(session: Session, transaction: orm.SessionTransaction) -> None:
    if transaction.parent is None and session._dbmigrate_unit is not None:
        session._dbmigrate_unit.end()
        session._dbmigrate_unit = None
