"""Dual write: the application mirrors its writes to the target, and the gate counts what became of them."""

from __future__ import annotations

from dbmigrate.domain.evidence import EvidenceTotals, InstanceReport
from dbmigrate.domain.phases import Phase, following_phase
from dbmigrate.domain.routes import Direction
from dbmigrate.workflow.gates import GateResult, judge_writes
from dbmigrate.workflow.instances import LOOK_SECONDS, await_evidence
from dbmigrate.workflow.run import Run


def work(run: Run) -> Phase | None:
    """Wait for enough mirrored writes within the error budget. A broken budget heals with time: what failed becomes a
    smaller part."""
    run.ensure_stream(Direction.FORWARD)
    config = run.migration.config

    def judge(reports: tuple[InstanceReport, ...]) -> GateResult:
        writes = EvidenceTotals.of(reports, Phase.DUAL_WRITE).writes
        return judge_writes(writes, config.gates, is_mirrored=config.app.mirror)

    while (gate := await_evidence(run, judge)) is not None:
        if gate.has_passed:
            run.passed_because = gate.reason
            run.migration.store.save_evidence("dual_write", {"verdict": gate.verdict.value, "reason": gate.reason})
            return following_phase(Phase.DUAL_WRITE, has_application=True)
        run.wait(LOOK_SECONDS, reason=gate.reason)
    return None
