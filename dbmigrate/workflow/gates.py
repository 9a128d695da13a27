"""The gates: pure decisions on evidence, one function each.

Too little evidence is inconclusive: wait, never pass. Each verdict says why, because it becomes an audit row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from math import ceil

from dbmigrate.config import GatesSection
from dbmigrate.domain.evidence import InstanceReport, LatencyHistogram, ReadCounts, ShadowCounts, WriteCounts

MOST_NAMED = 5


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


# --- the application's evidence -----------------------------------------------------------------------------------


def judge_all(results: Iterable[GateResult]) -> GateResult:
    """One verdict from several: failed if one failed, else inconclusive if one is; the reasons that decide, or all."""
    parts = tuple(results)
    for verdict in (Verdict.FAILED, Verdict.INCONCLUSIVE):
        reasons = [part.reason for part in parts if part.verdict is verdict]
        if reasons:
            return GateResult(verdict, "; ".join(reasons))
    return GateResult(Verdict.PASSED, "; ".join(part.reason for part in parts))


def judge_acknowledgement(
    live: Sequence[InstanceReport], expired: Sequence[InstanceReport], *, epoch: int, min_instances: int
) -> GateResult:
    """Every live instance obeys ``epoch`` or a later one, and there are enough of them."""
    gone = f"; expired and not waited for: {_name(expired)} (the fence row holds their writes)" if expired else ""
    lagging = [report for report in live if report.epoch < epoch]
    if len(live) < min_instances:
        return GateResult(
            Verdict.INCONCLUSIVE, f"{len(live)} live instances report, at least {min_instances} must{gone}"
        )
    if lagging:
        behind = _name(lagging, lambda report: f"at epoch {report.epoch}, {epoch - report.epoch} behind")
        return GateResult(
            Verdict.INCONCLUSIVE, f"{len(lagging)} of {len(live)} live instances have not followed: {behind}{gone}"
        )
    return GateResult(Verdict.PASSED, f"{len(live)} live instances follow epoch {epoch}{gone}")


def _name(reports: Sequence[InstanceReport], more: Callable[[InstanceReport], str] | None = None) -> str:
    named = []
    for report in reports[:MOST_NAMED]:
        seen = report.seen_at.isoformat(timespec="seconds") if report.seen_at else "never"
        named.append(
            f"{report.instance_id} on {report.host} (pid {report.pid}) {more(report) if more else f'last seen {seen}'}"
        )
    rest = len(reports) - MOST_NAMED
    return ", ".join(named) + (f" and {rest} more" if rest > 0 else "")


def judge_row_age(*, age_seconds: float | None, min_age_seconds: float) -> GateResult:
    """The fence row has existed so long that no instance is left that believes there is none."""
    if age_seconds is None or age_seconds < min_age_seconds:
        return GateResult(
            Verdict.INCONCLUSIVE,
            f"the fence row exists for {age_seconds or 0.0:.1f} s (at least {min_age_seconds:g}): an instance may not "
            "have seen it yet",
        )
    return GateResult(Verdict.PASSED, "the fence row is known")


def judge_writes(writes: WriteCounts, limits: GatesSection, *, is_mirrored: bool) -> GateResult:
    """Enough mirrored transactions, and failures of writes, of mirrors and of the capture within their budgets."""
    tried = writes.mirrored + writes.mirror_failed
    budgets = [
        _judge_ratio("writes failed", writes.failed, writes.transactions, limits.max_write_failure_ratio),
        _judge_ratio("statements uncaptured", writes.uncaptured, writes.transactions, limits.max_uncaptured_ratio),
        _judge_ratio("mirrors failed", writes.mirror_failed, tried, limits.max_mirror_failure_ratio),
    ]
    if not is_mirrored:
        return judge_all(budgets[:1])
    if tried < limits.min_mirrored_writes:  # before, a ratio would say nothing
        return GateResult(
            Verdict.INCONCLUSIVE, f"{writes.mirrored} mirrored writes (at least {limits.min_mirrored_writes})"
        )
    enough = GateResult(
        Verdict.PASSED if writes.mirrored >= limits.min_mirrored_writes else Verdict.INCONCLUSIVE,
        f"{writes.mirrored} mirrored writes (at least {limits.min_mirrored_writes})",
    )
    return judge_all([enough, *budgets])


def judge_shadow(shadow: ShadowCounts, limits: GatesSection) -> GateResult:
    """Enough compared reads, no more real mismatches than allowed, and latencies within budget."""
    mismatches = judge_mismatches(shadow, limits)
    if mismatches.verdict is Verdict.FAILED:  # no number of further samples makes it good again
        return mismatches
    if shadow.samples < limits.min_shadow_samples:
        lost = shadow.errors + shadow.timeouts + shadow.dropped
        return GateResult(
            Verdict.INCONCLUSIVE,
            f"{shadow.samples} shadow reads compared (at least {limits.min_shadow_samples})"
            + (f"; {lost} came to no comparison" if lost else ""),
        )
    compared = GateResult(Verdict.PASSED, f"{shadow.samples} shadow reads compared")
    return judge_all([compared, mismatches, judge_latency(shadow.control, shadow.candidate, limits)])


def judge_mismatches(shadow: ShadowCounts, limits: GatesSection) -> GateResult:
    """No more real mismatches than allowed."""
    facts = f"{shadow.real} real mismatches (limit {limits.max_real_mismatches})"
    return GateResult(Verdict.FAILED if shadow.real > limits.max_real_mismatches else Verdict.PASSED, facts)


def judge_reads(reads: ReadCounts, limits: GatesSection, *, reference: LatencyHistogram) -> GateResult:
    """The target answers its share: enough reads, errors within budget, latencies within budget of ``reference``."""
    asked = reads.target + reads.fallbacks
    if asked < limits.min_target_reads:
        return GateResult(
            Verdict.INCONCLUSIVE, f"{asked} reads asked of the target (at least {limits.min_target_reads})"
        )
    failed = _judge_ratio("reads failed on the target", reads.fallbacks, asked, limits.max_read_error_ratio)
    every = reads.owner + reads.target + reads.errors
    unanswered = _judge_ratio("reads unanswered", reads.errors, every, limits.max_read_error_ratio)
    return judge_all([failed, unanswered, judge_latency(reference, reads.target_latency, limits)])


def judge_latency(reference: LatencyHistogram, candidate: LatencyHistogram, limits: GatesSection) -> GateResult:
    """P95 and P99 of ``candidate`` within the allowed multiples of ``reference``, or below the floor."""
    results = []
    for q, most in ((95, limits.max_latency_p95_ratio), (99, limits.max_latency_p99_ratio)):
        expected, found = reference.percentile(q), candidate.percentile(q)
        if expected is None or found is None:
            return GateResult(Verdict.PASSED, "no latencies to compare")
        facts = f"P{q} {found * 1000:.1f} ms on the target, {expected * 1000:.1f} ms on the source (limit {most:g} x)"
        is_fine = found <= limits.latency_floor_seconds or found <= expected * most
        results.append(GateResult(Verdict.PASSED if is_fine else Verdict.FAILED, facts))
    return judge_all(results)


def _judge_ratio(what: str, number: int, of: int, most: float) -> GateResult:
    """Failed above the limit, except for one failure among so few that no single one would be allowed: wait for more."""
    ratio = number / of if of else 0.0
    facts = f"{number} of {of} {what} ({ratio:.2%}, limit {most:.2%})"
    if ratio <= most:
        return GateResult(Verdict.PASSED, facts)
    if number == 1 and most > 0:
        return GateResult(Verdict.INCONCLUSIVE, f"{facts}: one is too few to tell, {ceil(1 / most)} will")
    return GateResult(Verdict.FAILED, facts)
