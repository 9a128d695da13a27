"""kill -9 of the runner, at every named step point and in every phase, while the shop sells.

Each time a new runner goes on where the dead one left, and in the end every row and every acknowledged write is
where it belongs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from moves import Move

from dbmigrate.domain.routes import Side
from dbmigrate.throwaway.shop_writers import Writers
from tests.chaos.conftest import AUTO

COPY_STEPS = (
    "copy.chunk.barrier", "copy.chunk.read", "copy.chunk.piece", "copy.chunk.written", "copy.chunk.committed",
)  # fmt: skip
FLUSH_STEPS = ("flush.chunks_done", "flush.barrier", "flush.batch.read", "flush.batch.written", "flush.batch.committed")
SWITCH_STEPS = (
    "switch.fence", "switch.drain", "switch.verify", "switch.way_back", "switch.carry", "switch.before_commit",
    "switch.commit", "switch.row_written", "switch.origin_committed", "switch.destination_committed",
)  # fmt: skip


def _die_at(move: Move, step: str, count: int = 1, request: str = "") -> None:
    """A runner that dies at the step; its lease has to expire before the next."""
    arguments = [str(move.path), step, str(count), *([request] if request else [])]
    process = subprocess.run(
        [sys.executable, "-m", "tests.chaos.dying_runner", *arguments],
        env={**os.environ, **move.environment}, timeout=120, capture_output=True, text=True,
    )  # fmt: skip
    assert process.returncode == -signal.SIGKILL, process.stderr
    move.pair.target.server.execute("UPDATE _dbmigrate.migration SET lease_until = NULL")


EVERYDAY = {
    "copy.chunk.written", "flush.batch.written", "stream.checkpoint", "switch.before_commit", "switch.origin_committed"
}  # fmt: skip


def _steps(*names: str) -> list[Any]:
    return [name if name in EVERYDAY else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("step", _steps(*COPY_STEPS, *FLUSH_STEPS, "stream.position_noted", "stream.checkpoint"))
def test_killed_while_copying_or_streaming(step: str, shop_move: Move, route: Callable[[], Any]) -> None:
    with Writers(route, threads=2, rate=100) as writers:
        _die_at(shop_move, step, 2 if step.startswith("copy") else 1)
        shop_move.run("run", "--until", "cutover")
    shop_move.run("run", "--until", "soak")
    shop_move.require_equal(writers)


@pytest.mark.parametrize("step", _steps(*SWITCH_STEPS))
def test_killed_inside_the_cutover(step: str, shop_move: Move, route: Callable[[], Any]) -> None:
    with Writers(route, threads=2, rate=100) as writers:
        _die_at(shop_move, step)
        shop_move.run("run", "--until", "cutover")
        time.sleep(0.3)
    assert shop_move.read_owner() is Side.TARGET
    shop_move.run("run", "--until", "soak")
    shop_move.require_equal(writers)


@pytest.mark.slow
@pytest.mark.parametrize("step", SWITCH_STEPS)
def test_killed_inside_the_way_back(step: str, shop_move: Move, route: Callable[[], Any]) -> None:
    with Writers(route, threads=2, rate=100) as writers:
        shop_move.run("run", "--until", "cutover")
        time.sleep(0.3)
        _die_at(shop_move, step, request="revert")
        if shop_move.read_phase() in ("soak", "reverting"):
            shop_move.run("revert")
        time.sleep(0.3)
    assert shop_move.read_owner() is Side.SOURCE
    shop_move.run("run", "--until", "verify")
    shop_move.require_equal(writers)


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["expand", "copy", "catch_up", "verify", "cutover", "soak"])
def test_killed_on_entering_a_phase(phase: str, shop_move: Move, route: Callable[[], Any]) -> None:
    with Writers(route, threads=2, rate=100) as writers:
        process = shop_move.start("run", "--yes")
        shop_move.await_phase(phase, "soak", process=process)
        process.kill()
        process.communicate()
        shop_move.pair.target.server.execute("UPDATE _dbmigrate.migration SET lease_until = NULL")
        shop_move.run("run", "--until", "cutover")
    shop_move.run("run", "--until", "soak")
    shop_move.require_equal(writers)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "count"),
    [("contract.lanes", 1), ("contract.guards", 1), ("contract.rows", 1), ("contract.rows", 2), ("contract.removed", 1)],
)
def test_killed_while_the_way_back_ends(step: str, count: int, shop_move: Move, route: Callable[[], Any]) -> None:
    """Whatever was removed before: the next run removes the rest, and the target keeps every write."""
    shop_move.write(AUTO.replace("[cutover]", '[cutover]\nfence = "lock_tables"'))
    with Writers(route, threads=2, rate=100) as writers:
        shop_move.run("run", "--until", "cutover")
        time.sleep(0.3)
        _die_at(shop_move, step, count, request="contract")
        shop_move.run("run")
        time.sleep(0.3)
        writers.stop()
    assert shop_move.read_phase() == "done"
    rows = shop_move.pair.source.server.execute(
        "SELECT (SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = '_dbmigrate') + "
        "(SELECT COUNT(*) FROM information_schema.triggers WHERE trigger_name LIKE 'dbmigrate%')"
    )
    assert rows == ((0,),)
    with shop_move.pair.target.connect() as connection:
        assert writers.verify_journal(connection) == (0, 0)
    assert writers.failed == 0, writers.errors


@pytest.mark.slow
def test_the_lease_of_a_dead_runner_expires_by_itself(shop_move: Move) -> None:
    process = shop_move.start("run")
    shop_move.await_phase("cutover", process=process)
    process.kill()
    process.communicate()
    assert "another runner works on this migration" in shop_move.run("run", expect=3).stderr
    time.sleep(16)
    shop_move.run("run", "--until", "cutover", "--yes")
