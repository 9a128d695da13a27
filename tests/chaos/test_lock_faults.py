"""Somebody else holds locks that the program needs, for longer than it waits for them, and deadlocks with it."""

from __future__ import annotations

import threading
import time
from typing import Any

import pymysql
import pytest
from chaos.equality import require_equal
from chaos.persistent_run import PersistentRun
from chaos.small_pieces import SMALL_PIECES
from moves import Move

from dbmigrate.throwaway.shop_writers import Writers

# What is held, and how it is let go of: each statement on a connection of its own.
HOLDS = {
    "rows": (["START TRANSACTION", "SELECT * FROM orders FOR UPDATE", "SELECT * FROM ledger FOR UPDATE"], "ROLLBACK"),
    "a table, for reading": (["LOCK TABLES orders READ, ledger READ"], "UNLOCK TABLES"),
    "a table, for writing": (["LOCK TABLES orders WRITE, order_lines WRITE, ledger WRITE"], "UNLOCK TABLES"),
    "all tables": (["FLUSH TABLES WITH READ LOCK"], "UNLOCK TABLES"),
    "a definition": (["START TRANSACTION", "SELECT COUNT(*) FROM orders"], "ROLLBACK"),
}
PHASES = ("copy", "catch_up", "verify", "cutover", "soak")


def _hold(database: Any, kind: str, seconds: float) -> None:
    """Take the locks, keep them, let go."""
    statements, release = HOLDS[kind]
    with database.connect() as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        time.sleep(seconds)
        cursor.execute(release)


def _go_through(move: Move, holds: list[tuple[str, str, str, float]]) -> PersistentRun:
    """``holds``: phase, side, kind, seconds."""
    move.write(SMALL_PIECES)
    with Writers(move.connect_to_owner, threads=2, rate=60, give_up_seconds=300) as writers:
        run = PersistentRun(move)
        for phase, side, kind, seconds in holds:
            run.await_phase(phase, "soak")
            _hold(getattr(move.pair, side), kind, seconds)
        run.await_phase("soak")
        time.sleep(0.3)
    run.finish()
    require_equal(move, writers)
    return run


@pytest.mark.slow
def test_rows_locked_on_the_target_for_longer_than_innodb_waits(shop_move: Move) -> None:
    run = _go_through(shop_move, [("copy", "target", "rows", 12.0)])
    assert [code for code, _ in run.ends if code not in (0, 4)] == [], run.ends
    assert len(run.ends) <= 1, run.ends  # the wait is ridden out: only our own stop ends the run


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", list(HOLDS))
@pytest.mark.parametrize("side", ["source", "target"])
def test_locks_in_every_phase(side: str, kind: str, shop_move: Move) -> None:
    _go_through(shop_move, [(phase, side, kind, 12.0) for phase in PHASES])


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["all tables", "a table, for writing"])
def test_locks_for_longer_than_a_metadata_lock_is_waited_for(kind: str, shop_move: Move) -> None:
    _go_through(shop_move, [("copy", "target", kind, 65.0)])


@pytest.mark.slow
def test_deadlocks_with_somebody_on_the_target_are_repeated(shop_move: Move) -> None:
    """Another session locks the same rows in the opposite order, all the time; the program's batches get 1213 too."""
    target, stop, deadlocks = shop_move.pair.target, threading.Event(), []

    def quarrel() -> None:
        with target.connect(autocommit=False) as connection, connection.cursor() as cursor:
            cursor.execute("SET SESSION innodb_lock_wait_timeout = 1")
            while not stop.is_set():
                try:
                    for table in ("ledger", "order_lines", "orders", "accounts"):
                        key = {"ledger": "id", "order_lines": "order_id"}.get(table, "id")
                        cursor.execute(f"SELECT 1 FROM {table} ORDER BY {key} DESC LIMIT 60 FOR UPDATE")
                        stop.wait(0.02)
                except pymysql.err.OperationalError as error:
                    deadlocks.append(error.args[0])
                connection.rollback()
                stop.wait(0.01)

    shop_move.write(SMALL_PIECES)
    with Writers(shop_move.connect_to_owner, threads=3, rate=120, give_up_seconds=300) as writers:
        run = PersistentRun(shop_move)
        run.await_phase("copy")
        quarrels = [threading.Thread(target=quarrel, daemon=True) for _ in range(2)]
        for thread in quarrels:
            thread.start()
        run.await_phase("verify", "cutover", "soak")
        before = target.execute("SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'")
        time.sleep(3.0)
        stop.set()
        for thread in quarrels:
            thread.join()
        run.await_phase("soak")
    run.finish()
    assert before, "this server does not count deadlocks"
    require_equal(shop_move, writers)


