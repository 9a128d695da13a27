"""A move whose application follows by itself: all phases, the fence ``app``, the way back, and what goes wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pymysql
import pytest
from app_protocol import Instance, grant_control, prepare_application, require_nothing_lost
from moves import Move

from dbmigrate.domain.routes import Side

APP = """
[app]
enabled = true
read_ramp = [10, 100]
ramp_step_seconds = 0.2
instance_expiry_seconds = 5
min_instances = {min_instances}
{app}
[gates]
min_mirrored_writes = 20
min_shadow_samples = 20
min_target_reads = 10
{gates}
[cutover]
approval = "auto"
fence = "app"
retry_seconds = 0.2
max_write_pause_seconds = 2
"""

BeginMove = Callable[..., Move]
StartInstance = Callable[..., Instance]


def _write(move: Move, *, min_instances: int = 1, app: str = "", gates: str = "") -> None:
    move.write(APP.format(min_instances=min_instances, app=app, gates=gates))


@pytest.fixture
def begin_move(move_factory: Callable[..., Move]) -> BeginMove:
    """``begin_move(pair, **options)``: a move of a shop whose control tables exist, before the copy."""

    def begin(pair: Any, **options: Any) -> Move:
        prepare_application(pair)
        move = move_factory(pair)
        _write(move, **options)
        move.run("run", "--until", "plan")
        grant_control(pair)
        return move

    return begin


@pytest.fixture
def start_instance() -> Iterator[StartInstance]:
    """``start_instance(pair, name)``: an application process at work, stopped after the test."""
    started: list[Instance] = []

    def start(pair: Any, name: str, **options: Any) -> Instance:
        started.append(Instance(pair, name, **options).start())
        return started[-1]

    yield start
    for instance in started:
        instance.stop()


def _settle(move: Move, instances: list[Instance]) -> None:
    """Stop selling, let the stream come to its end, and compare everything."""
    for instance in instances:
        instance.stop()
    until = "soak" if move.read_owner() is Side.TARGET else "catch_up"
    move.run("run", "--until", until)
    owner = move.pair.target if move.read_owner() is Side.TARGET else move.pair.source
    require_nothing_lost(owner, instances)
    move.require_equal()
    assert [error for instance in instances for error in instance.errors] == []


def _await_reason(move: Move, process: subprocess.Popen[str], text: str, *, timeout: float = 40) -> dict[str, Any]:
    """Wait until the runner says that it waits for ``text``."""
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        status = move.status()
        if text in status["waiting_for"]:
            return status
        assert process.poll() is None, process.communicate()
    raise AssertionError(f"waits for {move.status()['waiting_for']!r} instead")


def _await_following(move: Move, instance: str, *, timeout: float = 20) -> dict[str, bool]:
    """Wait until ``instance`` reports the newest rules, which it reads once per beat; who is behind then."""
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        behind = {one["instance_id"]: one["behind"] > 0 for one in move.status()["application"]["instances"]}
        if behind.get(instance) is False:
            return behind
    raise AssertionError(f"{instance} does not follow: {behind}")


def _move_there_and_back_and_there(pair: Any, begin_move: BeginMove, start_instance: StartInstance) -> None:
    move = begin_move(pair, min_instances=2)
    instances = [start_instance(pair, name) for name in ("till-1", "till-2")]
    move.run("run", "--until", "cutover")
    assert move.read_owner() is Side.TARGET
    instances[0].await_sales(5)
    move.run("revert")
    assert move.read_owner() is Side.SOURCE
    instances[0].await_sales(5)
    move.run("run", "--until", "cutover")
    assert move.read_owner() is Side.TARGET
    for instance in instances:
        instance.await_sales(5)
    phases = [t["to"] for t in move.status()["transitions"]]
    for phase in ("dual_write", "shadow_read", "ramp_reads", "cutover", "soak"):
        assert phases.count(phase) >= 2, phases
    _settle(move, instances)


def test_an_application_moves_there_back_and_there_again_and_no_sale_fails(
    mariadb_pair: Any, begin_move: BeginMove, start_instance: StartInstance
) -> None:
    _move_there_and_back_and_there(mariadb_pair, begin_move, start_instance)


@pytest.mark.slow
def test_an_application_moves_there_back_and_there_again_on_mysql(
    mysql_pair: Any, begin_move: BeginMove, start_instance: StartInstance
) -> None:
    _move_there_and_back_and_there(mysql_pair, begin_move, start_instance)


@pytest.mark.slow
def test_an_instance_that_does_not_follow_holds_the_phase_until_it_expires(
    mariadb_pair: Any, begin_move: BeginMove, start_instance: StartInstance
) -> None:
    """It is named while it is waited for, and in the audit when it is not waited for any more."""
    move = begin_move(mariadb_pair)
    start_instance(mariadb_pair, "till-1")
    deaf = start_instance(mariadb_pair, "till-2", follows=False)
    process = move.start("run", "--until", "dual_write")
    _await_reason(move, process, "till-2 on web-1 (pid 4711) at epoch 0, ")
    behind = _await_following(move, "till-1")
    assert behind == {"till-1": False, "till-2": True}
    assert move.status()["phase"] == "dual_write"
    assert "till-2" in move.run("status").stdout
    time.sleep(1)
    assert process.poll() is None
    deaf.reports = False
    assert process.wait(timeout=30) == 0
    left = move.status()["transitions"][-1]
    assert left["to"] == "shadow_read"
    assert "expired and not waited for: till-2 on web-1" in left["reason"]
    rows = mariadb_pair.target.execute("SELECT instance_id FROM _dbmigrate.instance")
    assert rows == (("till-1",),)


@pytest.mark.slow
def test_too_few_instances_or_samples_are_waited_for_and_never_pass(
    mariadb_pair: Any, begin_move: BeginMove, start_instance: StartInstance
) -> None:
    move = begin_move(mariadb_pair, min_instances=2)
    start_instance(mariadb_pair, "till-1")
    process = move.start("run", "--until", "dual_write")
    _await_reason(move, process, "1 live instances report, at least 2 must")
    move.stop(process)
    assert move.read_phase() == "dual_write"
    move.path.write_text(move.path.read_text().replace("min_mirrored_writes = 20", "min_mirrored_writes = 1000000"))
    start_instance(mariadb_pair, "till-2")
    process = move.start("run", "--until", "dual_write")
    _await_reason(move, process, "mirrored writes (at least 1000000)")
    move.stop(process)
    assert move.read_phase() == "dual_write"


@pytest.mark.slow
def test_reads_that_really_differ_refuse_the_phase(
    mariadb_pair: Any, begin_move: BeginMove, start_instance: StartInstance
) -> None:
    """The run ends with exit code 3; what is counted after a new run decides anew."""
    move = begin_move(mariadb_pair)
    till = start_instance(mariadb_pair, "till-1")
    move.run("run", "--until", "dual_write")
    move.path.write_text(move.path.read_text().replace("min_shadow_samples = 20", "min_shadow_samples = 300"))
    process = move.start("run", "--until", "shadow_read")
    _await_reason(move, process, "shadow reads compared (at least 300)")
    till.real = 1
    out, err = process.communicate(timeout=30)
    assert process.returncode == 3, (out, err)
    assert "1 real mismatches (limit 0)" in err
    assert move.read_phase() == "shadow_read"
    move.run("run", "--until", "shadow_read")
    assert move.read_phase() == "verify"


@pytest.mark.slow
def test_the_ramp_steps_back_when_a_guardrail_breaks_and_then_to_nothing(
    mariadb_pair: Any, begin_move: BeginMove, start_instance: StartInstance
) -> None:
    """Each step has its own epoch and audit row, on both sides."""
    move = begin_move(mariadb_pair)
    text = move.path.read_text().replace("ramp_step_seconds = 0.2", "ramp_step_seconds = 1")
    move.path.write_text(text.replace("read_ramp = [10, 100]", "read_ramp = [5, 10, 100]"))
    till = start_instance(mariadb_pair, "till-1")
    process = move.start("run", "--until", "ramp_reads")
    until = time.monotonic() + 60
    while not (till.row and till.row[4] == 100):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)
    till.fallbacks += 50
    while not (till.row and till.row[4] == 10):
        assert time.monotonic() < until
        time.sleep(0.02)
    till.fallbacks += 50
    status = _await_reason(move, process, "no reads on the target since a guardrail broke at")
    assert status["phase"] == "ramp_reads"
    assert status["application"]["read_share"] == 0
    for database in (mariadb_pair.source, mariadb_pair.target):
        rows = database.execute("SELECT epoch, phase, read_share, mirror FROM _dbmigrate.fence")
        assert [(epoch, phase, float(share), mirror) for epoch, phase, share, mirror in rows] == [
            (status["epoch"], "ramp_reads", 0.0, 1)
        ]
    steps = [t for t in status["transitions"] if t["from"] == t["to"] == "ramp_reads"]
    assert [t["epoch"] for t in steps] == list(range(steps[0]["epoch"], steps[0]["epoch"] + 5))
    assert sum("stepped back" in t["reason"] for t in steps) == 2
    move.stop(process)


def _die_at(move: Move, step: str) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "tests.chaos.dying_runner", str(move.path), step, "1"],
        env={**os.environ, **move.environment}, timeout=120, capture_output=True, text=True,
    )  # fmt: skip
    assert process.returncode == -signal.SIGKILL, process.stderr
    move.release_lease()


def _complete_a_switch_by_itself(pair: Any, begin_move: BeginMove, start_instance: StartInstance) -> None:
    move = begin_move(pair)
    tills = [start_instance(pair, name) for name in ("till-1", "till-2")]
    _die_at(move, "switch.origin_committed")
    for till in tills:
        till.await_sales(20)  # nobody but they can have written the target's row
    assert sum(till.completed for till in tills) == 1
    rows = [
        database.execute("SELECT epoch, owner, phase, mirror, read_share, shadow_share FROM _dbmigrate.fence")
        for database in (pair.source, pair.target)
    ]
    assert rows[0] == rows[1]
    assert rows[0][0][1] == "target"
    assert move.read_phase() == "cutover"
    move.run("run", "--until", "cutover")
    assert move.read_phase() == "soak"
    _settle(move, tills)


def test_writers_complete_a_switch_whose_runner_was_killed_between_its_commits(
    mariadb_pair: Any, begin_move: BeginMove, start_instance: StartInstance
) -> None:
    _complete_a_switch_by_itself(mariadb_pair, begin_move, start_instance)


@pytest.mark.slow
def test_writers_complete_a_switch_whose_runner_was_killed_between_its_commits_on_mysql(
    mysql_pair: Any, begin_move: BeginMove, start_instance: StartInstance
) -> None:
    _complete_a_switch_by_itself(mysql_pair, begin_move, start_instance)


@pytest.mark.slow
def test_a_transaction_that_holds_the_fence_row_undoes_the_switch_and_is_named(
    mariadb_pair: Any, begin_move: BeginMove, start_instance: StartInstance
) -> None:
    """And writers that do not know the row are refused, on the side that does not own the data: after the switch on the
    source, after the switch back on the target."""
    move = begin_move(mariadb_pair)
    till = start_instance(mariadb_pair, "till-1")
    process = move.start("run", "--until", "cutover")
    move.await_phase("cutover", process=process)
    # The row follows the phase. Held before, it would be the announcement that waits, not the switch.
    _await_row(mariadb_pair, "cutover")
    with mariadb_pair.source.connect(user="shop_app", password="app", autocommit=False) as holding:
        with holding.cursor() as cursor:
            cursor.execute("SELECT epoch FROM _dbmigrate.fence LOCK IN SHARE MODE")
        until = time.monotonic() + 90
        while not (found := mariadb_pair.target.execute(
            "SELECT content FROM _dbmigrate.evidence WHERE kind = 'switch_undone'"
        )):  # fmt: skip
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until
            time.sleep(0.1)
        assert f"connection {holding.thread_id()} of shop_app" in found[0][0]
        till.await_sales(5)
        assert move.read_owner() is Side.SOURCE
        holding.rollback()
    assert process.wait(timeout=60) == 0
    _require_refused(mariadb_pair.source)
    move.run("revert")
    _require_refused(mariadb_pair.target)
    assert till.longest_gap < 5
    _settle(move, [till])


def _await_row(pair: Any, phase: str) -> None:
    """Until both sides' fence rows say this phase."""
    until = time.monotonic() + 20
    for database in (pair.source, pair.target):
        while database.execute("SELECT phase FROM _dbmigrate.fence") != ((phase,),):
            assert time.monotonic() < until
            time.sleep(0.01)


