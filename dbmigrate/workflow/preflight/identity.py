"""Whether the two servers are really two."""

from __future__ import annotations

from dbmigrate.workflow.preflight.finding import Finding, Severity, Surroundings
from dbmigrate.workflow.preflight.reading import read_variables


def check_identity(s: Surroundings) -> list[Finding]:
    """The control schema, read_only and the two binlogs need two servers."""
    names = ("server_uuid", "server_uid", "hostname", "port", "datadir")
    source, target = read_variables(s.source, names), read_variables(s.target, names)
    if source == target:
        return [
            Finding(
                "identity", Severity.OBSTACLE, s.target.place, "source and target are the same server",
                "correct [source] url or [target] url",
            )
        ]  # fmt: skip
    return []
