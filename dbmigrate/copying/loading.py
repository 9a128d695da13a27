"""Which tables are written from bytes, by LOAD DATA or by REPLACE, and which take INSERTs of literals: decided once per run,
from the destination's settings and the width of rows."""

from __future__ import annotations

from dbmigrate.domain.routes import Route
from dbmigrate.mysql.bulk_load import LoadPlan, plan_load, plan_replace
from dbmigrate.mysql.servers import Server

MOST_WAITING_WORKERS = 2
"""Loads that wait for each other still beat INSERTs side by side with so many workers, as reading takes half of the
time; with more, the INSERTs win."""

LEAST_REPLACED_BYTES = 500
"""Of a field, on average: from there on REPLACE costs MariaDB less than LOAD DATA (measured on MariaDB 10.11, CPU of the
target for the same bytes, by LOAD DATA and by REPLACE: fields of 12 bytes 2.4 and 3.1 s, 50 1.9 and 2.2, 200 1.3 and 1.5,
400 1.1 and 1.1; rows of four columns and 2.6 kB 2.7 and 2.2, blobs of 1 MB 3.6 and 2.3). MySQL gains nothing."""


def choose_load(route: Route, origin: Server, destination: Server, *, workers: int) -> LoadPlan | None:
    """The plan by which a table's rows are written from bytes, or None where they are inserted.

    By REPLACE where fields are long and the server's binlog does not repeat the statement. Not loaded where the server does not allow loads (``local_infile``), where a column needs literals, and where loads would
    queue up: ``innodb_autoinc_lock_mode`` other than 2 lets one load at a time into a table with AUTO_INCREMENT.
    """
    settings = destination.load_settings
    if destination.version.is_mariadb and not settings.logs_statements and _has_long_fields(route):
        replaced = plan_replace(route, origin=origin.version, destination=destination.version)
        if replaced:
            return replaced
    if not settings.is_allowed:
        return None
    has_counter = any(carried.destination.is_auto_increment for carried in route.columns)
    if has_counter and settings.locks_auto_increment and workers > MOST_WAITING_WORKERS:
        return None
    return plan_load(route, origin=origin.version, destination=destination.version)


def _has_long_fields(route: Route) -> bool:
    table = route.origin
    if not table.estimated_rows:
        return False
    return table.data_bytes / table.estimated_rows / len(table.columns) >= LEAST_REPLACED_BYTES
