"""The throttle's arithmetic, on a clock of its own."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

from dbmigrate.config import ThrottleSection
from dbmigrate.mysql.pacing import FIRST_SHARE, Pacer
from dbmigrate.mysql.throttle import FIRST_GAP_SECONDS, LEAST_GAP_SECONDS, MOST_GAP_SECONDS, Throttle


@dataclass
class World:
    """A clock that moves only by sleeping, and a source whose small writes take as long as they are told to."""

    limit_ms: float | None
    write_ms: float = 1.0
    now: float = 100.0
    looks: int = 0
    starts: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.throttle = Throttle(
            ThrottleSection(max_source_write_ms=self.limit_ms), load_readings=[], measure_write=self.measure,
            clock=lambda: self.now, now=lambda: datetime.now(UTC), sleep=self.sleep,
        )  # fmt: skip

    def measure(self) -> float:
        self.looks += 1
        return self.write_ms / 1000

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def run_chunks(self, count: int, *, chunk_seconds: float = 0.1) -> list[float]:
        """Seconds between the starts of so many chunks, one after the other."""
        for _ in range(count):
            self.throttle.wait(lambda: False)
            self.starts.append(self.now)
            self.now += chunk_seconds
        last = self.starts[-count:]
        return [later - earlier for earlier, later in itertools.pairwise(last)]


def test_without_a_limit_nothing_is_measured_and_nothing_waits() -> None:
    world = World(None, write_ms=1000.0)
    assert max(world.run_chunks(20)) < 0.11
    assert world.looks == 0
    assert not world.throttle.spaces_chunks


def test_chunks_move_apart_while_writes_take_too_long_and_never_stop() -> None:
    world = World(10.0, write_ms=11.0)
    gaps = world.run_chunks(60)
    assert gaps[0] >= FIRST_GAP_SECONDS  # nobody knows yet what the source can take
    assert gaps[-1] > 5 * gaps[0]
    assert max(gaps) <= MOST_GAP_SECONDS + 0.5
    assert world.throttle.spaces_chunks


def test_chunks_move_together_again_when_writes_are_fast() -> None:
    world = World(10.0, write_ms=11.0)
    world.run_chunks(30)
    world.write_ms = 9.0
    gaps = world.run_chunks(60)
    assert gaps == sorted(gaps, reverse=True) or gaps[-1] < gaps[0]
    assert gaps[-1] < 0.1 + LEAST_GAP_SECONDS


def test_workers_share_one_gap() -> None:
    """The limit is the source's: more workers do not start more often."""
    world = World(10.0, write_ms=11.0)
    world.run_chunks(30)
    starts = world.run_chunks(10, chunk_seconds=0.0)
    assert min(starts) > 1.0


class Paced(World):
    """An application writes, and the pacer says so. The clock stands still."""

    def __post_init__(self) -> None:
        self.changes = 1
        pacer = Pacer(1.3, time_write=self.measure, clock=lambda: self.now, sleep=self.sleep, in_background=lambda work: None)
        self.throttle = Throttle(
            ThrottleSection(), load_readings=[], pacer=pacer, clock=lambda: self.now, now=lambda: datetime.now(UTC), sleep=self.sleep
        )
        self.throttle.watch_changes(lambda: self.changes)

    def sleep(self, seconds: float) -> None:
        time.sleep(0.001)


def test_where_the_application_writes_chunks_are_read_in_short_reads_from_the_first() -> None:
    world = Paced(None)
    with world.throttle.reading(lambda: False) as share:
        assert share == FIRST_SHARE


def test_chunks_in_short_reads_need_no_time_between_them() -> None:
    world = Paced(None)
    with world.throttle.reading(lambda: False):
        world.throttle.record_read(1.0)
    began = time.monotonic()
    with world.throttle.reading(lambda: False):
        assert time.monotonic() - began < 5.0  # the clock of its own would never let it begin


def test_only_one_chunk_at_a_time_is_read_in_short_reads() -> None:
    world = Paced(None)
    begun, stop = threading.Event(), threading.Event()

    def begin_another() -> None:
        with world.throttle.reading(stop.is_set):
            begun.set()

    other = threading.Thread(target=begin_another)
    with world.throttle.reading(lambda: False):
        other.start()
        assert not begun.wait(0.05)
    assert begun.wait(5.0)
    other.join()


def test_who_waits_for_another_short_read_is_told_to_stop() -> None:
    world = Paced(None)
    answers = iter([False, False, False, True])
    with world.throttle.reading(lambda: False), world.throttle.reading(lambda: next(answers)) as share:
        assert share == 1.0  # and nothing is read: whoever asked knows that it was told to stop
    assert not list(answers)


def test_where_nobody_writes_the_whole_time_is_for_reading() -> None:
    world = Paced(None)
    world.changes = 0
    with world.throttle.reading(lambda: False) as share, world.throttle.reading(lambda: False) as other:
        assert share == other == 1.0
