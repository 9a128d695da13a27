"""The flush's races once more where it writes from bytes, which the other tests' small batches do not reach.

And what a load cannot do: there literals decide, so a stream goes on, or ends as one that never loads.
"""

from __future__ import annotations

import pytest

from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Side
from dbmigrate.mysql.bulk_load import Way
from dbmigrate.mysql.faults import ServerRefusedError
from dbmigrate.mysql.transfer import load_rows
from dbmigrate.streaming import flusher

from .changes import CHANGES, FIRST, diagonal
from .racing import Race
from .ways import WAYS, use_way

STEPS = ("barrier", "batch.read", "batch.written", "batch.committed")


@pytest.fixture(autouse=True)
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every batch is loaded, however small; the rows of each load that succeeded."""
    counts: list[int] = []

    def count(*arguments: object, **named: object) -> None:
        load_rows(*arguments, **named)  # type: ignore[arg-type]  # whatever the flusher passes
        counts.append(sum(piece.count for piece in arguments[2]))  # type: ignore[attr-defined]

    monkeypatch.setattr(flusher, "LEAST_LOADED_KEYS", 1)
    monkeypatch.setattr(flusher, "load_rows", count)
    return counts


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("step", "change"), diagonal(STEPS, CHANGES, everyday=4, times=2))
def test_rows(
    step: str, change: str, way: Way, race: Race, loaded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    find_other_ways = use_way(monkeypatch, way)
    race.provoke(lambda: race.write_source(*FIRST), f"flush.{step}", lambda: race.write_source(*CHANGES[change]))
    race.move()
    race.require_equal()
    assert sum(loaded) > 0
    assert not find_other_ways()


def test_the_stream_goes_on_where_loads_are_turned_off_meanwhile(
    race: Race, loaded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_way(monkeypatch, Way.LOAD_DATA)
    target = race.pair.target.server

    def turn_off() -> None:
        target.execute("SET GLOBAL local_infile = OFF")
        race.write_source(*FIRST)

    race.on_entering(Phase.CATCH_UP, turn_off)
    try:
        race.move()
    finally:
        target.execute("SET GLOBAL local_infile = ON")
    race.require_equal()
    assert not loaded


def test_a_row_that_the_target_refuses_ends_the_stream_with_the_refusal(race: Race, loaded: list[int]) -> None:
    """Not with a warning of the load: the server's number is what leads to a change of the schema as the cause."""

    def narrow() -> None:
        race.pair.target.execute("ALTER TABLE item ADD CONSTRAINT odd CHECK (note <> 'first')")
        race.write_source(*FIRST)

    race.on_entering(Phase.CATCH_UP, narrow)
    with pytest.raises(ServerRefusedError, match="writing rows"):
        race.move()
    assert not loaded
    assert race.read(Side.TARGET, "SELECT COUNT(*) FROM item WHERE note = 'first'") == ((0,),)
