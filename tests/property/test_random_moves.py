"""Random schemas move there and back under random transactions, and in the end both sides hold the same rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from random_moves import Mover, RandomMove, RefusedSchemaError, Seen, random_moves, small_pieces
from random_schemas import ACTIONS, kinds_for
from random_workloads import STATEMENTS

from dbmigrate.domain.flavours import Flavour
from dbmigrate.domain.routes import Side
from dbmigrate.throwaway.local_servers import LocalServer

__all__ = ["small_pieces"]

EVERYDAY_MOVES = 6
EVERYDAY_SEED = 8
"""Its moves run every statement with effect fifteen times or more; with 1 it was twice for one of them, or never."""
MANY_MOVES = 40
MIXED_MOVES = 25
MARIADB = frozenset({Flavour.MARIADB})
WITHOUT_SYNC = {"sync_binlog": "0", "innodb_flush_log_at_trx_commit": "0"}  # nobody cuts the power here
PROPERTIES = {"composite key", "nullable unique", "composite unique", "prefix unique", "self-reference",
              "key that cascades rewrite"}  # fmt: skip

pytestmark = pytest.mark.usefixtures("small_pieces")

_everyday = Seen()


def _move_all(mover: Mover, flavours: frozenset[Flavour], *, moves: int, first: int = 0) -> None:
    """The same moves each time. A failing one is printed, not shrunk: every step of that would be a move."""

    @seed(first)
    @settings(
        max_examples=moves, deadline=None, database=None, phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck), report_multiple_bugs=False,
    )  # fmt: skip
    @given(random_moves(flavours))
    def move(example: RandomMove) -> None:
        try:
            mover.move(example)
        except RefusedSchemaError:
            assert flavours != MARIADB, mover.seen.refused[-1]

    move()
    print(mover.seen.describe())  # noqa: T201  # shown by pytest -rP and with a failure


@pytest.mark.timeout(900)
def test_random_mariadb_databases_move_there_and_back_under_random_transactions(
    server_factory: Callable[..., LocalServer], tmp_path: Path
) -> None:
    source, target = (server_factory(Flavour.MARIADB, **WITHOUT_SYNC) for _ in Side)
    _move_all(Mover(source, target, tmp_path, _everyday), MARIADB, moves=EVERYDAY_MOVES, first=EVERYDAY_SEED)
    assert _everyday.refused == []
    assert _everyday.moves == EVERYDAY_MOVES
    assert _everyday.rows > 100 * EVERYDAY_MOVES


def test_the_everyday_moves_ran_every_statement_and_most_of_them_were_accepted() -> None:
    if not _everyday.moves:
        pytest.skip("looks at what the test before it did")
    statistics = _everyday.statistics
    assert set(STATEMENTS) - set(statistics.tried) == set()
    assert set(STATEMENTS) - set(statistics.effective) == set(), statistics.errors
    assert statistics.ends["committed"] > 100
    assert statistics.ends["rolled back"] > 10
    assert sum(statistics.errors.values()) < sum(statistics.tried.values()) / 2, statistics.errors


def test_the_strategies_reach_every_kind_of_key_and_every_referential_action() -> None:
    """Without a server: the schemas of a few hundred moves."""
    seen = Seen()

    @seed(1)
    @settings(max_examples=200, deadline=None, database=None, phases=(Phase.generate,),
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(random_moves(MARIADB))
    def look(example: RandomMove) -> None:
        seen.record(example.schema)

    look()
    names = {kind.name for kind in kinds_for(MARIADB)}
    reached = Counter({name: count for name, count in seen.kinds.items() if count})
    assert names | {f"unique {name}" for name in names} | PROPERTIES <= set(reached)
    assert {f"ON {event} {action}" for event in ("DELETE", "UPDATE") for action in ACTIONS} <= set(seen.actions)
    assert seen.deepest >= 4


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("first", range(100, 105))
def test_many_random_mariadb_databases_move_there_and_back(
    first: int, server_factory: Callable[..., LocalServer], tmp_path: Path
) -> None:
    seen = Seen()
    source, target = (server_factory(Flavour.MARIADB, **WITHOUT_SYNC) for _ in Side)
    _move_all(Mover(source, target, tmp_path, seen), MARIADB, moves=MANY_MOVES, first=first)
    assert (seen.refused, seen.moves) == ([], MANY_MOVES)


@pytest.mark.slow
@pytest.mark.mysql
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("from_flavour", "to_flavour"),
    [(Flavour.MYSQL, Flavour.MYSQL), (Flavour.MARIADB, Flavour.MYSQL), (Flavour.MYSQL, Flavour.MARIADB)],
    ids=["mysql-mysql", "mariadb-mysql", "mysql-mariadb"],
)
def test_random_databases_move_between_flavours_and_back(
    from_flavour: Flavour, to_flavour: Flavour, server_factory: Callable[..., LocalServer], tmp_path: Path
) -> None:
    seen = Seen()
    source, target = (server_factory(flavour, **WITHOUT_SYNC) for flavour in (from_flavour, to_flavour))
    _move_all(Mover(source, target, tmp_path, seen), frozenset({from_flavour, to_flavour}), moves=MIXED_MOVES, first=2)
    assert len(seen.refused) <= MIXED_MOVES // 5, seen.refused
    assert seen.moves + len(seen.refused) == MIXED_MOVES
