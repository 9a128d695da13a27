"""Storage engines and kinds of tables that cannot be moved while they are written."""

from __future__ import annotations

from dbmigrate.mysql.identifiers import quote_table
from dbmigrate.workflow.preflight.finding import Finding, Severity, Surroundings


def check_engines(s: Surroundings) -> list[Finding]:
    """Only InnoDB reads without locks and writes in transactions."""
    findings = []
    for table in s.tables:
        if table.engine.casefold() != "innodb":
            findings.append(
                Finding(
                    "engines", Severity.OBSTACLE, str(table.name),
                    f"its engine is {table.engine or 'unknown'}, and only InnoDB tables can be moved while written",
                    f"ALTER TABLE {quote_table(table.name)} ENGINE=InnoDB, or list it in [tables] exclude",
                )
            )  # fmt: skip
        if table.is_system_versioned:
            findings.append(
                Finding(
                    "engines", Severity.OBSTACLE, str(table.name), "it is system-versioned, and its history cannot be copied",
                    f"ALTER TABLE {quote_table(table.name)} DROP SYSTEM VERSIONING, or list it in [tables] exclude",
                )
            )  # fmt: skip
    return findings
