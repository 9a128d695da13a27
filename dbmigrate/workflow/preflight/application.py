"""What has to be so before an application can follow the move by itself."""

from __future__ import annotations

from dbmigrate.config import FenceKind
from dbmigrate.mysql.fence import read_is_read_only
from dbmigrate.mysql.sessions import Session
from dbmigrate.workflow.preflight.finding import Finding, Severity, Surroundings
from dbmigrate.workflow.preflight.reading import read_variables

SPARE_SECONDS = 1.0


def check_application(s: Surroundings) -> list[Finding]:
    """Only with ``[app] enabled``: it writes to both sides, waits on a row lock, and is moved by its own fence."""
    if not s.config.app.enabled:
        return []
    findings = _check_lock_waits(s.source, s) + _check_lock_waits(s.target, s)
    if s.is_first_run and read_is_read_only(s.target):
        findings.append(
            Finding(
                "application", Severity.OBSTACLE, s.target.place,
                "the target is read-only, and the application is going to write there",
                "SET GLOBAL read_only = OFF",
            )
        )  # fmt: skip
    if s.config.cutover.fence is not FenceKind.APP:
        findings.append(
            Finding(
                "application", Severity.NOTE, "[cutover] fence",
                f'with the fence "{s.config.cutover.fence.value}" the server refuses or delays the application\'s writes',
                'set [cutover] fence = "app": the application waits for the switch by itself',
            )
        )  # fmt: skip
    return findings


def _check_lock_waits(session: Session, s: Surroundings) -> list[Finding]:
    """Writers wait for the fence row as for any row: they must bear it for as long as a switch may take."""
    most = float(read_variables(session, ["innodb_lock_wait_timeout"]).get("innodb_lock_wait_timeout", "0"))
    pause = s.config.cutover.max_write_pause_seconds
    if most >= pause + SPARE_SECONDS:
        return []
    return [
        Finding(
            "application", Severity.OBSTACLE, session.place,
            f"writers give up waiting for a lock after {most:g} s, and a switch may hold them for {pause:g} s",
            f"SET GLOBAL innodb_lock_wait_timeout = {int(pause + SPARE_SECONDS) + 1}, or a shorter [cutover] "
            "max_write_pause_seconds",
        )
    ]  # fmt: skip
