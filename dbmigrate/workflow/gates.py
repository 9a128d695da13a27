"""The gates: pure decisions on evidence, one function each.

Too little evidence is inconclusive: wait, never pass. Each verdict says why, because it becomes an audit row.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Verdict(Enum):
    """What a gate decides."""

    PASSED = "passed"
    INCONCLUSIVE = "inconclusive"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class GateResult:
    """A verdict and the facts behind it, in words."""

    verdict: Verdict
    reason: str

    @property
    def has_passed(self) -> bool:
        """Whether the phase may be left."""
        return self.verdict is Verdict.PASSED


def judge_stream(
    *, lag_seconds: float | None, backlog_keys: int | None, max_lag_seconds: float, max_backlog_keys: int
) -> GateResult:
    """Lag and backlog below their limits. A lag that cannot be seen is not a small lag."""
    if lag_seconds is None or backlog_keys is None:
        return GateResult(Verdict.INCONCLUSIVE, "the stream's lag cannot be seen yet")
    facts = (
        f"lag {lag_seconds:.2f} s (limit {max_lag_seconds:g}), backlog {backlog_keys} keys (limit {max_backlog_keys})"
    )
    if lag_seconds <= max_lag_seconds and backlog_keys <= max_backlog_keys:
        return GateResult(Verdict.PASSED, facts)
    return GateResult(Verdict.INCONCLUSIVE, facts)


def judge_verification(
    *, is_complete: bool, mismatches: int, age_seconds: float | None, max_age_seconds: float
) -> GateResult:
    """A complete verification without differences, young enough."""
    if age_seconds is None or not is_complete:
        return GateResult(Verdict.INCONCLUSIVE, "no complete verification yet")
    if mismatches:
        return GateResult(Verdict.FAILED, f"the last verification found {mismatches} differing rows")
    if age_seconds > max_age_seconds:
        return GateResult(
            Verdict.INCONCLUSIVE, f"the last verification is {age_seconds:.0f} s old (limit {max_age_seconds:g})"
        )
    return GateResult(Verdict.PASSED, f"verified without differences {age_seconds:.0f} s ago")


def judge_approval(*, is_required: bool, approved_evidence: int | None, shown_evidence: int | None) -> GateResult:
    """A person's yes where configured, bound to the evidence that person saw."""
    if not is_required:
        return GateResult(Verdict.PASSED, "no approval required")
    if approved_evidence is None:
        return GateResult(Verdict.INCONCLUSIVE, "waiting for `dbmigrate approve`")
    if shown_evidence is None or approved_evidence != shown_evidence:
        return GateResult(Verdict.INCONCLUSIVE, "the approval was given on older evidence: `dbmigrate approve` again")
    return GateResult(Verdict.PASSED, "approved")


def judge_soak(*, age_seconds: float, min_soak_seconds: float) -> GateResult:
    """The way back has been open long enough."""
    facts = f"soaking for {age_seconds:.0f} s (at least {min_soak_seconds:g})"
    return GateResult(Verdict.PASSED if age_seconds >= min_soak_seconds else Verdict.INCONCLUSIVE, facts)
