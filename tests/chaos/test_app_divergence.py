"""An application on ``dbmigrate.app`` through whole moves, with hot rows, while things die.

In the end source equals target, every acknowledged transaction is there once, and the binlogs prove that no server
executed a write while it did not own the data.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from app_protocol import ACCOUNT, PASSWORD, grant_control
from app_rows import engine_of
from app_writer import ACCOUNTS, create_tables
from moves import Move
from wrong_side import judge_binlog

from dbmigrate.domain.routes import Side
from dbmigrate.throwaway.tcp_proxy import TcpProxy

CONFIGURATION = """
[app]
enabled = true
shadow_share = 0
read_ramp = [50]
ramp_step_seconds = 0.5
instance_expiry_seconds = 5
mirror_in_soak = true
[gates]
min_mirrored_writes = 20
min_shadow_samples = 0
min_target_reads = 5
max_uncaptured_ratio = 0.0
max_mirror_failure_ratio = 0.5
max_write_failure_ratio = 0.5
max_latency_p95_ratio = 1000.0
max_latency_p99_ratio = 1000.0
max_read_error_ratio = 1.0
[cutover]
approval = "auto"
fence = "app"
retry_seconds = 0.2
max_write_pause_seconds = 3
"""
STEPS = (
    "switch.fence", "switch.drain", "switch.verify", "switch.way_back", "switch.carry", "switch.before_commit",
    "switch.commit", "switch.row_written", "switch.origin_committed", "switch.destination_committed",
)  # fmt: skip


class Application:
    """A process of ``tests/app_writer.py``."""

    def __init__(
        self, move: Move, directory: Path, name: str, *, source_port: int | None = None,
        target_port: int | None = None, **settings: Any,
    ) -> None:
        self.acknowledged = directory / f"{name}.acknowledged"
        urls = {
            side.value: _url(database, port)
            for side, database, port in (
                (Side.SOURCE, move.pair.source, source_port), (Side.TARGET, move.pair.target, target_port)
            )
        }  # fmt: skip
        given = {"id": "move", "threads": 4, "pause_seconds": 0.01, "acknowledged": str(self.acknowledged)}
        path = directory / f"{name}.json"
        path.write_text(json.dumps(given | urls | settings))
        path.chmod(0o600)
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).parents[1] / "app_writer.py"), str(path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def await_writes(self, number: int) -> None:
        """So many more acknowledged transactions."""
        wanted, until = len(self.tokens()) + number, time.monotonic() + 60
        while len(self.tokens()) < wanted:
            assert time.monotonic() < until
            time.sleep(0.02)

    def tokens(self) -> set[str]:
        return set(self.acknowledged.read_text().split()) if self.acknowledged.exists() else set()

    def stop(self) -> list[str]:
        """What failed."""
        out, _ = self.process.communicate("stop\n", timeout=60)
        return list(json.loads(out)["failures"])

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


def _url(database: Any, port: int | None) -> str:
    url = sa.URL.create(
        "mysql+pymysql", ACCOUNT, PASSWORD, "127.0.0.1", port or database.server.port, database.schema,
        {"charset": "utf8mb4", "read_timeout": "5", "connect_timeout": "3"},
    )  # fmt: skip
    return url.render_as_string(hide_password=False)


@pytest.fixture
def move(mariadb_pair: Any, tmp_path: Path) -> Iterator[Move]:
    """A move of the accounts, just before the copy."""
    for database in (mariadb_pair.source, mariadb_pair.target):
        database.server.execute("RESET MASTER")
        database.server.create_user(ACCOUNT, PASSWORD, f"SELECT, INSERT, UPDATE, DELETE ON `{database.schema}`.*")
    create_tables(engine_of(mariadb_pair.source))
    environment = {
        f"{side}_PASSWORD": database.server.password
        for side, database in (("SOURCE", mariadb_pair.source), ("TARGET", mariadb_pair.target))
    }
    move = Move(mariadb_pair, tmp_path / "dbmigrate.toml", environment)
    move.write(CONFIGURATION)
    move.run("run", "--until", "plan")
    grant_control(mariadb_pair)
    yield move
    move.stop_all()


@pytest.fixture
def start(move: Move, tmp_path: Path) -> Iterator[Callable[..., Application]]:
    started: list[Application] = []

    def begin(name: str, **settings: Any) -> Application:
        started.append(Application(move, tmp_path, name, **settings))
        return started[-1]

    yield begin
    for application in started:
        application.kill()


def _require_all_well(move: Move, *applications: Application, switches: int) -> None:
    owner = move.read_owner()
    move.run("run", "--until", "soak" if owner is Side.TARGET else "catch_up")
    move.require_equal()
    database = move.pair.target if owner is Side.TARGET else move.pair.source
    tokens = [row[0] for row in database.execute("SELECT token FROM journal")]
    assert len(tokens) == len(set(tokens))
    for application in applications:
        assert application.tokens() <= set(tokens)
    sums = dict(database.execute("SELECT account_id, CAST(SUM(amount) AS SIGNED) FROM journal GROUP BY account_id"))
    assert dict(database.execute("SELECT id, balance FROM account")) == {n: sums.get(n, 0) for n in range(ACCOUNTS)}
    legal = 0
    for side, one in ((Side.SOURCE, move.pair.source), (Side.TARGET, move.pair.target)):
        verdict = judge_binlog(one, side.value, "move")
        assert verdict.wrong == ()
        assert verdict.switches == switches
        legal += verdict.legal
    assert legal == len(tokens)


def test_hot_rows_there_back_and_there_again(move: Move, start: Callable[..., Application]) -> None:
    applications = [start("one"), start("two")]
    move.run("run", "--until", "cutover")
    applications[0].await_writes(50)
    move.run("revert")
    applications[0].await_writes(50)
    move.run("run", "--until", "cutover")
    applications[0].await_writes(50)
    assert [application.stop() for application in applications] == [[], []]
    _require_all_well(move, *applications, switches=3)


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_the_runner_dies_inside_the_switch(move: Move, start: Callable[..., Application], step: str) -> None:
    """No write fails: whoever finds the source's row ahead completes the switch."""
    application = start("one")
    process = subprocess.run(
        [sys.executable, "-m", "tests.chaos.dying_runner", str(move.path), step, "1"],
        env={**os.environ, **move.environment}, timeout=120, capture_output=True, text=True,
    )  # fmt: skip
    assert process.returncode == -signal.SIGKILL, process.stderr
    application.await_writes(20)
    move.pair.target.server.execute("UPDATE _dbmigrate.migration SET lease_until = NULL")
    move.run("run", "--until", "cutover")
    application.await_writes(20)
    assert application.stop() == []
    _require_all_well(move, application, switches=1)


