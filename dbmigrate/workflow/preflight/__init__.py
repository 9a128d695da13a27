"""The preflight: one check a file, all run at once, nothing changed.

A check takes ``Surroundings`` and returns findings. One that cannot do its work is an obstacle of its own: what was
not looked at is not fine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dbmigrate.domain.errors import DbmigrateError
from dbmigrate.workflow.preflight import (
    application,
    availability,
    binlog,
    cascades,
    clocks,
    cluster,
    creators,
    definers,
    definitions,
    disk,
    engines,
    identity,
    keys,
    privileges,
    read_only_bypass,
    retention,
    routes,
    settings,
    speed,
    target_contents,
    transactions,
    versions,
)
from dbmigrate.workflow.preflight.finding import Finding, Severity, Surroundings

CHECKS: tuple[Callable[[Surroundings], list[Finding]], ...] = (
    availability.check_availability,
    versions.check_versions,
    identity.check_identity,
    privileges.check_privileges,
    creators.check_creators,
    binlog.check_binlog,
    retention.check_retention,
    engines.check_engines,
    keys.check_keys,
    cascades.check_cascades,
    target_contents.check_target_contents,
    routes.check_routes,
    definitions.check_definitions,
    definers.check_definers,
    settings.check_settings,
    speed.check_speed,
    disk.check_disk,
    clocks.check_clocks,
    read_only_bypass.check_read_only_bypass,
    transactions.check_transactions,
    application.check_application,
    cluster.check_cluster,
)


def run_checks(surroundings: Surroundings) -> list[Finding]:
    """Everything that all checks found, in the order of the checks."""
    findings: list[Finding] = []
    for check in CHECKS:
        try:
            findings += check(surroundings)
        except DbmigrateError as fault:
            findings.append(
                Finding(
                    check.__name__.removeprefix("check_"),
                    Severity.OBSTACLE,
                    fault.place or "preflight",
                    f"this check could not be carried out: {fault.message} ({fault.cause})",
                    fault.hint or "mend the cause and check again",
                )
            )
    return findings


def has_obstacles(findings: Sequence[Finding]) -> bool:
    """Whether something stops the move."""
    return any(finding.severity is Severity.OBSTACLE for finding in findings)
