"""Foreign keys that change rows by themselves, and those that lead out of the move."""

from __future__ import annotations

from dbmigrate.domain.schema import ForeignKey
from dbmigrate.workflow.preflight.finding import Finding, Severity, Surroundings


def check_cascades(s: Surroundings) -> list[Finding]:
    """Cascades are handled, and said; what references a table that stays behind is a danger."""
    moving = {table.name: table for table in s.tables}
    findings = []
    cascading = [fk for table in s.tables for fk in table.foreign_keys if fk.is_cascading]
    if cascading and not s.source_version.has_cascade_events:
        findings.append(
            Finding(
                "cascades", Severity.NOTE, s.source.place,
                f"{len(cascading)} foreign keys cascade; {s.source_version} logs no events for the rows they change, so "
                "these are looked up whenever a parent row is deleted or changes its key", "",
            )
        )  # fmt: skip
    for table in s.tables:
        for fk in table.foreign_keys:
            if fk.referenced_table not in moving:
                findings.append(_leads_out(fk))
            elif fk.is_cascading and not _references_key(fk, moving[fk.referenced_table].key_columns):
                findings.append(_beside_key(fk))
    return findings


def _references_key(fk: ForeignKey, key_columns: tuple[object, ...]) -> bool:
    names = {str(getattr(column, "name", "")).casefold() for column in key_columns}
    return names == {name.casefold() for name in fk.referenced_columns}


def _leads_out(fk: ForeignKey) -> Finding:
    return Finding(
        "cascades", Severity.WARNING, str(fk.table),
        f"the foreign key {fk.name} references {fk.referenced_table}, which does not move",
        "include that table, or make sure that it is on the target, filled, before the cutover",
    )  # fmt: skip


def _beside_key(fk: ForeignKey) -> Finding:
    return Finding(
        "cascades", Severity.WARNING, str(fk.table),
        f"the foreign key {fk.name} cascades from columns of {fk.referenced_table} that are not its key; a crash at the "
        "wrong moment can leave such rows to the verification",
        "nothing to do: the verification before the cutover finds them, `dbmigrate verify --repair` mends them",
    )  # fmt: skip
