"""kill -9 of the runner at random moments, again and again, while the shop sells.

Nothing here knows where in the code a kill hits: the moments are drawn, from a seed, within the phase that is wanted.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chaos.equality import require_equal
from chaos.forked_runners import ForkedRunners, await_phase_of
from chaos.small_pieces import SMALL_PIECES
from moves import Move

from dbmigrate.domain.flavours import Flavour
from dbmigrate.throwaway.shop import create_shop, fill_shop
from dbmigrate.throwaway.shop_writers import Writers

LONGEST_DELAY = {"copy": 0.8, "catch_up": 0.3, "verify": 0.6, "cutover": 0.25, "soak": 0.8, "reverting": 0.25}
TO_THE_TARGET = ("copy", "catch_up", "verify", "cutover", "soak")

Plan = list[tuple[str, int]]
EVERYDAY: Plan = [("copy", 4), ("catch_up", 2), ("verify", 2), ("cutover", 4), ("soak", 3)]
THERE_AND_BACK: Plan = [
    ("copy", 14), ("catch_up", 6), ("verify", 8), ("cutover", 16), ("soak", 10), ("reverting", 14),
    ("catch_up", 4), ("verify", 5), ("cutover", 10), ("soak", 5),
]  # fmt: skip


class Killer:
    """Kills runners by a plan, and keeps count of where it hit them."""

    def __init__(self, move: Move, runners: ForkedRunners, seed: int) -> None:
        self._move, self._runners = move, runners
        self._chance = random.Random(seed)
        self.kills: Counter[str] = Counter()

    def kill_by(self, plan: Plan) -> None:
        """Every kill that is planned; those that come too late for their phase are made up for in the last one."""
        for phase, times in plan:
            for _ in range(times):
                if phase == "copy" and self._move.read_phase() not in ("", "plan", "expand", "copy"):
                    break
                for _ in range(5):
                    if self._kill_in(phase):
                        break
        while self.kills.total() < sum(times for _, times in plan):
            self._kill_in(plan[-1][0])

    def _kill_in(self, wanted: str) -> bool:
        """One runner, killed in the wanted phase (True) or wherever it had got to meanwhile."""
        is_behind = self._move.read_phase() in ("soak", "reverting") and wanted != "soak"
        self._runners.start("revert" if is_behind else "")
        passed = {"soak"} if wanted != "soak" and not is_behind else set()
        reached = await_phase_of(self._runners, self._move, frozenset({wanted} | passed))
        if not reached:  # a revert was done before anybody could kill it
            assert self._runners.wait() == 0, self._runners.read_log()
            return False
        time.sleep(self._chance.uniform(0.0, LONGEST_DELAY[reached]))
        hit = self._move.read_phase()
        if self._runners.kill():
            self.kills[hit] += 1
        # Nobody waits out the lease of somebody whom he has killed himself; the tenure has to hold without it.
        self._move.pair.target.server.execute("UPDATE _dbmigrate.migration SET lease_until = NULL")
        return hit == wanted

    def finish(self) -> None:
        """A last runner goes on to soak and drains; it is not killed."""
        self._move.run("run", "--yes", "--until", "soak", timeout=240)


def _run_with_kills(move: Move, route: Callable[[], Any], log: Path, *, seed: int, plan: Plan) -> Counter[str]:
    with Writers(route, threads=2, rate=80, seed=seed, give_up_seconds=300) as writers:
        with ForkedRunners(move, log) as runners:
            killer = Killer(move, runners, seed)
            killer.kill_by(plan)
        move.run("run", "--yes", "--until", "cutover", timeout=240)
    killer.finish()
    require_equal(move, writers)
    sys.stdout.write(f"seed {seed}: {killer.kills.total()} kills, {dict(killer.kills)}; {writers.committed} writes\n")
    assert all(killer.kills[phase] > 0 for phase, _ in plan), killer.kills
    return killer.kills


@pytest.fixture
def slow_shop_move(shop_move: Move) -> Move:
    """The shop cut into small pieces."""
    shop_move.write(SMALL_PIECES)
    return shop_move


def test_15_kills_at_random_moments(slow_shop_move: Move, route: Callable[[], Any], tmp_path: Path) -> None:
    kills = _run_with_kills(slow_shop_move, route, tmp_path / "runners.log", seed=1, plan=EVERYDAY)
    assert kills.total() >= 15


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", [2, 3])
def test_90_kills_there_and_back_and_there_again(
    seed: int, slow_shop_move: Move, route: Callable[[], Any], tmp_path: Path
) -> None:
    kills = _run_with_kills(slow_shop_move, route, tmp_path / "runners.log", seed=seed, plan=THERE_AND_BACK)
    assert kills.total() >= 90


@pytest.mark.slow
@pytest.mark.mysql
@pytest.mark.timeout(1200)
def test_40_kills_between_mysql_servers(pair_factory: Callable[..., Any], tmp_path: Path) -> None:
    pair = pair_factory(Flavour.MYSQL, Flavour.MYSQL)
    with pair.source.connect() as connection:
        create_shop(connection, pair.source.schema)
        fill_shop(connection, pair.source.schema, 5_000)
    environment = {
        "SOURCE_PASSWORD": pair.source.server.password, "TARGET_PASSWORD": pair.target.server.password,
    }  # fmt: skip
    move = Move(pair, tmp_path / "dbmigrate.toml", environment)
    move.write(SMALL_PIECES)
    move.create_application_user()
    plan: Plan = [("copy", 8), ("catch_up", 3), ("verify", 5), ("cutover", 8), ("soak", 5), ("reverting", 6),
                  ("cutover", 5)]  # fmt: skip
    try:
        kills = _run_with_kills(move, move.connect_to_owner, tmp_path / "runners.log", seed=4, plan=plan)
    finally:
        move.stop_all()
    assert kills.total() >= 40
