"""Mirrors of transactions: what reaches the other side, byte by byte, and what a failing other side may cost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from app_rows import engine_of, plans_of
from type_catalogue import TYPES

from dbmigrate.app.bounded import InThreads
from dbmigrate.app.capture.touched import Touched
from dbmigrate.app.mirror import Mirrors, read_back
from dbmigrate.domain.routes import Side
from dbmigrate.mysql.mirror_plan import MirrorPlan
from dbmigrate.throwaway.row_comparison import compare


@pytest.fixture
def mirrors(request: pytest.FixtureRequest) -> Iterator[Callable[..., Mirrors]]:
    made: list[Mirrors] = []

    def create(pair: Any, **options: Any) -> Mirrors:
        engines = {Side.SOURCE: engine_of(pair.source), Side.TARGET: engine_of(pair.target)}
        made.append(Mirrors(engines, InThreads(2), **{"timeout_seconds": 20.0} | options))
        return made[-1]

    yield create
    for one in made:
        one.close()


def by_id(plan: MirrorPlan, *ids: int) -> Touched:
    return Touched(plan, (sa.column("id", sa.Integer),), tuple((n,) for n in ids))


@pytest.mark.parametrize("zone", ["+00:00", "+05:30"])
def test_every_type_arrives_as_the_owner_holds_it(
    flavour_pair: Any, mirrors: Callable[..., Mirrors], zone: str
) -> None:
    """Whatever the time zone and the sql_mode of the application's session."""
    owner = engine_of(flavour_pair.source)
    with owner.connect() as connection:
        connection.exec_driver_sql("SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES', foreign_key_checks = 0")
        connection.exec_driver_sql(f"SET time_zone = '{zone}'")
        for name, (declaration, _) in TYPES.items():
            statement = f"CREATE TABLE `{name}` (id INT PRIMARY KEY, v {declaration})".replace("%", "%%")
            connection.exec_driver_sql(statement)
            flavour_pair.target.execute(statement)
        plans = plans_of(flavour_pair)
        touched = []
        for name, (_, values) in TYPES.items():
            for number, value in enumerate(values):
                connection.exec_driver_sql(
                    f"INSERT INTO `{name}` VALUES ({number}, {value})", execution_options={"no_parameters": True}
                )
            touched.append(by_id(plans[name], *range(len(values))))
        batches = read_back(connection, touched)
        assert connection.exec_driver_sql("SELECT @@SESSION.time_zone").scalar() == zone
        service = mirrors(flavour_pair)
        mirror = service.write(Side.TARGET, 7, batches)
        assert mirror is not None
        connection.commit()
        assert service.commit(service.begin_commit(mirror))
    source, target = flavour_pair.source.connect(), flavour_pair.target.connect()
    result = compare(source, target, flavour_pair.source.schema)
    assert (result.differing, result.rows) == (0, sum(len(values) for _, values in TYPES.values())), result.first


@pytest.fixture
def items(mariadb_pair: Any) -> Any:
    for database in (mariadb_pair.source, mariadb_pair.target):
        database.execute("CREATE TABLE item (id INT PRIMARY KEY, v INT)", "INSERT INTO item VALUES (1, 1), (2, 2)")
    return mariadb_pair


def test_rows_that_are_gone_are_deleted_and_others_written(items: Any, mirrors: Callable[..., Mirrors]) -> None:
    service = mirrors(items)
    with engine_of(items.source).connect() as connection:
        connection.exec_driver_sql("DELETE FROM item WHERE id = 1")
        connection.exec_driver_sql("UPDATE item SET v = 22 WHERE id = 2")
        connection.exec_driver_sql("INSERT INTO item VALUES (3, 3)")
        batches = read_back(connection, [by_id(plans_of(items)["item"], 1, 2, 3, 4)])
        mirror = service.write(Side.TARGET, 1, batches)
        assert mirror is not None
        assert items.target.execute("SELECT * FROM item") == ((1, 1), (2, 2))  # nothing before the owner commits
        connection.commit()
        service.commit(service.begin_commit(mirror))
    assert items.target.execute("SELECT * FROM item") == ((2, 22), (3, 3))


def test_a_limit_of_the_applications_session_cuts_no_mirror(items: Any, mirrors: Callable[..., Mirrors]) -> None:
    """A row that is not read back would be deleted on the other side."""
    service = mirrors(items)
    with engine_of(items.source).connect() as connection:
        connection.exec_driver_sql("SET sql_select_limit = 1")
        connection.exec_driver_sql("UPDATE item SET v = v + 10")
        mirror = service.write(Side.TARGET, 1, read_back(connection, [by_id(plans_of(items)["item"], 1, 2)]))
        assert mirror is not None
        connection.commit()
        service.commit(service.begin_commit(mirror))
    assert items.target.execute("SELECT * FROM item") == ((1, 11), (2, 12))


