"""Sessions that follow the owner, against real servers and a hand-made switch."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from app_rows import ID, FenceRows, replace_row, wait_until
from sqlalchemy import orm

from dbmigrate.app import Options, sessionmaker
from dbmigrate.app.reading import READ_KEY
from dbmigrate.domain.errors import ConfigurationError
from dbmigrate.domain.ownership import FenceRow
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Side


class Base(orm.DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "item"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str] = orm.mapped_column(sa.String(50))


class Shop(FenceRows):
    """Two databases with the same tables."""

    def __init__(self, pair: Any) -> None:
        super().__init__(pair)
        for engine in self.engines.values():
            Base.metadata.create_all(engine)

    def names(self, side: Side) -> set[str]:
        return {row[0] for row in self.databases[side].execute("SELECT name FROM item")}


@pytest.fixture
def shop(flavour_pair: Any) -> Iterator[Shop]:
    shop = Shop(flavour_pair)
    yield shop
    shop.close()


@pytest.fixture
def make(shop: Shop) -> Iterator[Callable[..., Any]]:
    made: list[Any] = []

    def create(**options: Any) -> Any:
        factory = sessionmaker(shop.engines[Side.SOURCE], shop.engines[Side.TARGET], migration_id=ID, **options)
        made.append(factory.kw["dbmigrate_instance"])
        return factory

    yield create
    for instance in made:
        instance.close()


def test_without_a_migration_everything_goes_to_the_source(shop: Shop, make: Callable[..., Any]) -> None:
    factory = make()
    with factory.begin() as session:
        session.add(Item(name="plain"))
    with factory() as session:
        assert session.scalars(sa.select(Item.name)).all() == ["plain"]
    assert (shop.names(Side.SOURCE), shop.names(Side.TARGET)) == ({"plain"}, set())


def test_writes_go_to_the_owner_that_the_row_names(shop: Shop, make: Callable[..., Any]) -> None:
    shop.create_fence()
    factory = make()
    for epoch, owner in ((1, Side.SOURCE), (2, Side.TARGET), (3, Side.SOURCE)):
        shop.save_both(FenceRow(epoch, owner, Phase.SOAK if owner is Side.TARGET else Phase.CATCH_UP))
        with factory.begin() as session:
            session.add(Item(name=f"epoch {epoch}"))
        with factory() as session:
            assert f"epoch {epoch}" in session.scalars(sa.select(Item.name)).all()
    assert shop.names(Side.SOURCE) == {"epoch 1", "epoch 3"}
    assert shop.names(Side.TARGET) == {"epoch 2"}


def test_a_switch_waits_for_a_writer_and_the_next_writer_for_the_switch(shop: Shop, make: Callable[..., Any]) -> None:
    shop.create_fence()
    shop.save_both(FenceRow(1, Side.SOURCE, Phase.CUTOVER))
    factory = make()
    runner = shop.pair.source.server.connect(autocommit=False)
    locked, committed = threading.Event(), threading.Event()

    def switch() -> None:
        with runner.cursor() as cursor:
            cursor.execute(f"SELECT * FROM _dbmigrate.fence WHERE migration_id = '{ID}' FOR UPDATE")
            locked.set()
            committed.wait(20)
            cursor.execute(replace_row(FenceRow(2, Side.TARGET, Phase.SOAK)))
            runner.commit()

    writer = factory()
    writer.add(Item(name="before"))
    writer.flush()
    switching = threading.Thread(target=switch)
    switching.start()
    assert not locked.wait(0.3)
    writer.commit()
    assert locked.wait(20)

    def write() -> None:
        with factory.begin() as session:
            session.add(Item(name="after"))

    late = threading.Thread(target=write)
    late.start()
    late.join(0.3)
    assert late.is_alive()
    committed.set()
    late.join(20)
    switching.join(20)
    assert (shop.names(Side.SOURCE), shop.names(Side.TARGET)) == ({"before"}, {"after"})
    # The runner died between its two commits; the writer has completed the switch.
    assert shop.pair.target.server.execute("SELECT epoch, owner FROM _dbmigrate.fence") == ((2, "target"),)


def test_a_transaction_that_has_only_read_moves_with_its_first_write(shop: Shop, make: Callable[..., Any]) -> None:
    shop.create_fence()
    shop.save_both(FenceRow(1, Side.SOURCE, Phase.CUTOVER))
    factory = make()
    with factory() as session:
        assert session.scalars(sa.select(Item)).all() == []
        shop.save_both(FenceRow(2, Side.TARGET, Phase.SOAK))
        with session.begin_nested():
            session.add(Item(name="moved"))
        assert session.scalars(sa.select(Item.name)).all() == ["moved"]
        session.commit()
    assert (shop.names(Side.SOURCE), shop.names(Side.TARGET)) == (set(), {"moved"})


def test_a_migration_that_begins_while_nobody_looks_is_obeyed_once_the_look_has_expired(
    shop: Shop, make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    factory = make()
    instance = factory.kw["dbmigrate_instance"]
    with factory() as session:
        session.execute(sa.text("SELECT 1"))
    wait_until(lambda: instance._known is not None)
    instance.close()  # the thread hangs: nobody looks any more
    shop.create_fence()
    shop.save_both(FenceRow(2, Side.TARGET, Phase.SOAK))
    time.sleep(3.1)
    with factory.begin() as session:
        session.add(Item(name="late"))
    assert (shop.names(Side.SOURCE), shop.names(Side.TARGET)) == (set(), {"late"})


@pytest.mark.parametrize(
    "statement", ["INSERT INTO item (name) VALUES ('raw')", "/* hi */ insert item set name = 'raw'", "DO 1"]
)
def test_raw_statements_go_to_the_owner_too(shop: Shop, make: Callable[..., Any], statement: str) -> None:
    shop.create_fence()
    shop.save_both(FenceRow(2, Side.TARGET, Phase.SOAK))
    with make().begin() as session:
        session.execute(sa.text(statement))
    assert shop.names(Side.SOURCE) == set()


def test_a_share_of_readers_reads_the_target_and_keeps_to_it(shop: Shop, make: Callable[..., Any]) -> None:
    shop.create_fence()
    shop.save_both(FenceRow(1, Side.SOURCE, Phase.RAMP_READS, read_share=25))
    for side, database in shop.databases.items():
        database.execute(f"INSERT INTO item (name) VALUES ('{side.value}')")
    factory = make()
    wait_until(lambda: read_by(factory, "anybody") is not None and factory.kw["dbmigrate_instance"].known is not None)
    answers = {key: read_by(factory, key) for key in range(400)}
    assert 60 <= sum(answer == "target" for answer in answers.values()) <= 140
    assert answers == {key: read_by(factory, key) for key in range(400)}
    counts = factory.kw["dbmigrate_instance"].counts.reads()
    assert counts.target_latency.samples == counts.target > 100


def read_by(factory: Any, key: object) -> Any:
    with factory(info={READ_KEY: key}) as session:
        return session.scalar(sa.select(Item.name))


def test_a_session_that_has_written_reads_from_the_owner(shop: Shop, make: Callable[..., Any]) -> None:
    shop.create_fence()
    shop.save_both(FenceRow(1, Side.SOURCE, Phase.RAMP_READS, read_share=100))
    factory = make()
    wait_until(lambda: read_by(factory, 1) is None and factory.kw["dbmigrate_instance"].known is not None)
    with factory.begin() as session:
        assert session.scalars(sa.select(Item.name)).all() == []
        session.add(Item(name="mine"))
        assert session.scalars(sa.select(Item.name)).all() == ["mine"]
    assert shop.names(Side.SOURCE) == {"mine"}


def test_a_read_that_fails_on_the_target_is_answered_by_the_owner(shop: Shop, make: Callable[..., Any]) -> None:
    shop.create_fence()
    shop.save_both(FenceRow(1, Side.SOURCE, Phase.RAMP_READS, read_share=100))
    shop.pair.source.execute("INSERT INTO item (name) VALUES ('source')")
    factory = make()
    wait_until(lambda: read_by(factory, 1) is None)
    with factory() as session:
        assert session.scalar(sa.select(sa.func.connection_id())) > 0
        connection = session.connection(bind_arguments={"bind": shop.engines[Side.TARGET]})
        shop.pair.target.server.execute(f"KILL {connection.scalar(sa.text('SELECT CONNECTION_ID()'))}")
        assert session.scalars(sa.select(Item.name)).all() == ["source"]
        session.commit()
    assert factory.kw["dbmigrate_instance"].counts.reads().fallbacks == 1


def test_a_write_in_autocommit_is_refused_because_nothing_would_hold_it_back(
    shop: Shop, make: Callable[..., Any]
) -> None:
    shop.create_fence()
    shop.save_both(FenceRow(1, Side.SOURCE, Phase.CATCH_UP))
    with make()() as session:
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        session.rollback()
        with pytest.raises(ConfigurationError, match="autocommit"):
            session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
    assert shop.names(Side.SOURCE) == set()


@pytest.mark.parametrize("text", ["", "has space", "x" * 80])
def test_an_id_that_no_migration_can_have_is_refused(shop: Shop, text: str) -> None:
    with pytest.raises(ConfigurationError, match="id of a migration"):
        sessionmaker(shop.engines[Side.SOURCE], shop.engines[Side.TARGET], migration_id=text)


def test_options_are_a_value(shop: Shop) -> None:
    assert Options(strict=True) == Options(strict=True)
