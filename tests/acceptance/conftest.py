"""The program as a user runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from moves import Move


@pytest.fixture
def move_factory(tmp_path: Path) -> Iterator[Callable[..., Move]]:
    """``move_factory(pair, **write arguments)``: a migration of a pair of databases, written to a file."""
    moves: list[Move] = []

    def create(pair: Any, text: str = "", **sections: str) -> Move:
        environment = {
            "SOURCE_PASSWORD": pair.source.server.password,
            "TARGET_PASSWORD": pair.target.server.password,
        }
        move = Move(pair, tmp_path / "dbmigrate.toml", environment)
        move.write(text, **sections)
        moves.append(move)
        return move

    yield create
    for move in moves:
        move.stop_all()
