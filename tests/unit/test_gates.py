"""Gates: pass on evidence, wait on too little, fail on bad news."""

from __future__ import annotations

import pytest

from dbmigrate.config import GatesSection
from dbmigrate.domain.evidence import WriteCounts
from dbmigrate.workflow.gates import (
    Verdict,
    judge_approval,
    judge_soak,
    judge_stream,
    judge_verification,
    judge_writes,
)


def _stream(lag: float | None, backlog: int | None) -> Verdict:
    return judge_stream(lag_seconds=lag, backlog_keys=backlog, max_lag_seconds=1.0, max_backlog_keys=100).verdict


def test_a_small_lag_and_backlog_pass() -> None:
    assert _stream(0.2, 10) is Verdict.PASSED


def test_a_large_lag_or_backlog_waits() -> None:
    assert _stream(1.5, 0) is Verdict.INCONCLUSIVE
    assert _stream(0.0, 101) is Verdict.INCONCLUSIVE


def test_a_lag_that_cannot_be_seen_is_not_a_small_lag() -> None:
    assert _stream(None, 0) is Verdict.INCONCLUSIVE


def _verification(complete: bool, mismatches: int, age: float | None) -> Verdict:
    return judge_verification(
        is_complete=complete, mismatches=mismatches, age_seconds=age, max_age_seconds=60
    ).verdict


def test_a_fresh_clean_verification_passes() -> None:
    assert _verification(True, 0, 10) is Verdict.PASSED


def test_a_single_mismatch_fails() -> None:
    assert _verification(True, 1, 10) is Verdict.FAILED


def test_no_or_half_or_old_evidence_waits() -> None:
    assert _verification(True, 0, None) is Verdict.INCONCLUSIVE
    assert _verification(False, 0, 10) is Verdict.INCONCLUSIVE
    assert _verification(True, 0, 61) is Verdict.INCONCLUSIVE


def test_an_approval_counts_only_for_the_evidence_its_giver_saw() -> None:
    assert judge_approval(is_required=True, approved_evidence=4, shown_evidence=4).has_passed
    assert not judge_approval(is_required=True, approved_evidence=4, shown_evidence=5).has_passed
    assert not judge_approval(is_required=True, approved_evidence=None, shown_evidence=5).has_passed
    assert judge_approval(is_required=False, approved_evidence=None, shown_evidence=None).has_passed


def test_soaking_takes_its_time() -> None:
    assert judge_soak(age_seconds=10, min_soak_seconds=10).has_passed
    assert not judge_soak(age_seconds=9, min_soak_seconds=10).has_passed


@pytest.mark.parametrize(
    ("failed", "tried", "limit", "verdict"),
    [
        (0, 20, 0.01, Verdict.PASSED),
        (1, 20, 0.01, Verdict.INCONCLUSIVE),
        (1, 100, 0.01, Verdict.PASSED),
        (2, 20, 0.01, Verdict.FAILED),
        (2, 199, 0.01, Verdict.FAILED),
        (1, 20, 0.0, Verdict.FAILED),
    ],
)
def test_one_failure_among_few_waits_for_more_where_any_is_allowed(
    failed: int, tried: int, limit: float, verdict: Verdict
) -> None:
    limits = GatesSection(min_mirrored_writes=5, max_mirror_failure_ratio=limit)
    writes = WriteCounts(transactions=tried, mirrored=tried - failed, mirror_failed=failed)
    assert judge_writes(writes, limits, is_mirrored=True).verdict is verdict
