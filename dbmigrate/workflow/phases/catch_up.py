"""Catch up: the stream works off what changed during the copy."""

from __future__ import annotations

from dbmigrate.domain.phases import Phase, following_phase
from dbmigrate.domain.routes import Direction
from dbmigrate.workflow.gates import judge_stream
from dbmigrate.workflow.run import Run

CALM_LOOKS = 2
"""The gate must hold this often in a row: one look may fall between two bursts."""


def work(run: Run) -> Phase | None:
    """Wait until lag and backlog stay below their limits."""
    stream = run.ensure_stream(Direction.FORWARD)
    gates, calm = run.migration.config.gates, 0
    while not run.should_stop:
        status = stream.read_status()
        gate = judge_stream(
            lag_seconds=status.lag_seconds, backlog_keys=status.backlog_keys,
            max_lag_seconds=gates.max_lag_seconds, max_backlog_keys=gates.max_backlog_keys,
        )  # fmt: skip
        calm = calm + 1 if gate.has_passed else 0
        if calm >= CALM_LOOKS:
            run.migration.store.save_evidence("catch_up", {"verdict": gate.verdict.value, "reason": gate.reason})
            return following_phase(Phase.CATCH_UP, has_application=run.migration.config.app.enabled)
        run.wait(0.25, reason=gate.reason)
    return None
