"""The servers' clocks."""

from __future__ import annotations

from dbmigrate.workflow.preflight.finding import Finding, Severity, Surroundings

MOST_SKEW_SECONDS = 2.0


def check_clocks(s: Surroundings) -> list[Finding]:
    """The lag does not depend on them; defaults like CURRENT_TIMESTAMP after the switch do."""
    statement = "SELECT UNIX_TIMESTAMP(SYSDATE(6))"
    source, target = (float(session.fetch_value(statement) or 0) for session in (s.source, s.target))
    skew = target - source
    if abs(skew) <= MOST_SKEW_SECONDS:
        return []
    return [
        Finding(
            "clocks", Severity.WARNING, s.target.place, f"its clock is {skew:+.1f} s off the source's",
            "synchronise both with NTP: after the switch CURRENT_TIMESTAMP jumps by this much",
        )
    ]  # fmt: skip
