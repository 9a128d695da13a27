"""Changes of the source at each step of a flush and of the stream around it."""

from __future__ import annotations

import pytest

from .changes import CHANGES, FIRST, diagonal
from .racing import Moment, Race

STEPS = ("begin", "chunks_done", "barrier", "batch.read", "batch.written", "batch.committed")
AGAIN = {
    "deleted-after-it-was-inserted": ("DELETE FROM item WHERE id IN (21, 161)",),
    "inserted-after-it-was-deleted": ("INSERT INTO item VALUES (20, 'c160', 'back'), (160, 'c20', 'back')",),
    "key-moved-onto-a-deleted-one": ("UPDATE item SET id = 20 WHERE id = 10",),
    "unique-value-of-a-deleted-row-taken": ("UPDATE item SET code = 'c20' WHERE id = 400",),
}


@pytest.mark.parametrize(("step", "change"), diagonal(STEPS, [*AGAIN, *CHANGES], everyday=8, times=2))
def test_rows(step: str, change: str, race: Race) -> None:
    statements = (CHANGES | AGAIN)[change]
    race.provoke(lambda: race.write_source(*FIRST), f"flush.{step}", lambda: race.write_source(*statements))
    race.move()
    race.require_equal()


@pytest.mark.parametrize(("step", "change"), diagonal(STEPS, [*CHANGES, *AGAIN], everyday=2))
def test_rows_during_the_copy(step: str, change: str, race: Race) -> None:
    """The flush's own rows change while chunks are copied, the one in hand holding some of them."""
    statements = (CHANGES | AGAIN)[change]

    def begin() -> None:
        race.at(f"flush.{step}", lambda: race.write_source(*statements))
        race.write_source(*FIRST)

    race.at(Moment("copy.chunk.read", 2), begin)
    race.move()
    race.require_equal()


@pytest.mark.parametrize(("step", "change"), diagonal(["delivered", "checkpoint"], CHANGES, everyday=2))
def test_rows_at_the_stream(step: str, change: str, race: Race) -> None:
    statements = CHANGES[change]
    race.provoke(lambda: race.write_source(*FIRST), f"stream.{step}", lambda: race.write_source(*statements))
    race.move()
    race.require_equal()


@pytest.mark.parametrize(
    "change",
    ["updated", *(pytest.param(c, marks=pytest.mark.slow) for c in ("keys-swapped", "truncated-between-changes"))],
)
def test_rows_between_noting_the_start_and_the_barrier_that_proves_it(change: str, race: Race) -> None:
    race.at("stream.position_noted", lambda: race.write_source(*CHANGES[change]))
    race.move()
    race.require_equal()
