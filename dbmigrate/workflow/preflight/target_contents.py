"""What the target holds already."""

from __future__ import annotations

from dbmigrate.domain.schema import Table
from dbmigrate.mysql.fence import read_is_read_only
from dbmigrate.mysql.identifiers import quote_table
from dbmigrate.mysql.sessions import Session
from dbmigrate.workflow.preflight.finding import Finding, Severity, Surroundings
from dbmigrate.workflow.routing import target_name


def check_target_contents(s: Surroundings) -> list[Finding]:
    """On the first run no row may be where the copy will write."""
    findings = []
    if s.is_first_run:
        present = {table.name: table for table in s.target_schema.tables}
        for table in s.tables:
            name = target_name(s.config.tables, table.name, s.config.target.schema)
            if name in present:
                findings += _check_table(s.target, table, present[name])
        if read_is_read_only(s.target):
            findings.append(
                Finding(
                    "target_contents", Severity.WARNING, s.target.place,
                    "the target is read-only; it stays so for others, but the copy needs an account that may write",
                    "SET GLOBAL read_only = OFF",
                )
            )  # fmt: skip
    return findings


def _check_table(session: Session, source: Table, target: Table) -> list[Finding]:
    findings = []
    if session.execute(f"SELECT 1 FROM {quote_table(target.name)} LIMIT 1", doing="preflight").rows:
        findings.append(
            Finding(
                "target_contents", Severity.OBSTACLE, str(target.name), "the target's table holds rows already",
                f"move them away or TRUNCATE TABLE {quote_table(target.name)}, if nobody needs them",
            )
        )  # fmt: skip
    known = {frozenset(c.casefold() for c in i.columns) for i in source.indexes if i.is_unique}
    for index in target.indexes:
        if index.is_unique and frozenset(c.casefold() for c in index.columns) not in known:
            findings.append(
                Finding(
                    "target_contents", Severity.WARNING, str(target.name),
                    f"the unique key {index.name} does not exist on the source: rows that collide in it cannot all be there",
                    f"DROP INDEX it until the move is over, or make sure that ({', '.join(index.columns)}) is unique",
                )
            )  # fmt: skip
    return findings
