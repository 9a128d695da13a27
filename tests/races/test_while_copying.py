"""Changes of the source at each step of a chunk: the second of four, so there are rows before and after the cursor."""

from __future__ import annotations

import pytest

from dbmigrate.mysql.bulk_load import Way

from .changes import CHANGES, cross
from .racing import Moment, Race
from .ways import WAYS, use_way

STEPS = ("begin", "barrier", "read", "written", "committed")


@pytest.mark.parametrize(("step", "change"), cross(STEPS, CHANGES, everyday=len(CHANGES)))
def test_rows(step: str, change: str, race: Race) -> None:
    race.at(Moment(f"copy.chunk.{step}", 2), lambda: race.write_source(*CHANGES[change]))
    race.move()
    race.require_equal()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("number", "change"), cross((1, 3), CHANGES, everyday=len(CHANGES)))
def test_rows_between_the_pieces_of_a_chunk(
    number: int, change: str, way: Way, race: Race, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read before is on its way, the rest is not read yet; the first chunk is one piece, for want of a size."""
    monkeypatch.setattr("dbmigrate.copying.copier.PIECE_BYTES", 300)
    find_other_ways = use_way(monkeypatch, way)
    race.at(Moment("copy.chunk.piece", number), lambda: race.write_source(*CHANGES[change]))
    race.move()
    race.require_equal()
    assert not find_other_ways()


@pytest.mark.parametrize("step", ["read", *(pytest.param(s, marks=pytest.mark.slow) for s in STEPS if s != "read")])
def test_rows_changed_at_every_chunk(step: str, race: Race) -> None:
    """Unique values wander on with the cursor, and the same row changes each time."""

    def change(number: int) -> None:
        race.write_source(
            "UPDATE item SET code = 'aside' WHERE id = 10",
            f"UPDATE item SET code = 'c10' WHERE id = {100 * number - 50}",
            f"UPDATE item SET code = CONCAT('wandered ', {number}) WHERE id = 10",
            f"UPDATE item SET id = id + 1, code = CONCAT(code, '+{number}') WHERE id IN (20, {100 * number})",
            f"UPDATE item SET note = 'round {number}' WHERE id = 30",
            f"UPDATE item SET code = 'given up {number}' WHERE code = 'c10'",
        )

    for number in (1, 2, 3, 4):
        race.at(Moment(f"copy.chunk.{step}", number), lambda number=number: change(number))  # type: ignore[misc]
    race.move()
    race.require_equal()
