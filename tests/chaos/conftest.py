"""The shop under load, moved by runners that die."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from databases import Database, Pair
from moves import Move

from dbmigrate.rehearsal.local_servers import LocalServer
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


@pytest.fixture
def build_move(tmp_path: Path) -> Iterator[Callable[..., Move]]:
    """``build_move(source, target, text)``: a small shop on one server of a test's own, to be moved to another."""
    moves: list[Move] = []

    def build(source: LocalServer, target: LocalServer, text: str = AUTO, *, rows: int = 5_000) -> Move:
        pair = Pair(Database(source, "shop"), Database(target, "shop"))
        target.execute("CREATE DATABASE shop CHARACTER SET utf8mb4")
        with source.connect() as connection:
            create_shop(connection, "shop")
            fill_shop(connection, "shop", rows)
        environment = {"SOURCE_PASSWORD": source.password, "TARGET_PASSWORD": target.password}
        move = Move(pair, tmp_path / "dbmigrate.toml", environment)
        move.write(text)
        move.create_application_user()
        moves.append(move)
        return move

    yield build
    for move in moves:
        move.stop_all()
