"""The shop is the judge of a move, so it is judged first: it must see every lost, doubled or altered row."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from databases import Database, Pair
from pymysql.connections import Connection

from dbmigrate.domain.flavours import Flavour
from dbmigrate.throwaway.local_servers import LocalServer
from dbmigrate.throwaway.shop import Comparison, Writers, compare, create_shop, fill_shop, read_total_balance


def build_shop(database: Database, rows: int = 5_000) -> None:
    with closing(database.connect()) as connection:
        create_shop(connection, database.schema)
        fill_shop(connection, database.schema, rows)


def compare_pair(pair: Pair) -> Comparison:
    with closing(pair.source.connect()) as source, closing(pair.target.connect()) as target:
        return compare(source, target, pair.source.schema)


def test_filling_is_the_same_for_the_same_seed_on_every_flavour(flavour_pair: Pair) -> None:
    build_shop(flavour_pair.source)
    build_shop(flavour_pair.target)
    compared = compare_pair(flavour_pair)
    assert (compared.differing, compared.first) == (0, ())
    assert compared.rows == pytest.approx(5_000, rel=0.05)


def test_a_large_shop_is_filled_within_seconds(mariadb_pair: Pair) -> None:
    with closing(mariadb_pair.source.connect()) as connection:
        create_shop(connection, mariadb_pair.source.schema)
        started = time.monotonic()
        rows = fill_shop(connection, mariadb_pair.source.schema, 200_000)
        seconds = time.monotonic() - started
    assert rows == pytest.approx(200_000, rel=0.05)
    assert seconds < 15  # 3 s alone; the machine may be busy


def test_shop_has_one_of_each_kind_of_object(mariadb_pair: Pair) -> None:
    build_shop(mariadb_pair.source, rows=200)
    schema = mariadb_pair.source.schema
    counts = mariadb_pair.source.execute(
        f"SELECT (SELECT COUNT(*) FROM information_schema.triggers WHERE trigger_schema = '{schema}'), "
        f"(SELECT COUNT(*) FROM information_schema.views WHERE table_schema = '{schema}'), "
        f"(SELECT COUNT(*) FROM information_schema.events WHERE event_schema = '{schema}'), "
        f"(SELECT COUNT(*) FROM information_schema.routines WHERE routine_schema = '{schema}')"
    )
    assert counts == ((1, 1, 1, 1),)


@pytest.mark.parametrize(
    ("change", "differing"),
    [
        ("UPDATE accounts SET balance = balance + 0.01 WHERE id = 3", 1),
        ("UPDATE products SET picture = 'x' WHERE id IN (1, 2)", 2),
        ("UPDATE products SET attributes = JSON_SET(attributes, '$.weight', -1) WHERE id = 1", 1),
        ("UPDATE orders SET note = NULL WHERE id = (SELECT MIN(id) FROM orders WHERE note IS NOT NULL)", 1),
        ("UPDATE orders SET updated_at = updated_at + INTERVAL 1 SECOND WHERE id = 7", 1),
        ("DELETE FROM coupons LIMIT 3", 3),
        ("DELETE FROM orders WHERE id = 1", None),  # the order and its lines
        ("INSERT INTO coupons VALUES ('one more', 1, 1, '2030-01-01')", 1),
        ("UPDATE coupons SET code = UPPER(code) WHERE code LIKE BINARY 'naïve%' LIMIT 1", 2),
        ("CREATE TABLE one_side_only (id INT PRIMARY KEY) AS SELECT 1 AS id", 1),
        ("ALTER TABLE coupons DROP COLUMN used", 25),
    ],
)
def test_comparison_sees_every_difference(mariadb_pair: Pair, change: str, differing: int | None) -> None:
    build_shop(mariadb_pair.source)
    build_shop(mariadb_pair.target)
    mariadb_pair.target.execute(change)
    compared = compare_pair(mariadb_pair)
    if differing is None:
        differing = 1 + mariadb_pair.source.execute("SELECT COUNT(*) FROM order_lines WHERE order_id = 1")[0][0]
    assert compared.differing == differing
    assert 0 < len(compared.first) <= 20


def test_comparison_of_a_table_without_key_counts_rows(mariadb_pair: Pair) -> None:
    for database, times in ((mariadb_pair.source, 2), (mariadb_pair.target, 3)):
        database.execute("CREATE TABLE t (a INT)", *["INSERT INTO t VALUES (1)"] * times)
    compared = compare_pair(mariadb_pair)
    assert (compared.rows, compared.differing) == (3, 1)


@pytest.mark.parametrize("width", [1, 2])
def test_comparison_pages_through_long_tables(mariadb_pair: Pair, width: int) -> None:
    """More than two pages, with a hole at a page's edge."""
    key = ("a", "a, b")[width - 1]
    for database in (mariadb_pair.source, mariadb_pair.target):
        database.execute(
            f"CREATE TABLE t (a INT, b INT, PRIMARY KEY ({key}))",
            "INSERT INTO t SELECT seq, seq % 7 FROM seq_1_to_25000",
        )
    mariadb_pair.target.execute("DELETE FROM t WHERE a IN (10000, 10001, 25000)")
    compared = compare_pair(mariadb_pair)
    assert (compared.rows, compared.differing) == (25_000, 3)


