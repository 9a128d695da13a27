"""What an application may meet or get wrong: servers that are down at the worst moment, a slip in the id, tables and models
that do not fit. Every case ends in a clear error or in nothing at all, and nothing is lost."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import sqlalchemy as sa
from app_rows import FenceRows, plans_of, wait_until
from sqlalchemy import orm

from dbmigrate.app import Options, sessionmaker
from dbmigrate.app.capture.listening import UncapturedWriteError
from dbmigrate.domain.evidence import WriteCounts
from dbmigrate.domain.ownership import FenceRow
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Direction, Side
from dbmigrate.mysql.control_tables import METADATA
from dbmigrate.mysql.mirror_plan import save_plans
from dbmigrate.throwaway.tcp_proxy import TcpProxy


class Base(orm.DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "item"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str] = orm.mapped_column(sa.String(50), unique=True)


class Halved(Base):
    """The table has another column in its key."""

    __tablename__ = "halved"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str] = orm.mapped_column(sa.String(50))


LOG = "CREATE TABLE log (line VARCHAR(50))"
HALVED = "CREATE TABLE halved (id INT, part INT NOT NULL DEFAULT 7, name VARCHAR(50), PRIMARY KEY (id, part))"
MIRRORING = FenceRow(1, Side.SOURCE, Phase.DUAL_WRITE, mirror=True)


class Shop(FenceRows):
    """Both servers behind proxies, whose cut is a server that is down for the application alone."""

    def __init__(self, pair: Any, proxies: dict[Side, TcpProxy]) -> None:
        super().__init__(pair)
        self.proxies = proxies
        for side, engine in self.engines.items():
            Item.__table__.create(engine)
            self.databases[side].execute(LOG, HALVED)
        with self.engines[Side.TARGET].begin() as connection:
            connection.exec_driver_sql("CREATE DATABASE _dbmigrate")
            METADATA.create_all(connection)
            plans = [plan for name, plan in plans_of(pair, exclude=["log"]).items() if name != "log"]
            for direction in Direction:
                save_plans(connection, "move", direction, plans)
        self.create_fence()

    def names(self, side: Side, table: str = "item") -> list[str]:
        return [row[0] for row in self.databases[side].execute(f"SELECT name FROM {table} ORDER BY name")]

    def url(self, side: Side) -> sa.URL:
        return self.engines[side].url.set(port=self.proxies[side].port, query={"charset": "utf8mb4", "connect_timeout": "2"})


@pytest.fixture
def shop(mariadb_pair: Any) -> Iterator[Shop]:
    with ExitStack() as stack:
        proxies = {
            side: stack.enter_context(TcpProxy("127.0.0.1", database.server.port))
            for side, database in ((Side.SOURCE, mariadb_pair.source), (Side.TARGET, mariadb_pair.target))
        }
        shop = Shop(mariadb_pair, proxies)
        yield shop
        shop.close()


@pytest.fixture
def make(shop: Shop) -> Iterator[Callable[..., Any]]:
    made: list[Any] = []

    def create(row: FenceRow | None, *, target: sa.URL | None = None, migration_id: str = "move", **options: Any) -> Any:
        if row is not None:
            shop.save_both(row)
        engines = [sa.create_engine(shop.url(Side.SOURCE)), sa.create_engine(target or shop.url(Side.TARGET))]
        factory = sessionmaker(*engines, migration_id=migration_id, options=Options(**options))
        made.append((factory, engines))
        factory().close()
        instance = factory.kw["dbmigrate_instance"]
        wait_until(lambda: instance._known is not None)
        if row is not None and row.mirror and target is None:
            wait_until(lambda: bool(instance.plans(row.owner)))
        return factory

    yield create
    for factory, engines in made:
        factory.close()
        for engine in engines:
            engine.dispose()


def writes(factory: Any) -> WriteCounts:
    return factory.kw["dbmigrate_instance"].counts.writes()


@pytest.fixture
def nobody() -> Iterator[sa.URL]:
    """A port on which nothing answers."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield sa.URL.create("mysql+pymysql", "root", "x", "127.0.0.1", taken.getsockname()[1], "shop")


