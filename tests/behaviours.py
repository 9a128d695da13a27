"""The stage on which SQLAlchemy's own behaviours are tried: a shop's models, plain or moving, sync or async.

A scenario is written once, against sync sessions. Async sessions are sync ones inside a greenlet, which is what their
``run_sync`` gives, so the same scenario runs on both. Every statement that reaches a server is recorded.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import sqlalchemy as sa
from databases import Database, Pair
from sqlalchemy import event, orm
from sqlalchemy.ext import asyncio as sa_asyncio
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.util import greenlet_spawn

from dbmigrate.app import sessionmaker
from dbmigrate.app.asyncio import async_sessionmaker
from dbmigrate.domain.ownership import FenceRow
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Side

CREATE_FENCE = (
    "CREATE DATABASE IF NOT EXISTS _dbmigrate",
    "CREATE TABLE IF NOT EXISTS _dbmigrate.fence (migration_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin "
    "NOT NULL PRIMARY KEY, epoch BIGINT NOT NULL, owner VARCHAR(16) NOT NULL, phase VARCHAR(32) NOT NULL, mirror "
    "BOOLEAN NOT NULL DEFAULT 0, read_share DECIMAL(5,2) NOT NULL DEFAULT 0, shadow_share DECIMAL(5,2) NOT NULL "
    "DEFAULT 0)",
)


class Base(orm.DeclarativeBase):
    pass


class Customer(sa_asyncio.AsyncAttrs, Base):
    __tablename__ = "customer"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str] = orm.mapped_column(sa.String(50), unique=True)
    orders: orm.Mapped[list[Order]] = orm.relationship(
        back_populates="customer", cascade="all, delete-orphan", order_by="Order.id"
    )

    @hybrid_property
    def shouted(self) -> str:
        return self.name.upper()

    @shouted.inplace.expression
    @classmethod
    def _shouted(cls) -> sa.ColumnElement[str]:
        return sa.func.upper(cls.name)


class Order(Base):
    __tablename__ = "orders"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    customer_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("customer.id"))
    total: orm.Mapped[int] = orm.mapped_column(server_default="7")
    customer: orm.Mapped[Customer] = orm.relationship(back_populates="orders")


Customer.spent = orm.column_property(
    sa.select(sa.func.coalesce(sa.func.sum(Order.total), 0))
    .where(Order.customer_id == Customer.id)
    .correlate_except(Order)
    .scalar_subquery()
)


class Counter(Base):
    """Changed under optimistic locking."""

    __tablename__ = "counter"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    value: orm.Mapped[int]
    version: orm.Mapped[int] = orm.mapped_column()
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012  # as SQLAlchemy's documentation has it


class Audit(orm.DeclarativeBase):
    """Models of another database, which does not move."""


class Entry(Audit):
    __tablename__ = "entry"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    text: orm.Mapped[str] = orm.mapped_column(sa.String(50))


TABLES = tuple(table.name for table in Base.metadata.sorted_tables)


class Situation(Enum):
    NO_MIGRATION = "no migration"
    OWNER_SOURCE = "source owns"
    OWNER_TARGET = "target owns"
    SWITCH = "switch between transactions"


_numbers = itertools.count(1)


def build_url(database: Database, driver: str) -> sa.URL:
    server = database.server
    return sa.URL.create(
        f"mysql+{driver}", "root", server.password, "127.0.0.1", server.port, database.schema, {"charset": "utf8mb4"}
    )


class Theatre:
    """Servers, schemas, engines and an event loop, shared by all scenarios because they cost more than a scenario."""

    def __init__(self, pair: Pair, other: Database) -> None:
        self.databases = {Side.SOURCE: pair.source, Side.TARGET: pair.target}
        self.other_database = other
        self.runner = asyncio.Runner()
        self.sync_engines = {s: sa.create_engine(build_url(d, "pymysql")) for s, d in self.databases.items()}
        self.own_engines = {s: sa.create_engine(build_url(d, "pymysql")) for s, d in self.databases.items()}
        self.sync_other = sa.create_engine(build_url(other, "pymysql"))
        self.async_engines = {
            side: sa_asyncio.create_async_engine(build_url(database, "asyncmy"))
            for side, database in self.databases.items()
        }
        self.async_other = sa_asyncio.create_async_engine(build_url(other, "asyncmy"))
        for engine in self.own_engines.values():
            Base.metadata.create_all(engine)
        Audit.metadata.create_all(self.sync_other)
        for database in self.databases.values():
            database.execute(*CREATE_FENCE)
        self.plain_results: dict[tuple[Any, bool], Outcome] = {}

    def clear(self) -> None:
        for side in self.databases:
            with self.own_engines[side].begin() as connection:
                connection.exec_driver_sql("SET foreign_key_checks = 0")
                for table in TABLES:
                    if connection.exec_driver_sql(f"SELECT 1 FROM {table} LIMIT 1").first():
                        connection.exec_driver_sql(f"TRUNCATE TABLE {table}")
                connection.exec_driver_sql("SET foreign_key_checks = 1")
        with self.sync_other.begin() as connection:
            connection.execute(sa.delete(Entry))

    def copy(self) -> None:
        """What the stream does: the target becomes equal to the source."""
        with self.own_engines[Side.SOURCE].connect() as source, self.own_engines[Side.TARGET].begin() as target:
            for table in reversed(Base.metadata.sorted_tables):
                target.execute(sa.delete(table))
            for table in Base.metadata.sorted_tables:
                rows = [row._asdict() for row in source.execute(sa.select(table))]
                if rows:
                    target.execute(sa.insert(table), rows)

    def save_fence(self, migration_id: str, row: FenceRow) -> None:
        for side in (Side.SOURCE, Side.TARGET):
            with self.own_engines[side].begin() as connection:
                connection.exec_driver_sql(
                    f"REPLACE INTO _dbmigrate.fence VALUES ('{migration_id}', {row.epoch}, '{row.owner.value}', "
                    f"'{row.phase.value}', 0, {row.read_share}, 0)"
                )

    def read_tables(self, side: Side) -> dict[str, list[tuple[Any, ...]]]:
        with self.own_engines[side].connect() as connection:
            found = {
                table.name: [tuple(row) for row in connection.execute(sa.select(table).order_by(*table.primary_key))]
                for table in Base.metadata.sorted_tables
            }
        with self.sync_other.connect() as connection:
            found["entry"] = [tuple(row) for row in connection.execute(sa.select(Entry.__table__))]
        return found

    def close(self) -> None:
        async def dispose() -> None:
            for engine in (*self.async_engines.values(), self.async_other):
                await engine.dispose()

        self.runner.run(dispose())
        self.runner.close()
        for engine in (*self.sync_engines.values(), *self.own_engines.values(), self.sync_other):
            engine.dispose()


@dataclass
class Outcome:
    """What a scenario returned, what it left in the owner's tables, and what was sent on the way."""

    result: Any
    tables: dict[str, list[tuple[Any, ...]]]
    sent: list[Any]

    def application_statements(self) -> list[Any]:
        """Without what the fence asks, and without the marks of transactions and savepoints.

        A transaction that moves takes its savepoints along, so there they are made twice.
        """
        statements = [one for one in self.sent if isinstance(one, tuple) and "_dbmigrate" not in one[0]]
        return [one for one in statements if "SAVEPOINT" not in one[0]]


