"""The source dies in the middle of the move and its replica takes its place, with all transactions or with fewer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from databases import Database, Pair
from moves import Move

from dbmigrate.domain.flavours import Flavour
from dbmigrate.domain.routes import Side
from dbmigrate.throwaway.local_servers import LocalServer
from dbmigrate.throwaway.shop import create_shop, fill_shop
from dbmigrate.throwaway.shop_writers import Writers

WAITING = '[cutover]\napproval = "required"\nmax_write_pause_seconds = 5.0\nretry_seconds = 0.2\n'
BOTH = [
    pytest.param(Flavour.MARIADB, marks=pytest.mark.slow),
    pytest.param(Flavour.MYSQL, marks=[pytest.mark.mysql, pytest.mark.slow]),
]


class Replicated:
    """A move whose source has a replica, and what an operator does when the source is gone."""

    def __init__(self, move: Move, first: LocalServer, second: LocalServer, schema: str) -> None:
        self.move, self.first, self.second, self.schema = move, first, second, schema
        self.is_mariadb = first.flavour is Flavour.MARIADB
        self._replica = "SLAVE" if self.is_mariadb else "REPLICA"

    def stop_replica(self) -> None:
        self.second.execute(f"STOP {self._replica}")

    def await_replica(self) -> None:
        """Until the replica has everything that the source has now."""
        if self.is_mariadb:
            gtids = self.first.execute("SELECT @@gtid_binlog_pos")[0][0]
            assert self.second.execute(f"SELECT MASTER_GTID_WAIT('{gtids}', 60)")[0][0] == 0
        else:
            gtids = self.first.execute("SELECT @@GLOBAL.gtid_executed")[0][0].replace("\n", "")
            assert self.second.execute(f"SELECT WAIT_FOR_EXECUTED_GTID_SET('{gtids}', 60)")[0][0] == 0

    def promote(self) -> None:
        """The replica is the source from now on: it takes writes, and the configuration names it."""
        with contextlib.suppress(Exception):
            self.stop_replica()
        self.second.execute(f"RESET {self._replica} ALL", "SET GLOBAL read_only = OFF")
        self.move.pair = Pair(Database(self.second, self.schema), self.move.pair.target)
        self.move.environment["SOURCE_PASSWORD"] = self.second.password
        self.move.write(WAITING)


@pytest.fixture
def replicated(
    server_factory: Any, session_server: Any, database_factory: Any, tmp_path: Path
) -> Iterator[Callable[[Flavour], Replicated]]:
    moves: list[Move] = []

    def create(flavour: Flavour) -> Replicated:
        first, second = server_factory(flavour), server_factory(flavour)
        first.create_user("replica", "replica-Secret1", "REPLICATION SLAVE ON *.*")
        reach = f"HOST = '127.0.0.1', {{0}}_PORT = {first.port}, {{0}}_USER = 'replica', {{0}}_PASSWORD = 'replica-Secret1'"
        if flavour is Flavour.MARIADB:
            options = f"MASTER_{reach.format('MASTER')}, MASTER_USE_GTID = slave_pos"
            second.execute(f"CHANGE MASTER TO {options}", "START SLAVE")
        else:
            options = f"SOURCE_{reach.format('SOURCE')}, SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1"
            second.execute(f"CHANGE REPLICATION SOURCE TO {options}", "START REPLICA")
        source = database_factory(first)
        target = database_factory(session_server(flavour, "target"), source.schema)
        with source.connect() as connection:
            create_shop(connection, source.schema)
            fill_shop(connection, source.schema, 3_000)
        passwords = {"SOURCE_PASSWORD": first.password, "TARGET_PASSWORD": target.server.password}
        move = Move(Pair(source, target), tmp_path / "dbmigrate.toml", passwords)
        move.write(WAITING)
        move.create_application_user()
        moves.append(move)
        return Replicated(move, first, second, source.schema)

    yield create
    for move in moves:
        move.stop_all()


def run_to_waiting(move: Move) -> Any:
    process = move.start("run")
    move.await_phase("cutover", process=process)
    return process


def was_resynced(move: Move) -> bool:
    return bool(move.pair.target.server.execute("SELECT 1 FROM _dbmigrate.evidence WHERE kind = 'resync'"))


@pytest.mark.parametrize("flavour", BOTH)
def test_the_promoted_replica_has_everything(flavour: Flavour, replicated: Callable[[Flavour], Replicated]) -> None:
    """The stream finds its place by GTID in files that are not the old ones; nothing is streamed anew."""
    setup = replicated(flavour)
    move = setup.move
    with Writers(move.connect_to_owner, threads=2, rate=60) as writers:
        process = run_to_waiting(move)
        writers.stop()
        setup.await_replica()
        setup.first.kill()
        process.kill()
        process.communicate()
        move.release_lease()
        setup.promote()
        writers.start()
        move.finish(writers)
    assert not was_resynced(move)


@pytest.mark.parametrize("flavour", BOTH)
@pytest.mark.parametrize("overtakes", [False, True])
def test_the_promoted_replica_lacks_transactions_that_were_streamed(
    overtakes: bool, flavour: Flavour, replicated: Callable[[Flavour], Replicated]
) -> None:
    """``overtakes``: it has made as many transactions of its own before the runner comes back."""
    setup = replicated(flavour)
    move = setup.move
    with Writers(move.connect_to_owner, threads=2, rate=60) as lost:
        process = run_to_waiting(move)
        setup.await_replica()
        setup.stop_replica()
        before = lost.committed
        while lost.committed < before + 40:
            time.sleep(0.02)
        lost.stop()
    move.stop(process)
    move.release_lease()
    setup.first.kill()
    setup.promote()
    with Writers(move.connect_to_owner, threads=2, rate=100) as writers:
        wanted = 200 if overtakes else 1
        while writers.committed < wanted:
            time.sleep(0.02)
        move.finish(writers)
    assert was_resynced(move)
    assert move.read_owner() is Side.TARGET


@pytest.mark.parametrize("flavour", BOTH)
def test_a_source_restored_to_an_earlier_state_behind_the_same_address(
    flavour: Flavour, replicated: Callable[[Flavour], Replicated]
) -> None:
    """The runner keeps running; its connections are cut and the address leads to a server that has less."""
    setup = replicated(flavour)
    move = setup.move
    with Writers(move.connect_to_owner, threads=2, rate=60) as lost:
        process = run_to_waiting(move)
        setup.await_replica()
        setup.stop_replica()
        before = lost.committed
        while lost.committed < before + 40:
            time.sleep(0.02)
        lost.stop()
    setup.first.kill()
    setup.second.stop()
    setup.second.port, setup.second.password = setup.first.port, setup.first.password
    (setup.second.directory / "accounts.sql").write_text(
        f"ALTER USER 'root'@'127.0.0.1' IDENTIFIED BY '{setup.first.password}';\n"
    )
    if flavour is Flavour.MARIADB:
        setup.second.options["skip_slave_start"] = "ON"
    else:
        setup.second.options["skip_replica_start"] = "ON"
    setup.second.start()
    setup.promote()
    with Writers(move.connect_to_owner, threads=2, rate=60) as writers:
        until = time.monotonic() + 90
        while not was_resynced(move):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < until
            time.sleep(0.1)
        move.stop(process)
        move.finish(writers)
