"""Whether everything that will be created on the target can be said in its language."""

from __future__ import annotations

from collections.abc import Callable

from dbmigrate.domain.errors import DbmigrateError
from dbmigrate.mysql.definitions import translate_object, translate_table
from dbmigrate.mysql.fence import GUARD_PREFIX
from dbmigrate.workflow.preflight.finding import Finding, Severity, Surroundings
from dbmigrate.workflow.preflight.reading import read_rows
from dbmigrate.workflow.routing import target_name


def check_definitions(s: Surroundings) -> list[Finding]:
    """Translate every definition and look its collations up on the target."""
    findings: list[Finding] = []
    present = {table.name for table in s.target_schema.tables}
    known = {row[0] for row in read_rows(s.target, "SELECT collation_name FROM information_schema.collations")}
    known |= {row[0] for row in read_rows(s.target, _FULL_NAMES)} if s.target_version.is_mariadb else set()
    for table in s.tables:
        name = target_name(s.config.tables, table.name, s.config.target.schema)
        if name in present:
            continue
        findings += _attempt(
            lambda table=table, name=name: translate_table(  # type: ignore[misc]
                table, source=s.source_version, target=s.target_version, target_name=name
            )
        )
        if s.source_version.flavour is s.target_version.flavour:
            findings += _check_collations(str(table.name), {c.collation for c in table.columns if c.collation}, known)
    for stored in s.source_schema.objects:
        if not stored.name.name.startswith(GUARD_PREFIX):
            findings += _attempt(
                lambda stored=stored: translate_object(  # type: ignore[misc]
                    stored, source=s.source_version, target=s.target_version,
                    source_schema=s.source_schema.name, target_schema=s.config.target.schema,
                )
            )  # fmt: skip
    return findings


_FULL_NAMES = "SELECT full_collation_name FROM information_schema.collation_character_set_applicability"


def _attempt(translate: Callable[[], object]) -> list[Finding]:
    try:
        translated = translate()
    except DbmigrateError as refused:
        return [Finding("definitions", Severity.OBSTACLE, refused.place, refused.message, refused.hint)]
    notes = getattr(translated, "notes", ())
    return [Finding("definitions", Severity.NOTE, str(note).split(":")[0], str(note), "") for note in notes]


def _check_collations(place: str, used: set[str], known: set[str]) -> list[Finding]:
    return [
        Finding(
            "definitions", Severity.OBSTACLE, place, f"the target does not know the collation {collation}",
            "change the column's collation on the source, or create the table on the target by hand",
        )
        for collation in sorted(used - known)
    ]  # fmt: skip
