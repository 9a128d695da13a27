"""Which tables a stream writes from bytes, and in which way: decided once per stream, from the destination's settings and
who else writes.

Apart from the copy's choice because the fears differ: the copy fears loads that queue up behind each other, the stream
the application whose mirrored writes would wait for them.
"""

from __future__ import annotations

from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.domain.routes import Route
from dbmigrate.mysql.bulk_load import LoadPlan, LoadSettings, plan_load, plan_parameters, plan_replace

LEAST_LOADED_KEYS = 100
"""From so many rows on a load costs the destination less than literals (measured on MariaDB 10.11, an order of ten
columns: 10 rows 40 us a row instead of 24, 30 rows 17 instead of 14, 100 rows 5.8 instead of 7.0, 1,000 rows 4.8
instead of 7.5). A load is also asked for its file, and parameters for their statement, one more way to and fro: what
matters to small batches is the lag."""


def choose_load(
    route: Route, settings: LoadSettings, *, origin: ServerVersion, destination: ServerVersion, is_mirrored: bool
) -> LoadPlan | None:
    """The plan by which large batches of a table are written from bytes, or None where all are written as literals.

    They are parameters where the server takes them, and loaded elsewhere if it allows that (``local_infile``). But while an
    application mirrors its writes to the destination, no load may lock the table's AUTO_INCREMENT
    (``innodb_autoinc_lock_mode`` other than 2): a mirror that holds a row would wait for that lock while the load waits for the
    row, which ends in a deadlock that REPLACE does not know. Such tables take REPLACE where the server's binlog does not repeat
    the statement.
    """
    versions = {"origin": origin, "destination": destination}
    if settings.takes_parameters and (given := plan_parameters(route, **versions)):
        return given
    queues = settings.locks_auto_increment and any(carried.destination.is_auto_increment for carried in route.columns)
    if is_mirrored and queues:
        return None if settings.logs_statements else plan_replace(route, **versions)
    return plan_load(route, **versions) if settings.is_allowed else None
