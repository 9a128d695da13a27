"""Accounts that write to a read-only server all the same."""

from __future__ import annotations

from dbmigrate.config import FenceKind
from dbmigrate.domain.errors import DbmigrateError
from dbmigrate.workflow.preflight.finding import Finding, Severity, Surroundings
from dbmigrate.workflow.preflight.reading import read_rows

_SYSTEM = frozenset({"root", "mysql", "mariadb.sys", "mysql.sys", "mysql.session", "mysql.infoschema"})


def check_read_only_bypass(s: Surroundings) -> list[Finding]:
    """With fence = "read_only" such an account of the application would write into the old database unnoticed."""
    if s.config.cutover.fence is not FenceKind.READ_ONLY:
        return []
    wanted = ", ".join(f"'{p}'" for p in s.source_version.read_only_bypass_privileges)
    try:
        rows = read_rows(
            s.source,
            f"SELECT DISTINCT grantee FROM information_schema.user_privileges WHERE privilege_type IN ({wanted})",
        )
    except DbmigrateError:
        rows = []
    ours = s.config.source.user
    accounts = [row[0] for row in rows if row[0].split("'")[1] not in {*_SYSTEM, ours}]
    if not accounts:
        return []
    return [
        Finding(
            "read_only_bypass", Severity.WARNING, s.source.place,
            f"read_only does not hold back {', '.join(accounts)}",
            "revoke SUPER, READ ONLY ADMIN or CONNECTION_ADMIN from accounts that the application uses, or set "
            '[cutover] fence = "lock_tables"',
        )
    ]  # fmt: skip
