"""A SQLAlchemy session that follows the owner of the data.

It stands in for ``sqlalchemy.orm.Session`` on the source engine. What is sent to that engine goes to the side that
owns the data; what is bound to other engines is left alone.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import event, orm
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import GenerativeSelect

from dbmigrate.app.capture.raw import only_reads
from dbmigrate.app.faults import describe
from dbmigrate.app.reading import READ_KEY, choose_read_side, forget_connection
from dbmigrate.app.unit import Unit
from dbmigrate.domain.errors import ConfigurationError, DbmigrateError
from dbmigrate.domain.routes import Side

if TYPE_CHECKING:
    from collections.abc import Mapping

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
        self._dbmigrate_options: Mapping[str, Any] | None = None
        self._dbmigrate_connected = 0
        self._dbmigrate_watches_reads = False
        dbmigrate_instance.follow()
        self._watch_reads()

    def get_bind(
        self, mapper: Any = None, *, clause: Any = None, bind: Any = None, **options: Any
    ) -> sa.Engine | sa.Connection:
        """The engine of the side that this statement belongs on."""
        found = super().get_bind(mapper, clause=clause, bind=bind, **options)
        if found is not self.dbmigrate_instance.engines[Side.SOURCE]:
            return self._leave_alone(found, clause)
        return self.dbmigrate_instance.engines[self._choose_side(clause)]

    def connection(
        self,
        bind_arguments: Any = None,
        execution_options: Mapping[str, Any] | None = None,
    ) -> sa.Connection:
        """The transaction's connection to the side that owns the data: whoever asks for it may write with it."""
        self._dbmigrate_options, connected = execution_options, self._dbmigrate_connected
        try:
            bind = self.get_bind(**(bind_arguments or {}))
        finally:
            self._dbmigrate_options = None
        has_connected = self._dbmigrate_connected != connected
        return super().connection({"bind": bind}, None if has_connected else execution_options)

    def _leave_alone(self, found: sa.Engine | sa.Connection, clause: Any) -> sa.Engine | sa.Connection:
        """What is bound elsewhere stays there, unless it is the moving database after all."""
        engines = self.dbmigrate_instance.engines.values()
        if isinstance(found, sa.Connection):
            if found.engine in engines and self.dbmigrate_unit().write_side is None and not self._reads(clause):
                self.dbmigrate_unit().begin_writing_on(found)
        elif found not in engines and any(found.pool is engine.pool for engine in engines):
            raise ConfigurationError(
                "models are bound to a variation of an engine that moves", place="binds",
                cause="Engine.execution_options() made an engine that does not follow the owner",
                hint="bind them to the source engine itself, and give options to statements or connections",
            )  # fmt: skip
        return found

    def _reads(self, clause: Any) -> bool:
        return not self._flushing and _only_reads(clause)

    def _choose_side(self, clause: Any) -> Side:
        unit = self.dbmigrate_unit()
        if unit.write_side is not None:
            return unit.write_side
        if not self._reads(clause):
            return self._begin_writing(unit)
        return self._choose_read_side(unit)

    def _begin_writing(self, unit: Unit) -> Side:
        try:
            return unit.begin_writing(self._connect, is_nested=self.in_nested_transaction())
        except (DbmigrateError, sa.exc.SQLAlchemyError) as fault:
            self.dbmigrate_instance.failures.refuse(unit, fault)
            raise

    def _watch_reads(self) -> None:
        """Be ready to answer reads from the target, between two transactions.

        Not from the beginning: SQLAlchemy prepares every statement twice for a session with this event. And by session,
        not by class: that would change a list which other threads are walking through.
        """
        row = self.dbmigrate_instance.known
        if row is not None and row.read_share > 0 and not self._dbmigrate_watches_reads:
            self._dbmigrate_watches_reads = True
            event.listen(self, "do_orm_execute", _on_execute)

    def _choose_read_side(self, unit: Unit) -> Side:
        if not self._dbmigrate_watches_reads:
            self.dbmigrate_instance.wait_for_look()
            return self.dbmigrate_instance.owner
        if unit.read_side is None:
            unit.read_side = choose_read_side(self.dbmigrate_instance, self.info.get(READ_KEY))
        return unit.read_side

    def _connect(self, engine: sa.Engine) -> sa.Connection:
        self._dbmigrate_connected += 1
        return super().connection({"bind": engine}, self._dbmigrate_options)

    def dbmigrate_unit(self) -> Unit:
        """The state of the transaction that is running, or of the one that the next statement begins."""
        if self._dbmigrate_unit is None:
            wants_mirror = bool(self.info.get(MIRROR, True))
            self._dbmigrate_unit = Unit(self.dbmigrate_instance, wants_mirror=wants_mirror)
        return self._dbmigrate_unit


def _only_reads(clause: Any) -> bool:
    """Whether a statement certainly changes and locks nothing. No statement at all: nobody knows what comes."""
    if isinstance(clause, GenerativeSelect):
        return clause._for_update_arg is None
    if isinstance(clause, sa.TextClause):
        return only_reads(clause.text)
    if isinstance(clause, orm.FromStatement | sa.TextualSelect):
        return _only_reads(clause.element)
    return isinstance(clause, FunctionElement | ColumnElement)


def _on_execute(state: orm.ORMExecuteState) -> sa.Result[Any] | None:
    """Answer a read from the target, or from the owner after all."""
    session = state.session
    assert isinstance(session, Session)  # noqa: S101  # the event is registered on this class
    unit, instance = session.dbmigrate_unit(), session.dbmigrate_instance
    row = instance.known
    if row is None or row.read_share <= 0 or unit.write_side is not None:
        return None
    if not _only_reads(state.statement):
        if state.is_orm_statement:
            session.get_bind(**state.bind_arguments)  # what an UPDATE looks for first, it finds where it writes
        return None
    if session._choose_read_side(unit) is instance.owner:
        return None
    try:
        return state.invoke_statement()
    except (sa.exc.DBAPIError, sa.exc.TimeoutError) as fault:
        log.warning("a read failed on the target and goes to the owner: %s", describe(fault))
        instance.counts.add(fallbacks=1)
    forget_connection(session, instance.engines[Side.TARGET])
    unit.read_side = instance.owner
    return state.invoke_statement()


@event.listens_for(Session, "after_begin")
def _after_begin(session: Session, transaction: orm.SessionTransaction, connection: sa.Connection) -> None:
    instance = session.dbmigrate_instance
    if instance.known is None or connection.engine not in instance.engines.values():
        return
    if session._dbmigrate_watches_reads:
        instance.latencies.listen(connection, session.dbmigrate_unit())
    instance.shadowing.sample(connection, session.dbmigrate_unit())


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
        session._watch_reads()
