"""Ramp reads: a growing share of reads is answered by the target, stepping back by itself when a guardrail breaks."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from dbmigrate.domain.evidence import EvidenceTotals, InstanceReport, count_since
from dbmigrate.domain.phases import Phase, following_phase
from dbmigrate.domain.routes import Direction
from dbmigrate.workflow.announcing import announce_step
from dbmigrate.workflow.gates import (
    GateResult,
    Verdict,
    judge_all,
    judge_mismatches,
    judge_reads,
    judge_writes,
)
from dbmigrate.workflow.instances import LOOK_SECONDS, forget_expired, judge_following, read_instances
from dbmigrate.workflow.run import Run
from dbmigrate.workflow.verification import verify_touched

log = logging.getLogger(__name__)

MOST_BREAKS = 2
"""At the first broken guardrail the share before is tried again, at the second no read goes to the target any more."""


def work(run: Run) -> Phase | None:
    """Take the shares one after the other and hold each; the largest must hold, too.

    After a broken guardrail has taken the share to 0 the phase stays, and says why, until the operator ends this
    run. Where the verification does not hold any more (another runner saw it, or too much has changed since), it is
    repeated before a read goes to the target.
    """
    stream = run.ensure_stream(Direction.FORWARD)
    if not run.has_verified:
        return Phase.CATCH_UP
    ramp = run.migration.config.app.read_ramp
    breaks, share = 0, run.row.read_share if run.row else 0.0
    if not share and not _step(run, ramp[0], f"reads on the target: {ramp[0]:g} %"):
        return None
    while not run.should_stop:
        share = run.row.read_share if run.row else 0.0
        gate = _hold(run, share)
        if gate is None:
            return None
        if gate.has_passed and stream.touched.count() is None:
            return Phase.CATCH_UP
        if gate.has_passed and not verify_touched(run.migration, stream, is_still=False):
            gate = GateResult(Verdict.FAILED, "rows differ that have changed since the verification")
        if gate.has_passed:
            larger = [one for one in ramp if one > share]
            if not larger:
                run.passed_because = gate.reason
                return following_phase(Phase.RAMP_READS, has_application=True)
            if not _step(run, larger[0], f"reads on the target: {share:g} % -> {larger[0]:g} %: {gate.reason}"):
                return None
            continue
        breaks += 1
        smaller = 0.0 if breaks >= MOST_BREAKS else max([0.0, *(one for one in ramp if one < share)])
        log.warning("a guardrail of the read ramp broke at %g %%: %s", share, gate.reason)
        if not _step(run, smaller, f"stepped back: reads on the target: {share:g} % -> {smaller:g} %: {gate.reason}"):
            return None
        if not smaller:
            _stay(run, f"no reads on the target since a guardrail broke at {share:g} %: {gate.reason}; run again to retry")
    return None


def _step(run: Run, share: float, reason: str) -> bool:
    return announce_step(run, reason, read_share=share)


def _stay(run: Run, reason: str) -> None:
    while not run.should_stop:
        run.wait(LOOK_SECONDS, reason=reason)


def _hold(run: Run, share: float) -> GateResult | None:
    """Hold a share until its time is up and its evidence passes; a broken guardrail ends it at once."""
    clock, app = run.migration.around.clock, run.migration.config.app
    start = read_instances(run.migration).live
    since: float | None = None  # every live instance follows
    while not run.should_stop:
        seen = read_instances(run.migration)
        following = judge_following(run, seen)
        if since is None and following.has_passed:
            since = clock()
        guardrail = judge_share(run, seen.live, start)
        if guardrail.verdict is Verdict.FAILED:
            return guardrail
        left = app.ramp_step_seconds - (clock() - since) if since is not None else app.ramp_step_seconds
        gate = judge_all([following, guardrail])
        if gate.has_passed and left <= 0:
            forget_expired(run.migration, seen)
            return gate
        held = f"{share:g} % of reads on the target, {max(0.0, left):.0f} s left"
        run.wait(LOOK_SECONDS, reason=f"{held}: {gate.reason}")
    return None


def judge_share(run: Run, live: Sequence[InstanceReport], start: Sequence[InstanceReport]) -> GateResult:
    """The guardrails: reads, mismatches and writes counted since ``start``, the owner's latencies of the whole phase
    (where every read goes to the target, there are no others)."""
    limits, phase = run.migration.config.gates, Phase.RAMP_READS
    counted = EvidenceTotals.of(count_since(live, start), phase)
    reference = EvidenceTotals.of(live, phase).reads.owner_latency
    results = [
        judge_reads(counted.reads, limits, reference=reference),
        judge_mismatches(counted.shadow, limits),
    ]
    writes = judge_writes(counted.writes, limits, is_mirrored=run.migration.config.app.mirror)
    if writes.verdict is Verdict.FAILED:
        results.append(writes)
    return judge_all(results)
