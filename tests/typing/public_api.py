"""Typical use of ``dbmigrate.app``, for a type checker only: nothing in here runs.

Every ``assert_type`` says what an application may rely on: factories give sessions of the class that was asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_type

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.ext import asyncio as sa_asyncio

from dbmigrate.app import Options, SessionFactory, sessionmaker
from dbmigrate.app.asyncio import AsyncSessionFactory, async_sessionmaker


class Base(orm.DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customer"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str]


class ShopSession(orm.Session):
    def count(self) -> int:
        return self.scalar(sa.select(sa.func.count(Customer.id))) or 0


class AsyncShopSession(sa_asyncio.AsyncSession):
    async def count(self) -> int:
        return await self.scalar(sa.select(sa.func.count(Customer.id))) or 0


def use_sync(source: sa.Engine, target: sa.Engine) -> None:
    plain = sessionmaker(source, target, migration_id="shop")
    assert_type(plain, SessionFactory[orm.Session])
    with plain() as session:
        assert_type(session, orm.Session)
        assert_type(session.get(Customer, 1), Customer | None)
        assert_type(session.scalars(sa.select(Customer.name)).all(), Sequence[str])

    own = sessionmaker(
        source, target, migration_id="shop", class_=ShopSession, options=Options(strict=True), expire_on_commit=False
    )
    assert_type(own, SessionFactory[ShopSession])
    with own.begin() as shop:
        assert_type(shop.count(), int)
    with own(info={"tenant": 1}, autoflush=False) as shop:
        assert_type(shop, ShopSession)
    own.configure(autobegin=False)

    scoped = orm.scoped_session(own)
    assert_type(scoped(), ShopSession)


async def use_async(source: sa_asyncio.AsyncEngine, target: sa_asyncio.AsyncEngine) -> None:
    plain = async_sessionmaker(source, target, migration_id="shop")
    assert_type(plain, AsyncSessionFactory[sa_asyncio.AsyncSession])
    async with plain() as session:
        assert_type(session, sa_asyncio.AsyncSession)
        assert_type(await session.get(Customer, 1), Customer | None)

    own = async_sessionmaker(
        source, target, migration_id="shop", class_=AsyncShopSession, sync_session_class=ShopSession
    )
    assert_type(own, AsyncSessionFactory[AsyncShopSession])
    async with own.begin() as shop:
        assert_type(await shop.count(), int)


def misuse(source: sa.Engine, target: sa_asyncio.AsyncEngine) -> None:
    """What a checker must refuse: an ignore that is not needed is an error of its own."""
    sessionmaker(source, target, migration_id="shop")  # type: ignore[call-overload]
    sessionmaker(source, source)  # type: ignore[call-overload]
    async_sessionmaker(target, source, migration_id="shop")  # type: ignore[call-overload]
