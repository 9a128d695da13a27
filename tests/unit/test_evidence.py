"""What an application instance reports: counts that add up, and survive JSON."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from dbmigrate.domain.evidence import (
    LATENCY_BOUNDS_SECONDS,
    EvidenceTotals,
    InstanceReport,
    LatencyHistogram,
    Mismatch,
    MismatchKind,
    ReadCounts,
    ShadowCounts,
    WriteCounts,
)
from dbmigrate.domain.phases import Phase


def histogram_of(*seconds: float) -> LatencyHistogram:
    """One with these samples."""
    histogram = LatencyHistogram()
    for each in seconds:
        histogram = histogram.with_sample(each)
    return histogram


def report_of(instance_id: str = "a", **changes: object) -> InstanceReport:
    """An instance in shadow_read that counts a little of everything."""
    values: dict[str, object] = {
        "host": "web-1", "pid": 41, "library_version": "1.2", "epoch": 7, "phase": Phase.SHADOW_READ,
        "writes": WriteCounts(transactions=9, failed=1, mirrored=7, mirror_failed=1, uncaptured=2),
        "shadow": ShadowCounts(samples=5, matches=4, real=1, control=histogram_of(0.01), candidate=histogram_of(0.02)),
        "reads": ReadCounts(owner=3, target=2, fallbacks=1, target_latency=histogram_of(0.5)),
        "seen_at": datetime(2026, 11, 1, 12, 0, 0, 250000, tzinfo=UTC),
    }  # fmt: skip
    return InstanceReport(instance_id=instance_id, **(values | changes))  # type: ignore[arg-type]


def test_a_percentile_is_within_a_fifth_of_the_true_one() -> None:
    """That is the width of a bucket."""
    samples = [0.0002 * 1.01**step for step in range(1000)]
    histogram = histogram_of(*samples)
    for q in (1, 50, 95, 99, 100):
        found = histogram.percentile(q)
        assert found is not None
        assert samples[max(0, q * 10 - 1)] / 1.2 <= found <= samples[max(0, q * 10 - 1)] * 1.2


def test_an_empty_histogram_has_no_percentile() -> None:
    """Nothing was measured, which is not the same as zero."""
    assert LatencyHistogram().percentile(95) is None


def test_times_outside_the_bounds_count_in_the_outer_buckets() -> None:
    """No sample is lost."""
    histogram = histogram_of(-1.0, 0.0, 1e9)
    assert histogram.samples == 3
    assert histogram.percentile(100) == LATENCY_BOUNDS_SECONDS[-1]
    lowest = histogram.percentile(1)
    assert lowest is not None
    assert lowest <= LATENCY_BOUNDS_SECONDS[0]


def test_merging_histograms_is_counting_both_at_once() -> None:
    """So instances can be added up."""
    assert histogram_of(0.1, 2).merge(histogram_of(0.1)) == histogram_of(2, 0.1, 0.1)


def test_a_wrong_percentage_or_shape_is_an_error() -> None:
    """Both are mistakes of the caller."""
    with pytest.raises(ValueError, match="percentage"):
        histogram_of(1).percentile(101)
    with pytest.raises(ValueError, match="counts"):
        LatencyHistogram((1, 2))
    with pytest.raises(ValueError, match="counts"):
        LatencyHistogram.from_json([1] * 1000)


def test_counts_add_up_field_by_field() -> None:
    """Numbers and histograms alike."""
    total = report_of().shadow.merge(report_of().shadow)
    assert (total.samples, total.matches, total.real, total.errors) == (10, 8, 2, 0)
    assert total.control == histogram_of(0.01, 0.01)


def test_a_report_survives_json() -> None:
    """All of it, times included."""
    report = report_of()
    assert InstanceReport.from_json(json.loads(json.dumps(report.to_json()))) == report
    unseen = report_of(seen_at=None)
    assert InstanceReport.from_json(json.loads(json.dumps(unseen.to_json()))) == unseen


def test_a_report_of_another_version_is_understood() -> None:
    """Unknown counts are ignored, missing ones are zero."""
    text = report_of().to_json()
    text["shadow"] = {"samples": 3, "surprises": 4}
    del text["reads"]
    report = InstanceReport.from_json(text)
    assert report.shadow == ShadowCounts(samples=3)
    assert report.reads == ReadCounts()


def test_a_mismatch_survives_json() -> None:
    """Lists come back as tuples."""
    mismatch = Mismatch(
        MismatchKind.REAL, "ab12", "SELECT total FROM orders WHERE id = ?", ("orders",), ("id",), ("total",),
        ("5f3a",), "1 row differs in total", datetime(2026, 11, 1, tzinfo=UTC), "a",
    )  # fmt: skip
    assert Mismatch.from_json(json.loads(json.dumps(mismatch.to_json()))) == mismatch


def test_totals_leave_out_reports_of_another_phase() -> None:
    """Counts that an instance made in the phase before say nothing about this one."""
    reports = [report_of("a"), report_of("b"), report_of("late", phase=Phase.DUAL_WRITE)]
    totals = EvidenceTotals.of(reports, Phase.SHADOW_READ)
    assert totals.writes.transactions == 18
    assert totals.shadow.samples == 10
    assert totals.reads.target_latency.samples == 2
