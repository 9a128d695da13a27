"""The side that gave up ownership stays closed, whatever happens to its server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest
from databases import Database, Pair
from moves import Move

AUTO = '[cutover]\napproval = "auto"\n'


@pytest.fixture
def soaking(server_factory: Callable[..., Any], mariadb_pair: Any, tmp_path: Path) -> Iterator[Move]:
    """A move in soak, with a runner at work, whose source is a server of its own."""
    server = server_factory()
    server.execute("CREATE DATABASE shop CHARACTER SET utf8mb4")
    mariadb_pair.target.server.execute("CREATE DATABASE shop CHARACTER SET utf8mb4")
    pair = Pair(Database(server, "shop"), Database(mariadb_pair.target.server, "shop"))
    pair.source.execute("CREATE TABLE orders (id INT PRIMARY KEY)", "INSERT INTO orders VALUES (1)")
    passwords = {"SOURCE_PASSWORD": server.password, "TARGET_PASSWORD": pair.target.server.password}
    move = Move(pair, tmp_path / "dbmigrate.toml", passwords)
    move.write(AUTO)
    move.create_application_user()
    runner = move.start("run")
    move.await_phase("soak", process=runner)
    yield move
    move.stop_all()


def _write(move: Move, number: int) -> int:
    """The error number of an application's write on the source, 0 when it was let in."""
    try:
        with move.pair.source.connect(user="shop_app", password="app") as connection, connection.cursor() as cursor:
            cursor.execute(f"INSERT INTO orders VALUES ({number})")
    except pymysql.err.MySQLError as refused:
        return int(refused.args[0])
    return 0


@pytest.mark.parametrize("fault", ["restart", "kill -9"])
def test_a_source_that_restarts_during_the_soak_is_closed_again(fault: str, soaking: Move) -> None:
    server = soaking.pair.source.server
    assert _write(soaking, 2) == 1290
    server.kill() if fault == "kill -9" else server.stop()
    server.start()
    until = time.monotonic() + 60
    while server.execute("SELECT @@GLOBAL.read_only") != ((1,),) and time.monotonic() < until:
        time.sleep(0.1)
    assert _write(soaking, 3) == 1290
    soaking.pair.target.execute("INSERT INTO orders VALUES (4)")
    while (4,) not in soaking.pair.source.execute("SELECT id FROM orders") and time.monotonic() < until:
        time.sleep(0.1)
    assert soaking.pair.source.execute("SELECT id FROM orders ORDER BY id") == ((1,), (4,))
