"""Room on the target, where it can be seen."""

from __future__ import annotations

from dbmigrate.domain.errors import DbmigrateError
from dbmigrate.workflow.preflight.finding import Finding, Severity, Surroundings
from dbmigrate.workflow.preflight.reading import read_rows, read_variables

BINLOG_FACTOR = 2
"""The copy is written twice: into the tables and into the target's binlog."""


def check_disk(s: Surroundings) -> list[Finding]:
    """Only MariaDB with its DISKS plugin tells; else the need is said."""
    if not s.is_first_run:
        return []
    needed = BINLOG_FACTOR * sum(table.data_bytes + table.index_bytes for table in s.tables)
    free = _read_free_bytes(s) if s.target_version.is_mariadb else None
    if free is None:
        return [
            Finding(
                "disk", Severity.NOTE, s.target.place,
                f"free space cannot be seen; tables and binlog of the copy need about {needed // 2**20 + 1} MiB", "",
            )
        ]  # fmt: skip
    if free < needed:
        return [
            Finding(
                "disk", Severity.OBSTACLE, s.target.place,
                f"{free // 2**20} MiB are free, and tables and binlog of the copy need about {needed // 2**20} MiB",
                "make room on the target's data directory",
            )
        ]  # fmt: skip
    return []


def _read_free_bytes(s: Surroundings) -> int | None:
    try:
        rows = read_rows(s.target, "SELECT path, available FROM information_schema.disks")
    except DbmigrateError:
        return None  # the plugin is not installed, or FILE is not granted
    directory = read_variables(s.target, ["datadir"]).get("datadir", "")
    fitting = [(len(path), int(available)) for path, available in rows if directory.startswith(path)]
    return max(fitting)[1] * 1024 if fitting else None
