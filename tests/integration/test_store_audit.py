"""Every check of the store's load can fail: one thing is damaged behind its back, and just that is found."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import sqlalchemy as sa
from databases import Database
from sqlalchemy.orm import Session, sessionmaker
from store_setup import build_store, open_engine, store_url

from dbmigrate.store import checkout, load, seed
from dbmigrate.store.audit import audit
from dbmigrate.store.checkout import Wish
from dbmigrate.store.child_server import ChildServer
from dbmigrate.store.journal import DeliveryRecord, Journal, OrderRecord, Outcome, RenameRecord
from dbmigrate.throwaway.local_servers import LocalServer

RUN = "run-"


Day = tuple[sa.Connection, Journal]


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[sa.Engine, Journal]]:
    """A store with a short day behind it, for all tests. On a server of its own: other tests clear theirs."""
    with LocalServer.mariadb(tmp_path_factory.mktemp("audit"), name="audit") as server:
        server.execute("CREATE DATABASE store CHARACTER SET utf8mb4")
        database = Database(server, "store")
        build_store(database, customers=3, products=3, stock=100)
        with open_engine(database) as engine:
            yield engine, live_a_day(engine)


@pytest.fixture
def day(lived: tuple[sa.Engine, Journal]) -> Iterator[Day]:
    """In a transaction that is rolled back, with a journal that may be written in."""
    engine, journal = lived
    with engine.connect() as connection, connection.begin() as transaction:
        yield connection, copy.deepcopy(journal)
        transaction.rollback()


def live_a_day(engine: sa.Engine) -> Journal:
    """As it was lived and as it is remembered: orders 1 and 2 stand, 3 is cancelled."""
    journal = Journal()
    sessions = sessionmaker(engine)
    for number, lines in enumerate([((1, 2), (2, 1)), ((2, 3),), ((1, 1), (3, 4))], start=1):
        record = OrderRecord(f"{RUN}{number}", number, lines, Outcome.DONE)
        with sessions.begin() as session:
            wishes = [Wish(*line) for line in lines]
            order = checkout.place_order(session, token=record.token, customer_id=number, wishes=wishes)
            record.total = order.total
        journal.orders.append(record)
    with sessions.begin() as session:
        checkout.cancel_order(session, f"{RUN}3")
        checkout.restock(session, token=f"{RUN}d", product_id=1, quantity=7)
        checkout.rename_customer(session, 1, "Ada")
    journal.orders[2].cancel = Outcome.DONE
    journal.deliveries.append(DeliveryRecord(f"{RUN}d", 1, 7, Outcome.DONE))
    journal.renames += [RenameRecord(1, "Grace", Outcome.DONE), RenameRecord(1, "Ada", Outcome.DONE)]
    journal.orders.append(OrderRecord(f"{RUN}refused", 1, ((1, 500),), Outcome.REFUSED))
    journal.orders.append(OrderRecord(f"{RUN}unknown", 1, ((1, 1),), Outcome.UNKNOWN))
    return journal


def find(day: Day) -> dict[str, int]:
    """What is not 0."""
    connection, journal = day
    findings = asdict(audit(connection, [journal], token_prefix=RUN))
    return {name: count for name, count in findings.items() if count}


def damage(day: Day, *statements: str) -> None:
    """Every statement must have met something."""
    for statement in statements:
        assert day[0].exec_driver_sql(statement.replace("%", "%%")).rowcount > 0, statement


def id_of(token: str) -> str:
    return f"(SELECT id FROM (SELECT MIN(id) AS id FROM orders WHERE token = '{RUN}{token}') AS o)"


def delete_order(token: str) -> list[str]:
    return [
        f"DELETE FROM payment WHERE order_id = {id_of(token)}",
        f"DELETE FROM order_line WHERE order_id = {id_of(token)}",
        f"DELETE FROM orders WHERE token = '{RUN}{token}'",
    ]


def copy_order(token: str, new_token: str) -> list[str]:
    """With its line and its charge."""
    return [
        "INSERT INTO orders (token, customer_id, status, total, placed_at) "
        f"SELECT '{RUN}{new_token}', customer_id, status, total, placed_at FROM orders WHERE token = '{RUN}{token}'",
        f"INSERT INTO order_line SELECT LAST_INSERT_ID(), line_number, product_id, quantity, unit_price "
        f"FROM order_line WHERE order_id = {id_of(token)} LIMIT 1",
        "INSERT INTO payment (order_id, kind, amount, receipt) SELECT LAST_INSERT_ID(), kind, amount, receipt "
        f"FROM payment WHERE order_id = {id_of(token)} LIMIT 1",
    ]


GIVE_BACK_2 = "UPDATE stock SET quantity = quantity + 3 WHERE product_id = 2"
TAKE_2 = "UPDATE stock SET quantity = quantity - 3 WHERE product_id = 2"

DAMAGES = {
    "an order is gone": (delete_order("2"), {"lost_orders": 1, "wrong_stocks": 1}),
    "an order is gone, and its stock is back": ([*delete_order("2"), GIVE_BACK_2], {"lost_orders": 1}),
    "a line is gone": (
        [f"DELETE FROM order_line WHERE order_id = {id_of('1')} AND line_number = 2"],
        {"lost_orders": 1, "wrong_stocks": 1},
    ),
    "a line has another quantity": (
        [f"UPDATE order_line SET quantity = quantity + 1 WHERE order_id = {id_of('2')}"],
        {"lost_orders": 1, "wrong_stocks": 1},
    ),
    "a line has another price": (
        [f"UPDATE order_line SET unit_price = unit_price + 1 WHERE order_id = {id_of('2')}"],
        {"lost_orders": 1},
    ),
    "a total differs": ([f"UPDATE orders SET total = total + 0.01 WHERE token = '{RUN}1'"], {"lost_orders": 1}),
    "another customer has it": ([f"UPDATE orders SET customer_id = 3 WHERE token = '{RUN}1'"], {"lost_orders": 1}),
    "a charge is gone": ([f"DELETE FROM payment WHERE order_id = {id_of('1')}"], {"lost_orders": 1}),
    "a charge differs": (
        [f"UPDATE payment SET amount = amount - 0.01 WHERE order_id = {id_of('1')}"],
        {"lost_orders": 1},
    ),
    "a charge is there twice": (
        ["INSERT INTO payment (order_id, kind, amount, receipt) SELECT order_id, kind, amount, receipt "
         f"FROM payment WHERE order_id = {id_of('1')}"],
        {"doubled_orders": 1},
    ),
    "a refund is there twice": (
        ["INSERT INTO payment (order_id, kind, amount, receipt) SELECT order_id, kind, amount, receipt "
         f"FROM payment WHERE order_id = {id_of('3')} AND kind = 'refund'"],
        {"doubled_orders": 1},
    ),
    "a refused order is there": ([*copy_order("2", "refused"), TAKE_2], {"unasked_orders": 1}),
    "an order nobody asked for is there": ([*copy_order("2", "nobody"), TAKE_2], {"unasked_orders": 1}),
    "an order of unknown outcome is there by halves": ([*copy_order("2", "unknown"), TAKE_2], {"lost_orders": 1}),
    "a cancellation is undone": (
        [f"UPDATE orders SET status = 'placed' WHERE token = '{RUN}3'"],
        {"lost_cancels": 1, "wrong_stocks": 2},
    ),
    "a refund is gone": (
        [f"DELETE FROM payment WHERE order_id = {id_of('3')} AND kind = 'refund'"],
        {"lost_cancels": 1},
    ),
    "an order is cancelled that nobody cancelled": (
        [f"UPDATE orders SET status = 'cancelled' WHERE token = '{RUN}2'", GIVE_BACK_2,
         "INSERT INTO payment (order_id, kind, amount, receipt) SELECT order_id, 'refund', amount, receipt "
         f"FROM payment WHERE order_id = {id_of('2')}"],
        {"lost_cancels": 1},
    ),
    "a delivery is gone": ([f"DELETE FROM delivery WHERE token = '{RUN}d'"], {"lost_restocks": 1, "wrong_stocks": 1}),
    "a delivery and its pieces are gone": (
        [f"DELETE FROM delivery WHERE token = '{RUN}d'",
         "UPDATE stock SET quantity = quantity - 7 WHERE product_id = 1"],
        {"lost_restocks": 1},
    ),
    "a customer has an earlier name": (["UPDATE customer SET name = 'Grace' WHERE id = 1"], {"lost_renames": 1}),
    "a piece of stock is gone": (
        ["UPDATE stock SET quantity = quantity - 1 WHERE product_id = 3"],
        {"wrong_stocks": 1},
    ),
    "a piece of stock is too many": (
        ["UPDATE stock SET quantity = quantity + 1 WHERE product_id = 3"],
        {"wrong_stocks": 1},
    ),
    "a product has no stock at all": (["DELETE FROM stock WHERE product_id = 3"], {"wrong_stocks": 1}),
}  # fmt: skip


def test_day_without_damage_is_clean(day: Day) -> None:
    assert find(day) == {}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_found(day: Day, name: str) -> None:
    statements, expected = DAMAGES[name]
    damage(day, *statements)
    assert find(day) == expected


def test_token_that_is_there_twice_is_found(
    mariadb_server: LocalServer, database_factory: Callable[..., Database]
) -> None:
    """Without the index that forbids it."""
    database = database_factory(mariadb_server)
    build_store(database, customers=3, products=3, stock=100)
    with open_engine(database) as engine:
        journal = live_a_day(engine)
        database.execute("ALTER TABLE orders DROP INDEX uq_orders_token")
        with engine.connect() as connection:
            damage((connection, journal), *copy_order("2", "2"), TAKE_2)
            assert find((connection, journal)) == {"doubled_orders": 1}


def test_orders_of_others_are_not_looked_at(day: Day) -> None:
    """Neither lost nor unasked, even where an underscore in the prefix could stand for any letter."""
    connection, journal = day
    damage(day, *copy_order("2", "other"), TAKE_2, f"UPDATE orders SET token = 'run_9' WHERE token = '{RUN}other'")
    assert find(day) == {}
    assert asdict(audit(connection, [journal], token_prefix="run_"))["unasked_orders"] == 1


def test_unknown_outcomes_may_be_either(day: Day) -> None:
    """An order that was written all the same; a cancellation and a name that were not, or that were."""
    connection, journal = day
    session = Session(connection)
    checkout.place_order(session, token=f"{RUN}unknown", customer_id=1, wishes=[Wish(1, 1)])
    session.flush()
    journal.orders[0].cancel = Outcome.UNKNOWN
    journal.renames.append(RenameRecord(1, "Noor", Outcome.UNKNOWN))
    assert find(day) == {}
    checkout.cancel_order(session, f"{RUN}1")
    checkout.rename_customer(session, 1, "Noor")
    assert find(day) == {}


# --- the command lines ---------------------------------------------------------------------------------------------


def test_store_is_filled_and_loaded_from_the_command_line(
    mariadb_server: LocalServer,
    database_factory: Callable[..., Database],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    database = database_factory(mariadb_server)
    monkeypatch.setenv("STORE_DATABASE_URL", store_url(database))
    with open_engine(database) as engine:
        seed.create_schema(engine)
    seed.main(["--customers", "12", "--products", "5", "--stock", "40"])
    assert database.execute("SELECT COUNT(*), SUM(quantity) FROM stock") == ((5, 200),)
    assert database.execute("SELECT COUNT(*) FROM customer") == ((12,),)

    arguments = ["--seconds", "0.5", "--workers", "4"]
    with ChildServer(store_url(database), log=tmp_path / "store.log") as store:
        with pytest.raises(SystemExit) as ended:
            load.main([store.base_url, *arguments])
        told = json.loads(capsys.readouterr().out)
        assert (ended.value.code, told["lost_orders"], told["wrong_stocks"]) == (0, 0, 0)
        database.execute("UPDATE stock SET quantity = quantity + 1 WHERE product_id = 5")
        with pytest.raises(SystemExit) as ended:
            load.main([store.base_url, *arguments])
        assert (ended.value.code, json.loads(capsys.readouterr().out)["wrong_stocks"]) == (1, 1)


def test_check_waits_for_the_end_of_the_load(day: Day) -> None:
    with pytest.raises(RuntimeError, match="stop the load"):
        load.Load("http://127.0.0.1:1").check(day[0])
