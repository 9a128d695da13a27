"""The arithmetic of the benchmarks: medians, pairs, percentiles, gaps, and the shape of their JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the benchmarks are no part of the installed package

from bench.arithmetic import (
    Report,
    Spread,
    Target,
    alternate,
    find_gaps,
    percentile,
    ratios_of,
    significant,
    worst_gaps,
)

ROOT = Path(__file__).resolve().parents[2]


def build_report() -> Report:
    ratios = {"ours / peer": ratios_of([2.0, 3.0, 1.0], [4.0, 4.0, 4.0])}
    return Report(
        "copy", "quick", {"cpus": 2}, ratios, {"ours": [2.0, 3.0, 1.0], "peer": [4.0, 4.0, 4.0]},
        targets={"ours / peer": Target(1.0, is_upper=True)}, details={"rows": 5},
    )  # fmt: skip


def test_a_spread_keeps_the_median_and_both_ends():
    spread = Spread.of([3.0, 1.0, 2.0])
    assert (spread.median, spread.low, spread.high) == (2.0, 1.0, 3.0)


def test_nothing_measured_is_no_result():
    with pytest.raises(ValueError, match="nothing was measured"):
        Spread.of([])
    with pytest.raises(ValueError, match="nothing was measured"):
        percentile([], 0.5)


def test_ratios_are_taken_pair_by_pair_before_the_median():
    """A slow minute that hits both of a pair does not move the ratio; a ratio of medians would move."""
    assert ratios_of([1.0, 10.0, 1.2], [2.0, 20.0, 2.0]).values == (0.5, 0.5, 0.6)
    assert ratios_of([1.0, 10.0, 1.2], [2.0, 20.0, 2.0]).median == 0.5


def test_runs_without_a_partner_are_refused():
    with pytest.raises(ValueError, match="cannot be paired"):
        ratios_of([1.0], [1.0, 2.0])


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.0, 1)])
def test_percentiles_are_values_that_were_measured(share, expected):
    assert percentile(list(range(100, 0, -1)), share) == expected


@pytest.mark.parametrize(
    ("value", "expected"), [(0.123456, 0.1235), (1234.56, 1235), (0, 0), (-0.00012345, -0.0001234)]
)
def test_four_digits_are_kept_whatever_the_size(value, expected):
    assert significant(value) == pytest.approx(expected, rel=1e-9)


def test_every_round_begins_with_another_contender():
    rounds = list(alternate(("a", "b"), 3))
    assert rounds == [(0, "a"), (0, "b"), (1, "b"), (1, "a"), (2, "a"), (2, "b")]


def test_a_gap_is_measured_only_where_the_side_changes():
    successes = [(0.0, "source"), (5.0, "source"), (5.1, "target"), (5.2, "target"), (5.5, "source")]
    assert find_gaps(successes) == pytest.approx([0.1, 0.3])


def test_the_worst_writer_counts_at_every_switch():
    first = [(0.0, "source"), (0.1, "target"), (0.5, "source")]
    second = [(0.0, "source"), (0.3, "target"), (0.4, "source")]
    assert worst_gaps([first, second]) == pytest.approx([0.3, 0.4])


def test_a_writer_that_missed_a_switch_is_an_error():
    with pytest.raises(ValueError, match="different numbers"):
        worst_gaps([[(0.0, "source"), (0.1, "target")], [(0.0, "source")]])


def test_targets_count_in_their_direction():
    assert Target(1.0, is_upper=True).is_met_by(1.0)
    assert not Target(1.0, is_upper=True).is_met_by(1.01)
    assert Target(2.0, is_upper=False).is_met_by(2.5)
    assert not Target(2.0, is_upper=False).is_met_by(1.9)


def test_the_json_holds_the_ratios_and_the_raw_seconds():
    report = json.loads(json.dumps(build_report().to_json()))
    assert report["ratios"] == {"ours / peer": 0.5}
    assert report["spread"]["ours / peer"] == {"median": 0.5, "low": 0.25, "high": 0.75, "values": [0.5, 0.75, 0.25]}
    assert report["seconds"] == {"ours": [2.0, 3.0, 1.0], "peer": [4.0, 4.0, 4.0]}
    assert report["targets"] == {"ours / peer": {"target": "at most 1", "is_met": True}}
    assert report["bench"] == "copy"
    assert report["details"] == {"rows": 5}


def test_the_text_tells_whether_the_target_was_met():
    assert "ours / peer: 0.5 (0.25 to 0.75); target at most 1: met" in build_report().format_text()


@pytest.mark.parametrize("name", ["copy", "stream", "verify", "cutover", "session", "chaos"])
def test_every_benchmark_starts_as_a_script(name):
    """Its directory is first on the path then, and holds a ``copy.py`` that must not hide the library's."""
    done = subprocess.run(
        [sys.executable, f"bench/{name}.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "--quick" in done.stdout
    assert "--json" in done.stdout