@pytest.mark.parametrize(
    "flavour",
    [
        pytest.param(Flavour.MARIADB, id="mariadb"),
        pytest.param(Flavour.MYSQL, id="mysql", marks=pytest.mark.mysql),
    ],
)
def test_every_deed_is_done_and_every_write_is_in_the_journal(
    session_server: Callable[[Flavour, str], LocalServer],
    database_factory: Callable[[LocalServer], Database],
    flavour: Flavour,
) -> None:
    database = database_factory(session_server(flavour, "source"))
    build_shop(database)
    before = database.execute("SELECT SUM(balance) FROM accounts")[0][0]
    with Writers(database.connect, rate=400) as writers:
        time.sleep(3)
    assert (writers.failed, writers.errors) == (0, [])
    assert writers.committed == writers.attempted > 100
    with closing(database.connect()) as connection:
        assert writers.verify_journal(connection) == (0, 0)
        assert read_total_balance(connection) == before
    assert {deed for (deed,) in database.execute("SELECT DISTINCT deed FROM ledger")} == {
        "place_order", "advance_order", "cancel_order", "delete_order", "renumber_line", "move_money",
        "issue_coupon", "rename_coupon", "edit_product", "swap_skus",
    }  # fmt: skip
    assert database.execute("SELECT COUNT(*) FROM order_history")[0][0] > 0


def test_journal_tells_lost_and_doubled_writes(mariadb_pair: Pair) -> None:
    build_shop(mariadb_pair.source)
    with Writers(mariadb_pair.source.connect, rate=200) as writers:
        time.sleep(0.5)
    mariadb_pair.source.execute(
        "DELETE FROM ledger ORDER BY id LIMIT 2",
        "INSERT INTO ledger (client_id, seq, deed, written_at) "
        "SELECT client_id, seq, deed, written_at FROM ledger ORDER BY id LIMIT 3",
    )
    with closing(mariadb_pair.source.connect()) as connection:
        assert writers.verify_journal(connection) == (2, 3)


def open_application_route(database: Database) -> Callable[[], Connection[Any]]:
    """A connection of an ordinary account: read_only does not hold an administrator."""
    database.server.execute(
        "CREATE USER IF NOT EXISTS 'app'@'127.0.0.1' IDENTIFIED BY 'made-up'",
        f"GRANT SELECT, INSERT, UPDATE, DELETE, EXECUTE ON `{database.schema}`.* TO 'app'@'127.0.0.1'",
    )
    return lambda: database.connect(user="app", password="made-up")


@pytest.mark.parametrize(
    ("close", "open_again"),
    [
        pytest.param("SET GLOBAL read_only = ON", "SET GLOBAL read_only = OFF", id="read_only"),
        pytest.param(
            "CREATE TRIGGER guard BEFORE INSERT ON ledger FOR EACH ROW SIGNAL SQLSTATE '45000'",
            "DROP TRIGGER guard",
            id="guard",
        ),
        pytest.param("FLUSH TABLES WITH READ LOCK", "UNLOCK TABLES", id="lock"),
    ],
)
def test_writers_wait_at_a_closed_fence_and_lose_nothing(mariadb_pair: Pair, close: str, open_again: str) -> None:
    database = mariadb_pair.source
    build_shop(database)
    route = open_application_route(database)
    with closing(database.connect()) as fence, fence.cursor() as cursor:
        with Writers(route, rate=200) as writers:
            time.sleep(0.5)
            writers.forget_gaps()
            cursor.execute(close)
            time.sleep(0.4)
            cursor.execute(open_again)
            time.sleep(0.5)
        assert writers.verify_journal(fence) == (0, 0)
    assert (writers.failed, writers.errors) == (0, [])
    assert len(writers.pause_gaps_ms) == 4
    assert all(350 < gap < 5_000 for gap in writers.pause_gaps_ms)


def test_writers_survive_kills_of_the_server(server_factory: Callable[..., LocalServer]) -> None:
    """Commits whose answer was lost are settled by the journal: none is lost, none is made twice."""
    server = server_factory()
    database = Database(server, "shop")
    server.execute("CREATE DATABASE shop")
    build_shop(database)
    with Writers(lambda: database.connect(connect_timeout=2), rate=2_000) as writers:
        for _ in range(3):
            time.sleep(0.7)
            server.kill()
            server.start()
        time.sleep(0.5)
    assert (writers.failed, writers.errors) == (0, [])
    assert writers.retried > 0
    with closing(database.connect()) as connection:
        assert writers.verify_journal(connection) == (0, 0)


def test_writers_follow_the_route(mariadb_pair: Pair) -> None:
    """After a switch the same customers go on at the other side."""
    build_shop(mariadb_pair.source)
    build_shop(mariadb_pair.target)
    routes = {side: open_application_route(getattr(mariadb_pair, side)) for side in ("source", "target")}
    owner = ["source"]
    with Writers(lambda: routes[owner[0]](), rate=100) as writers:
        time.sleep(0.4)
        mariadb_pair.source.execute("SET GLOBAL read_only = ON")
        owner[0] = "target"
        time.sleep(0.4)
    written = [
        database.execute("SELECT COUNT(*) FROM ledger")[0][0] for database in (mariadb_pair.source, mariadb_pair.target)
    ]
    assert all(written)
    assert sum(written) == writers.committed


def test_hopeless_errors_are_failures_with_their_reason(mariadb_pair: Pair) -> None:
    build_shop(mariadb_pair.source)
    mariadb_pair.source.execute("DROP TABLE ledger")
    with Writers(mariadb_pair.source.connect, rate=100, threads=1) as writers:
        time.sleep(0.3)
    assert writers.committed == 0
    assert writers.failed == writers.attempted > 0
    assert "ledger" in writers.errors[0]
