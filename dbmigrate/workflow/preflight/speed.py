"""Settings of the target that make the copy slower than it could be."""

from __future__ import annotations

from dataclasses import replace

from dbmigrate.copying.loading import MOST_WAITING_WORKERS, choose_load
from dbmigrate.domain.routes import CarriedColumn, Route
from dbmigrate.domain.schema import Table
from dbmigrate.mysql.bulk_load import LoadPlan, LoadSettings, Way, read_load_settings
from dbmigrate.workflow.preflight.finding import Finding, Severity, Surroundings

MOST_NAMED = 3


def check_speed(s: Surroundings) -> list[Finding]:
    """LOAD DATA, and whether loads into one table wait for each other. Neither matters where rows go as
    parameters, to MariaDB, or as values of placeholders, where fields are long."""
    settings = read_load_settings(s.target, s.target_version)
    if inserted := _name_what_gains(s, settings, replace(settings, is_allowed=True)):
        return [
            _note(
                s, f"local_infile is off: rows are copied by INSERT ({inserted}), which costs the target about twice the CPU time "
                "of LOAD DATA", "SET GLOBAL local_infile = ON for the time of the copy",
            )
        ]  # fmt: skip
    if waiting := _name_what_gains(s, settings, replace(settings, locks_auto_increment=False)):
        return [
            _note(
                s, f"innodb_autoinc_lock_mode lets one LOAD DATA at a time into a table with AUTO_INCREMENT ({waiting}): with more "
                f"than {MOST_WAITING_WORKERS} workers their rows are not loaded, but copied by the dearer INSERT or REPLACE",
                "start the target with innodb_autoinc_lock_mode = 2 (fine with binlog_format = ROW), or set [copy] workers = 2",
            )
        ]  # fmt: skip
    return []


def _note(s: Surroundings, message: str, remedy: str) -> Finding:
    return Finding("speed", Severity.NOTE, s.target.place, message, remedy)


def _name_what_gains(s: Surroundings, settings: LoadSettings, better: LoadSettings) -> str:
    """The tables that would be loaded if the settings were better, and are copied in a dearer way; parameters are none."""

    def choose(table: Table, settings: LoadSettings) -> LoadPlan | None:
        route = Route(table, table, tuple(CarriedColumn(column, column) for column in table.columns), ())
        versions = {"origin": s.source_version, "destination": s.target_version}
        return choose_load(route, settings, **versions, workers=s.config.copy_.workers)

    def gains(table: Table) -> bool:
        now, then = choose(table, settings), choose(table, better)
        return now != then and (now is None or now.way not in (Way.PARAMETERS, Way.PLACEHOLDERS))

    names = [table.name.name for table in s.tables if gains(table)]
    return ", ".join(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")
