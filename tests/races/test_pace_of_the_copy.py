"""The default throttle on a real move: it holds chunks back only while an application changes rows."""

from __future__ import annotations

import time
from typing import Any

import pytest
from moves import Move

from dbmigrate.copying.chunks import CopiedChunk, copy_chunk
from dbmigrate.copying.reading import ChunkTask
from dbmigrate.domain.phases import Phase
from dbmigrate.mysql.pacing import FIRST_SHARE, Pacer
from dbmigrate.mysql.workplace import Workplace
from dbmigrate.streaming.flusher import SPARING_KEYS

from .racing import Moment, Race


@pytest.mark.parametrize("writes", [False, True])
def test_only_an_application_that_writes_is_made_room_for(writes: bool, race: Race, monkeypatch: pytest.MonkeyPatch) -> None:
    """Heartbeats are changes, too, and no application's."""
    shares: list[float] = []
    look = Pacer.look

    def note(self: Any) -> None:
        look(self)
        shares.append(self.share)

    monkeypatch.setattr(Pacer, "look", note)
    monkeypatch.setattr("dbmigrate.mysql.throttle.LOOK_SECONDS", 0.0)
    Move(race.pair, race.path, race.environment).write(
        "[copy]\nworkers = 1\n[throttle]\nmax_source_write_factor = 1.3\n[cutover]\napproval = 'auto'\nmax_write_pause_seconds = 20.0\n"
    )
    if writes:
        for step in ("copy.chunk.begin", "copy.chunk.committed"):
            race.at(step, lambda: race.write_source("UPDATE item SET note = CONCAT(note, '.') WHERE id < 100"))
    race.move()
    race.require_equal()
    assert shares
    assert (min(shares) < 1.0) == writes


def test_a_busy_application_is_noticed_before_the_first_chunk(race: Race, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it changed since the stream's position has come, however slow the stream is to begin."""
    shares: list[float] = []

    def note(workplace: Workplace, task: ChunkTask) -> CopiedChunk:
        shares.append(task.share)
        return copy_chunk(workplace, task)

    monkeypatch.setattr("dbmigrate.copying.copier.copy_chunk", note)
    race.write("[throttle]\nmax_source_write_factor = 1.3")
    race.at("stream.position_noted", lambda: race.write_source("UPDATE item SET note = CONCAT(note, '.') WHERE id < 100"))
    race.at("stream.delivered", lambda: time.sleep(0.3))
    race.move()
    race.require_equal()
    assert shares[0] == FIRST_SHARE


@pytest.mark.parametrize(("rows", "keys_at_once"), [(3, 1), (7, 5), (7, 21), (16, 200)])
def test_a_source_without_room_is_read_in_short_reads(
    rows: int, keys_at_once: int, race: Race, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However reads and the keys that bound them fall on the ends of chunks and stripes, every row arrives."""
    monkeypatch.setattr("dbmigrate.copying.copier.SHORT_READ_ROWS", rows)
    monkeypatch.setattr("dbmigrate.copying.reading.KEYS_AT_ONCE", keys_at_once)
    monkeypatch.setattr(Pacer, "share", property(lambda pacer: 0.5))
    race.write("[throttle]\nmax_source_write_factor = 1.3")
    for count in range(1, 4):
        race.at(Moment("copy.chunk.piece", count), lambda: race.write_source("UPDATE item SET note = CONCAT(note, '.') WHERE id % 9 = 1"))
    race.move()
    race.require_equal()
    assert race.passed.count("copy.chunk.piece") > 3


@pytest.mark.parametrize("is_spared", [False, True])
def test_changed_rows_are_read_a_few_at_a_time_where_there_is_no_room(
    is_spared: bool, race: Race, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One batch after the other: what the application writes waits for as long as a batch is read."""
    monkeypatch.setattr(Pacer, "share", property(lambda pacer: 0.5 if is_spared else 1.0))
    race.write("[throttle]\nmax_source_write_factor = 1.3")
    # every other id exists
    race.at("copy.chunk.begin", lambda: race.write_source(f"UPDATE item SET note = CONCAT(note, '.') WHERE id <= {10 * SPARING_KEYS}"))
    for count in range(2, 5):  # the first of them is waited for, the next are copied meanwhile
        race.at(Moment("copy.chunk.begin", count), lambda: time.sleep(0.4))
    race.move(Phase.COPY)
    batches = [step for step in race.passed if step.startswith("flush.batch.")]
    once = ["flush.batch.read", "flush.batch.written", "flush.batch.committed"]
    assert batches == once * (5 if is_spared else 1)
    race.move()
    race.require_equal()


@pytest.mark.parametrize("is_held_back", [False, True])
def test_chunks_that_are_held_back_are_read_at_once(is_held_back: bool, race: Race, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a limit in milliseconds the source is read seldom; other chunks are read in pieces."""
    monkeypatch.setattr("dbmigrate.copying.copier.PIECE_BYTES", 300)
    limit = 0.001 if is_held_back else 10_000
    race.write(f"[throttle]\nmax_source_write_ms = {limit}")
    monkeypatch.setattr("dbmigrate.mysql.throttle.MOST_GAP_SECONDS", 0.5)
    monkeypatch.setattr("dbmigrate.mysql.throttle.FIRST_GAP_SECONDS", 0.5 if is_held_back else 0.0)
    race.move()
    race.require_equal()
    assert ("copy.chunk.piece" not in race.passed) == is_held_back