@pytest.mark.parametrize("row", [None, FenceRow(1, Side.SOURCE, Phase.COPY), MIRRORING], ids=["idle", "copy", "dual_write"])
def test_a_target_that_is_down_at_the_start_fails_nobody(
    shop: Shop, make: Callable[..., Any], nobody: sa.URL, row: FenceRow | None
) -> None:
    """Without a migration it need not even exist. With one the source owns the data, and the stream brings the rest."""
    factory = make(row, target=nobody)
    with factory.begin() as session:
        session.add(Item(name="one"))
        assert session.scalars(sa.select(Item.name)).all() == ["one"]
    assert shop.names(Side.SOURCE) == ["one"]
    assert (writes(factory).failed, writes(factory).mirrored) == (0, 0)


def test_a_mirror_that_goes_down_at_flush_or_at_commit_fails_no_write(shop: Shop, make: Callable[..., Any]) -> None:
    factory = make(MIRRORING, mirror_timeout_seconds=3)
    with factory.begin() as session:
        session.add(Item(name="before"))
    with factory.begin() as session:
        session.add(Item(name="at flush"))
        session.flush()
        shop.proxies[Side.TARGET].cut()
    assert shop.names(Side.SOURCE) == ["at flush", "before"]
    assert shop.names(Side.TARGET) == ["before"]
    assert (writes(factory).mirrored, writes(factory).mirror_failed, writes(factory).failed) == (1, 1, 0)
    shop.proxies[Side.TARGET].restore()
    with factory.begin() as session:
        session.add(Item(name="later"))
    wait_until(lambda: writes(factory).mirrored == 2)


@pytest.mark.parametrize("moment", ["start", "flush", "commit"])
def test_an_owner_that_goes_down_fails_the_transaction_and_leaves_nothing(
    shop: Shop, make: Callable[..., Any], moment: str
) -> None:
    """After the switch the target owns the data: nothing may fall back to the source."""
    factory = make(FenceRow(3, Side.TARGET, Phase.SOAK, mirror=True))
    with factory.begin() as session:
        session.add(Item(name="before"))
    session = factory()
    if moment != "start":
        session.add(Item(name="lost"))
    if moment == "commit":
        session.flush()
    shop.proxies[Side.TARGET].cut()
    session.add(Item(name="lost too"))
    with pytest.raises(sa.exc.DBAPIError):
        session.commit()
    session.close()
    shop.proxies[Side.TARGET].restore()
    assert writes(factory).failed == 1
    factory.kw["dbmigrate_instance"].engines[Side.TARGET].dispose()  # or pool_pre_ping, as with any restart
    with factory.begin() as session:
        session.add(Item(name="again"))
    assert shop.names(Side.TARGET) == ["again", "before"]
    assert shop.names(Side.SOURCE) == ["again", "before"]


