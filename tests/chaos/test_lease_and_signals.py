"""Two runners at once, frozen runners that come back to life, and orderly stops."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from chaos.equality import require_equal
from chaos.small_pieces import READ_IN_PIECES, SMALL_PIECES
from moves import Move

from dbmigrate.domain.routes import Side
from dbmigrate.throwaway.shop_writers import Writers

FAILED = 4


@contextmanager
def _frozen_at(move: Move, step: str, count: int = 1, request: str = "") -> Iterator[subprocess.Popen[str]]:
    """A runner that stops (SIGSTOP) at a step, as a virtual machine that is paused; killed at the end if need be."""
    arguments = [str(move.path), step, str(count), *([request] if request else [])]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.dying_runner", *arguments],
        env={**os.environ, **move.environment, "DEATH": "SIGSTOP"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        found = os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        assert found is not None
        assert found.si_code == os.CLD_STOPPED, process.communicate()
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.communicate()


def _thaw(process: subprocess.Popen[str]) -> tuple[int, str]:
    """It must end by itself; its exit code and last words."""
    process.send_signal(signal.SIGCONT)
    _, err = process.communicate(timeout=120)
    return process.returncode, err


def _expire_lease(move: Move) -> None:
    move.pair.target.server.execute("UPDATE _dbmigrate.migration SET lease_until = NULL")


OUTSIDE_A_WRITE = ("copy.chunk.read", "flush.batch.read", "stream.checkpoint", "flush.chunks_done")
INSIDE_A_WRITE = ("copy.chunk.piece", "copy.chunk.written", "flush.batch.written")


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "step",
    [
        *[pytest.param(step, marks=pytest.mark.slow) for step in OUTSIDE_A_WRITE],
        *[pytest.param(step, marks=pytest.mark.slow) for step in INSIDE_A_WRITE],
    ],
)
def test_a_frozen_runner_writes_nothing_after_another_has_taken_over(
    step: str, shop_move: Move, route: Callable[[], Any]
) -> None:
    """Inside a write its transaction holds the tenure: the other waits until the server ends the silent session."""
    shop_move.write(READ_IN_PIECES)
    with Writers(route, threads=2, rate=60, give_up_seconds=300) as writers:
        with _frozen_at(shop_move, step, 3) as frozen:
            _expire_lease(shop_move)
            successor = shop_move.start("run", "--yes")
            shop_move.await_phase("catch_up", "verify", "cutover", "soak", process=successor, timeout=240)
            code, said = _thaw(frozen)
            assert code != 0
            assert "another runner" in said
            shop_move.await_phase("soak", process=successor, timeout=120)
        time.sleep(0.3)
    successor.terminate()
    successor.communicate(timeout=60)
    shop_move.run("run", "--yes", "--until", "soak")
    require_equal(shop_move, writers)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "step", ["switch.drain", "switch.carry", "switch.before_commit", "switch.row_written", "switch.origin_committed"]
)
def test_a_runner_frozen_inside_the_switch(step: str, shop_move: Move, route: Callable[[], Any]) -> None:
    """The other one completes or undoes it and switches itself; the thawed one must not move ownership any more."""
    shop_move.write(SMALL_PIECES)
    with Writers(route, threads=2, rate=60, give_up_seconds=300) as writers:
        with _frozen_at(shop_move, step) as frozen:
            _expire_lease(shop_move)
            successor = shop_move.start("run", "--yes")
            shop_move.await_phase("catch_up", "verify", "soak", process=successor, timeout=240)
            code, said = _thaw(frozen)
            assert code != 0, said
            shop_move.await_phase("soak", process=successor, timeout=120)
        time.sleep(0.5)
        assert shop_move.read_owner() is Side.TARGET
        rows = shop_move.pair.target.execute("SELECT epoch, owner FROM _dbmigrate.fence")
        assert rows == shop_move.pair.source.execute("SELECT epoch, owner FROM _dbmigrate.fence")
    successor.terminate()
    successor.communicate(timeout=60)
    shop_move.run("run", "--yes", "--until", "soak")
    require_equal(shop_move, writers)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_runner_frozen_for_longer_than_its_lease(shop_move: Move, route: Callable[[], Any]) -> None:
    """The lease expires by itself, and a signal from outside hits anywhere."""
    shop_move.write(SMALL_PIECES)
    with Writers(route, threads=2, rate=60, give_up_seconds=300) as writers:
        frozen = shop_move.start("run", "--yes")
        shop_move.await_phase("copy", process=frozen)
        frozen.send_signal(signal.SIGSTOP)
        time.sleep(16)
        successor = shop_move.start("run", "--yes")
        shop_move.await_phase("catch_up", "verify", "cutover", "soak", process=successor, timeout=240)
        code, said = _thaw(frozen)
        assert code in (3, 4), said
        assert "another runner" in said
        shop_move.await_phase("soak", process=successor, timeout=120)
        time.sleep(0.3)
    successor.terminate()
    successor.communicate(timeout=60)
    shop_move.run("run", "--yes", "--until", "soak")
    require_equal(shop_move, writers)


def test_of_two_runners_at_once_one_works_and_the_other_is_refused(shop_move: Move, route: Callable[[], Any]) -> None:
    shop_move.write(READ_IN_PIECES)
    with Writers(route, threads=2, rate=60) as writers:
        runners = [shop_move.start("run", "--yes", "--until", "cutover") for _ in range(3)]
        ends = [process.communicate(timeout=240) for process in runners]
    codes = sorted(process.returncode for process in runners)
    assert codes == [0, 3, 3], ends
    refused = [err for process, (_, err) in zip(runners, ends, strict=True) if process.returncode == 3]
    assert all("another runner works on this migration" in err for err in refused), refused
    shop_move.run("run", "--until", "soak")
    require_equal(shop_move, writers)


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)], ids=lambda number: number.name
)
def test_a_signal_stops_in_order_with_everything_saved(
    number: signal.Signals, shop_move: Move, route: Callable[[], Any]
) -> None:
    """Exit code 4, the lease given back: the next run starts at once, and goes on instead of starting anew."""
    shop_move.write(READ_IN_PIECES)
    with Writers(route, threads=2, rate=60) as writers:
        for phase in ("copy", "verify", "soak"):
            process = shop_move.start("run", "--yes")
            shop_move.await_phase(phase, "soak", process=process, timeout=120)
            copied = _count_copied(shop_move)
            process.send_signal(number)
            _, err = process.communicate(timeout=60)
            assert process.returncode == FAILED, err
            assert "stopped cleanly; go on with" in err
            assert shop_move.pair.target.execute(
                "SELECT COUNT(*) FROM _dbmigrate.migration WHERE lease_until > UTC_TIMESTAMP(6)"
            ) == ((0,),)
            assert _count_copied(shop_move) >= copied
            age = shop_move.pair.target.execute("SELECT COUNT(*) FROM _dbmigrate.checkpoint")
            assert age[0][0] >= 1
    shop_move.run("run", "--until", "soak")
    require_equal(shop_move, writers)


def _count_copied(move: Move) -> int:
    found = move.pair.target.execute("SELECT COALESCE(SUM(copied_rows), 0) FROM _dbmigrate.stripe")
    return int(found[0][0])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_signals_at_random_while_a_switch_is_made(shop_move: Move, route: Callable[[], Any]) -> None:
    """A switch that has begun is ended in order: the stop never leaves the source closed to its writers."""
    shop_move.write(SMALL_PIECES)
    with Writers(route, threads=2, rate=60, give_up_seconds=300) as writers:
        for tenth in range(12):
            process = shop_move.start("run", "--yes")
            if shop_move.await_phase("cutover", "soak", process=process, timeout=120) == "soak":
                break
            threading.Event().wait(tenth * 0.02)
            process.terminate()
            _, err = process.communicate(timeout=60)
            assert process.returncode == FAILED, err
            if shop_move.read_owner() is Side.SOURCE:
                assert shop_move.pair.source.execute("SELECT @@GLOBAL.read_only") in (((0,),), (("OFF",),))
    shop_move.stop_all()
    _expire_lease(shop_move)
    shop_move.run("run", "--yes", "--until", "soak")
    require_equal(shop_move, writers)
