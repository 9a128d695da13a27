"""Which tables a stream writes by LOAD DATA: decided once per stream, from the destination's settings and who else writes.

Apart from the copy's choice because the fears differ: the copy fears loads that queue up behind each other, the stream
the application whose mirrored writes would wait for them.
"""

from __future__ import annotations

from dbmigrate.domain.routes import Route
from dbmigrate.mysql.bulk_load import LoadPlan, plan_load
from dbmigrate.mysql.servers import Server

LEAST_LOADED_KEYS = 100
"""From so many rows on a load costs the destination less than literals (measured on MariaDB 10.11, an order of ten
columns: 10 rows 40 us a row instead of 24, 30 rows 17 instead of 14, 100 rows 5.8 instead of 7.0, 1,000 rows 4.8
instead of 7.5). A load is also asked for its file, one more way to and fro: what matters to small batches is the lag."""


def choose_load(route: Route, origin: Server, destination: Server, *, is_mirrored: bool) -> LoadPlan | None:
    """The plan by which large batches of a table are loaded, or None where all are written as literals.

    Not where the server does not allow loads (``local_infile``) and where a column needs literals. And, while an
    application mirrors its writes to the destination, not where a load would lock the table's AUTO_INCREMENT
    (``innodb_autoinc_lock_mode`` other than 2): a mirror that holds a row would wait for that lock while the load waits
    for the row, which ends in a deadlock that REPLACE does not know.
    """
    settings = destination.load_settings
    if not settings.is_allowed:
        return None
    has_counter = any(carried.destination.is_auto_increment for carried in route.columns)
    if is_mirrored and has_counter and settings.locks_auto_increment:
        return None
    return plan_load(route, origin=origin.version, destination=destination.version)