def test_an_owner_whose_answer_to_the_commit_is_lost_leaves_the_rest_to_the_stream(
    shop: Shop, make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows whether the owner has committed, so the mirror does not, and the application learns of it."""
    factory = make(MIRRORING)
    dialect = factory.kw["dbmigrate_instance"].engines[Side.SOURCE].dialect
    commit = dialect.do_commit

    def loses_the_answer(connection: Any) -> None:
        commit(connection)
        raise dialect.loaded_dbapi.OperationalError(2013, "Lost connection to server during query")

    with monkeypatch.context() as patched:
        patched.setattr(dialect, "do_commit", loses_the_answer)
        session = factory()
        session.add(Item(name="one"))
        with pytest.raises(sa.exc.OperationalError, match="Lost connection"):
            session.commit()
        session.close()
    assert (shop.names(Side.SOURCE), shop.names(Side.TARGET)) == (["one"], [])
    assert (writes(factory).failed, writes(factory).mirrored) == (1, 0)


def test_a_mirror_whose_answer_to_the_commit_is_lost_fails_no_write(
    shop: Shop, make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    factory = make(MIRRORING)
    commit = sa.Connection.commit

    def loses_the_answer(connection: sa.Connection) -> None:
        commit(connection)
        raise sa.exc.OperationalError(None, None, Exception(2013, "Lost connection to server during query"))

    with monkeypatch.context() as patched:
        patched.setattr(sa.Connection, "commit", loses_the_answer)  # sessions commit by their transactions
        with factory.begin() as session:
            session.add(Item(name="one"))
    assert shop.names(Side.SOURCE) == shop.names(Side.TARGET) == ["one"]
    assert (writes(factory).transactions, writes(factory).mirror_failed, writes(factory).failed) == (1, 1, 0)


def test_what_the_application_gets_wrong_by_itself_is_no_failure_of_the_move(shop: Shop, make: Callable[..., Any]) -> None:
    factory = make(MIRRORING)
    for name in ("one", "one"):
        session = factory()
        session.add(Item(name=name))
        if writes(factory).transactions:
            with pytest.raises(sa.exc.IntegrityError):
                session.commit()
        else:
            session.commit()
        session.close()
    assert (writes(factory).transactions, writes(factory).failed) == (1, 0)


def test_a_side_that_has_been_closed_counts_as_a_failure_of_the_move(shop: Shop, make: Callable[..., Any]) -> None:
    factory = make(FenceRow(1, Side.SOURCE, Phase.CATCH_UP))
    shop.databases[Side.SOURCE].execute(
        "CREATE TRIGGER closed BEFORE INSERT ON item FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = "
        "'dbmigrate: this database has moved; write to the other server'"
    )
    session = factory()
    session.add(Item(name="one"))
    with pytest.raises(sa.exc.DBAPIError, match="has moved"):
        session.commit()
    session.close()
    assert writes(factory).failed == 1


def test_a_slip_in_the_id_is_told(
    shop: Shop, make: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    shop.save_both(MIRRORING)
    with caplog.at_level(logging.WARNING):
        make(None, migration_id="mvoe")
        wait_until(lambda: "'mvoe'" in caplog.text)
    assert "the server knows 'move'" in caplog.text


def test_a_privilege_that_is_missing_is_told_with_its_remedy(
    shop: Shop, make: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    shop.save_both(MIRRORING)
    server = shop.pair.target.server
    server.create_user("poor", "secret-word", f"ALL ON `{shop.pair.target.schema}`.*", "SELECT, UPDATE ON _dbmigrate.fence")
    url = shop.url(Side.TARGET).set(username="poor", password="secret-word")
    with caplog.at_level(logging.WARNING):
        make(MIRRORING, target=url)
        wait_until(lambda: "cannot be read" in caplog.text)
    assert "SELECT command denied to user" in caplog.text
    assert "docs/runbook.md" in caplog.text
    assert "secret-word" not in caplog.text


def test_a_table_without_a_key_does_not_move_and_is_left_alone(shop: Shop, make: Callable[..., Any]) -> None:
    """`dbmigrate check` refuses it; excluded, it stays where it is."""
    factory = make(MIRRORING)
    with factory.begin() as session:
        session.execute(sa.insert(sa.table("log", sa.column("line"))).values(line="one"))
        session.add(Item(name="one"))
    assert shop.names(Side.TARGET) == ["one"]
    assert shop.pair.source.execute("SELECT * FROM log") == (("one",),)
    assert shop.pair.target.execute("SELECT * FROM log") == ()


def test_a_model_that_lacks_a_column_of_the_key_is_counted_or_refused(shop: Shop, make: Callable[..., Any]) -> None:
    factory = make(MIRRORING)
    with factory.begin() as session:
        session.add(Halved(id=1, name="one"))
    assert (shop.names(Side.SOURCE, "halved"), shop.names(Side.TARGET, "halved")) == (["one"], [])
    assert (writes(factory).uncaptured, writes(factory).mirror_failed) == (1, 0)
    strict = make(MIRRORING, strict=True)
    with pytest.raises(UncapturedWriteError, match="part"), strict.begin() as session:
        session.add(Halved(id=2, name="two"))
    assert shop.names(Side.SOURCE, "halved") == ["one"]


def test_a_model_with_a_column_that_the_table_lacks_fails_as_without_the_library(
    shop: Shop, make: Callable[..., Any]
) -> None:
    other = type("Other", (orm.DeclarativeBase,), {})

    class Wide(other):  # type: ignore[misc, valid-type]
        __tablename__ = "item"
        id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
        name: orm.Mapped[str]
        colour: orm.Mapped[str]

    factory = make(MIRRORING)
    with pytest.raises(sa.exc.OperationalError, match="colour"), factory.begin() as session:
        session.add(Wide(name="one", colour="red"))
    assert (shop.names(Side.SOURCE), shop.names(Side.TARGET)) == ([], [])
    assert writes(factory).failed == 0
