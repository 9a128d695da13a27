"""Settings of the target that make the copy slower than it could be."""

from __future__ import annotations

from dataclasses import replace

from dbmigrate.copying.loading import MOST_WAITING_WORKERS, choose_load
from dbmigrate.domain.routes import CarriedColumn, Route
from dbmigrate.domain.schema import Table
from dbmigrate.mysql.bulk_load import LoadPlan, LoadSettings, read_load_settings
from dbmigrate.workflow.preflight.finding import Finding, Severity, Surroundings

MOST_NAMED = 3


def check_speed(s: Surroundings) -> list[Finding]:
    """LOAD DATA, whether loads into one table wait for each other, and whether the binlog repeats statements."""
    settings = read_load_settings(s.target, s.target_version)
    if not settings.is_allowed:
        message = "local_infile is off: rows are copied by INSERT, which costs the target about twice the CPU time of LOAD DATA"
        return [_note(s, message, "SET GLOBAL local_infile = ON for the time of the copy")]
    found = []
    if waiting := _name_what_gains(s, settings, replace(settings, locks_auto_increment=False)):
        found.append(
            _note(
                s, f"innodb_autoinc_lock_mode lets one LOAD DATA at a time into a table with AUTO_INCREMENT ({waiting}): with more "
                f"than {MOST_WAITING_WORKERS} workers their rows are not loaded, but copied by the dearer INSERT or REPLACE",
                "start the target with innodb_autoinc_lock_mode = 2 (fine with binlog_format = ROW), or set [copy] workers = 2",
            )
        )  # fmt: skip
    repeated = _name_what_gains(s, settings, replace(settings, logs_statements=False))
    if repeated and s.target_version.is_mariadb:  # MySQL does not repeat them unless it is told to
        found.append(
            _note(
                s, "the binlog repeats every statement (binlog_annotate_row_events), which the account may not change: rows with "
                f"long fields, or of a table that takes one LOAD DATA at a time ({repeated}), are copied more slowly than by REPLACE",
                "SET GLOBAL binlog_annotate_row_events = OFF for the time of the move, or give the account BINLOG ADMIN",
            )
        )  # fmt: skip
    return found


def _note(s: Surroundings, message: str, remedy: str) -> Finding:
    return Finding("speed", Severity.NOTE, s.target.place, message, remedy)


def _name_what_gains(s: Surroundings, settings: LoadSettings, better: LoadSettings) -> str:
    """The tables that would be copied another way if the settings were better."""

    def choose(table: Table, settings: LoadSettings) -> LoadPlan | None:
        route = Route(table, table, tuple(CarriedColumn(column, column) for column in table.columns), ())
        versions = {"origin": s.source_version, "destination": s.target_version}
        return choose_load(route, settings, **versions, workers=s.config.copy_.workers)

    names = [table.name.name for table in s.tables if choose(table, settings) != choose(table, better)]
    return ", ".join(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")
