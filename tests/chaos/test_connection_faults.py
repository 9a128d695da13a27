"""The program's connections are killed, expire while they are idle, and cannot be opened for a while."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pymysql
import pytest
from chaos.equality import require_equal
from chaos.persistent_run import PersistentRun
from chaos.small_pieces import SMALL_PIECES
from databases import Connected, list_connections
from moves import Move

from dbmigrate.domain.routes import Side
from dbmigrate.throwaway.local_servers import LocalServer
from dbmigrate.throwaway.shop_writers import Writers

PHASES = ("copy", "catch_up", "verify", "cutover", "soak")


@contextlib.contextmanager
def _own_account(move: Move) -> Iterator[None]:
    """The program under an account of its own, so that its connections can be told from the tests'."""
    for database in (move.pair.source, move.pair.target):
        database.server.create_user("mover", "secret", "ALL PRIVILEGES ON *.*")
    move.source_url = move.pair.source.url.replace("root@", "mover@")
    move.target_url = move.pair.target.url.replace("root@", "mover@")
    move.environment |= {"SOURCE_PASSWORD": "secret", "TARGET_PASSWORD": "secret"}
    yield


class Assassin:
    """Kills one of the program's connections or queries every now and then, on either server."""

    def __init__(self, move: Move, what: str, *, seed: int, period_seconds: float) -> None:
        self._servers = [move.pair.source.server, move.pair.target.server]
        self._what, self._period = what, period_seconds
        self._chance = random.Random(seed)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self.killed: dict[str, int] = {}

    def _work(self) -> None:
        with contextlib.ExitStack() as stack:
            cursors = [stack.enter_context(server.connect()).cursor() for server in self._servers]
            while not self._stopping.wait(self._chance.uniform(0.2, 1.0) * self._period):
                cursor = self._chance.choice(cursors)
                cursor.execute("SHOW PROCESSLIST")
                found = [one for one in (Connected(*row[:8]) for row in cursor.fetchall()) if one.user == "mover"]
                if not found:
                    continue
                chosen = self._chance.choice(found)
                with contextlib.suppress(pymysql.err.MySQLError):  # it has ended meanwhile
                    cursor.execute(f"KILL {self._what} {chosen.id}")
                    self.killed[chosen.command] = self.killed.get(chosen.command, 0) + 1

    def __enter__(self) -> Assassin:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopping.set()
        self._thread.join()


def _move_under_fire(
    move: Move, what: str, *, seed: int, period_seconds: float, seconds_in_soak: float
) -> dict[str, int]:
    with _own_account(move):
        move.write(SMALL_PIECES)
        with Writers(move.connect_to_owner, threads=2, rate=60, give_up_seconds=300) as writers:
            run = PersistentRun(move)
            run.await_phase("copy")
            with Assassin(move, what, seed=seed, period_seconds=period_seconds) as assassin:
                run.await_phase("soak", timeout=400)
                until = time.monotonic() + seconds_in_soak
                while time.monotonic() < until:
                    run.look()
                    time.sleep(0.1)
        run.finish()
        require_equal(move, writers)
    return assassin.killed


@pytest.mark.parametrize(
    ("what", "seed"),
    [("CONNECTION", 1), pytest.param("QUERY", 1, marks=pytest.mark.slow),
     *[pytest.param(what, seed, marks=pytest.mark.slow) for what in ("CONNECTION", "QUERY") for seed in (2, 3)]],
)  # fmt: skip
@pytest.mark.timeout(900)
def test_connections_are_killed_at_random(what: str, seed: int, shop_move: Move) -> None:
    period, in_soak = (1.0, 3.0) if seed == 1 else (0.5, 15.0)
    killed = _move_under_fire(shop_move, what, seed=seed, period_seconds=period, seconds_in_soak=in_soak)
    assert sum(killed.values()) >= 8, killed