@dataclass
class Stage:
    """One performance: session factories of one kind in one situation."""

    theatre: Theatre
    is_async: bool
    situation: Situation | None  # None: plain SQLAlchemy
    migration_id: str = field(default_factory=lambda: f"move-{next(_numbers)}")
    _made: list[Any] = field(default_factory=list)
    _transactions: int = 0
    _has_switched: bool = False
    _default: Any = None

    # --- what scenarios use ---

    @property
    def outside(self) -> sa.Engine:
        """The sync face of the owner's engine, for connections that the application opens by itself."""
        return self._sync(self._engines[self.owner])

    @property
    def other(self) -> Any:
        return self.theatre.async_other if self.is_async else self.theatre.sync_other

    @property
    def owner(self) -> Side:
        is_moved = self.situation is Situation.OWNER_TARGET or self._has_switched
        return Side.TARGET if is_moved else Side.SOURCE

    def make(self, **options: Any) -> Any:
        """A session factory with the user's options; ``class_`` is a sync session's."""
        source, target = self._engines[Side.SOURCE], self._engines[Side.TARGET]
        if self.is_async and "class_" in options:
            options["sync_session_class"] = options.pop("class_")
        if self.situation is None:
            return (sa_asyncio.async_sessionmaker if self.is_async else orm.sessionmaker)(source, **options)
        make: Any = async_sessionmaker if self.is_async else sessionmaker
        return self._keep(make(source, target, migration_id=self.migration_id, **options))

    def make_async(self, make: Any, **options: Any) -> Any:
        """An async factory, ``class_`` being an async session's."""
        engines = self._engines
        if self.situation is None:
            return make(engines[Side.SOURCE], **options)
        return self._keep(make(engines[Side.SOURCE], engines[Side.TARGET], migration_id=self.migration_id, **options))

    def _keep(self, factory: Any) -> Any:
        self._made.append(factory.kw["dbmigrate_instance"])
        if self.situation is Situation.NO_MIGRATION:
            self._let_look(factory)
        return factory

    def new(self, factory: Any = None, **options: Any) -> orm.Session:
        """A session, as ``factory(**options)`` gives it."""
        self.may_switch()
        factory = factory or self._shared_factory()
        made = factory(**options)
        if not self.is_async:
            return made
        made.sync_session._keeps = made  # an async session that nobody holds is closed
        return made.sync_session

    @contextlib.contextmanager
    def open(self, factory: Any = None, **options: Any) -> Iterator[orm.Session]:
        """``with factory() as session``; between two of them the owner changes where it is to change."""
        with self.new(factory, **options) as session:
            yield session

    @contextlib.contextmanager
    def begin(self, factory: Any = None) -> Iterator[orm.Session]:
        """``with factory.begin() as session``."""
        if self.is_async:
            with self.new(factory) as session, session.begin():
                yield session
            return
        self.may_switch()
        with (factory or self._shared_factory()).begin() as session:
            yield session

    def may_switch(self) -> None:
        """A moment between two transactions. At the second one the owner changes, where it is to change."""
        self._transactions += 1
        if self.situation is Situation.SWITCH and self._transactions == 2:
            self._switch()

    # --- what the tests use ---

    def perform(self, scenario: Callable[[Stage], Any]) -> Outcome:
        self.theatre.clear()
        if self.situation in (Situation.OWNER_SOURCE, Situation.SWITCH):
            self.theatre.save_fence(self.migration_id, FenceRow(1, Side.SOURCE, Phase.CUTOVER))
        elif self.situation is Situation.OWNER_TARGET:
            self.theatre.save_fence(self.migration_id, FenceRow(1, Side.TARGET, Phase.SOAK))
        sent: list[Any] = []
        try:
            with self._recording(sent):
                result = self._run(scenario)
        finally:
            for instance in self._made:
                instance.close()
        return Outcome(result, self.theatre.read_tables(self.owner), sent)

    def _run(self, scenario: Any) -> Any:
        if asyncio.iscoroutinefunction(scenario):
            return self.theatre.runner.run(scenario(self))
        if self.is_async:
            return self.theatre.runner.run(greenlet_spawn(scenario, self))
        return scenario(self)

    @property
    def _engines(self) -> dict[Side, Any]:
        return self.theatre.async_engines if self.is_async else self.theatre.sync_engines  # type: ignore[return-value]

    def _sync(self, engine: Any) -> sa.Engine:
        return engine.sync_engine if self.is_async else engine

    def _shared_factory(self) -> Any:
        if self._default is None:
            self._default = self.make()
        return self._default

    def _let_look(self, factory: Any) -> None:
        """Wait until it is known that there is no migration; before, a session looks for itself."""
        factory.kw["dbmigrate_instance"].follow()
        deadline = time.monotonic() + 10
        while factory.kw["dbmigrate_instance"]._known is None:
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def _switch(self) -> None:
        """On engines of its own, so that it may be called from an event loop and is not recorded."""
        self.theatre.copy()
        self.theatre.save_fence(self.migration_id, FenceRow(2, Side.TARGET, Phase.SOAK))
        self._has_switched = True

    @contextlib.contextmanager
    def _recording(self, sent: list[Any]) -> Iterator[None]:
        def statement(connection: Any, cursor: Any, sql: str, parameters: Any, context: Any, many: bool) -> None:
            sent.append((sql, parameters, many))

        def mark(name: str) -> Callable[..., None]:
            return lambda *given: sent.append(name if len(given) == 1 else f"{name} {given[1]}")

        listeners = [("before_cursor_execute", statement)]
        listeners += [(name, mark(name)) for name in ("begin", "commit", "rollback", "savepoint", "rollback_savepoint")]
        engines = [*map(self._sync, self._engines.values()), self._sync(self.other)]
        for engine, (name, listener) in itertools.product(engines, listeners):
            event.listen(engine, name, listener)
        try:
            yield
        finally:
            for engine, (name, listener) in itertools.product(engines, listeners):
                event.remove(engine, name, listener)
