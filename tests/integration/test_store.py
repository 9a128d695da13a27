"""The store as its customers meet it: over HTTP, in a process of its own, with many at the same shelf."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from databases import Database
from store_setup import build_store, open_engine, store_url

from dbmigrate.domain.flavours import Flavour
from dbmigrate.store.child_server import ChildServer, ChildServerError
from dbmigrate.store.journal import LoadResult
from dbmigrate.store.load import Load
from dbmigrate.store.models import Base
from dbmigrate.throwaway.local_servers import LocalServer

BOTH_FLAVOURS = (Flavour.MARIADB, pytest.param(Flavour.MYSQL, marks=pytest.mark.mysql))
STOCK = 1_000


Shop = tuple[ChildServer, Database]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """One store for all tests, because starting is what costs. On a server of its own: other tests clear theirs.

    It refuses to lock rows that have changed since the transaction's snapshot, as MariaDB does from 11.6 on.
    """
    directory = tmp_path_factory.mktemp("shop")
    options = {"loose_innodb_snapshot_isolation": "ON"}
    with LocalServer.mariadb(directory, name="shop", options=options) as server:
        server.execute("CREATE DATABASE store CHARACTER SET utf8mb4")
        database = Database(server, "store")
        with ChildServer(store_url(database), log=directory / "store.log") as store:
            yield store, database


@pytest.fixture
def database(shop: Shop) -> Database:
    """With fresh tables and full shelves."""
    _, database = shop
    with open_engine(database) as engine:
        Base.metadata.drop_all(engine)
    build_store(database, stock=STOCK)
    return database


@pytest.fixture
def store(shop: Shop, database: Database) -> ChildServer:
    """Running, on ``database``."""
    store, _ = shop
    store.start()
    return store


def ask(store: ChildServer, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    with closing(http.client.HTTPConnection(store.host, store.port, timeout=30)) as connection:
        content = None if body is None else json.dumps(body)
        connection.request(method, path, content, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def build_order(token: str, *lines: tuple[int, int], customer_id: int = 3) -> dict[str, Any]:
    wishes = [{"product_id": product_id, "quantity": quantity} for product_id, quantity in lines]
    return {"token": token, "customer_id": customer_id, "lines": wishes}


def read_stock(database: Database, product_id: int) -> int:
    return int(database.execute(f"SELECT quantity FROM stock WHERE product_id = {product_id}")[0][0])


def check(load: Load, database: Database) -> LoadResult:
    with open_engine(database) as engine, engine.connect() as connection:
        return load.check(connection)


# --- one customer --------------------------------------------------------------------------------------------------


def test_order_takes_stock_and_money_and_gives_both_back(store: ChildServer, database: Database) -> None:
    """The lines keep their order, and one product may stand in two."""
    prices = dict(database.execute("SELECT id, price FROM product"))
    status, order = ask(store, "POST", "/orders", build_order("t1", (2, 1), (1, 2), (2, 3)))
    assert status == 201
    assert Decimal(order["total"]) == 4 * prices[2] + 2 * prices[1]
    assert ask(store, "GET", "/orders/t1") == (200, order)
    assert (read_stock(database, 1), read_stock(database, 2)) == (STOCK - 2, STOCK - 4)
    assert database.execute("SELECT line_number, product_id, quantity, unit_price FROM order_line ORDER BY 1") == (
        (1, 2, 1, prices[2]),
        (2, 1, 2, prices[1]),
        (3, 2, 3, prices[2]),
    )
    status, cancelled = ask(store, "POST", "/orders/t1/cancel")
    assert (status, cancelled["status"]) == (200, "cancelled")
    assert ask(store, "POST", "/orders/t1/cancel") == (200, cancelled)
    assert (read_stock(database, 1), read_stock(database, 2)) == (STOCK, STOCK)
    assert database.execute("SELECT kind, amount FROM payment ORDER BY id") == (
        ("charge", Decimal(order["total"])),
        ("refund", Decimal(order["total"])),
    )


def test_token_means_one_order_however_often_it_is_sent(store: ChildServer, database: Database) -> None:
    with ThreadPoolExecutor(8) as customers:
        answers = list(customers.map(lambda _: ask(store, "POST", "/orders", build_order("t1", (1, 2))), range(8)))
    assert {status for status, _ in answers} == {201}
    assert len({json.dumps(order) for _, order in answers}) == 1
    assert database.execute("SELECT COUNT(*) FROM orders") == ((1,),)
    assert database.execute("SELECT COUNT(*) FROM payment") == ((1,),)
    assert read_stock(database, 1) == STOCK - 2


def test_empty_shelf_is_told_and_nothing_is_sold(store: ChildServer, database: Database) -> None:
    """Of the other lines neither."""
    status, answer = ask(store, "POST", "/orders", build_order("t1", (1, 5), (2, STOCK), (2, 1)))
    assert (status, answer["product_id"]) == (409, 2)
    assert database.execute("SELECT COUNT(*) FROM orders") == ((0,),)
    assert (read_stock(database, 1), read_stock(database, 2)) == (STOCK, STOCK)
    assert ask(store, "POST", "/orders", build_order("t1", (2, STOCK)))[0] == 201
    assert read_stock(database, 2) == 0


def test_delivery_counts_once_for_each_token(store: ChildServer, database: Database) -> None:
    delivery = {"token": "d1", "quantity": 5}
    assert ask(store, "POST", "/products/1/restock", delivery) == (200, {"id": 1, "stock": STOCK + 5})
    assert ask(store, "POST", "/products/1/restock", delivery) == (200, {"id": 1, "stock": STOCK + 5})
    assert ask(store, "POST", "/products/1/restock", delivery | {"token": "d2"})[1]["stock"] == STOCK + 10
    assert read_stock(database, 1) == STOCK + 10


def test_customer_is_renamed(store: ChildServer, database: Database) -> None:
    before = database.execute("SELECT changed_at FROM customer WHERE id = 2")
    status, customer = ask(store, "PATCH", "/customers/2", {"name": "Zoë 🎁 割引"})
    assert (status, customer["name"]) == (200, "Zoë 🎁 割引")
    assert database.execute("SELECT name FROM customer WHERE id = 2") == (("Zoë 🎁 割引",),)
    assert database.execute("SELECT changed_at FROM customer WHERE id = 2") > before  # the server's doing


def test_catalogue_and_orders_are_listed(store: ChildServer) -> None:
    products = ask(store, "GET", "/products?limit=3")[1]
    assert [product["id"] for product in products] == [1, 2, 3]
    assert ask(store, "GET", "/products/2") == (200, products[1])
    assert [product["id"] for product in ask(store, "GET", "/products?limit=1000&after=18")[1]] == [19, 20]
    assert len(ask(store, "GET", "/customers")[1]) == 20
    for token in ("t1", "t2"):
        ask(store, "POST", "/orders", build_order(token, (1, 1)))
    assert [order["token"] for order in ask(store, "GET", "/customers/3/orders")[1]] == ["t2", "t1"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/orders/none", None, 404),
        ("POST", "/orders/none/cancel", None, 404),
        ("GET", "/products/999", None, 404),
        ("POST", "/products/999/restock", {"token": "d1", "quantity": 1}, 404),
        ("PATCH", "/customers/999", {"name": "Nobody"}, 404),
        ("POST", "/orders", build_order("t1", (999, 1)), 404),
        ("POST", "/orders", build_order("t1", (1, 1), customer_id=999), 404),
        ("POST", "/orders", build_order("t1", (1, 0)), 422),
        ("POST", "/orders", build_order("t1"), 422),
        ("POST", "/orders", build_order("", (1, 1)), 422),
        ("POST", "/orders", build_order("naïve", (1, 1)), 422),
    ],
)
def test_what_is_not_there_or_makes_no_sense_changes_nothing(
    store: ChildServer, database: Database, method: str, path: str, body: Any, status: int
) -> None:
    assert ask(store, method, path, body)[0] == status
    assert database.execute("SELECT COUNT(*) FROM orders") == ((0,),)
    assert database.execute("SELECT SUM(quantity) FROM stock") == ((20 * STOCK,),)


# --- many customers ------------------------------------------------------------------------------------------------


def test_last_pieces_are_sold_once(store: ChildServer, database: Database) -> None:
    database.execute("UPDATE stock SET quantity = 3 WHERE product_id = 1")
    with ThreadPoolExecutor(8) as customers:
        statuses = customers.map(
            lambda number: ask(store, "POST", "/orders", build_order(f"t{number}", (1, 1)))[0], range(8)
        )
        assert Counter(statuses) == {201: 3, 409: 5}
    assert read_stock(database, 1) == 0


def test_orders_of_the_same_products_in_any_order_do_not_deadlock(store: ChildServer, database: Database) -> None:
    """Nor do their cancellations, deliveries and renamings in between."""

    def live(number: int) -> set[int]:
        products = [1, 2, 3] if number % 2 else [3, 2, 1]
        statuses = set()
        for turn in range(12):
            token = f"t{number}-{turn}"
            order = build_order(token, *((product, 1) for product in products), customer_id=1 + number % 2)
            statuses.add(ask(store, "POST", "/orders", order)[0])
            statuses.add(ask(store, "POST", f"/products/{1 + turn % 3}/restock", {"token": token, "quantity": 1})[0])
            statuses.add(ask(store, "PATCH", f"/customers/{1 + number % 2}", {"name": token})[0])
            statuses.add(ask(store, "POST", f"/orders/{token}/cancel")[0])
        return statuses

    with ThreadPoolExecutor(8) as customers:
        assert set().union(*customers.map(live, range(8))) == {200, 201}
    assert [read_stock(database, product) for product in (1, 2, 3)] == [STOCK + 8 * 4] * 3


@pytest.mark.parametrize("flavour", BOTH_FLAVOURS, ids=lambda flavour: flavour.value)
def test_load_finds_nothing_wrong_with_a_store_that_works(
    flavour: Flavour, session_server: Callable[..., LocalServer], database_factory: Callable[..., Database], tmp_path: Path
) -> None:
    """And what it says it did is in the database, to the piece. The shelves are low: some stand empty at times."""
    database = database_factory(session_server(flavour, "source"))
    build_store(database, stock=30)
    with ChildServer(store_url(database), log=tmp_path / "store.log") as store:
        with Load(store.base_url, workers=8, rate=200) as load:
            time.sleep(5)
        result = check(load, database)
    assert result.is_clean, result
    assert result.errors == ()
    assert result.unknown_outcomes == 0
    assert min(result.out_of_stock, result.cancels, result.restocks, result.renames) > 0
    assert result.requests > 100
    assert database.execute("SELECT COUNT(*) FROM orders") == ((result.orders,),)
    assert database.execute("SELECT COUNT(*) FROM orders WHERE status = 'cancelled'") == ((result.cancels,),)
    assert database.execute("SELECT COUNT(*) FROM delivery WHERE token NOT LIKE 'seed-%'") == ((result.restocks,),)
    assert 0 < result.write_gap_ms.p50 <= result.write_gap_ms.p99 <= result.write_gap_ms.max


def test_pause_is_a_gap_of_every_writer(store: ChildServer, database: Database) -> None:
    """In the window where it was; the windows before know nothing of it. A lock of all tables would not do: while it is waited
    for, a transaction that holds rows gets no further, and a statement that it waits for waits for these rows."""
    with Load(store.base_url, workers=8, rate=200) as load:
        wait_for_requests(load, 150)
        settled_at = time.monotonic()
        time.sleep(0.2)
        closed_at = time.monotonic()
        database.server.freeze()
        time.sleep(0.8)
        database.server.thaw()
        opened_at = time.monotonic()
        wait_for_requests(load, load.requests + 50)
    during, before = load.gaps_between(closed_at, opened_at), load.gaps_between(0, settled_at)
    result = check(load, database)
    assert result.is_clean, result
    assert len(during) == len(before) == 4
    assert all(max(gaps) > 750 for gaps in during)
    assert all(max(quiet) < max(held) for quiet, held in zip(before, during, strict=True))
    assert result.write_gap_ms.max >= max(map(max, during))


def wait_for_requests(load: Load, requests: int) -> None:
    deadline = time.monotonic() + 60
    while load.requests < requests:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_killed_store_loses_and_doubles_nothing(store: ChildServer, database: Database) -> None:
    """What was in its hands has failed, for want of an answer; of that nothing is there by halves."""
    with Load(store.base_url, workers=8, rate=400) as load:
        for _ in range(2):
            wait_for_requests(load, load.requests + 150)
            store.kill()
            store.start()
        wait_for_requests(load, load.requests + 50)
    result = check(load, database)
    assert result.failed_requests > 0
    assert result.unknown_outcomes > 0
    assert result.orders > 0
    found = (result.lost_orders, result.doubled_orders, result.unasked_orders, result.lost_cancels)
    assert found == (0, 0, 0, 0), result
    assert (result.lost_restocks, result.lost_renames, result.wrong_stocks) == (0, 0, 0), result


def test_database_that_is_away_is_told_and_comes_back(store: ChildServer, database: Database) -> None:
    server = database.server
    assert ask(store, "GET", "/products/1")[0] == 200
    server.kill()
    status, answer = ask(store, "POST", "/orders", build_order("t1", (1, 1)))
    server.start()
    assert status == 503
    assert answer["detail"].startswith("database: OperationalError")
    assert server.password not in answer["detail"] + store.log.read_text()
    assert ask(store, "POST", "/orders", build_order("t1", (1, 1)))[0] in (201, 503)  # 503: a connection of before
    assert ask(store, "POST", "/orders", build_order("t1", (1, 1)))[0] == 201
    assert database.execute("SELECT COUNT(*) FROM orders") == ((1,),)


# --- its process ---------------------------------------------------------------------------------------------------


def test_store_comes_back_on_its_port_after_a_kill(store: ChildServer) -> None:
    pid, port = store.pid, store.port
    store.kill()
    assert store.pid is None
    assert not store.is_healthy()
    store.start()
    assert store.port == port
    assert store.pid != pid
    assert ask(store, "GET", "/health") == (200, {"status": "ok", "pid": store.pid})
    store.stop()
    store.stop()
    assert store.pid is None


def test_secrets_are_not_among_the_arguments(store: ChildServer, database: Database) -> None:
    assert database.server.password not in Path(f"/proc/{store.pid}/cmdline").read_text()
    assert database.server.password in Path(f"/proc/{store.pid}/environ").read_text()


def test_store_that_cannot_start_says_why(database: Database, tmp_path: Path) -> None:
    store = ChildServer(store_url(database), log=tmp_path / "store.log", environment={"STORE_WORKERS": "many"})
    with pytest.raises(ChildServerError, match="STORE_WORKERS must be a number"):
        store.start()
    assert store.pid is None


def test_store_dies_with_the_process_that_started_it(database: Database, tmp_path: Path) -> None:
    program = f"""
        import os, pathlib, signal
        from dbmigrate.store.child_server import ChildServer
        store = ChildServer(os.environ["URL"], log=pathlib.Path({str(tmp_path / "store.log")!r}))
        store.start()
        print(store.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    environment = os.environ | {"URL": store_url(database)}
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, env=environment, timeout=60
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    deadline = time.monotonic() + 10
    while Path(f"/proc/{int(ended.stdout)}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_several_worker_processes_serve_one_port(database: Database, tmp_path: Path) -> None:
    port = find_free_port()
    environment = os.environ | {"STORE_DATABASE_URL": store_url(database), "STORE_PORT": str(port), "STORE_WORKERS": "2"}
    log = tmp_path / "store.log"
    with log.open("wb") as output:
        parent = subprocess.Popen([sys.executable, "-m", "dbmigrate.store"], env=environment, stdout=output, stderr=output)
    store = ChildServer("", log=log)
    store.port = port
    pids: set[int] = set()
    try:
        deadline = time.monotonic() + 60
        while len(pids) < 2:
            assert time.monotonic() < deadline, log.read_text()
            try:
                pids.add(ask(store, "GET", "/health")[1]["pid"])
            except OSError:
                time.sleep(0.05)
        assert parent.pid not in pids
    finally:
        parent.terminate()
        assert parent.wait(30) in (0, -signal.SIGTERM)
