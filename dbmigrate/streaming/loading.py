"""Which tables a stream writes from bytes, by LOAD DATA or REPLACE: decided once per stream, from the destination's settings
and who else writes.

Apart from the copy's choice because the fears differ: the copy fears loads that queue up behind each other, the stream
the application whose mirrored writes would wait for them.
"""

from __future__ import annotations

from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.domain.routes import Route
from dbmigrate.mysql.bulk_load import LoadPlan, LoadSettings, plan_load, plan_replace

LEAST_LOADED_KEYS = 100
"""From so many rows on a load costs the destination less than literals (measured on MariaDB 10.11, an order of ten
columns: 10 rows 40 us a row instead of 24, 30 rows 17 instead of 14, 100 rows 5.8 instead of 7.0, 1,000 rows 4.8
instead of 7.5). A load is also asked for its file, one more way to and fro: what matters to small batches is the lag."""


def choose_load(
    route: Route, settings: LoadSettings, *, origin: ServerVersion, destination: ServerVersion, is_mirrored: bool
) -> LoadPlan | None:
    """The plan by which large batches of a table are written from bytes, or None where all are written as literals.

    Loads lock a table's AUTO_INCREMENT unless ``innodb_autoinc_lock_mode`` is 2: one of them at a time. Such tables take
    REPLACE where the server's binlog does not repeat the statement. Else they are loaded, but not while an application mirrors
    its writes to the destination: a mirror that holds a row would wait for that lock while the load waits for the row, which
    ends in a deadlock that REPLACE does not know. No table is loaded where the server does not allow it (``local_infile``).
    """
    versions = {"origin": origin, "destination": destination}
    queues = settings.locks_auto_increment and any(carried.destination.is_auto_increment for carried in route.columns)
    if queues and not settings.logs_statements and (replaced := plan_replace(route, **versions)):
        return replaced
    if not settings.is_allowed or (is_mirrored and queues):
        return None
    return plan_load(route, **versions)
