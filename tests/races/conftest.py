"""Races at step points: with plain servers, and once more with every commit visible late."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from databases import Pair
from fake_replica import open_window

from dbmigrate.domain.flavours import Flavour
from dbmigrate.workflow import runner

from .racing import CHUNK_ROWS, DELAY_SECONDS, LatePair, Race

WINDOWS = (
    pytest.param("mariadb", id="mariadb"),
    pytest.param("mariadb-late", id="mariadb-late", marks=pytest.mark.slow),
    pytest.param("mysql-late", id="mysql-late", marks=[pytest.mark.mysql, pytest.mark.slow]),
)

FILL = (
    "CREATE TABLE item (id INT PRIMARY KEY, code VARCHAR(20) NOT NULL, note VARCHAR(60), UNIQUE KEY (code))",
    # Every second id is free, so that keys can move and rows can come anywhere.
    "INSERT INTO item SELECT 2 * n.n, CONCAT('c', 2 * n.n), CONCAT('note ', 2 * n.n) FROM (SELECT a.d + 10 * b.d + "
    "100 * c.d + 1 AS n FROM digit a, digit b, digit c) n WHERE n.n <= 200",
)
DIGITS = (
    "CREATE TABLE digit (d INT PRIMARY KEY)",
    "INSERT INTO digit VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)",
)


@pytest.fixture(params=WINDOWS)
def window_pair(request: pytest.FixtureRequest, pair_factory: Callable[..., Pair]) -> Iterator[Pair]:
    """Two servers of one flavour; ``late``: a commit of the owner is in the binlog before plain reads see it."""
    name, _, late = request.param.partition("-")
    flavour = Flavour[name.upper()]
    pair = pair_factory(flavour, flavour)
    if not late:
        yield pair
        return
    with open_window(pair.source.server, delay_seconds=DELAY_SECONDS):
        yield LatePair(pair.source, pair.target)


@pytest.fixture
def race_factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Race]:
    """``race_factory(pair, **cutover)``: 200 rows of ``item`` on the source, in chunks of 50, and a configuration."""
    monkeypatch.setattr("dbmigrate.copying.sizing.FIRST_ROWS", CHUNK_ROWS)
    monkeypatch.setattr("dbmigrate.copying.sizing.MOST_ROWS", CHUNK_ROWS)
    monkeypatch.setattr(runner, "KEEPER_SECONDS", 0.05)

    def create(pair: Pair, *statements: str, **cutover: Any) -> Race:
        pair.source.execute("SET SESSION sql_log_bin = 0", *DIGITS, *(statements or FILL), "DROP TABLE digit")
        environment = {"SOURCE_PASSWORD": pair.source.server.password, "TARGET_PASSWORD": pair.target.server.password}
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        race = Race(pair, tmp_path / "dbmigrate.toml", environment)
        race.write(**cutover)
        for database in (pair.source, pair.target):
            database.server.create_user("shop_app", "app", f"ALL PRIVILEGES ON `{database.schema}`.*")
        return race

    return create


@pytest.fixture
def race(window_pair: Pair, race_factory: Callable[..., Race]) -> Race:
    """The race of one small table."""
    return race_factory(window_pair)
