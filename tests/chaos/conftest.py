"""The shop under load, moved by runners that die."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from moves import Move

from dbmigrate.rehearsal.shop import create_shop, fill_shop

AUTO = '[cutover]\napproval = "auto"\nmax_write_pause_seconds = 5.0\nretry_seconds = 0.2\n'


@pytest.fixture
def shop_move(mariadb_pair: Any, tmp_path: Path) -> Iterator[Move]:
    """A small shop on the source, and a configuration that moves it."""
    with mariadb_pair.source.connect() as connection:
        create_shop(connection, mariadb_pair.source.schema)
        fill_shop(connection, mariadb_pair.source.schema, 5_000)
    environment = {
        "SOURCE_PASSWORD": mariadb_pair.source.server.password,
        "TARGET_PASSWORD": mariadb_pair.target.server.password,
    }
    move = Move(mariadb_pair, tmp_path / "dbmigrate.toml", environment)
    move.write(AUTO)
    move.create_application_user()
    yield move
    move.stop_all()


@pytest.fixture
def route(shop_move: Move) -> Callable[[], Any]:
    """Where the shop's writers go now."""
    return shop_move.connect_to_owner
