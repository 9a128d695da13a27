"""The pacer's arithmetic, on a clock of its own: a source whose writes are slow while it is read, or are not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from dbmigrate.domain.errors import TransientError
from dbmigrate.mysql.pacing import (
    AT_ONCE_PART,
    FIRST_SHARE,
    IN_SHORT_READS,
    LEAST_SHARE,
    MOST_GAP_SECONDS,
    SELDOM,
    Pacer,
)


@dataclass
class Source:
    """Small writes take ``quiet_ms``, while a chunk is read ``reading_ms``; probes run when their chunk ends."""

    quiet_ms: float = 0.6
    reading_ms: float = 0.6
    read_seconds: float = 0.1
    now: float = 100.0
    changes: int = 1
    writes: int = 0
    slow_one_in: int = 1
    slow_one_in_quiet: int = 0  # of those while no chunk is read, too
    is_read: bool = False
    fault: Exception | None = None
    probes: list[Callable[[], None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pacer = Pacer(
            3.0, time_write=self.write, clock=lambda: self.now, sleep=self.sleep, in_background=self.probes.append
        )
        self.pacer.read_changes = lambda: self.changes

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def write(self) -> float:
        if self.fault:
            raise self.fault
        self.writes += 1
        one_in = self.slow_one_in if self.is_read else self.slow_one_in_quiet
        is_slow = one_in > 0 and self.writes % one_in == 0
        return (self.reading_ms if is_slow else self.quiet_ms) / 1000

    def look(self) -> None:
        """The application wrote since the last look, if it writes at all."""
        self.changes += self.changes > 0
        self.pacer.look()

    def run_chunks(self, count: int) -> list[float]:
        """How long each of so many chunks holds the next one back."""
        gaps = []
        for _ in range(count):
            self.look()
            gaps.append(self.pacer.begin_chunk())
            ends, self.is_read = self.now + self.read_seconds, True
            while self.probes:
                self.probes.pop()()
            self.is_read, self.now = False, max(self.now, ends)
            self.pacer.record_read(self.read_seconds)
            self.now += gaps[-1]
        return gaps


def test_nothing_is_measured_and_nothing_waits_while_nobody_writes() -> None:
    source = Source(reading_ms=50, changes=0)
    assert source.run_chunks(50) == [0.0] * 50
    assert source.writes == 0
    assert source.pacer.share == 1.0


def test_a_source_with_room_to_spare_is_soon_read_at_full_speed() -> None:
    source = Source()
    gaps = source.run_chunks(20)
    assert gaps[0] == 0.0  # nothing is known of the next one's length
    assert gaps[1] == pytest.approx(source.read_seconds / (FIRST_SHARE * AT_ONCE_PART))
    assert gaps[5] == pytest.approx(source.read_seconds / (2 * FIRST_SHARE * AT_ONCE_PART))
    assert gaps[-1] == 0.0
    assert source.pacer.reason == ""


def test_a_source_without_is_read_for_a_small_part_of_the_time_and_says_why() -> None:
    source = Source(reading_ms=6)
    gaps = source.run_chunks(10)
    assert gaps[-1] == pytest.approx(source.read_seconds / (LEAST_SHARE * AT_ONCE_PART))
    source.look()
    assert source.pacer.share == LEAST_SHARE
    assert (
        source.pacer.reason
        == "rows are read 3.1% of the time: a write on the source took 6.0 ms meanwhile, limit 1.8 ms"
    )


@pytest.mark.parametrize(("slow_one_in", "least"), [(2, True), (6, True), (20, False)])
def test_every_sixth_write_is_enough_to_leave_a_source_alone(slow_one_in: int, least: bool) -> None:
    source = Source(reading_ms=6, slow_one_in=slow_one_in)
    source.run_chunks(20)
    source.look()
    assert (source.pacer.share == LEAST_SHARE) is least


@pytest.mark.parametrize(("slow_one_in", "is_held"), [(2, True), (6, True), (16, False)])
def test_one_quick_chunk_of_a_source_without_room_proves_nothing(slow_one_in: int, is_held: bool) -> None:
    source = Source(reading_ms=6, slow_one_in=slow_one_in)
    source.run_chunks(20)
    source.look()
    assert (source.pacer.share <= FIRST_SHARE) is is_held


def test_a_source_whose_writes_are_slow_now_and_then_is_not_held_back_for_it() -> None:
    source = Source(reading_ms=6, slow_one_in=7, slow_one_in_quiet=7)
    source.run_chunks(40)
    source.look()
    assert source.pacer.share >= FIRST_SHARE


def test_writes_of_several_short_chunks_are_judged_together() -> None:
    source = Source(read_seconds=0.02)
    source.run_chunks(6)
    source.look()
    assert source.pacer.share == FIRST_SHARE
    source.run_chunks(5)
    source.look()
    assert source.pacer.share > FIRST_SHARE


def test_chunks_move_together_again_when_there_is_room_and_never_further_apart_than_half_a_minute() -> None:
    source = Source(reading_ms=6, read_seconds=5.0)
    assert source.run_chunks(20)[-1] == MOST_GAP_SECONDS
    source.reading_ms, source.read_seconds = 0.6, 0.1
    assert source.run_chunks(280)[-1] == 0.0


def test_what_becomes_slow_without_a_copy_is_not_blamed_on_it() -> None:
    source = Source(reading_ms=6)
    source.run_chunks(10)
    source.quiet_ms = 6
    source.run_chunks(320)
    source.look()
    assert source.pacer.share == 1.0


def test_a_millisecond_is_never_slow() -> None:
    source = Source(quiet_ms=0.1, reading_ms=0.9)
    source.run_chunks(20)
    source.look()
    assert source.pacer.share == 1.0


def test_a_write_after_the_chunk_was_read_says_nothing_about_reading() -> None:
    source = Source(reading_ms=6, read_seconds=0.004)
    source.run_chunks(3)
    source.look()
    assert FIRST_SHARE < source.pacer.share < 2 * FIRST_SHARE


def test_writes_beside_short_reads_are_few_where_there_is_no_room() -> None:
    """They take the source's time as well."""

    def count_writes() -> int:
        source.now += 1.0
        source.look()
        before = source.writes
        source.pacer.begin_chunk(in_short_reads=True)
        source.probes.pop()()
        return source.writes - before

    source = Source(reading_ms=6)
    source.run_chunks(1)
    assert count_writes() == IN_SHORT_READS.writes
    source.run_chunks(10)
    assert count_writes() == SELDOM.writes < IN_SHORT_READS.writes


