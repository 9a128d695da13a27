"""What the store's load computes from its memory: gaps, spreads, and when a result is clean."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from dbmigrate.store.journal import LoadResult, Outcome, Spread, find_gaps

CLEAN = LoadResult(
    seconds=5.0,
    requests=1000,
    failed_requests=0,
    out_of_stock=3,
    unknown_outcomes=0,
    orders=300,
    cancels=50,
    restocks=30,
    renames=40,
    lost_orders=0,
    doubled_orders=0,
    unasked_orders=0,
    lost_cancels=0,
    lost_restocks=0,
    lost_renames=0,
    wrong_stocks=0,
    write_gap_ms=Spread(40.0, 60.0, 81.23456789),
    write_ms=Spread(4.0, 6.0, 8.0),
    read_ms=Spread(2.0, 3.0, 4.0),
)


def test_gaps_are_the_times_between_two_writes() -> None:
    gaps = find_gaps([1.0, 1.5, 1.75], began_at=0.0, ended_at=2.0)
    assert gaps == [500.0, 250.0, 250.0]


def test_time_before_the_first_write_is_no_gap() -> None:
    """It is the start's, not the store's."""
    assert find_gaps([9.0, 10.0], began_at=0.0, ended_at=10.5) == [1000.0, 500.0]


def test_store_that_hangs_is_a_gap_up_to_now() -> None:
    assert max(find_gaps([1.0, 1.5], began_at=0.0, ended_at=31.5)) == 30_000.0


def test_worker_that_never_wrote_is_one_gap() -> None:
    assert find_gaps([], began_at=2.0, ended_at=32.0) == [30_000.0]
    assert find_gaps([], began_at=2.0, ended_at=32.0, window=(10.0, 11.0)) == [30_000.0]


@pytest.mark.parametrize(
    ("window", "gaps"),
    [
        ((2.5, 2.6), [1000.0]),  # inside one gap
        ((2.5, 3.5), [1000.0, 2000.0]),  # both that it reaches into, whole
        ((2.0, 3.0), [1000.0]),  # those that only touch are outside
        ((0.0, 1.5), [1000.0]),
        ((5.5, 9.0), [1000.0]),  # the last one is open
        ((20.0, 30.0), []),
    ],
)
def test_window_takes_the_gaps_that_reach_into_it(window: tuple[float, float], gaps: list[float]) -> None:
    assert find_gaps([1.0, 2.0, 3.0, 5.0], began_at=0.0, ended_at=6.0, window=window) == gaps


def test_spread_takes_values_that_were_seen() -> None:
    assert Spread.of(float(value) for value in range(200, 0, -1)) == Spread(100.0, 198.0, 200.0)
    assert Spread.of([7.0]) == Spread(7.0, 7.0, 7.0)
    assert Spread.of([]) == Spread(0.0, 0.0, 0.0)


def test_result_becomes_json() -> None:
    told = json.loads(json.dumps(replace(CLEAN, errors=("GET /: 503",)).to_json()))
    assert told["requests"] == 1000
    assert told["write_gap_ms"] == {"p50": 40.0, "p99": 60.0, "max": 81.235}
    assert told["errors"] == ["GET /: 503"]


def test_empty_shelves_and_slow_answers_are_clean() -> None:
    assert CLEAN.is_clean


@pytest.mark.parametrize(
    "name",
    [
        "failed_requests", "lost_orders", "doubled_orders", "unasked_orders", "lost_cancels", "lost_restocks",
        "lost_renames", "wrong_stocks",
    ],
)  # fmt: skip
def test_one_of_anything_bad_is_not_clean(name: str) -> None:
    assert not replace(CLEAN, **{name: 1}).is_clean


def test_only_what_was_not_answered_is_a_failure() -> None:
    assert [outcome for outcome in Outcome if outcome.is_failure] == [Outcome.REJECTED, Outcome.UNKNOWN]
