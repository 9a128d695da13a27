"""Dual write through sessions, without a stream: whatever is captured stands on the other side at once, and the rest is
counted."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, ClassVar

import pytest
import sqlalchemy as sa
from app_rows import FenceRows, plans_of, wait_until
from sqlalchemy import orm
from sqlalchemy.dialects.mysql import insert as mysql_insert

from dbmigrate.app import Options, sessionmaker
from dbmigrate.app.capture.listening import UncapturedWriteError
from dbmigrate.app.session import MIRROR
from dbmigrate.domain.ownership import FenceRow
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Direction, Side
from dbmigrate.mysql.mirror_plan import MIRROR_PLAN, save_plans
from dbmigrate.throwaway.row_comparison import compare


class Base(orm.DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customer"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str] = orm.mapped_column(sa.String(50))
    version: orm.Mapped[int] = orm.mapped_column()
    orders: orm.Mapped[list[Order]] = orm.relationship(cascade="all, delete-orphan")
    __mapper_args__: ClassVar[Any] = {"version_id_col": version}


class Order(Base):
    __tablename__ = "orders"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    customer_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("customer.id"))
    total: orm.Mapped[Decimal] = orm.mapped_column(sa.Numeric(10, 2), default=Decimal(0))


class Stock(Base):
    """A composite key that is compared without regard to case."""

    __tablename__ = "stock"
    place: orm.Mapped[str] = orm.mapped_column(sa.String(20, collation="utf8mb4_general_ci"), primary_key=True)
    day: orm.Mapped[datetime.date] = orm.mapped_column(primary_key=True)
    pieces: orm.Mapped[int]


class Setting(Base):
    __tablename__ = "setting"
    name: orm.Mapped[str] = orm.mapped_column(sa.String(20), primary_key=True)
    value: orm.Mapped[str | None] = orm.mapped_column(sa.String(20), unique=True)


DAY = datetime.date(2026, 2, 28)


class Shop(FenceRows):
    """Both sides hold the same rows; the fence row asks for mirrors."""

    def __init__(self, pair: Any) -> None:
        super().__init__(pair)
        for engine in self.engines.values():
            Base.metadata.create_all(engine)
            with orm.Session(engine) as session, session.begin():
                session.add_all(Customer(id=n, name=f"customer {n}", version=1) for n in range(1, 6))
                session.add_all(Order(id=n, customer_id=n % 5 + 1) for n in range(1, 11))
                session.add_all(Stock(place=place, day=DAY, pieces=5) for place in ("Oslo", "rome", "Zürich"))
                session.add_all([Setting(name="a", value="1"), Setting(name="b", value=None)])
        self.create_fence()
        with self.engines[Side.TARGET].begin() as connection:
            connection.execute(sa.schema.CreateTable(MIRROR_PLAN, if_not_exists=True))
            plans = list(plans_of(pair).values())
            for direction in Direction:
                save_plans(connection, "move", direction, plans)
        self.save_both(FenceRow(1, Side.SOURCE, Phase.DUAL_WRITE, mirror=True))

    def differing(self) -> Any:
        result = compare(self.pair.source.connect(), self.pair.target.connect(), self.pair.source.schema)
        return result.differing, result.first


@pytest.fixture
def shop(flavour_pair: Any) -> Iterator[Shop]:
    shop = Shop(flavour_pair)
    yield shop
    shop.close()


@pytest.fixture
def make(shop: Shop) -> Iterator[Callable[..., Any]]:
    made: list[Any] = []

    def create(**options: Any) -> Any:
        given = Options(mirror_timeout_seconds=20, **options)
        factory = sessionmaker(shop.engines[Side.SOURCE], shop.engines[Side.TARGET], migration_id="move", options=given)
        instance = factory.kw["dbmigrate_instance"]
        made.append(instance)
        factory().close()
        wait_until(lambda: bool(instance.plans(Side.SOURCE)))
        return factory

    yield create
    for instance in made:
        instance.close()


def counts(factory: Any) -> Any:
    return factory.kw["dbmigrate_instance"].counts.writes()


def add_graph(session: orm.Session) -> None:
    session.add(Customer(name="new", version=1, orders=[Order(total=Decimal("1.50")), Order(total=Decimal("2.00"))]))


def change_and_delete(session: orm.Session) -> None:
    customer = session.get_one(Customer, 2)
    customer.name = "renamed"
    session.delete(session.get_one(Customer, 3))


def change_keys(session: orm.Session) -> None:
    session.get_one(Stock, ("Oslo", DAY)).place = "Bergen"
    session.execute(sa.update(Stock).where(Stock.place == "rome").values(place="Rome", pieces=7))
    session.execute(sa.update(Stock.__table__).values(day=sa.text("day + INTERVAL 1 DAY")).where(Stock.pieces == 5))


def swap_unique_values(session: orm.Session) -> None:
    session.get_one(Setting, "a").value = None
    session.flush()
    session.get_one(Setting, "b").value = "1"


def bulk(session: orm.Session) -> None:
    session.bulk_save_objects([Customer(name=f"bulk {n}", version=1) for n in range(5)])
    session.bulk_insert_mappings(Order.__mapper__, [{"customer_id": 1, "total": n} for n in range(7)])
    session.bulk_update_mappings(Stock.__mapper__, [{"place": "OSLO", "day": DAY, "pieces": 99}])


def core_statements(session: orm.Session) -> None:
    session.execute(sa.insert(Order).values([{"customer_id": 1, "total": 1}, {"customer_id": 2, "total": 2}]))
    session.execute(sa.insert(Order), [{"customer_id": 3, "total": 3}, {"customer_id": 4, "total": 4}])
    session.execute(sa.insert(Order.__table__).values(id=500, customer_id=1, total=5))
    session.execute(sa.update(Order).where(Order.total > 2).values(total=Order.total + 1))
    session.execute(sa.update(Order).values(total=Order.total + 1), execution_options={"synchronize_session": False})
    session.execute(sa.delete(Order).where(Order.customer_id.in_(sa.select(Customer.id).where(Customer.id > 4))))
    session.execute(sa.delete(Stock).where(Stock.place == "ZURICH", Stock.day == DAY))


def savepoints(session: orm.Session) -> None:
    with session.begin_nested():
        session.add(Setting(name="kept", value="k"))
    try:
        with session.begin_nested():
            session.add(Setting(name="undone", value="u"))
            session.execute(sa.delete(Order).where(Order.id == 1))
            with session.begin_nested():
                session.get_one(Setting, "a").value = "inner"
            raise LookupError
    except LookupError:
        pass
    session.add(Setting(name="after", value="z"))


def deleted_again(session: orm.Session) -> None:
    setting = Setting(name="brief", value="x")
    session.add(setting)
    session.flush()
    session.delete(setting)


def upsert_by_key(session: orm.Session) -> None:
    statement = mysql_insert(Stock).values(place="oslo", day=DAY, pieces=1)
    session.execute(statement.on_duplicate_key_update(pieces=statement.inserted.pieces))


def nothing(session: orm.Session) -> None:
    session.execute(sa.update(Order).where(Order.id == 12345).values(total=1))


CAPTURED = [
    add_graph, change_and_delete, change_keys, swap_unique_values, bulk, core_statements, savepoints, deleted_again,
    upsert_by_key, nothing,
]  # fmt: skip


@pytest.mark.parametrize("act", CAPTURED, ids=lambda act: act.__name__)
def test_what_is_captured_stands_on_both_sides(shop: Shop, make: Callable[..., Any], act: Any) -> None:
    factory = make(strict=True)
    before = shop.pair.source.execute("CHECKSUM TABLE customer, orders, stock, setting")
    with factory.begin() as session:
        act(session)
    assert (
        act is nothing
        or act is deleted_again
        or before != shop.pair.source.execute("CHECKSUM TABLE customer, orders, stock, setting")
    )
    assert shop.differing() == (0, ())
    assert (counts(factory).mirrored, counts(factory).mirror_failed, counts(factory).uncaptured) == (1, 0, 0)


UNCAPTURED = [
    sa.text("UPDATE orders SET total = 5"),
    sa.text("/* why */ WITH x AS (SELECT 1) SELECT 1 FROM x"),
    sa.insert(Order).from_select(["customer_id", "total"], sa.select(Order.customer_id, Order.total)),
    mysql_insert(Setting).values(name="c", value="1").on_duplicate_key_update(value="2"),
    sa.update(Order).values(total=9).with_dialect_options(mysql_limit=1, mariadb_limit=1),
]


@pytest.mark.parametrize("number", [0, 2, 3, 4])
def test_what_cannot_be_captured_is_counted_or_refused(shop: Shop, make: Callable[..., Any], number: int) -> None:
    factory = make()
    with factory.begin() as session:
        session.execute(UNCAPTURED[number])
    assert counts(factory).uncaptured == 1
    before = shop.pair.source.execute("CHECKSUM TABLE orders, setting")
    strict = make(strict=True)
    with pytest.raises(UncapturedWriteError, match="cannot be mirrored"), strict.begin() as session:
        session.execute(UNCAPTURED[number])
    assert shop.pair.source.execute("CHECKSUM TABLE orders, setting") == before


def test_a_comment_before_a_read_makes_it_no_write(shop: Shop, make: Callable[..., Any]) -> None:
    factory = make(strict=True)
    with factory.begin() as session:
        session.add(Setting(name="c"))
        session.flush()
        assert session.execute(UNCAPTURED[1]).scalar() == 1


def test_a_session_may_leave_its_transactions_to_the_stream(shop: Shop, make: Callable[..., Any]) -> None:
    factory = make()
    with factory.begin() as session:
        session.info[MIRROR] = False
        session.add(Setting(name="own"))
    assert shop.differing()[0] == 1
    assert counts(factory).mirror_skipped == 1


def test_an_owner_that_refuses_leaves_nothing_on_the_other_side(shop: Shop, make: Callable[..., Any]) -> None:
    factory = make()
    with factory() as session:
        session.add(Setting(name="first"))
        session.flush()
        session.add(Setting(name="second", value="1"))
        with pytest.raises(sa.exc.IntegrityError):
            session.commit()
    assert shop.differing() == (0, ())


def test_a_target_that_refuses_fails_no_write(shop: Shop, make: Callable[..., Any]) -> None:
    factory = make()
    shop.pair.target.execute("DROP TABLE setting")
    with factory.begin() as session:
        session.add(Setting(name="kept"))
    assert shop.pair.source.execute("SELECT COUNT(*) FROM setting WHERE name = 'kept'") == ((1,),)
    assert (counts(factory).mirrored, counts(factory).mirror_failed) == (0, 1)


def test_after_the_switch_the_roles_are_exchanged(shop: Shop, make: Callable[..., Any]) -> None:
    factory = make()
    shop.save_both(FenceRow(2, Side.TARGET, Phase.SOAK, mirror=True))
    wait_until(lambda: factory.kw["dbmigrate_instance"]._orders_for == (Phase.SOAK, True, False))
    with factory.begin() as session:
        add_graph(session)
    assert counts(factory).mirrored == 1
    assert shop.differing() == (0, ())


def test_hot_rows_written_by_many_end_equal(shop: Shop, make: Callable[..., Any]) -> None:
    factory = make()

    def work() -> None:
        for _ in range(25):
            with factory.begin() as session:
                session.execute(sa.update(Order).where(Order.id <= 3).values(total=Order.total + 1))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shop.pair.source.execute("SELECT total FROM orders WHERE id = 2") == ((Decimal(100),),)
    assert shop.differing() == (0, ())
