"""The shop under load, moved by runners that die."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from databases import Database, Pair
from moves import Move

from dbmigrate.config import load_config
from dbmigrate.domain.errors import DbmigrateError
from dbmigrate.domain.flavours import Flavour
from dbmigrate.domain.phases import Phase
from dbmigrate.throwaway.local_servers import LocalServer
from dbmigrate.throwaway.shop import create_shop, fill_shop
from dbmigrate.workflow.migration import Migration, Surroundings
from dbmigrate.workflow.runner import Runner

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
def private_move(
    server_factory: Any, session_server: Any, database_factory: Any, tmp_path: Path
) -> Iterator[Callable[..., Move]]:
    """``private_move(flavour, rows=..., text=..., **options)``: a shop on a source of its own, with these options."""
    moves: list[Move] = []

    def create(flavour: Flavour = Flavour.MARIADB, *, rows: int = 5_000, text: str = AUTO, **options: str) -> Move:
        source = database_factory(server_factory(flavour, **options))
        target = database_factory(session_server(flavour, "target"), source.schema)
        with source.connect() as connection:
            create_shop(connection, source.schema)
            fill_shop(connection, source.schema, rows)
        passwords = {"SOURCE_PASSWORD": source.server.password, "TARGET_PASSWORD": target.server.password}
        move = Move(Pair(source, target), tmp_path / "dbmigrate.toml", passwords)
        move.write(text)
        move.create_application_user()
        moves.append(move)
        return move

    yield create
    for move in moves:
        move.stop_all()


@pytest.fixture
def route(shop_move: Move) -> Callable[[], Any]:
    """Where the shop's writers go now."""
    return shop_move.connect_to_owner


@pytest.fixture
def run_here(monkeypatch: pytest.MonkeyPatch) -> Callable[..., DbmigrateError | None]:
    """``run_here(move, {step: action})``: a run to the cutover in this process, acting once at each step.

    Returns what ended it, None when it came through.
    """

    def run(move: Move, actions: Mapping[str, Callable[[], object]], **options: Any) -> DbmigrateError | None:
        for name, value in move.environment.items():
            monkeypatch.setenv(name, value)
        waiting, lock = dict(actions), threading.Lock()

        def on_step(step: str) -> None:
            with lock:
                action = waiting.pop(step, None)
            if action is not None:
                action()

        migration = Migration(load_config(move.path), around=Surroundings(on_step=on_step))
        try:
            Runner(migration, until=Phase.CUTOVER, assume_yes=True, **options).run()
        except DbmigrateError as failure:
            return failure
        finally:
            migration.close()
        assert not waiting, f"never passed {list(waiting)}"
        return None

    return run


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
