"""What people rely on in SQLAlchemy's async sessions beyond what they share with sync ones; see
``behaviour_scenarios``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

import sqlalchemy as sa
from behaviours import Customer, Order, Stage
from sqlalchemy import orm
from sqlalchemy.ext import asyncio as sa_asyncio

Scenario: TypeAlias = Callable[[Stage], Coroutine[Any, Any, Any]]

ASYNC_SCENARIOS: list[Scenario] = []

NAMES = sa.select(Customer.name).order_by(Customer.id)


def scenario(function: Scenario) -> Scenario:
    ASYNC_SCENARIOS.append(function)
    return function


async def stock(factory: Any) -> None:
    async with factory.begin() as session:
        session.add_all(Customer(id=n, name=f"n{n}", orders=[Order(id=10 * n, total=n)]) for n in (1, 2, 3))


@scenario
async def execute_scalar_get_refresh_merge_delete(stage: Stage) -> Any:
    factory = stage.make()
    stage.may_switch()
    await stock(factory)
    stage.may_switch()
    async with factory() as session:
        first = await session.get_one(Customer, 1)
        first.name = "changed"
        await session.flush()
        await session.refresh(first, ["orders"])
        await session.delete(await session.get(Customer, 2))
        merged = await session.merge(Customer(id=3, name="merged"))
        await session.commit()
        await session.refresh(merged)
        rows = (await session.execute(sa.select(Customer.id, Customer.name).order_by(Customer.id))).all()
        return [order.id for order in first.__dict__.get("orders", [])], [tuple(row) for row in rows], merged.name


@scenario
async def streams(stage: Stage) -> Any:
    factory = stage.make()
    stage.may_switch()
    await stock(factory)
    stage.may_switch()
    async with factory() as session:
        streamed = [name async for name in await session.stream_scalars(NAMES)]
        result = await session.stream(sa.select(Customer).order_by(Customer.id).execution_options(yield_per=2))
        portions = [[row[0].name for row in portion] async for portion in result.partitions()]
        return streamed, portions


@scenario
async def awaitable_attributes(stage: Stage) -> Any:
    factory = stage.make(expire_on_commit=False)
    stage.may_switch()
    await stock(factory)
    stage.may_switch()
    async with factory() as session:
        customer = (await session.scalars(sa.select(Customer).where(Customer.id == 2))).one()
        return [order.total for order in await customer.awaitable_attrs.orders]


@scenario
async def savepoints_and_rollbacks(stage: Stage) -> Any:
    factory = stage.make()
    stage.may_switch()
    await stock(factory)
    stage.may_switch()
    async with factory() as session, session.begin():
        session.add(Customer(id=4, name="outer"))
        try:
            async with session.begin_nested():
                session.add(Customer(id=5, name="n1"))
        except sa.exc.IntegrityError as fault:
            number = fault.orig.args[0]
        async with session.begin_nested() as savepoint:
            session.add(Customer(id=6, name="inner"))
            await session.flush()
            await savepoint.rollback()
    async with factory() as session:
        session.add(Customer(id=7, name="lost"))
        await session.flush()
        await session.rollback()
        return number, (await session.scalars(NAMES)).all()


@scenario
async def the_connection_and_run_sync(stage: Stage) -> Any:
    factory = stage.make()
    stage.may_switch()
    await stock(factory)
    stage.may_switch()
    async with factory.begin() as session:
        connection = await session.connection(execution_options={"isolation_level": "SERIALIZABLE"})
        await connection.execute(sa.update(Customer).where(Customer.id == 1).values(name="below"))
        count = await session.run_sync(lambda inner: inner.query(Customer).count())
        return count, (await session.scalars(NAMES)).all(), session.in_transaction()


@scenario
async def an_own_async_class(stage: Stage) -> Any:
    class Sync(orm.Session):
        def count(self) -> Any:
            return self.scalar(sa.select(sa.func.count(Customer.id)))

    class Own(sa_asyncio.AsyncSession):
        sync_session_class = Sync

        async def count(self) -> Any:
            return await self.run_sync(lambda inner: inner.count())

    make: Any = sa_asyncio.async_sessionmaker
    if stage.situation is not None:
        from dbmigrate.app.asyncio import async_sessionmaker as make
    factory = stage.make_async(make, class_=Own)
    stage.may_switch()
    await stock(factory)
    stage.may_switch()
    async with factory() as session:
        return isinstance(session, Own), isinstance(session.sync_session, Sync), await session.count()


@scenario
async def a_scoped_session_per_task(stage: Stage) -> Any:
    factory = stage.make()
    stage.may_switch()
    await stock(factory)
    stage.may_switch()
    registry = sa_asyncio.async_scoped_session(factory, scopefunc=asyncio.current_task)
    registry.add(Customer(id=4, name="scoped"))
    await registry.commit()
    mine = registry()

    async def other() -> bool:
        is_mine = registry() is mine
        await registry.remove()
        return is_mine

    found = await asyncio.create_task(other()), (await registry.scalars(NAMES)).all()
    await registry.remove()
    return found


@scenario
async def a_failed_task_closes_its_session(stage: Stage) -> Any:
    factory = stage.make()
    stage.may_switch()
    await stock(factory)
    stage.may_switch()

    async def fail() -> None:
        async with factory.begin() as session:
            session.add(Customer(id=9, name="lost"))
            await session.flush()
            raise KeyError

    outcome = await asyncio.gather(fail(), return_exceptions=True)
    async with factory() as session:
        return [type(one).__name__ for one in outcome], (await session.scalars(NAMES)).all()
