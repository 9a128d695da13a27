"""Random schemas move there and back under random transactions, and in the end both sides hold the same rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from random_moves import Mover, RandomMove, Refused, Seen, random_moves, small_pieces
from random_schemas import ACTIONS

from dbmigrate.domain.flavours import Flavour
from dbmigrate.rehearsal.local_servers import LocalServer

__all__ = ["small_pieces"]

EVERYDAY_MOVES = 12
MANY_MOVES = 200
MIXED_MOVES = 40
MARIADB = frozenset({Flavour.MARIADB})

_seen: dict[str, Seen] = {}


def _settings(examples: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The same examples each time. Shrinking repeats a whole move at every step: print the example instead."""
    return settings(
        max_examples=examples, derandomize=True, deadline=None, database=None, phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck), report_multiple_bugs=False,
    )  # fmt: skip


def _move_all(
    source: LocalServer, target: LocalServer, directory: Path, examples: int, flavours: frozenset[Flavour], seen: Seen
) -> None:
    mover = Mover(source, target, directory, seen)

    @_settings(examples)
    @given(random_moves(flavours))
    def move(example: RandomMove) -> None:
        try:
            mover.move(example)
        except Refused:
            assert flavours != MARIADB, seen.refused[-1]

    move()


@pytest.mark.usefixtures("small_pieces")
def test_random_mariadb_databases_move_there_and_back_under_random_transactions(
    session_server: Callable[..., LocalServer], tmp_path: Path
) -> None:
    seen = _seen.setdefault("everyday", Seen())
    source, target = (session_server(Flavour.MARIADB, role) for role in ("source", "target"))
    _move_all(source, target, tmp_path, EVERYDAY_MOVES, MARIADB, seen)
    assert seen.refused == []
    assert seen.moves == EVERYDAY_MOVES
    assert seen.rows > 100 * EVERYDAY_MOVES
