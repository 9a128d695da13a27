"""Settings of the target that make the copy slower than it could be."""

from __future__ import annotations

from collections.abc import Iterable

from dbmigrate.copying.loading import MOST_WAITING_WORKERS, choose_load, has_long_fields
from dbmigrate.domain.routes import CarriedColumn, Route
from dbmigrate.domain.schema import Table
from dbmigrate.mysql.bulk_load import LoadSettings, read_load_settings
from dbmigrate.workflow.preflight.finding import Finding, Severity, Surroundings

MOST_NAMED = 3


def check_speed(s: Surroundings) -> list[Finding]:
    """LOAD DATA, whether loads into one table wait for each other, and whether the binlog repeats statements."""
    settings = read_load_settings(s.target, s.target_version)
    if not settings.is_allowed:
        return [
            Finding(
                "speed", Severity.NOTE, s.target.place,
                "local_infile is off: rows are copied by INSERT, which costs the target about twice the CPU time of LOAD DATA",
                "SET GLOBAL local_infile = ON for the time of the copy",
            )
        ]  # fmt: skip
    return [*_find_queues(s, settings), *_find_repeated(s, settings)]


def _find_queues(s: Surroundings, settings: LoadSettings) -> list[Finding]:
    workers = s.config.copy_.workers

    def is_loaded(table: Table, workers: int) -> bool:
        route = Route(table, table, tuple(CarriedColumn(column, column) for column in table.columns), ())
        return choose_load(route, settings, origin=s.source_version, destination=s.target_version, workers=workers) is not None

    waiting = [table for table in s.tables if is_loaded(table, 1) and not is_loaded(table, workers)]
    if not waiting:
        return []
    return [
        Finding(
            "speed", Severity.NOTE, s.target.place,
            f"innodb_autoinc_lock_mode lets one LOAD DATA at a time into a table with AUTO_INCREMENT ({_name(waiting)}): with more "
            f"than {MOST_WAITING_WORKERS} workers their rows are copied by INSERT",
            "start the target with innodb_autoinc_lock_mode = 2 (fine with binlog_format = ROW), or set [copy] workers = 2",
        )
    ]  # fmt: skip


def _find_repeated(s: Surroundings, settings: LoadSettings) -> list[Finding]:
    """Only MariaDB is asked not to repeat them: MySQL does not unless it is told to."""
    long = [table for table in s.tables if has_long_fields(table)]
    if not settings.logs_statements or not s.target_version.is_mariadb or not long:
        return []
    return [
        Finding(
            "speed", Severity.NOTE, s.target.place,
            f"the binlog repeats every statement (binlog_annotate_row_events), which the account may not change: rows with long "
            f"fields ({_name(long)}) are copied by LOAD DATA, which costs the target up to half more CPU time than REPLACE",
            "SET GLOBAL binlog_annotate_row_events = OFF for the time of the move, or give the account BINLOG ADMIN",
        )
    ]  # fmt: skip


def _name(tables: Iterable[Table]) -> str:
    names = [table.name.name for table in tables]
    return ", ".join(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")
