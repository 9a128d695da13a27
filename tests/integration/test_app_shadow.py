"""Sessions whose reads are repeated: which are, which are not, and what the runner learns of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from app_rows import ID, FenceRows, wait_until
from sqlalchemy import orm
from sqlalchemy.ext import asyncio as sa_asyncio

from dbmigrate.app import sessionmaker
from dbmigrate.app.asyncio import async_sessionmaker
from dbmigrate.domain.evidence import MismatchKind, ShadowCounts
from dbmigrate.domain.ownership import FenceRow
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Direction, Side
from dbmigrate.mysql.application_rules import ApplicationRules, save_rules
from dbmigrate.mysql.control import METADATA  # declares every control table
from dbmigrate.mysql.evidence import load_mismatches, load_reports
from dbmigrate.mysql.heartbeat import CREATE_HEARTBEAT


class Base(orm.DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "item"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str] = orm.mapped_column(sa.String(50))


class Shop(FenceRows):
    """Equal tables on both sides, and a stream that is always done at once."""

    def __init__(self, pair: Any) -> None:
        super().__init__(pair)
        self.create_fence()
        METADATA.create_all(self.engines[Side.TARGET])
        pair.source.server.execute(
            CREATE_HEARTBEAT, f"REPLACE INTO _dbmigrate.heartbeat VALUES ('{ID}', 1, UTC_TIMESTAMP(6))"
        )
        for engine in self.engines.values():
            Base.metadata.create_all(engine)
            with engine.begin() as connection:
                connection.execute(sa.insert(Item), [{"id": n, "name": f"item {n}"} for n in range(1, 6)])
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._stream)
        self._thread.start()

    def _stream(self) -> None:
        beat = 1
        while not self._stopping.wait(0.05):
            beat += 1
            self.pair.source.server.execute(f"UPDATE _dbmigrate.heartbeat SET beat = {beat} WHERE migration_id = '{ID}'")
            self.pair.target.server.execute(
                f"REPLACE INTO _dbmigrate.checkpoint VALUES ('{ID}', '{Direction.FORWARD.value}', '', {beat}, UTC_TIMESTAMP(6))"
            )

    def save_rules(self, rules: ApplicationRules) -> None:
        with self.engines[Side.TARGET].begin() as connection:
            save_rules(connection, ID, rules)

    def mismatches(self, kind: MismatchKind = MismatchKind.REAL) -> Any:
        with self.engines[Side.TARGET].connect() as connection:
            return load_mismatches(connection, ID, kinds=[kind])

    def close(self) -> None:
        self._stopping.set()
        self._thread.join()
        super().close()


@pytest.fixture
def shop(mariadb_pair: Any) -> Iterator[Shop]:
    shop = Shop(mariadb_pair)
    yield shop
    shop.close()


@pytest.fixture
def make(shop: Shop) -> Iterator[Callable[..., Any]]:
    """A factory whose instance repeats every read it may."""
    made: list[Any] = []

    def create(share: float = 100, phase: Phase = Phase.SHADOW_READ, **options: Any) -> Any:
        factory = sessionmaker(shop.engines[Side.SOURCE], shop.engines[Side.TARGET], migration_id=ID, **options)
        made.append(factory.kw["dbmigrate_instance"])
        follow(shop, factory, share, phase)
        return factory

    yield create
    for instance in made:
        instance.close()


def follow(shop: Shop, factory: Any, share: float, phase: Phase, epoch: int = 5) -> None:
    shop.save_both(FenceRow(epoch, Side.SOURCE, phase, shadow_share=share))
    instance = factory.kw["dbmigrate_instance"]
    instance.follow()
    wait_until(lambda: instance._orders_for == (phase, False, share > 0))


def counts(factory: Any) -> ShadowCounts:
    found: ShadowCounts = factory.kw["dbmigrate_instance"].shadowing.counts()
    return found


def seen(factory: Any) -> dict[str, int]:
    names = ("matches", "ignored", "lag", "moved", "real", "errors", "timeouts", "dropped")
    return {name: getattr(counts(factory), name) for name in names if getattr(counts(factory), name)}


def read_in_every_way(session: orm.Session) -> None:
    """Entities, columns, identity, relationship-free Core, text, an aggregate."""
    assert [item.name for item in session.scalars(sa.select(Item).order_by(Item.id))] == [f"item {n}" for n in range(1, 6)]
    assert session.execute(sa.select(Item.id, Item.name).where(Item.id == 3)).one() == (3, "item 3")
    session.expunge_all()
    assert session.get(Item, 4).name == "item 4"  # type: ignore[union-attr]
    assert session.execute(sa.select(Item.__table__.c.name).where(Item.__table__.c.id.in_([1, 2]))).scalars().all() == [
        "item 1", "item 2",
    ]  # fmt: skip
    assert session.execute(sa.text("SELECT COUNT(*) FROM item WHERE id > :id"), {"id": 1}).scalar() == 4
    assert session.query(Item).filter(Item.name.like("%5")).count() == 1


def test_every_kind_of_read_is_answered_as_before_and_compared(shop: Shop, make: Callable[..., Any]) -> None:
    factory = make()
    with factory() as session:
        read_in_every_way(session)
    wait_until(lambda: seen(factory) == {"matches": 6})
    assert counts(factory).control.samples == counts(factory).candidate.samples == 6


def test_a_row_that_really_differs_is_found_and_saved_without_its_values(shop: Shop, make: Callable[..., Any]) -> None:
    factory = make()
    shop.pair.target.execute("UPDATE item SET name = 'secret' WHERE id = 2")
    with factory() as session:
        assert session.scalars(sa.select(Item.name).where(Item.id == 2)).all() == ["item 2"]
    wait_until(lambda: bool(shop.mismatches()), 60)
    (found,) = shop.mismatches()
    assert (found.tables, found.columns) == (("item",), ("name",))
    assert "secret" not in str(found)
    assert "item 2" not in str(found)
    with shop.engines[Side.TARGET].connect() as connection:
        wait_until(lambda: sum(report.shadow.real for report in load_reports(connection, ID, 60)) == 1 or connection.rollback())


def test_a_write_transaction_is_not_sampled_but_its_reads_before_the_first_write_are(
    shop: Shop, make: Callable[..., Any]
) -> None:
    factory = make()
    with factory.begin() as session:
        session.scalars(sa.select(Item.name).where(Item.id == 1)).all()
        session.add(Item(id=100, name="new"))
        session.flush()
        assert session.scalars(sa.select(Item.name).where(Item.id == 100)).all() == ["new"]
        session.scalars(sa.select(Item.id)).all()
    wait_until(lambda: seen(factory) == {"matches": 1})
    with factory() as session:
        session.scalars(sa.select(Item.name).where(Item.id == 1).with_for_update()).all()
        session.scalars(sa.select(Item.name).where(Item.id == 1)).all()
    with factory() as session:
        session.scalars(sa.select(Item.name).where(Item.id == 2)).all()
    wait_until(lambda: seen(factory) == {"matches": 2})


def test_a_result_that_is_streamed_stays_streamed(shop: Shop, make: Callable[..., Any]) -> None:
    factory = make()
    with factory() as session:
        result = session.execute(sa.select(Item.id).order_by(Item.id), execution_options={"yield_per": 2})
        assert [len(part) for part in result.partitions()] == [2, 2, 1]
        session.scalars(sa.select(Item.id)).all()
    wait_until(lambda: seen(factory) == {"matches": 1})


@pytest.mark.parametrize(
    ("share", "phase"), [(0, Phase.DUAL_WRITE), (0, Phase.CATCH_UP)], ids=["dual write", "catch up"]
)
def test_without_a_share_nothing_is_loaded_or_repeated(
    shop: Shop, make: Callable[..., Any], share: float, phase: Phase
) -> None:
    factory = make(share, phase)
    with factory() as session:
        read_in_every_way(session)
    assert factory.kw["dbmigrate_instance"].shadowing._reader is None
    assert not any(thread.name == "dbmigrate-shadow" for thread in threading.enumerate())


def test_about_the_share_of_transactions_is_sampled(shop: Shop, make: Callable[..., Any]) -> None:
    factory = make(20)
    for _ in range(500):
        with factory() as session:
            session.scalars(sa.select(Item.id).where(Item.id == 1)).all()
    wait_until(lambda: counts(factory).samples + counts(factory).dropped > 55)
    assert 55 < counts(factory).samples + counts(factory).dropped < 160


def test_a_new_phase_counts_from_zero_and_after_the_switch_nothing_is_repeated(
    shop: Shop, make: Callable[..., Any]
) -> None:
    factory = make()
    with factory() as session:
        read_in_every_way(session)
    wait_until(lambda: seen(factory) == {"matches": 6})
    follow(shop, factory, 100, Phase.VERIFY, epoch=6)
    assert seen(factory) == {}
    with factory() as session:
        read_in_every_way(session)
    wait_until(lambda: seen(factory) == {"matches": 6})
    shop.save_both(FenceRow(7, Side.TARGET, Phase.SOAK))
    instance = factory.kw["dbmigrate_instance"]
    wait_until(lambda: instance.shadowing._reader is None and instance.owner is Side.TARGET)
    with factory() as session:
        read_in_every_way(session)
    assert seen(factory) == {}


def test_rules_of_the_configuration_reach_the_instance_while_it_runs(shop: Shop, make: Callable[..., Any]) -> None:
    factory = make()
    shop.pair.target.execute("UPDATE item SET name = 'other' WHERE id = 2")
    shop.save_rules(ApplicationRules(shadow_ignore=("item.name",), shadow_threads=1))
    instance = factory.kw["dbmigrate_instance"]
    wait_until(lambda: instance.rules.shadow_threads == 1)
    with factory() as session:
        session.scalars(sa.select(Item.name).where(Item.id == 2)).all()
    wait_until(lambda: seen(factory) == {"ignored": 1})


def test_a_target_that_is_away_costs_the_reader_of_the_owner_nothing(shop: Shop, make: Callable[..., Any]) -> None:
    factory = make()
    shop.pair.target.execute("DROP TABLE item")
    with factory() as session:
        read_in_every_way(session)
    wait_until(lambda: counts(factory).errors + counts(factory).dropped == 6)


def test_async_sessions_are_sampled_the_same_way(shop: Shop, make: Callable[..., Any]) -> None:
    async def scene() -> None:
        engines = {
            side: sa_asyncio.create_async_engine(engine.url.set(drivername="mysql+asyncmy"))
            for side, engine in shop.engines.items()
        }
        factory = async_sessionmaker(engines[Side.SOURCE], engines[Side.TARGET], migration_id=ID)
        follow(shop, factory, 100, Phase.SHADOW_READ)
        try:
            async with factory() as session:
                await session.run_sync(read_in_every_way)
            shop.pair.target.execute("UPDATE item SET name = 'other' WHERE id = 2")
            async with factory() as session:
                assert await session.scalar(sa.select(Item.name).where(Item.id == 2)) == "item 2"
            for _ in range(3000):
                if shop.mismatches():
                    break
                await asyncio.sleep(0.02)
            assert seen(factory) == {"matches": 6, "real": 1}
        finally:
            await asyncio.to_thread(factory.close)
            for engine in engines.values():
                await engine.dispose()

    asyncio.run(scene())
