"""A server that gives every session a ``sql_select_limit``: it cuts results without a word, and a row that is not read again
would be deleted on the other side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from databases import Pair
from moves import Move

TABLES = ("a", "b", "c", "d")


def read_rows(pair: Pair) -> list[tuple[Any, ...]]:
    """All rows of both sides, whatever the limit."""
    text = "SELECT COUNT(*), GROUP_CONCAT(id, ' ', note ORDER BY id SEPARATOR ', ') FROM {}"
    return [tuple(side.execute(text.format(table))[0] for table in TABLES) for side in (pair.source, pair.target)]


@pytest.mark.parametrize("kind", ["mariadb_pair", pytest.param("mysql_pair", marks=pytest.mark.mysql)])
def test_a_servers_limit_of_rows_cuts_nothing(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    pair: Pair = request.getfixturevalue(kind)
    numbers = ", ".join(f"({number}, 'before')" for number in range(1, 13))
    for table in TABLES:
        pair.source.execute(
            f"CREATE TABLE {table} (id INT PRIMARY KEY, note VARCHAR(9))", f"INSERT INTO {table} VALUES {numbers}"
        )
    environment = {"SOURCE_PASSWORD": pair.source.server.password, "TARGET_PASSWORD": pair.target.server.password}
    move = Move(pair, tmp_path / "dbmigrate.toml", environment)
    move.write('[cutover]\napproval = "auto"\nmax_write_pause_seconds = 20.0\n')
    servers = {pair.source.server, pair.target.server}
    for server in servers:
        server.execute("SET GLOBAL sql_select_limit = 2")
    try:
        move.run("run", "--until", "catch_up")
        for table in TABLES:
            pair.source.execute(f"UPDATE {table} SET note = 'after' WHERE id > 3", f"DELETE FROM {table} WHERE id = 12")
        move.run("run", "--until", "cutover")
        here, there = read_rows(pair)
    finally:
        for server in servers:
            server.execute("SET GLOBAL sql_select_limit = DEFAULT")
    assert here == there
    assert [count for count, _ in there] == [11] * len(TABLES)
