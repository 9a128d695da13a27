"""Whose transactions are open, and who waits: also beside a statement with emoji, which keeps MySQL from listing them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from app_rows import wait_until
from databases import Database, endpoint_of

from dbmigrate.domain.flavours import Flavour
from dbmigrate.mysql.activity import end_connection, interrupting_lock_waits
from dbmigrate.mysql.faults import InterruptedQueryError
from dbmigrate.mysql.open_transactions import read_open_transactions
from dbmigrate.mysql.processlist import read_connections
from dbmigrate.mysql.sessions import SessionPool

GIFT = "UPDATE parcel SET content = 'gift 🎁', held = SLEEP(60) WHERE id = 1"


@pytest.fixture(params=["mariadb", pytest.param("mysql", marks=pytest.mark.mysql)])
def database(
    request: pytest.FixtureRequest, session_server: Callable[..., Any], database_factory: Callable[..., Database]
) -> Database:
    database = database_factory(session_server(Flavour[request.param.upper()], "source"))
    database.execute(
        "CREATE TABLE parcel (id INT NOT NULL PRIMARY KEY, content VARCHAR(40) NOT NULL, held INT NOT NULL DEFAULT 0)",
        "INSERT INTO parcel (id, content) VALUES (1, 'a'), (2, 'b'), (3, 'c')",
    )
    return database


@pytest.fixture
def pool(database: Database) -> Iterator[SessionPool]:
    pool = SessionPool(endpoint_of(database))
    yield pool
    pool.close()


class Busy:
    """A connection that runs one statement until it is ended."""

    def __init__(self, database: Database, *statements: str) -> None:
        self.connection = database.connect()
        self.id = self.connection.thread_id()
        self._database = database
        self._thread = threading.Thread(target=self._work, args=statements)
        self._thread.start()
        wait_until(
            lambda: any(
                one[0] == self.id and one[7] == statements[-1] for one in database.execute("SHOW FULL PROCESSLIST")
            )
        )

    def _work(self, *statements: str) -> None:
        with contextlib.suppress(Exception), self.connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def end(self) -> None:
        with contextlib.suppress(Exception):
            self._database.execute(f"KILL {self.id}")
        self._thread.join()


@pytest.fixture
def busy(database: Database) -> Iterator[Busy]:
    """A connection that packs a gift, for a minute."""
    busy = Busy(database, "BEGIN", "UPDATE parcel SET content = 'wrapped' WHERE id = 1", GIFT)
    yield busy
    busy.end()


def test_open_transactions_beside_a_statement_with_emoji(database: Database, pool: SessionPool, busy: Busy) -> None:
    pledging = database.connect()
    with contextlib.closing(database.connect()) as idle:
        with idle.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("UPDATE parcel SET content = 'mine' WHERE id = 2")
        with pledging.cursor() as cursor:
            for words in ("START 'x'", "END 'x'", "PREPARE 'x'"):
                cursor.execute(f"XA {words}")
                if words == "START 'x'":
                    cursor.execute("UPDATE parcel SET content = 'promised' WHERE id = 3")
        pledging.close()
        try:
            time.sleep(1.1)  # the servers count whole seconds
            with pool.borrow() as session:
                found = {one.connection_id: one for one in read_open_transactions(session)}
                old = read_open_transactions(session, at_least_seconds=30)
        finally:
            database.execute("XA ROLLBACK 'x'")
    assert set(found) == {busy.id, idle.thread_id(), 0}
    assert {one.rows_changed for one in found.values()} == {1}
    assert all(1 <= one.seconds < 30 and one.id for one in found.values())
    assert old == ()
    assert found[busy.id].account.startswith("root@")
    assert found[busy.id].statement == "UPDATE parcel SET content = ?, held = SLEEP(?) WHERE id = ?"
    assert found[idle.thread_id()].state == "Sleep"


def test_a_statement_with_emoji_that_has_changed_nothing_is_named(database: Database, pool: SessionPool) -> None:
    reader = Busy(database, "BEGIN", "SELECT id, '🎁' FROM parcel WHERE SLEEP(60) = 0")
    try:
        with pool.borrow() as session:
            found = read_open_transactions(session)
    finally:
        reader.end()
    assert [(one.connection_id, one.rows_changed) for one in found] == [(reader.id, 0)]
    assert found[0].statement == "SELECT id, ? FROM parcel WHERE SLEEP(?) = ?"


def test_a_wait_for_a_table_is_ended_beside_a_statement_with_emoji(
    database: Database, pool: SessionPool, busy: Busy
) -> None:
    with pool.borrow() as session:
        session.execute(f"USE `{database.schema}`")
        with pytest.raises(InterruptedQueryError), interrupting_lock_waits(0.2, pool, session):
            session.execute("ALTER TABLE parcel ADD COLUMN weight INT")


def test_a_lost_connection_is_ended_beside_a_statement_with_emoji(
    database: Database, pool: SessionPool, busy: Busy
) -> None:
    lost = pool.open()
    end_connection(pool, lost.connection_id)
    with pool.borrow() as session:
        wait_until(lambda: lost.connection_id not in read_connections(session))
