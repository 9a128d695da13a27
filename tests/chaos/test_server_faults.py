"""Servers that are killed and restarted under the program, in every phase, while the shop sells.

Both servers are durable (sync_binlog=1, innodb_flush_log_at_trx_commit=1), so what they acknowledged they still have.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest
from chaos.equality import require_equal
from chaos.persistent_run import PersistentRun
from chaos.small_pieces import READ_IN_PIECES, SMALL_PIECES
from moves import Move

from dbmigrate.domain.flavours import Flavour
from dbmigrate.domain.routes import Side
from dbmigrate.throwaway.local_servers import LocalServer
from dbmigrate.throwaway.shop_writers import Writers

PHASES = ("copy", "catch_up", "verify", "cutover", "soak")

BuildMove = Callable[..., Move]
ServerFactory = Callable[..., LocalServer]


def _kill(server: LocalServer) -> None:
    server.kill()
    time.sleep(0.5)  # down for a while: reconnecting at once is not the case of interest
    server.start()


def _restart(server: LocalServer) -> None:
    server.restart()


MANNERS = {"kill -9": _kill, "restart": _restart}


def _fault_in(move: Move, run: PersistentRun, phase: str, fault: Callable[[LocalServer], None], side: Side) -> None:
    run.await_phase(phase, "soak")
    time.sleep(random.Random(f"{phase}/{side}").uniform(0.0, 0.3))
    fault((move.pair.source if side is Side.SOURCE else move.pair.target).server)


def _go_through(move: Move, faults: list[tuple[str, Callable[[LocalServer], None], Side]]) -> PersistentRun:
    with Writers(move.connect_to_owner, threads=2, rate=80, give_up_seconds=300) as writers:
        run = PersistentRun(move)
        for phase, fault, side in faults:
            _fault_in(move, run, phase, fault, side)
        run.await_phase("soak")
        time.sleep(0.5)
    assert move.read_owner() is Side.TARGET
    run.finish()
    require_equal(move, writers)
    return run


def test_kill_9_of_the_target_while_copying_and_in_soak_and_of_the_source_while_verifying(
    server_factory: ServerFactory, build_move: BuildMove
) -> None:
    move = build_move(server_factory(), server_factory(), READ_IN_PIECES)
    faults = [("copy", _kill, Side.TARGET), ("verify", _kill, Side.SOURCE), ("soak", _kill, Side.TARGET)]
    run = _go_through(move, faults)
    assert not [end for end in run.ends if end[0] not in (0, 4)], run.ends


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("manner", list(MANNERS))
def test_a_server_ends_in_every_phase(
    manner: str, side: Side, server_factory: ServerFactory, build_move: BuildMove
) -> None:
    move = build_move(server_factory(), server_factory(), SMALL_PIECES)
    _go_through(move, [(phase, MANNERS[manner], side) for phase in PHASES])


@pytest.mark.slow
@pytest.mark.mysql
@pytest.mark.timeout(900)
@pytest.mark.parametrize("side", list(Side))
def test_a_mysql_server_is_killed_in_every_phase(
    side: Side, server_factory: ServerFactory, build_move: BuildMove
) -> None:
    move = build_move(server_factory(Flavour.MYSQL), server_factory(Flavour.MYSQL), SMALL_PIECES)
    _go_through(move, [(phase, _kill, side) for phase in PHASES])


# Commits are lost in a crash: up to a second of them, the last ones first.
FORGETFUL = {"innodb_flush_log_at_trx_commit": "0", "sync_binlog": "0", "innodb_flush_log_at_timeout": "5"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_target_that_forgets_its_last_transactions_is_noticed(
    server_factory: ServerFactory, build_move: BuildMove
) -> None:
    """Rows, cursors and checkpoint go back together; what a runner remembers would not, so it ends and begins again."""
    pieces = SMALL_PIECES.replace('"auto"', '"required"')
    move = build_move(server_factory(), server_factory(**FORGETFUL), pieces)
    target = move.pair.target.server
    with Writers(move.connect_to_owner, threads=2, rate=80, give_up_seconds=300) as writers:
        run = PersistentRun(move, "--until", "cutover")
        for phases in (("copy",), ("copy", "catch_up"), ("catch_up", "verify"), ("cutover",), ("cutover",)):
            run.await_phase(*phases, "cutover")  # there it waits for an approval
            time.sleep(1.5)
            run.look()
            target.kill()
            target.start()
        run.await_phase("cutover")
        run.stop()
        run.arguments = ("--yes",)
        run.await_phase("soak")
        time.sleep(6)  # what the switch wrote is on the disk now
    assert any("may have forgotten" in said for _, said in run.ends), run.ends
    run.finish()
    require_equal(move, writers)