@pytest.mark.slow
def test_the_connection_of_the_binlog_is_killed(shop_move: Move) -> None:
    """Each time the stream goes on at the last transaction; no run ends for it."""
    with _own_account(shop_move):
        shop_move.write(SMALL_PIECES)
        with Writers(shop_move.connect_to_owner, threads=2, rate=60, give_up_seconds=300) as writers:
            run = PersistentRun(shop_move)
            run.await_phase("copy")
            for _ in range(4):
                until = time.monotonic() + 60
                while True:
                    connections = list_connections(shop_move.pair.source.server)
                    found = [one.id for one in connections if one.user == "mover" and one.command.startswith("Binlog Dump")]
                    if found:
                        break
                    assert time.monotonic() < until, "no binlog connection"
                    time.sleep(0.05)
                shop_move.pair.source.execute(f"KILL CONNECTION {found[0]}")
                time.sleep(0.3)
            run.await_phase("soak")
            assert run.look()
        assert run.ends == []
        run.finish()
        require_equal(shop_move, writers)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_sessions_that_expire_while_they_are_idle(server_factory: Callable[..., LocalServer], build_move: Any) -> None:
    """wait_timeout=2 for everybody: the control connections live by the server's own value, data sessions set theirs."""
    options = {"wait_timeout": "2", "interactive_timeout": "2"}
    move = build_move(server_factory(**options), server_factory(**options), SMALL_PIECES)
    with Writers(move.connect_to_owner, threads=1, rate=5, give_up_seconds=300) as writers:
        run = PersistentRun(move)
        for phase in PHASES:
            run.await_phase(phase, "soak")
            time.sleep(2.5)
        run.await_phase("soak")
        time.sleep(6)
        assert run.look(), run.ends
        assert run.ends == []
    run.finish()
    require_equal(move, writers)


@contextlib.contextmanager
def _no_connections_left(server: LocalServer) -> Iterator[None]:
    """Every place is taken by a connection of the application; the account with the spare place is not ours."""
    taken = []
    try:
        with contextlib.suppress(pymysql.err.OperationalError):
            while len(taken) < 500:
                taken.append(server.connect(user="shop_app", password="app"))
        yield
    finally:
        for connection in taken:
            connection.close()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("side", list(Side))
def test_no_connection_is_to_be_had_for_a_while(
    side: Side, server_factory: Callable[..., LocalServer], build_move: Any
) -> None:
    """At the start the run ends with the reason; in the middle it waits."""
    servers = {one: server_factory(max_connections="60") for one in Side}
    move: Move = build_move(servers[Side.SOURCE], servers[Side.TARGET], SMALL_PIECES)
    for server in servers.values():
        server.create_user("mover", "secret", "ALL PRIVILEGES ON *.*")
        server.execute("REVOKE SUPER, CONNECTION ADMIN ON *.* FROM 'mover'@'127.0.0.1'")
        server.execute("GRANT READ ONLY ADMIN ON *.* TO 'mover'@'127.0.0.1'")
        server.execute("SET GLOBAL log_bin_trust_function_creators = ON")  # or the shop's triggers need SUPER
    move.source_url, move.target_url = (
        move.pair.source.url.replace("root@", "mover@"), move.pair.target.url.replace("root@", "mover@"),
    )  # fmt: skip
    move.environment |= {"SOURCE_PASSWORD": "secret", "TARGET_PASSWORD": "secret"}
    move.write(SMALL_PIECES)
    with _no_connections_left(servers[side]):
        said = move.run("run", "--yes", expect=4).stderr
    assert "1040" in said, said
    with Writers(move.connect_to_owner, threads=2, rate=60, give_up_seconds=300) as writers:
        run = PersistentRun(move)
        for phase in ("copy", "verify", "soak"):
            run.await_phase(phase, "soak")
            with _no_connections_left(servers[side]):
                # What is taken away now cannot be opened again.
                admin = [one for one in list_connections(servers[side]) if one.user == "mover"]
                for one in admin[:3]:
                    with contextlib.suppress(pymysql.err.MySQLError):
                        servers[side].execute(f"KILL CONNECTION {one.id}")
                time.sleep(3)
        run.await_phase("soak")
    run.finish()
    require_equal(move, writers)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_account_with_too_few_connections(shop_move: Move) -> None:
    """max_user_connections is named as the cause; once it is raised, the run goes on where it stood."""
    with _own_account(shop_move):
        shop_move.write(SMALL_PIECES)
        for database in (shop_move.pair.source, shop_move.pair.target):
            database.server.execute("ALTER USER 'mover'@'127.0.0.1' WITH MAX_USER_CONNECTIONS 2")
        with Writers(shop_move.connect_to_owner, threads=1, rate=20, give_up_seconds=300) as writers:
            process = shop_move.start("run", "--yes")
            time.sleep(8)
            for database in (shop_move.pair.source, shop_move.pair.target):
                database.server.execute("ALTER USER 'mover'@'127.0.0.1' WITH MAX_USER_CONNECTIONS 0")
            out, err = ("", "")
            if process.poll() is not None:
                out, err = process.communicate()
                assert process.returncode == 4, err
                assert "1226" in err, err
            else:
                process.terminate()
                process.communicate(timeout=60)
            shop_move.run("run", "--yes", "--until", "cutover", timeout=240)
        shop_move.run("run", "--until", "soak")
        require_equal(shop_move, writers)
        assert out == ""
