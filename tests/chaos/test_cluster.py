"""Copy and verification on a Dask cluster of real processes, under writers, with processes that die or freeze."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dask_processes import DaskProcesses, wait_for
from databases import Pair, list_connections
from moves import Move

from dbmigrate.domain.flavours import Flavour
from dbmigrate.throwaway.shop import create_shop, fill_shop
from dbmigrate.throwaway.shop_writers import Writers
from tests.chaos.conftest import AUTO

ROWS = 20_000


def _create_move(pair: Any, path: Path) -> Move:
    """A shop, large enough for a few dozen chunks, and an account for those who write to it."""
    with pair.source.connect() as connection:
        create_shop(connection, pair.source.schema)
        fill_shop(connection, pair.source.schema, ROWS)
    environment = {"SOURCE_PASSWORD": pair.source.server.password, "TARGET_PASSWORD": pair.target.server.password}
    move = Move(pair, path / "dbmigrate.toml", environment)
    move.create_application_user()
    return move


@pytest.fixture
def cluster_move(mariadb_pair: Any, tmp_path: Path) -> Iterator[Move]:
    """The shop on MariaDB."""
    move = _create_move(mariadb_pair, tmp_path)
    yield move
    move.stop_all()


@pytest.fixture
def cluster_factory(tmp_path: Path) -> Iterator[Callable[..., DaskProcesses]]:
    """``cluster_factory(move, workers=2, **settings of the scheduler)``."""
    started: list[DaskProcesses] = []

    def create(move: Move, workers: int = 2, **settings: str) -> DaskProcesses:
        directory = tmp_path / "cluster"
        directory.mkdir()
        cluster = DaskProcesses(directory, move.environment, settings)
        started.append(cluster)
        return cluster.start(workers)

    yield create
    for cluster in started:
        cluster.stop()


def _configure(move: Move, cluster: DaskProcesses, text: str = "") -> None:
    move.write(
        f'[copy]\nexecutor = "dask"\nworkers = 4\nmax_chunk_bytes = 262144\n[verify]\nexecutor = "dask"\nworkers = 4\n'
        f'chunk_rows = 1000\n[cluster]\nscheduler = "{cluster.address}"\nworker_timeout_seconds = 3\n{text}{AUTO}'
    )


class Locked:
    """Orders on the target, locked so that a chunk that has been read cannot be written."""

    def __init__(self, move: Move) -> None:
        self._move = move
        self._connection: Any = None

    def __enter__(self) -> Locked:
        self._connection = self._move.pair.target.connect()
        with self._connection.cursor() as cursor:
            cursor.execute("LOCK TABLES orders WRITE")
        return self

    def await_waiter(self) -> None:
        """Wait until a chunk is being written."""
        database = self._move.pair.target

        def is_waiting() -> bool:
            return any(
                "metadata lock" in (one.state or "") and re.search(f"{database.schema}.*orders", one.statement or "")
                for one in list_connections(database.server)
            )

        wait_for(is_waiting, "a chunk that waits")

    def __exit__(self, *fault: object) -> None:
        self._connection.close()


def test_a_move_whose_chunks_are_copied_and_compared_elsewhere(
    cluster_move: Move, cluster_factory: Callable[..., DaskProcesses]
) -> None:
    cluster = cluster_factory(cluster_move)
    _configure(cluster_move, cluster)
    findings = cluster_move.run("check").stdout
    assert "cluster" not in findings
    with Writers(cluster_move.connect_to_owner, threads=2, rate=100) as writers:
        cluster_move.run("run", "--until", "cutover")
        time.sleep(0.3)
    cluster_move.run("run", "--until", "soak")
    cluster_move.require_equal(writers)
    assert cluster_move.environment["TARGET_PASSWORD"] not in cluster.read_log()
    with cluster.connect() as client:
        done = client.run(lambda dask_worker: dask_worker.state.executed_count)
        assert min(done.values()) > 10, done
        kept = client.run(lambda: len(__import__("dbmigrate.cluster.workers", fromlist=["_"])._WORKPLACES._open))
        assert kept == dict.fromkeys(client.nthreads(), 0)


@pytest.mark.parametrize("fault", ["killed", pytest.param("frozen", marks=pytest.mark.slow)])
def test_a_worker_is_lost_with_a_chunk_it_is_writing(
    fault: str, cluster_move: Move, cluster_factory: Callable[..., DaskProcesses]
) -> None:
    """Killed, the server still has its statement; frozen, it goes on when another has long done its chunk."""
    cluster = cluster_factory(cluster_move, DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL="3s")
    _configure(cluster_move, cluster)
    cluster_move.run("run", "--until", "expand")
    with Writers(cluster_move.connect_to_owner, threads=2, rate=100) as writers:
        with Locked(cluster_move) as locked:
            process = cluster_move.start("run", "--until", "cutover")
            locked.await_waiter()
            worker = cluster.find_busy()
            worker.send_signal(signal.SIGKILL if fault == "killed" else signal.SIGSTOP)
            cluster.await_workers(1)
        if fault == "frozen":
            _await_copied(cluster_move)
            worker.send_signal(signal.SIGCONT)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, out + err
    cluster_move.run("run", "--until", "soak")
    cluster_move.require_equal(writers)


def _await_copied(move: Move) -> None:
    query = "SELECT COUNT(*), SUM(NOT is_done) FROM _dbmigrate.stripe"
    wait_for(lambda: _is_copied(move.pair.target.server.execute(query)), "the end of the copy", seconds=90)


def _is_copied(rows: Any) -> bool:
    ((stripes, missing),) = rows
    return bool(stripes) and not missing


def _move_and_kill(move: Move, cluster: DaskProcesses, *, after: str) -> None:
    """Go on after a phase, kill a worker that has a chunk of the orders, and come through."""
    _configure(move, cluster)
    move.run("run", "--until", after)
    with Writers(move.connect_to_owner, threads=2, rate=50) as writers:
        with Locked(move) as locked:
            process = move.start("run", "--until", "cutover")
            locked.await_waiter()
            cluster.find_busy().kill()
            cluster.await_workers(1)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, out + err
    move.run("run", "--until", "soak")
    move.require_equal(writers)


@pytest.mark.slow
def test_a_worker_is_killed_while_it_compares(
    cluster_move: Move, cluster_factory: Callable[..., DaskProcesses]
) -> None:
    _move_and_kill(cluster_move, cluster_factory(cluster_move), after="catch_up")


def test_no_worker_is_left_and_the_run_goes_on_without_a_cluster(
    cluster_move: Move, cluster_factory: Callable[..., DaskProcesses]
) -> None:
    cluster = cluster_factory(cluster_move, 1)
    _configure(cluster_move, cluster, "[throttle]\nmax_rows_per_second = 10000\n")
    cluster_move.run("run", "--until", "expand")
    process = cluster_move.start("run", "--until", "cutover")
    wait_for(lambda: _count_copied(cluster_move) > 0, "copied rows")
    cluster.workers[0].kill()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 4
    assert "there has been no worker for 3 s" in err
    copied = _count_copied(cluster_move)
    assert 0 < copied < ROWS
    cluster_move.write(AUTO)
    cluster_move.run("run", "--until", "cutover")
    cluster_move.require_equal()


def _count_copied(move: Move) -> int:
    query = "SELECT COALESCE(SUM(copied_rows), 0) FROM _dbmigrate.stripe"
    return int(move.pair.target.server.execute(query)[0][0])


@pytest.mark.slow
def test_the_scheduler_is_killed(cluster_move: Move, cluster_factory: Callable[..., DaskProcesses]) -> None:
    cluster = cluster_factory(cluster_move, 1)
    _configure(cluster_move, cluster)
    cluster_move.run("run", "--until", "expand")
    with Locked(cluster_move) as locked:
        process = cluster_move.start("run", "--until", "cutover")
        locked.await_waiter()
        assert cluster.scheduler is not None
        cluster.scheduler.kill()
        time.sleep(1)
    _, err = process.communicate(timeout=90)
    assert process.returncode == 4
    assert "the scheduler is gone" in err
    refused = cluster_move.run("run", expect=4).stderr
    assert "the scheduler cannot be reached" in refused
    assert "docs/scaling.md" in refused
    cluster_move.write(AUTO)
    cluster_move.run("run", "--until", "cutover")
    cluster_move.require_equal()


def test_what_keeps_workers_from_their_work_is_told(
    cluster_move: Move, cluster_factory: Callable[..., DaskProcesses]
) -> None:
    cluster = cluster_factory(cluster_move, 0)
    _configure(cluster_move, cluster)
    assert "it has no workers" in cluster_move.run("check", expect=3).stdout
    cluster.add_worker(TARGET_PASSWORD="not-the-password")
    cluster.await_workers(1)
    told = cluster_move.run("check", expect=3).stdout
    assert "does not let this account in" in told
    assert "2 tasks at a time" in told
    assert "not-the-password" not in told + cluster.read_log()


@pytest.mark.mysql
def test_on_mysql_with_a_worker_that_is_killed(
    pair_factory: Callable[..., Pair], tmp_path: Path, cluster_factory: Callable[..., DaskProcesses]
) -> None:
    move = _create_move(pair_factory(Flavour.MYSQL, Flavour.MYSQL), tmp_path)
    try:
        _move_and_kill(move, cluster_factory(move), after="expand")
    finally:
        move.stop_all()
