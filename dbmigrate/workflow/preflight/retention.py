"""Whether the binlog is kept for as long as the copy may take."""

from __future__ import annotations

from dbmigrate.workflow.preflight.finding import Finding, Severity, Surroundings
from dbmigrate.workflow.preflight.reading import read_variables

ASSUMED_BYTES_PER_SECOND = 10 * 1024 * 1024
SAFETY = 2


def estimate_copy_seconds(data_bytes: int) -> int:
    """A cautious guess: ten megabytes a second, twice over."""
    return SAFETY * data_bytes // ASSUMED_BYTES_PER_SECOND


def read_retention_seconds(variables: dict[str, str]) -> int:
    """How long binlogs are kept; 0 means for ever."""
    seconds = variables.get("binlog_expire_logs_seconds")
    if seconds is not None and float(seconds):
        return int(float(seconds))
    return int(float(variables.get("expire_logs_days", "0")) * 86_400)


def check_retention(s: Surroundings) -> list[Finding]:
    """Purged binlogs are survived (verification repairs), but cost a second comparison."""
    kept = read_retention_seconds(read_variables(s.source, ("binlog_expire_logs_seconds", "expire_logs_days")))
    needed = estimate_copy_seconds(sum(table.data_bytes for table in s.tables))
    if kept == 0 or kept >= max(needed, 3600):
        return []
    return [
        Finding(
            "retention", Severity.WARNING, s.source.place,
            f"binlogs are kept for {kept} s, and the copy may take {needed} s (at 10 MB/s, doubled)",
            f"SET GLOBAL binlog_expire_logs_seconds = {max(needed, 3600)}",
        )
    ]  # fmt: skip
