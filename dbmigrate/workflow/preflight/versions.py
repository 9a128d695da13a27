"""Flavours and releases."""

from __future__ import annotations

from dbmigrate.workflow.preflight.finding import Finding, Severity, Surroundings


def check_versions(s: Surroundings) -> list[Finding]:
    """MySQL from 8.0, MariaDB from 10.6."""
    return [
        Finding(
            "versions", Severity.OBSTACLE, place, f"{version} is not supported",
            "upgrade it to MySQL 8.0 or MariaDB 10.6 or newer",
        )
        for place, version in ((s.source.place, s.source_version), (s.target.place, s.target_version))
        if not version.is_supported
    ]  # fmt: skip
