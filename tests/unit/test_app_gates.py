"""Gates on the application's evidence: pass on enough good news, wait on too little, fail on bad news, with numbers."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from dbmigrate.config import GatesSection
from dbmigrate.domain.evidence import (
    EvidenceTotals,
    InstanceReport,
    LatencyHistogram,
    ReadCounts,
    ShadowCounts,
    WriteCounts,
    count_since,
)
from dbmigrate.domain.phases import Phase
from dbmigrate.workflow.gates import (
    GateResult,
    Verdict,
    judge_acknowledgement,
    judge_all,
    judge_latency,
    judge_reads,
    judge_row_age,
    judge_shadow,
    judge_writes,
)

LIMITS = GatesSection(
    min_mirrored_writes=100, max_mirror_failure_ratio=0.01, max_write_failure_ratio=0.01, max_uncaptured_ratio=0.1,
    min_shadow_samples=100, min_target_reads=10, max_read_error_ratio=0.01, latency_floor_seconds=0.001,
)  # fmt: skip
GOOD_WRITES = WriteCounts(transactions=200, mirrored=200)
PASSED, WAITS, FAILED = Verdict.PASSED, Verdict.INCONCLUSIVE, Verdict.FAILED


def spread(seconds: float, samples: int = 100) -> LatencyHistogram:
    """So many samples of one length."""
    histogram = LatencyHistogram()
    for _ in range(samples):
        histogram = histogram.with_sample(seconds)
    return histogram


def report(name: str, epoch: int = 7, **counts: object) -> InstanceReport:
    """An instance that follows an epoch."""
    seen_at = datetime(2026, 11, 1, 12, tzinfo=UTC)
    whole = InstanceReport(name, "web-1", 41, "1.0", epoch, Phase.DUAL_WRITE, seen_at=seen_at)
    return replace(whole, **counts)  # type: ignore[arg-type]


def test_one_failure_decides_and_only_its_reasons_are_told() -> None:
    """Else the worst of the verdicts."""
    good, waits, bad = GateResult(PASSED, "a"), GateResult(WAITS, "b"), GateResult(FAILED, "c")
    assert judge_all([good, waits, bad]) == bad
    assert judge_all([good, waits]) == waits
    assert judge_all([good, good]) == GateResult(PASSED, "a; a")


def test_instances_that_lag_are_named_with_how_far() -> None:
    """Those that follow, or are further already, are not."""
    gate = judge_acknowledgement([report("a"), report("b", 5), report("c", 8)], [], epoch=7, min_instances=1)
    assert gate.verdict is WAITS
    assert gate.reason == "1 of 3 live instances have not followed: b on web-1 (pid 41) at epoch 5, 2 behind"
    assert judge_acknowledgement([report("a"), report("c", 8)], [], epoch=7, min_instances=2).has_passed


def test_too_few_live_instances_are_inconclusive() -> None:
    """Nobody to follow is not everybody following."""
    gate = judge_acknowledgement([], [report("gone", 3)], epoch=7, min_instances=1)
    assert gate.verdict is WAITS
    assert "0 live instances report, at least 1 must" in gate.reason
    assert "gone on web-1 (pid 41) last seen 2026-11-01T12:00:00+00:00" in gate.reason
    assert judge_acknowledgement([], [], epoch=7, min_instances=0).has_passed


def test_expired_instances_are_not_waited_for_but_named() -> None:
    """In the reason that becomes the audit row."""
    gate = judge_acknowledgement([report("a")], [report("gone", 3)], epoch=7, min_instances=1)
    assert gate.has_passed
    assert "expired and not waited for: gone on web-1" in gate.reason


def test_many_lagging_instances_do_not_make_an_endless_reason() -> None:
    """The first few, and how many more."""
    gate = judge_acknowledgement([report(f"i{n}", 1) for n in range(40)], [], epoch=2, min_instances=1)
    assert "and 35 more" in gate.reason


@pytest.mark.parametrize(("age", "verdict"), [(None, WAITS), (5.9, WAITS), (6.0, PASSED)])
def test_a_young_fence_row_waits(age: float | None, verdict: Verdict) -> None:
    """An instance that saw none may not have looked again."""
    assert judge_row_age(age_seconds=age, min_age_seconds=6).verdict is verdict


@pytest.mark.parametrize(
    ("writes", "verdict", "told"),
    [
        (GOOD_WRITES, PASSED, "200 mirrored writes"),
        (WriteCounts(transactions=99, mirrored=99), WAITS, "99 mirrored writes (at least 100)"),
        (WriteCounts(transactions=1, failed=1), WAITS, "0 mirrored writes"),
        (replace(GOOD_WRITES, failed=3), FAILED, "3 of 200 writes failed (1.50%, limit 1.00%)"),
        (replace(GOOD_WRITES, failed=2), PASSED, ""),
        (replace(GOOD_WRITES, mirror_failed=3), FAILED, "3 of 203 mirrors failed"),
        (WriteCounts(transactions=200, mirror_failed=150), FAILED, "150 of 150 mirrors failed"),
        (replace(GOOD_WRITES, uncaptured=21), FAILED, "21 of 200 statements uncaptured"),
    ],
)
def test_writes(writes: WriteCounts, verdict: Verdict, told: str) -> None:
    """Ratios count once there are enough writes."""
    gate = judge_writes(writes, LIMITS, is_mirrored=True)
    assert gate.verdict is verdict, gate
    assert told in gate.reason


def test_without_mirrors_only_the_writes_themselves_count() -> None:
    """Nothing to wait for."""
    assert judge_writes(WriteCounts(), LIMITS, is_mirrored=False).has_passed
    assert judge_writes(WriteCounts(transactions=4, failed=2), LIMITS, is_mirrored=False).verdict is FAILED


GOOD_SHADOW = ShadowCounts(samples=100, matches=90, lag=5, moved=5, control=spread(0.01), candidate=spread(0.012))


@pytest.mark.parametrize(
    ("shadow", "verdict", "told"),
    [
        (GOOD_SHADOW, PASSED, "100 shadow reads compared"),
        (replace(GOOD_SHADOW, samples=99), WAITS, "99 shadow reads compared (at least 100)"),
        (ShadowCounts(samples=3, errors=2, timeouts=3, dropped=4), WAITS, "9 came to no comparison"),
        (replace(GOOD_SHADOW, real=1), FAILED, "1 real mismatches (limit 0)"),
        (ShadowCounts(samples=1, real=1), FAILED, "1 real mismatches"),
        (replace(GOOD_SHADOW, candidate=spread(0.1)), FAILED, " ms on the source (limit 1.5 x)"),
    ],
)
def test_shadow_reads(shadow: ShadowCounts, verdict: Verdict, told: str) -> None:
    """Lag and moved rows never count; one real mismatch does, however few samples there are."""
    gate = judge_shadow(shadow, LIMITS)
    assert gate.verdict is verdict, gate
    assert told in gate.reason


def test_a_slow_tail_alone_breaks_the_budget() -> None:
    """P99 has a limit of its own."""
    tail = spread(0.01, 97).merge(spread(0.5, 3))
    gate = judge_latency(spread(0.01), tail, LIMITS)
    assert gate.verdict is FAILED
    assert gate.reason.startswith("P99")


def test_what_is_below_the_floor_is_fast_enough() -> None:
    """A ratio of microseconds says nothing."""
    assert judge_latency(spread(0.0001), spread(0.0008), LIMITS).has_passed


@pytest.mark.parametrize(
    ("reads", "verdict", "told"),
    [
        (ReadCounts(owner=90, target=10, target_latency=spread(0.01)), PASSED, "0 of 10 reads failed on the target"),
        (ReadCounts(owner=90, target=9), WAITS, "9 reads asked of the target (at least 10)"),
        (ReadCounts(owner=90, fallbacks=10), FAILED, "10 of 10 reads failed on the target"),
        (ReadCounts(owner=9, target=90, errors=1), PASSED, "1 of 100 reads unanswered"),
        (ReadCounts(owner=8, target=90, errors=2), FAILED, "2 of 100 reads unanswered"),
        (ReadCounts(target=90, target_latency=spread(0.03)), FAILED, "P95"),
    ],
)
def test_ramped_reads(reads: ReadCounts, verdict: Verdict, told: str) -> None:
    """Asked are those that the target answered and those that fell back."""
    gate = judge_reads(reads, LIMITS, reference=spread(0.01))
    assert gate.verdict is verdict, gate
    assert told in gate.reason


def test_only_what_was_counted_since_a_former_report_is_judged() -> None:
    """A new instance counts in full, so does one that began to count anew in another phase; nothing gets negative."""
    before = [report("a", writes=WriteCounts(transactions=10, failed=9)), report("b", phase=Phase.CATCH_UP)]
    shadow = ShadowCounts(control=spread(0.01, 3))
    now = [
        report("a", writes=WriteCounts(transactions=12, failed=9), shadow=shadow),
        report("b", writes=WriteCounts(transactions=5)),
        report("c", writes=WriteCounts(transactions=1)),
    ]
    totals = EvidenceTotals.of(count_since(now, before), Phase.DUAL_WRITE)
    assert totals.writes == WriteCounts(transactions=8)
    again = count_since([report("a", writes=WriteCounts(transactions=1), shadow=ShadowCounts())], now)
    assert again[0].writes == WriteCounts()
    assert again[0].shadow.control.samples == 0