def test_a_mirror_whose_owner_rolls_back_leaves_nothing(items: Any, mirrors: Callable[..., Mirrors]) -> None:
    service = mirrors(items)
    with engine_of(items.source).connect() as connection:
        connection.exec_driver_sql("UPDATE item SET v = 22 WHERE id = 2")
        mirror = service.write(Side.TARGET, 1, read_back(connection, [by_id(plans_of(items)["item"], 2)]))
        assert mirror is not None
        connection.rollback()
        service.rollback(mirror)
    assert items.target.execute("SELECT * FROM item") == ((1, 1), (2, 2))


def test_renames_filters_and_expressions_are_applied(items: Any, mirrors: Callable[..., Mirrors]) -> None:
    items.source.execute("CREATE TABLE t (id INT PRIMARY KEY, cents INT, keep INT)")
    items.target.execute("CREATE TABLE renamed (id INT PRIMARY KEY, euros DECIMAL(10,2), keep INT)")
    options = {"rename": "renamed", "where": "keep = 1", "columns": {"euros": "cents / 100"}, "omit": ["cents"]}
    plan = plans_of(items, t=options)["t"]
    service = mirrors(items)
    with engine_of(items.source).connect() as connection:
        connection.exec_driver_sql("INSERT INTO t VALUES (1, 150, 1), (2, 250, 0)")
        mirror = service.write(Side.TARGET, 1, read_back(connection, [by_id(plan, 1, 2)]))
        assert mirror is not None
        connection.commit()
        service.commit(service.begin_commit(mirror))
    assert [tuple(map(str, row)) for row in items.target.execute("SELECT * FROM renamed")] == [("1", "1.50", "1")]


def test_a_row_that_is_locked_on_the_other_side_costs_a_second_and_the_mirror(
    items: Any, mirrors: Callable[..., Mirrors]
) -> None:
    service = mirrors(items)
    blocker = items.target.connect(autocommit=False)
    with blocker.cursor() as cursor:
        cursor.execute("SELECT * FROM item WHERE id = 2 FOR UPDATE")
    with engine_of(items.source).connect() as connection:
        connection.exec_driver_sql("UPDATE item SET v = 22 WHERE id = 2")
        assert service.write(Side.TARGET, 1, read_back(connection, [by_id(plans_of(items)["item"], 2)])) is None
        connection.commit()
    blocker.rollback()
    assert items.target.execute("SELECT * FROM item") == ((1, 1), (2, 2))


def test_a_frozen_other_side_is_walked_away_from_and_then_left_alone(
    items: Any, mirrors: Callable[..., Mirrors]
) -> None:
    """Nothing of what was walked away from commits once the server goes on."""
    service = mirrors(items, timeout_seconds=0.2)
    plan = plans_of(items)["item"]
    items.target.server.freeze()
    try:
        with engine_of(items.source).connect() as connection:
            connection.exec_driver_sql("UPDATE item SET v = 22 WHERE id = 2")
            batches = read_back(connection, [by_id(plan, 2)])
            for _ in range(5):
                began_at = time.monotonic()
                assert service.write(Side.TARGET, 1, batches) is None
                assert time.monotonic() - began_at < 2
            assert not service.breaker.lets_through()
            connection.rollback()
    finally:
        items.target.server.thaw()
    time.sleep(1)
    assert items.target.execute("SELECT * FROM item") == ((1, 1), (2, 2))


def test_hot_rows_end_equal_on_both_sides(items: Any, mirrors: Callable[..., Mirrors]) -> None:
    """The owner's locks order the mirrors."""
    service = mirrors(items)
    plan = plans_of(items)["item"]
    engine = engine_of(items.source, pool_size=8)

    def work() -> None:
        for _ in range(40):
            with engine.connect() as connection:
                connection.exec_driver_sql("UPDATE item SET v = v + 1 WHERE id = 1")
                mirror = service.write(Side.TARGET, 1, read_back(connection, [by_id(plan, 1)]))
                connection.commit()
                assert mirror is not None
                assert service.commit(service.begin_commit(mirror))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert items.source.execute("SELECT v FROM item WHERE id = 1") == ((81,),)
    assert items.target.execute("SELECT v FROM item WHERE id = 1") == ((81,),)
