"""What the configuration asks for and this version cannot do yet."""

from __future__ import annotations

from dbmigrate.config import FenceKind
from dbmigrate.workflow.preflight.finding import Finding, Severity, Surroundings


def check_availability(s: Surroundings) -> list[Finding]:
    """Named here, so that nobody relies on it."""
    findings = []
    if s.config.throttle.max_replica_lag_seconds is not None:
        findings.append(
            Finding(
                "availability",
                Severity.OBSTACLE,
                "[throttle] max_replica_lag_seconds",
                "watching replicas is not part of this version, and a limit that is not watched protects nobody",
                "remove it; use max_threads_running, max_rows_per_second or windows",
            )
        )
    fence = s.config.cutover.fence
    if fence is FenceKind.HOOK:
        findings.append(
            Finding(
                "availability", Severity.OBSTACLE, "[cutover] fence", f'the fence "{fence.value}" is not part of this version',
                'set [cutover] fence = "app", "read_only" or "lock_tables"',
            )
        )  # fmt: skip
    return findings
