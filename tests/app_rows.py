"""What tests of ``dbmigrate.app`` share: the runner's part, played by hand."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from dbmigrate.config import TablesSection
from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.domain.ownership import FenceRow
from dbmigrate.domain.routes import Side
from dbmigrate.mysql.introspection import read_schema
from dbmigrate.mysql.mirror_plan import MirrorPlan, build_mirror_plan
from dbmigrate.workflow.routing import build_forward_routes

ID = "move"


def engine_of(database: Any, **options: Any) -> sa.Engine:
    server = database.server
    url = sa.URL.create(
        "mysql+pymysql", "root", server.password, "127.0.0.1", server.port, database.schema, {"charset": "utf8mb4"}
    )
    return sa.create_engine(url, **options)


def read(database: Any) -> Any:
    connection = database.connect()
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@version, @@version_comment")
        version = ServerVersion.parse(*cursor.fetchone())
    return read_schema(connection, version, database.schema)


def plans_of(pair: Any, **tables: Any) -> dict[str, MirrorPlan]:
    section = TablesSection(**tables)
    routes, problems = build_forward_routes(section, read(pair.source), read(pair.target))
    assert problems == ()
    plans = [build_mirror_plan(route, children=[], has_triggers=False) for route in routes]
    assert [MirrorPlan.from_json(plan.to_json()) for plan in plans] == plans
    return {plan.origin.name: plan for plan in plans}


class FenceRows:
    """Two databases with engines, and what a runner does to their fence rows."""

    def __init__(self, pair: Any) -> None:
        self.pair = pair
        self.databases = {Side.SOURCE: pair.source, Side.TARGET: pair.target}
        self.engines = {side: engine_of(one, pool_size=10) for side, one in self.databases.items()}

    def create_fence(self) -> None:
        for database in self.databases.values():
            database.server.execute(
                "CREATE DATABASE IF NOT EXISTS _dbmigrate",
                "CREATE TABLE IF NOT EXISTS _dbmigrate.fence (migration_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin "
                "NOT NULL PRIMARY KEY, epoch BIGINT NOT NULL, owner VARCHAR(16) NOT NULL, phase VARCHAR(32) NOT NULL, mirror "
                "BOOLEAN NOT NULL DEFAULT 0, read_share DECIMAL(5,2) NOT NULL DEFAULT 0, shadow_share DECIMAL(5,2) NOT NULL "
                "DEFAULT 0)",
            )

    def save(self, side: Side, row: FenceRow) -> None:
        self.databases[side].server.execute(replace_row(row))

    def save_both(self, row: FenceRow) -> None:
        for side in self.databases:
            self.save(side, row)

    def close(self) -> None:
        for engine in self.engines.values():
            engine.dispose()
        for database in self.databases.values():
            database.server.execute("DROP DATABASE IF EXISTS _dbmigrate")


def replace_row(row: FenceRow) -> str:
    """The statement that makes a side's row say this."""
    return (
        f"REPLACE INTO _dbmigrate.fence VALUES ('{ID}', {row.epoch}, '{row.owner.value}', '{row.phase.value}', "
        f"{int(row.mirror)}, {row.read_share}, {row.shadow_share})"
    )


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
