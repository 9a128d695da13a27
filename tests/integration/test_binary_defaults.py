"""Defaults of binary columns that are text in no charset: MariaDB prints their bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from databases import Pair
from moves import Move

DEFAULTS = {"b": "00ff", "v": "ff275c0a", "w": "e282ac", "z": "2700ff1a0d09"}


@pytest.mark.parametrize("kind", ["mariadb_pair", pytest.param("mysql_pair", marks=pytest.mark.mysql)])
def test_they_arrive_as_they_are(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    pair: Pair = request.getfixturevalue(kind)
    columns = ", ".join(f"{name} VARBINARY(9) DEFAULT x'{value}'" for name, value in DEFAULTS.items())
    pair.source.execute(
        f"CREATE TABLE raw (id INT PRIMARY KEY, {columns}, c BINARY(2) DEFAULT x'00ff', u VARCHAR(9) DEFAULT 'é€')",
        "INSERT INTO raw (id) VALUES (1)",
    )
    environment = {"SOURCE_PASSWORD": pair.source.server.password, "TARGET_PASSWORD": pair.target.server.password}
    move = Move(pair, tmp_path / "dbmigrate.toml", environment)
    move.write()
    move.run("run", "--until", "catch_up")
    pair.target.execute("INSERT INTO raw (id) VALUES (2)")
    names = (*DEFAULTS, "c", "u")
    read = f"SELECT {', '.join(f'HEX({name})' for name in names)} FROM raw ORDER BY id"
    rows: Any = pair.target.execute(read)
    expected = tuple(value.upper() for value in DEFAULTS.values())
    assert [row[:4] for row in rows] == [expected, expected]
    assert rows[0] == rows[1]
