"""Which tables are loaded by LOAD DATA, and which take INSERTs: decided once per run, from the destination's settings."""

from __future__ import annotations

from dbmigrate.domain.routes import Route
from dbmigrate.mysql.bulk_load import LoadPlan, plan_load
from dbmigrate.mysql.servers import Server

MOST_WAITING_WORKERS = 2
"""Loads that wait for each other still beat INSERTs side by side with so many workers, as reading takes half of the
time; with more, the INSERTs win."""


def choose_load(route: Route, origin: Server, destination: Server, *, workers: int) -> LoadPlan | None:
    """The plan by which a table's rows are loaded, or None where they are inserted.

    Not where the server does not allow loads (``local_infile``), where a column needs literals, and where loads would
    queue up: ``innodb_autoinc_lock_mode`` other than 2 lets one load at a time into a table with AUTO_INCREMENT.
    """
    settings = destination.load_settings
    if not settings.is_allowed:
        return None
    has_counter = any(carried.destination.is_auto_increment for carried in route.columns)
    if has_counter and settings.locks_auto_increment and workers > MOST_WAITING_WORKERS:
        return None
    return plan_load(route, origin=origin.version, destination=destination.version)