@pytest.mark.slow
def test_the_application_dies_between_its_two_commits(move: Move, start: Callable[..., Application]) -> None:
    """What the mirror never committed, the stream brings."""
    survivor = start("one")
    victims = [start(f"victim {number}", dies_between_commits_after=30 + number) for number in range(3)]
    move.run("run", "--until", "cutover")
    for victim in victims:
        assert victim.process.wait(60) == -signal.SIGKILL
    survivor.await_writes(20)
    assert survivor.stop() == []
    _require_all_well(move, survivor, *victims, switches=1)


@pytest.mark.slow
def test_an_instance_that_is_cut_off_from_the_target_never_writes_on_the_old_owner(
    move: Move, start: Callable[..., Application]
) -> None:
    """It cannot report and is no longer waited for; after the switch its writes fail until it sees the target again."""
    target = move.pair.target.server
    with TcpProxy("127.0.0.1", target.port) as proxy:
        connected, cut_off = start("one"), start("two", target_port=proxy.port)
        move.run("run", "--until", "dual_write")
        proxy.cut()
        move.run("run", "--until", "cutover")
        connected.await_writes(20)
        time.sleep(1)
        proxy.restore()
        cut_off.await_writes(20)
        assert connected.stop() == []
        assert cut_off.stop() != []
        _require_all_well(move, connected, cut_off, switches=1)


@pytest.mark.slow
def test_connections_that_break_at_any_moment_lose_and_double_nothing(
    move: Move, start: Callable[..., Application]
) -> None:
    """Replies are lost in the middle of writes, of commits on either side, of reports, and of the switch itself."""
    chance = random.Random(20261126)
    stopping = threading.Event()
    with ExitStack() as stack:
        proxies = [
            stack.enter_context(TcpProxy("127.0.0.1", database.server.port))
            for database in (move.pair.source, move.pair.target)
        ]

        def break_connections() -> None:
            while not stopping.wait(chance.uniform(0.1, 0.4)):
                chance.choice(proxies).reset_connections()

        application = start("one", source_port=proxies[0].port, target_port=proxies[1].port)
        breaking = threading.Thread(target=break_connections)
        breaking.start()
        try:
            move.run("run", "--until", "cutover")
            application.await_writes(50)
            move.run("revert")
            application.await_writes(50)
        finally:
            stopping.set()
            breaking.join()
        application.await_writes(20)
        assert application.stop() != []
    _require_all_well(move, application, switches=2)


def test_the_checker_finds_a_write_on_the_wrong_side(move: Move, start: Callable[..., Application]) -> None:
    application = start("one")
    move.run("run", "--until", "cutover")
    application.stop()
    server = move.pair.source.server
    for name in server.execute(
        f"SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = '{move.pair.source.schema}'"
    ):
        move.pair.source.execute(f"DROP TRIGGER `{name[0]}`")
    move.pair.source.execute(
        "INSERT INTO journal (token, account_id, amount, executed_on) VALUES ('wrong', 1, 1, @@server_id)"
    )
    assert judge_binlog(move.pair.source, "source", "move").wrong == ("wrong",)
