"""Shadow read: a sample of the application's reads is repeated on the target, and the gate reads how they compare."""

from __future__ import annotations

from dbmigrate.domain.errors import RefusedError
from dbmigrate.domain.evidence import EvidenceTotals, InstanceReport, count_since
from dbmigrate.domain.phases import Phase, following_phase
from dbmigrate.domain.routes import Direction
from dbmigrate.workflow.gates import GateResult, Verdict, judge_all, judge_mismatches, judge_shadow, judge_writes
from dbmigrate.workflow.instances import LOOK_SECONDS, await_evidence, describe_mismatches, read_instances
from dbmigrate.workflow.run import Run


def work(run: Run) -> Phase | None:
    """Wait for enough samples within the budgets.

    Only what is counted from here on decides: a person who has mended a mismatch runs again.

    Raises:
        RefusedError: more reads really differed than allowed; the phase stays.
    """
    run.ensure_stream(Direction.FORWARD)
    limits, app = run.migration.config.gates, run.migration.config.app
    start = read_instances(run.migration).live

    def judge(reports: tuple[InstanceReport, ...]) -> GateResult:
        totals = EvidenceTotals.of(reports, Phase.SHADOW_READ)
        writes = judge_writes(totals.writes, limits, is_mirrored=app.mirror)
        # Mirrors have been counted before; here they only must not fail.
        failing = [writes] if writes.verdict is Verdict.FAILED else []
        return judge_all([judge_shadow(totals.shadow, limits), *failing])

    while (gate := await_evidence(run, judge, since=start)) is not None:
        if gate.has_passed:
            run.passed_because = gate.reason
            run.migration.store.save_evidence("shadow_read", {"verdict": gate.verdict.value, "reason": gate.reason})
            return following_phase(Phase.SHADOW_READ, has_application=True)
        refuse_mismatches(run, start)
        run.wait(LOOK_SECONDS, reason=gate.reason)
    return None


def refuse_mismatches(run: Run, start: tuple[InstanceReport, ...]) -> None:
    """End the run where reads really differed: no number of further samples makes that good again.

    Raises:
        RefusedError: with what differed.
    """
    reports = count_since(read_instances(run.migration).live, start)
    mismatches = judge_mismatches(EvidenceTotals.of(reports, run.state.phase).shadow, run.migration.config.gates)
    if mismatches.verdict is not Verdict.FAILED:
        return
    run.migration.store.save_evidence(
        run.state.phase.value, {"verdict": mismatches.verdict.value, "reason": mismatches.reason}
    )
    raise RefusedError(
        f"reads differ between the sides: {mismatches.reason}", place=f"migration {run.migration.id}",
        cause=describe_mismatches(run.migration),
        hint="`dbmigrate verify` says whether rows differ; where only the reading differs (an order, a collation), mend "
        "the query or name the column in [app] shadow_ignore; then run again: what is counted from then on decides",
    )  # fmt: skip
