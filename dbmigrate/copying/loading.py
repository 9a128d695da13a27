"""Which tables are written from bytes, by LOAD DATA or by REPLACE, and which take literals: decided once per run, from
the destination's settings and the width of rows."""

from __future__ import annotations

from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.domain.routes import Route
from dbmigrate.domain.schema import Table
from dbmigrate.mysql.bulk_load import LoadPlan, LoadSettings, plan_load, plan_replace

MOST_WAITING_WORKERS = 2
"""Loads that wait for each other still beat INSERTs side by side with so many workers, as reading takes half of the
time; with more, the INSERTs win."""

LEAST_REPLACED_BYTES = 500
"""Of a field, on average: from there on REPLACE costs MariaDB less than LOAD DATA (measured on MariaDB 10.11, CPU of the
target for the same bytes, by LOAD DATA and by REPLACE: fields of 12 bytes 2.4 and 3.1 s, 50 1.9 and 2.2, 200 1.3 and 1.5,
400 1.1 and 1.1; rows of four columns and 2.6 kB 2.7 and 2.2, blobs of 1 MB 3.6 and 2.3). MySQL gains nothing."""

PAGE_BYTES = 16 * 1024


def choose_load(
    route: Route, settings: LoadSettings, *, origin: ServerVersion, destination: ServerVersion, workers: int
) -> LoadPlan | None:
    """The plan by which a table's rows are written from bytes, or None where they are inserted as literals.

    By REPLACE where fields are long or loads would queue up, if the server's binlog does not repeat the statement. Loads
    queue up where ``innodb_autoinc_lock_mode`` other than 2 lets one at a time into a table with AUTO_INCREMENT; they are not
    allowed where ``local_infile`` is off.
    """
    versions = {"origin": origin, "destination": destination}
    counts = any(carried.destination.is_auto_increment for carried in route.columns)
    queues = counts and settings.locks_auto_increment and workers > MOST_WAITING_WORKERS
    is_long = destination.is_mariadb and has_long_fields(route.origin)
    if (queues or is_long) and not settings.logs_statements and (replaced := plan_replace(route, **versions)):
        return replaced
    return plan_load(route, **versions) if settings.is_allowed and not queues else None


def has_long_fields(table: Table) -> bool:
    """Whether its fields are so long, by the server's guess, that REPLACE costs MariaDB less than LOAD DATA."""
    if not table.estimated_rows:
        return False
    beyond_a_page = table.data_bytes - PAGE_BYTES  # which every table takes, whatever is in it
    return beyond_a_page / table.estimated_rows / len(table.columns) >= LEAST_REPLACED_BYTES
