"""Whether every table can travel as configured, and come back."""

from __future__ import annotations

from dbmigrate.workflow.preflight.finding import Finding, Severity, Surroundings
from dbmigrate.workflow.routing import build_forward_routes, build_reverse_routes, target_name


def check_routes(s: Surroundings) -> list[Finding]:
    """Obstacles on the way there, warnings for a way back that does not exist."""
    _, there = build_forward_routes(s.config.tables, s.source_schema, s.target_schema)
    _, back = build_reverse_routes(s.config.tables, s.source_schema, s.target_schema)
    findings = [
        Finding("routes", Severity.OBSTACLE, str(p.table), p.message, p.remedy)
        for p in there
        if "no primary key" not in p.message  # said by the check of keys
    ]
    findings += [
        Finding(
            "routes",
            Severity.WARNING,
            str(p.table),
            f"after the cutover there will be no way back: {p.message}",
            p.remedy,
        )
        for p in back
        if "no primary key" not in p.message
    ]
    return [*findings, *_check_names(s), *_check_missing(s)]


def _check_names(s: Surroundings) -> list[Finding]:
    """Options for tables that the source does not have are misspelt, or stale."""
    known = {table.name.name for table in s.source_schema.tables}
    return [
        Finding(
            "routes",
            Severity.OBSTACLE,
            f"[tables.{name}]",
            "the source has no such table",
            "correct the name or remove it",
        )
        for name in s.config.tables.by_name
        if name not in known
    ]


def _check_missing(s: Surroundings) -> list[Finding]:
    """A table with another shape has to be made by a person: its types are theirs to choose."""
    present = {table.name for table in s.target_schema.tables}
    findings = []
    for table in s.tables:
        options = s.config.tables.options_for(table.name.name)
        name = target_name(s.config.tables, table.name, s.config.target.schema)
        if (options.columns or options.omit) and name not in present:
            findings.append(
                Finding(
                    "routes", Severity.OBSTACLE, str(name), "its columns are configured to differ, but it is not on the target",
                    f"CREATE TABLE {name} with the columns it shall have, then run again",
                )
            )  # fmt: skip
    return findings