def test_short_reads_without_a_write_beside_them_prove_nothing() -> None:
    """A chunk that is read by one statement is too short to be felt then; many small tables in short reads are not."""
    source = Source()
    source.look()
    for _ in range(50):
        source.look()
        source.pacer.begin_chunk(in_short_reads=True)
        source.pacer.record_read(0.001)
        source.probes.clear()
        source.now += 0.2
    assert source.pacer.share == FIRST_SHARE


def test_the_first_write_beside_a_chunk_meets_another_part_of_each() -> None:
    source, slept = Source(), []
    source.sleep = slept.append  # type: ignore[method-assign, assignment]
    source.pacer._sleep = slept.append
    source.look()
    firsts = []
    for _ in range(4):
        source.now += 0.2
        source.look()
        source.pacer.begin_chunk(in_short_reads=True)
        slept.clear()
        source.probes.pop()()
        firsts.append(round(slept[0], 3))
    assert len(set(firsts)) == 4
    assert all(0.005 <= first <= IN_SHORT_READS.apart_seconds for first in firsts)


def test_an_application_that_stopped_writing_is_not_waited_for() -> None:
    source = Source(reading_ms=6)
    source.run_chunks(10)
    source.pacer.read_changes = lambda: 7
    source.pacer.look()
    source.now += 3.0
    source.pacer.look()
    assert source.pacer.begin_chunk() == 0.0


def test_a_source_that_does_not_answer_is_reported_by_the_look_and_not_by_the_probe() -> None:
    source = Source()
    source.run_chunks(1)
    source.fault = TransientError("gone", place="source", hint="")
    source.pacer.begin_chunk()
    source.now += 1.0
    source.pacer.begin_chunk()
    source.probes.pop()()
    with pytest.raises(TransientError, match="gone"):
        source.pacer.look()
