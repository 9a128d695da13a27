"""Which tables are written from bytes, and in which way, and which take literals: decided once per run, from the
destination's settings and the width of rows."""

from __future__ import annotations

from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.domain.routes import Route
from dbmigrate.domain.schema import Table
from dbmigrate.mysql.bulk_load import (
    LoadPlan,
    LoadSettings,
    plan_load,
    plan_parameters,
    plan_placeholders,
    plan_replace,
)

MOST_WAITING_WORKERS = 2
"""Loads that wait for each other still beat INSERTs side by side with so many workers, as reading takes half of the
time; with more, the INSERTs win."""

MOST_LOADED_BYTES = 64
"""Of a row, on average, as InnoDB stores it: such rows MariaDB takes faster by LOAD DATA than as parameters, which cost it
more a row and less a byte (measured on MariaDB 10.11, copies by loads and by parameters: rows of 44 bytes 2.39 and 2.65 s,
of 110 bytes 1.78 and 1.79)."""

LEAST_NAMED_BYTES = 500
"""Of a field, on average: such rows any server takes faster as values of placeholders than by LOAD DATA, which looks at each byte
and costs less a field (measured on MySQL 9.7, servers' CPU time for the same rows: blobs of 1 MB 5.6 s by LOAD DATA and 3.1 so,
of 2.5 kB 4.2 and 3.2, rows of four fields with 2 kB text and 0.6 kB JSON 3.7 and 3.6; nothing shorter was measured)."""


def choose_load(
    route: Route, settings: LoadSettings, *, origin: ServerVersion, destination: ServerVersion, workers: int
) -> LoadPlan | None:
    """The plan by which a table's rows are written from bytes, or None where they are inserted as literals.

    As parameters where the server takes them, unless rows are short and loads do not wait for each other, as they do where
    ``innodb_autoinc_lock_mode`` other than 2 lets one at a time into a table with AUTO_INCREMENT. Elsewhere as values of
    placeholders, where fields are long; by LOAD DATA, where ``local_infile`` allows it; by REPLACE where loads would queue up,
    if the server's binlog does not repeat the statement.
    """
    versions = {"origin": origin, "destination": destination}
    counts = any(carried.destination.is_auto_increment for carried in route.columns)
    waiting = workers if counts and settings.locks_auto_increment else 1
    loads_short = settings.is_allowed and waiting == 1 and has_short_rows(route.origin)
    if settings.takes_parameters and not loads_short and (given := plan_parameters(route, **versions)):
        return given
    if not settings.takes_parameters and has_long_fields(route.origin) and (named := plan_placeholders(route, **versions)):
        return named
    queues = waiting > MOST_WAITING_WORKERS
    if queues and not settings.logs_statements and (replaced := plan_replace(route, **versions)):
        return replaced
    return plan_load(route, **versions) if settings.is_allowed and not queues else None


def has_short_rows(table: Table) -> bool:
    """Whether its rows are so short, by the server's guess, that LOAD DATA costs MariaDB less than parameters."""
    return bool(table.estimated_rows) and table.data_bytes / table.estimated_rows <= MOST_LOADED_BYTES


def has_long_fields(table: Table) -> bool:
    """Whether its fields are so long, by the server's guess, that LOAD DATA costs more than a placeholder for each."""
    return bool(table.estimated_rows) and table.data_bytes / table.estimated_rows >= LEAST_NAMED_BYTES * len(table.columns)
