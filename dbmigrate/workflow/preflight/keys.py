"""A key by which every row can be found again."""

from __future__ import annotations

from dbmigrate.domain.schema import Table
from dbmigrate.mysql.identifiers import quote_table
from dbmigrate.mysql.literals import refuse_reason_as_key
from dbmigrate.workflow.preflight.finding import Finding, Severity, Surroundings


def check_keys(s: Surroundings) -> list[Finding]:
    """A primary key, or a unique one over NOT NULL columns, of types that compare exactly."""
    return [
        Finding(
            "keys", Severity.OBSTACLE, str(table.name), _describe(table),
            f"ALTER TABLE {quote_table(table.name)} ADD PRIMARY KEY (...), or list it in [tables] exclude",
        )
        for table in s.tables
        if table.key is None
    ]  # fmt: skip


def _describe(table: Table) -> str:
    primary = next((index for index in table.indexes if index.is_primary), None)
    reasons = [
        reason for name in (primary.columns if primary else ()) if (reason := refuse_reason_as_key(table.column(name)))
    ]
    if reasons:
        return f"its primary key cannot identify rows: {reasons[0]}"
    return "it has no primary key and no unique key over NOT NULL columns"