def _require_refused(database: Any) -> None:
    """A writer that does not follow the fence row is refused on every table that moves."""
    with database.connect(user="shop_app", password="app") as stranger, stranger.cursor() as cursor:
        for statement in (
            "INSERT INTO orders (token, total) VALUES ('stranger', 1)", "UPDATE stock SET sold = 0", "DELETE FROM orders"
        ):  # fmt: skip
            with pytest.raises(pymysql.err.OperationalError, match="this database has moved"):
                cursor.execute(statement)


@pytest.mark.slow
def test_mirrors_pause_while_triggers_change_sides_and_go_on_to_the_source_afterwards(
    mariadb_pair: Any, begin_move: BeginMove, start_instance: StartInstance
) -> None:
    """A mirrored row would fire a trigger that has been carried already, and its rows would be on one side only."""
    move = begin_move(mariadb_pair, app="mirror_in_soak = true")
    mariadb_pair.source.execute(
        "CREATE TABLE sold (id BIGINT AUTO_INCREMENT PRIMARY KEY, orders_id BIGINT NOT NULL)",
        "CREATE TRIGGER note_sale AFTER INSERT ON orders FOR EACH ROW INSERT INTO sold (orders_id) VALUES (NEW.id)",
    )
    till = start_instance(mariadb_pair, "till-1")
    move.run("run", "--until", "cutover")
    reasons = [t["reason"] for t in move.status()["transitions"] if t["from"] == t["to"] == "cutover"]
    assert reasons == ["mirrors pause: triggers are about to change sides"]
    process = move.start("run")
    until = time.monotonic() + 30
    while till.counts.get("mirrored", 0) < 20:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, (till.row, till.counts, till.errors[-3:])
        time.sleep(0.05)
    till.stop()
    move.stop(process)
    _settle(move, [till])
    assert mariadb_pair.target.execute("SELECT COUNT(*) FROM sold")[0][0] == len(till.sales)


@pytest.mark.slow
def test_the_way_back_ends_only_when_no_instance_stands_on_the_fence_row(
    mariadb_pair: Any, begin_move: BeginMove, start_instance: StartInstance
) -> None:
    """Without the row an instance would take the source for the owner: it is named, and the rest is done when it has ended."""
    move = begin_move(mariadb_pair)
    instance = start_instance(mariadb_pair, "web-1")
    move.run("run", "--until", "cutover")
    refused = move.run("contract", "--yes", expect=3)
    assert "still follow the fence row" in refused.stderr
    assert "web-1" in refused.stderr
    assert move.read_phase() == "contract"
    instance.await_sales(5)
    assert instance.errors == []
    assert "not possible in phase contract" in move.run("revert", expect=3).stderr
    instance.stop()
    time.sleep(5.5)
    move.run("contract", "--yes")
    assert move.read_phase() == "done"
    require_nothing_lost(mariadb_pair.target, [instance])
