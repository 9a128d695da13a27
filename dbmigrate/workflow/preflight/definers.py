"""Accounts that views, routines, triggers and events run as, and whether the target has them."""

from __future__ import annotations

from dbmigrate.domain.errors import DbmigrateError
from dbmigrate.workflow.preflight.finding import Finding, Severity, Surroundings
from dbmigrate.workflow.preflight.reading import read_rows


def check_definers(s: Surroundings) -> list[Finding]:
    """An object whose definer is missing is created, and fails when it is used."""
    used: dict[str, list[str]] = {}
    for stored in s.source_schema.objects:
        if stored.definer:
            used.setdefault(stored.definer, []).append(f"{stored.kind.value} {stored.name.name}")
    if not used:
        return []
    try:
        rows = read_rows(s.target, "SELECT CONCAT(user, '@', host) FROM mysql.user")
    except DbmigrateError:
        return [
            Finding(
                "definers", Severity.NOTE, s.target.place, "whether the definers exist there could not be seen",
                "GRANT SELECT ON mysql.user, or make sure that these exist: " + ", ".join(sorted(used)),
            )
        ]  # fmt: skip
    known = {row[0] for row in rows}
    return [
        Finding(
            "definers", Severity.WARNING, s.target.place,
            f"the account {definer} does not exist there; it is the definer of {', '.join(objects[:3])}"
            + (f" and {len(objects) - 3} more" if len(objects) > 3 else ""),
            f"CREATE USER {_quote(definer)} ...; with the grants it has on the source",
        )
        for definer, objects in sorted(used.items())
        if definer not in known
    ]  # fmt: skip


def _quote(account: str) -> str:
    user, _, host = account.rpartition("@")
    return f"'{user}'@'{host}'"
