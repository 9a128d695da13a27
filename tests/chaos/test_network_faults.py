"""A network that is cut, reset and stalled between the program and the servers, while the shop sells beside it.

The shop reaches the servers directly: what holds it back can only be the program.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from chaos.equality import require_equal
from chaos.persistent_run import PersistentRun
from chaos.small_pieces import SMALL_PIECES
from moves import Move

from dbmigrate.config import load_config
from dbmigrate.domain.errors import DbmigrateError, FatalError
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Side
from dbmigrate.throwaway.shop_writers import Writers
from dbmigrate.throwaway.tcp_proxy import TcpProxy
from dbmigrate.workflow.migration import Migration, Surroundings
from dbmigrate.workflow.runner import Runner

PHASES = ("copy", "catch_up", "verify", "cutover", "soak")
BUDGET_SECONDS = 3.0
SLACK_SECONDS = 2.5  # what a loaded machine takes for lifting the fence and for the writers to find out

Network = dict[Side, TcpProxy]


@pytest.fixture
def network(shop_move: Move) -> Iterator[Network]:
    """One proxy per server; the configuration goes through them."""
    with ExitStack() as stack:
        proxies = {}
        for side, database in ((Side.SOURCE, shop_move.pair.source), (Side.TARGET, shop_move.pair.target)):
            proxies[side] = stack.enter_context(TcpProxy(database.server.host, database.server.port))
        source, target = shop_move.pair.source, shop_move.pair.target
        shop_move.source_url = source.url.replace(f":{source.server.port}/", f":{proxies[Side.SOURCE].port}/")
        shop_move.target_url = target.url.replace(f":{target.server.port}/", f":{proxies[Side.TARGET].port}/")
        yield proxies


def _cut(proxies: list[TcpProxy], seconds: float) -> None:
    for proxy in proxies:
        proxy.cut()
    time.sleep(seconds)
    for proxy in proxies:
        proxy.restore()


def _reset(proxies: list[TcpProxy], seconds: float) -> None:
    for proxy in proxies:
        proxy.reset_connections()


def _stall(proxies: list[TcpProxy], seconds: float) -> None:
    for proxy in proxies:
        proxy.stall()
    time.sleep(seconds)
    for proxy in proxies:
        proxy.restore()


MANNERS = {"cut": _cut, "reset": _reset, "stall": _stall}
PLACES = {"source": (Side.SOURCE,), "target": (Side.TARGET,), "both": (Side.SOURCE, Side.TARGET)}


def _go_through(move: Move, network: Network, faults: list[tuple[str, str, str, float]]) -> PersistentRun:
    """``faults``: phase, manner, place, seconds."""
    move.write(SMALL_PIECES)
    chance = random.Random(str(faults))
    with Writers(move.connect_to_owner, threads=2, rate=80, give_up_seconds=300) as writers:
        run = PersistentRun(move)
        for phase, manner, place, seconds in faults:
            run.await_phase(phase, "soak")
            time.sleep(chance.uniform(0.0, 0.3))
            MANNERS[manner]([network[side] for side in PLACES[place]], seconds)
        run.await_phase("soak")
        time.sleep(0.5)
    assert move.read_owner() is Side.TARGET
    run.finish()
    require_equal(move, writers)
    return run


@pytest.mark.slow
def test_short_faults_of_the_network_are_ridden_out(shop_move: Move, network: Network) -> None:
    run = _go_through(
        shop_move, network,
        [("copy", "cut", "both", 2.0), ("copy", "reset", "source", 0.0), ("verify", "stall", "target", 2.0),
         ("soak", "cut", "target", 2.0), ("soak", "reset", "both", 0.0)],
    )  # fmt: skip
    assert [code for code, _ in run.ends if code not in (0, 4)] == [], run.ends


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("place", list(PLACES))
@pytest.mark.parametrize("manner", list(MANNERS))
def test_faults_in_every_phase(manner: str, place: str, shop_move: Move, network: Network) -> None:
    seconds = {"cut": 5.0, "reset": 0.0, "stall": 12.0}[manner]
    _go_through(shop_move, network, [(phase, manner, place, seconds) for phase in PHASES])


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("place", list(PLACES))
def test_a_stall_longer_than_the_silence_of_the_binlog_that_is_believed(
    place: str, shop_move: Move, network: Network
) -> None:
    _go_through(shop_move, network, [("copy", "stall", place, 40.0), ("soak", "stall", place, 40.0)])


# --- inside the write pause -------------------------------------------------------------------------------------

SWITCH = f"""
[cutover]
approval = "auto"
max_write_pause_seconds = {BUDGET_SECONDS}
max_attempts = 20
retry_seconds = 0.5
"""


class FaultAtStep:
    """Does something once, when the runner passes a step point, on a thread of its own; remembers how it went on."""

    def __init__(self, step: str, begin: Callable[[], None], end: Callable[[], None], seconds: float) -> None:
        self._step, self._begin, self._end, self._seconds = step, begin, end, seconds
        self.is_done = False
        self.healed = threading.Event()

    def __call__(self, name: str) -> None:
        if name != self._step or self.is_done:
            return
        self.is_done = True
        self._begin()
        threading.Timer(self._seconds, self._heal).start()

    def _heal(self) -> None:
        self._end()
        self.healed.set()


def _run_in_process(move: Move, on_step: Callable[[str], None], until: Phase = Phase.CUTOVER) -> None:
    migration = Migration(load_config(move.path), around=Surroundings(on_step=on_step))
    try:
        Runner(migration, until=until, assume_yes=True).run()
    finally:
        migration.close()


def _switch_with(move: Move, fault: FaultAtStep, writers: Writers) -> list[DbmigrateError]:
    """To the cutover with a fault inside; what ended a run is followed by another run."""
    ends: list[DbmigrateError] = []
    while True:
        try:
            _run_in_process(move, fault)
        except FatalError as end:
            ends.append(end)
            assert len(ends) < 5, ends
            fault.healed.wait(120)
        else:
            break
    assert fault.is_done
    return ends


IN_THE_PAUSE = (
    "switch.drain", "switch.verify", "switch.carry", "switch.way_back", "switch.before_commit", "switch.commit",
    "switch.row_written",
)  # fmt: skip
AFTER_THE_COMMIT = ("switch.origin_committed", "switch.destination_committed")


def _finish_and_compare(move: Move, writers: Writers) -> None:
    assert move.read_owner() is Side.TARGET
    move.run("run", "--yes", "--until", "soak")
    require_equal(move, writers)


@pytest.fixture
def password_environment(shop_move: Move, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in shop_move.environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("password_environment")
@pytest.mark.parametrize(
    "step",
    [pytest.param(step, marks=[] if step in ("switch.carry",) else [pytest.mark.slow]) for step in IN_THE_PAUSE[:4]],
)
def test_a_target_that_stalls_in_the_pause_does_not_hold_the_writers_longer_than_the_budget(
    step: str, shop_move: Move, network: Network
) -> None:
    shop_move.write(SWITCH)
    proxy = network[Side.TARGET]
    fault = FaultAtStep(step, proxy.stall, proxy.restore, 12.0)
    with Writers(shop_move.connect_to_owner, threads=2, rate=80, give_up_seconds=300) as writers:
        _switch_with(shop_move, fault, writers)
        time.sleep(0.3)
    assert max(writers.pause_gaps_ms) / 1000 < BUDGET_SECONDS + SLACK_SECONDS
    _finish_and_compare(shop_move, writers)


@pytest.mark.usefixtures("password_environment")
@pytest.mark.parametrize(
    "place", ["both", *[pytest.param(one, marks=pytest.mark.slow) for one in ("source", "target")]]
)
@pytest.mark.parametrize(
    "step",
    [
        pytest.param(step, marks=[] if step == AFTER_THE_COMMIT[1] else [pytest.mark.slow])
        for step in (*IN_THE_PAUSE, *AFTER_THE_COMMIT)
    ],
)
def test_connections_reset_inside_the_switch(step: str, place: str, shop_move: Move, network: Network) -> None:
    """Before the commit it is undone and repeated, after it it goes on: never is a switch made twice."""
    if step == "switch.row_written" and place == "target":
        pytest.skip("nothing more is asked of the target there")
    shop_move.write(SWITCH)
    proxies = [network[side] for side in PLACES[place]]
    fault = FaultAtStep(step, lambda: _reset(proxies, 0.0), lambda: None, 0.0)
    with Writers(shop_move.connect_to_owner, threads=2, rate=80, give_up_seconds=300) as writers:
        _switch_with(shop_move, fault, writers)
        time.sleep(0.3)
    switches = shop_move.pair.target.execute("SELECT COUNT(*) FROM _dbmigrate.evidence WHERE kind = 'switch'")
    assert switches == ((1,),)
    rows = shop_move.pair.target.execute("SELECT epoch, owner FROM _dbmigrate.fence")
    assert rows == shop_move.pair.source.execute("SELECT epoch, owner FROM _dbmigrate.fence")
    assert max(writers.pause_gaps_ms) / 1000 < BUDGET_SECONDS + SLACK_SECONDS
    _finish_and_compare(shop_move, writers)


@pytest.mark.slow
@pytest.mark.usefixtures("password_environment")
@pytest.mark.parametrize("manner", ["cut", "stall"])
@pytest.mark.parametrize("step", [*IN_THE_PAUSE, *AFTER_THE_COMMIT])
def test_the_source_is_lost_inside_the_switch_and_the_fence_is_lifted_once_it_is_back(
    step: str, manner: str, shop_move: Move, network: Network
) -> None:
    """Nobody else could lift it: the pause is the budget plus the time for which the source cannot be reached."""
    shop_move.write(SWITCH)
    proxy, seconds = network[Side.SOURCE], 6.0
    fault = FaultAtStep(step, proxy.cut if manner == "cut" else proxy.stall, proxy.restore, seconds)
    with Writers(shop_move.connect_to_owner, threads=2, rate=80, give_up_seconds=300) as writers:
        _switch_with(shop_move, fault, writers)
        time.sleep(0.3)
    assert max(writers.pause_gaps_ms) / 1000 < BUDGET_SECONDS + seconds + SLACK_SECONDS + 2.0  # the retry's pause
    _finish_and_compare(shop_move, writers)


@pytest.mark.slow
@pytest.mark.usefixtures("password_environment")
@pytest.mark.parametrize("step", ["switch.carry", "switch.row_written"])
def test_with_table_locks_a_source_that_is_lost_in_the_pause(step: str, shop_move: Move, network: Network) -> None:
    shop_move.write(SWITCH.replace("[cutover]", '[cutover]\nfence = "lock_tables"'))
    proxy = network[Side.SOURCE]
    fault = FaultAtStep(step, proxy.cut, proxy.restore, 6.0)
    with Writers(shop_move.connect_to_owner, threads=2, rate=80, give_up_seconds=300) as writers:
        _switch_with(shop_move, fault, writers)
        time.sleep(0.3)
    _finish_and_compare(shop_move, writers)
