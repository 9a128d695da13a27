"""Settings of the target that make the copy slower than it could be."""

from __future__ import annotations

from dbmigrate.copying.loading import MOST_WAITING_WORKERS
from dbmigrate.mysql.bulk_load import read_load_settings
from dbmigrate.workflow.preflight.finding import Finding, Severity, Surroundings

MOST_NAMED = 3


def check_speed(s: Surroundings) -> list[Finding]:
    """LOAD DATA, and whether loads into one table wait for each other."""
    found = read_load_settings(s.target, s.target_version)
    if not found.is_allowed:
        return [
            Finding(
                "speed", Severity.NOTE, s.target.place,
                "local_infile is off: rows are copied by INSERT, which costs the target about twice the CPU time of LOAD DATA",
                "SET GLOBAL local_infile = ON for the time of the copy",
            )
        ]  # fmt: skip
    counting = [table.name.name for table in s.tables if any(column.is_auto_increment for column in table.columns)]
    if found.locks_auto_increment and counting and s.config.copy_.workers > MOST_WAITING_WORKERS:
        named = ", ".join(counting[:MOST_NAMED]) + (f" and {len(counting) - MOST_NAMED} more" if len(counting) > MOST_NAMED else "")
        return [
            Finding(
                "speed", Severity.NOTE, s.target.place,
                f"innodb_autoinc_lock_mode lets one LOAD DATA at a time into a table with AUTO_INCREMENT ({named}): with more "
                f"than {MOST_WAITING_WORKERS} workers their rows are copied by INSERT",
                "start the target with innodb_autoinc_lock_mode = 2 (fine with binlog_format = ROW), or set [copy] workers = 2",
            )
        ]  # fmt: skip
    return []
