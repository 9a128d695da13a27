"""What other tools for this job are known to get wrong, each shown not to happen here.

An event that is read before its row is visible has a suite of its own (tests/races), with the window held open.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from moves import Move

from dbmigrate.config import load_config
from dbmigrate.domain.errors import FatalError
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Side
from dbmigrate.mysql.control import FORMAT_VERSION
from dbmigrate.throwaway.row_comparison import compare
from dbmigrate.workflow.migration import Migration, Surroundings
from dbmigrate.workflow.runner import Runner

Factory = Callable[..., Any]
AUTO = '[cutover]\napproval = "auto"\nmax_write_pause_seconds = 5.0\n'


def _require_equal(pair: Any) -> int:
    with pair.source.connect() as source, pair.target.connect() as target:
        result = compare(source, target, pair.source.schema)
    assert result.differing == 0, result.first
    return result.rows


@pytest.fixture
def run_with(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``run_with(move, on_step, until=...)``: the runner in this process, so that a step can be met."""

    def run(move: Move, on_step: Callable[[str], None], *, until: Phase = Phase.CUTOVER, request: str = "") -> None:
        for name, value in move.environment.items():
            monkeypatch.setenv(name, value)
        migration = Migration(load_config(move.path), around=Surroundings(on_step=on_step))
        try:
            Runner(migration, until=None if request else until, assume_yes=True, request=request).run()
        finally:
            migration.close()

    return run


def test_keys_of_zero_and_below_are_copied_and_streamed(flavour_pair: Any, move_factory: Factory) -> None:
    """pt-archiver, LHM and others walk upwards from 1, or from an unsigned minimum."""
    flavour_pair.source.execute(
        "CREATE TABLE orders (id BIGINT PRIMARY KEY, note VARCHAR(20))",
        "CREATE TABLE pairs (a INT, b INT, PRIMARY KEY (a, b))",
        "INSERT INTO orders VALUES (-9223372036854775808, 'least'), (-1, 'minus'), (0, 'zero'), (9223372036854775807, 'most')",
        "INSERT INTO pairs VALUES (-5, 0), (0, -5), (0, 0), (-2147483648, 2147483647)",
    )
    move = move_factory(flavour_pair, AUTO)
    move.run("run", "--until", "catch_up")
    assert flavour_pair.target.execute("SELECT COUNT(*) FROM orders") == ((4,),)
    flavour_pair.source.execute(
        "SET SESSION sql_mode = CONCAT(@@sql_mode, ',NO_AUTO_VALUE_ON_ZERO')",
        "UPDATE orders SET note = 'changed'", "DELETE FROM orders WHERE id = -1", "INSERT INTO orders VALUES (-2, 'new')",
        "UPDATE pairs SET b = -7 WHERE a = 0 AND b = 0",
    )  # fmt: skip
    move.run("run", "--until", "cutover")
    assert _require_equal(flavour_pair) == 8


def test_an_auto_increment_row_numbered_zero_keeps_its_number(flavour_pair: Any, move_factory: Factory) -> None:
    """Without NO_AUTO_VALUE_ON_ZERO an INSERT of 0 is given the next free number."""
    flavour_pair.source.execute(
        "SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO'",
        "CREATE TABLE orders (id INT AUTO_INCREMENT PRIMARY KEY, note VARCHAR(20))",
        "INSERT INTO orders VALUES (0, 'zero'), (7, 'seven')",
    )
    move = move_factory(flavour_pair, AUTO)
    move.run("run", "--until", "catch_up")
    flavour_pair.source.execute("UPDATE orders SET note = 'still zero' WHERE id = 0")
    move.run("run", "--until", "cutover")
    assert flavour_pair.target.execute("SELECT id, note FROM orders ORDER BY id") == ((0, "still zero"), (7, "seven"))


@pytest.mark.parametrize("moved_to", [-5, 1, 2_500, 1_000_000], ids=["below", "behind", "between", "ahead"])
def test_a_row_not_yet_copied_that_moves_over_the_copy_cursor_is_not_lost(
    moved_to: int, mariadb_pair: Any, move_factory: Factory, run_with: Factory
) -> None:
    """A tool that drops events of keys above its cursor never sees the row again once it is below."""
    mariadb_pair.source.execute(
        "CREATE TABLE orders (id INT PRIMARY KEY, note VARCHAR(200))",
        "INSERT INTO orders SELECT seq * 2, REPEAT('x', 200) FROM seq_2_to_5000",
    )
    move = move_factory(mariadb_pair, AUTO + "[copy]\nworkers = 1\nmax_chunk_bytes = 65536\n")
    met: list[str] = []

    def on_step(name: str) -> None:
        if name == "copy.chunk.committed" and not met:
            met.append(name)
            mariadb_pair.source.execute(f"UPDATE orders SET id = {moved_to * 2 + 1}, note = 'moved' WHERE id = 9998")

    run_with(move, on_step)
    assert met
    assert mariadb_pair.target.execute("SELECT id FROM orders WHERE note = 'moved'") == ((moved_to * 2 + 1,),)
    assert _require_equal(mariadb_pair) == 4_999


def test_rows_that_a_unique_key_of_the_target_evicts_are_reported_with_their_keys(
    mariadb_pair: Any, move_factory: Factory
) -> None:
    """INSERT IGNORE drops such rows without a word."""
    mariadb_pair.source.execute(
        "CREATE TABLE orders (id INT PRIMARY KEY, code VARCHAR(20) NOT NULL)",
        "INSERT INTO orders VALUES (1, 'a'), (2, 'b'), (3, 'a'), (4, 'c')",
    )
    mariadb_pair.target.execute("CREATE TABLE orders (id INT PRIMARY KEY, code VARCHAR(20) NOT NULL, UNIQUE KEY (code))")
    move = move_factory(mariadb_pair, AUTO)
    assert "does not exist on the source" in move.run("check").stdout
    result = move.run("run", "--until", "cutover", expect=1)
    assert "orders" in result.stdout + result.stderr
    assert move.read_owner() is Side.SOURCE
    report = json.loads(move.run("verify", "--json", expect=1).stdout)
    (missing,) = {1, 3} - {row[0] for row in mariadb_pair.target.execute("SELECT id FROM orders")}
    assert [(row["table"].endswith(".orders"), row["key"]) for row in report["examples"]] == [(True, str(missing))], report
    assert f".orders key {missing} (" in result.stderr


def test_a_unique_key_of_the_target_that_nothing_violates_is_no_obstacle(mariadb_pair: Any, move_factory: Factory) -> None:
    mariadb_pair.source.execute(
        "CREATE TABLE orders (id INT PRIMARY KEY, code VARCHAR(20) NOT NULL)",
        "INSERT INTO orders VALUES (1, 'a'), (2, 'b')",
    )
    mariadb_pair.target.execute("CREATE TABLE orders (id INT PRIMARY KEY, code VARCHAR(20) NOT NULL, UNIQUE KEY (code))")
    move = move_factory(mariadb_pair, AUTO)
    move.run("run", "--until", "catch_up")
    mariadb_pair.source.execute(
        "UPDATE orders SET code = 'x' WHERE id = 1", "UPDATE orders SET code = 'a' WHERE id = 2",
        "UPDATE orders SET code = 'b' WHERE id = 1",
    )  # fmt: skip
    move.run("run", "--until", "cutover")
    assert _require_equal(mariadb_pair) == 2


def test_a_write_at_the_first_moment_the_target_is_open_comes_back_with_the_revert(
    flavour_pair: Any, move_factory: Factory, run_with: Factory
) -> None:
    """A reverse stream that starts where the target is *after* the switch misses it."""
    flavour_pair.source.execute("CREATE TABLE orders (id INT PRIMARY KEY, note VARCHAR(40))", "INSERT INTO orders VALUES (1, 'a')")
    move = move_factory(flavour_pair, AUTO)
    met: list[str] = []

    def on_step(name: str) -> None:
        if name in ("switch.origin_committed", "switch.destination_committed"):
            met.append(name)
            flavour_pair.target.execute(f"INSERT INTO orders VALUES ({len(met) + 1}, '{name}')")

    run_with(move, on_step)
    assert len(met) == 2
    move.run("revert")
    assert [row[0] for row in flavour_pair.source.execute("SELECT id FROM orders ORDER BY id")] == [1, 2, 3]


@pytest.mark.parametrize("pair", ["mariadb-mariadb", pytest.param("mysql-mysql", marks=pytest.mark.mysql)])
def test_json_keeps_its_text_and_its_numbers(pair: str, request: pytest.FixtureRequest, move_factory: Factory) -> None:
    """A value that passes through a client's JSON or float type comes out rendered anew."""
    both = request.getfixturevalue("mariadb_pair" if pair.startswith("mariadb") else "mysql_pair")
    texts = (
        "1.0", "1e2", "100000000000000000000", "18446744073709551615", "-0.0", "0.1", "1e-10", "123456789.123456789",
        '"\\u00e4"', '"ä"', '"\\/"', '"\\"', '{"b": 1, "a": 2}', '{"a":1,  "b" : [1.50, 2.0]}', "null", '""', "[]", "true",
    )  # fmt: skip
    valid = [text for text in texts if _is_json(text)]
    both.source.execute("CREATE TABLE orders (id INT PRIMARY KEY, attributes JSON NOT NULL)")
    with both.source.connect() as connection, connection.cursor() as cursor:
        for number, text in enumerate(valid):
            cursor.execute("INSERT INTO orders VALUES (%s, %s)", (number, text))
        move = move_factory(both, AUTO)
        move.run("run", "--until", "catch_up")
        for number, text in enumerate(valid):
            cursor.execute("INSERT INTO orders VALUES (%s, %s)", (number + 100, text))
        cursor.execute("UPDATE orders SET attributes = JSON_OBJECT('was', attributes) WHERE id % 2 = 1")
    move.run("run", "--until", "cutover")
    read = "SELECT id, HEX(CAST(attributes AS CHAR)) FROM orders ORDER BY id"
    assert both.target.execute(read) == both.source.execute(read)
    assert len(both.target.execute(read)) == 2 * len(valid)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def test_binary_values_keep_their_padding_as_key_and_as_value(flavour_pair: Any, move_factory: Factory) -> None:
    """The binlog leaves trailing zeros of BINARY out; a key without them finds no row."""
    flavour_pair.source.execute(
        "CREATE TABLE orders (id BINARY(4) PRIMARY KEY, mark BINARY(8), name CHAR(6) CHARACTER SET latin1)",
        "INSERT INTO orders VALUES (X'01000000', X'AA00000000000000', 'a'), (X'00000000', X'0000000000000000', 'b '), "
        "(X'20202020', X'2020202020202020', ''), (X'0000002A', X'00000000000000FF', NULL)",
    )
    move = move_factory(flavour_pair, AUTO)
    move.run("run", "--until", "catch_up")
    flavour_pair.source.execute(
        "UPDATE orders SET mark = X'BB' WHERE id = X'01000000'", "DELETE FROM orders WHERE id = X'00000000'",
        "INSERT INTO orders VALUES (X'02', X'CC', 'new'), (X'0300', X'', 'c')",
        "UPDATE orders SET id = X'0400' WHERE id = X'20202020'",
    )  # fmt: skip
    move.run("run", "--until", "cutover")
    assert _require_equal(flavour_pair) == 5
    assert flavour_pair.target.execute("SELECT HEX(id), HEX(mark) FROM orders WHERE name = 'new'") == (
        ("02000000", "CC00000000000000"),
    )


def test_a_server_that_does_not_find_its_own_rows_by_key_stops_the_verification(
    mariadb_pair: Any, move_factory: Factory, run_with: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MySQL 9.7 does so with ENUM beside another key column: flush and judgement would both see no row, and agree."""
    mariadb_pair.source.execute("CREATE TABLE orders (id INT PRIMARY KEY)", "INSERT INTO orders VALUES (1), (2)")
    monkeypatch.setattr("dbmigrate.verifying.comparing.build_key_digests", lambda half, keys: "SELECT 1, 1 FROM DUAL WHERE 0")
    with pytest.raises(FatalError, match="does not find its own rows by key"):
        run_with(move_factory(mariadb_pair, AUTO), lambda step: None)
    assert mariadb_pair.source.server.execute("SELECT owner FROM _dbmigrate.fence") == (("source",),)


# --- a checkpoint of another version of the program ---------------------------------------------------------------


@pytest.fixture
def begun(mariadb_pair: Any, move_factory: Factory) -> Move:
    """A move that stands behind its copy."""
    mariadb_pair.source.execute(
        "CREATE TABLE orders (id INT PRIMARY KEY, note VARCHAR(20))", "INSERT INTO orders SELECT seq, 'x' FROM seq_1_to_100"
    )
    move: Move = move_factory(mariadb_pair, AUTO)
    move.run("run", "--until", "catch_up")
    return move


@pytest.mark.parametrize("command", [("run",), ("status",), ("verify",), ("revert",), ("abort",), ("approve",)])
def test_control_tables_of_another_version_are_refused_by_name(command: tuple[str, ...], begun: Move) -> None:
    begun.pair.target.server.execute("UPDATE _dbmigrate.migration SET format_version = 7")
    result = begun.run(*command, expect=3)
    assert f"the control tables have format 7, this program reads {FORMAT_VERSION}" in result.stderr
    assert "continue with the version of dbmigrate that started it" in result.stderr
    assert begun.pair.source.server.execute("SELECT owner FROM _dbmigrate.fence") == (("source",),)


def test_control_tables_that_lack_a_column_of_today_are_refused_by_name(begun: Move) -> None:
    begun.pair.target.server.execute(
        "UPDATE _dbmigrate.migration SET format_version = 0", "ALTER TABLE _dbmigrate.migration DROP COLUMN progress"
    )
    assert "have format 0" in begun.run("run", expect=3).stderr


@pytest.mark.parametrize("position", ['{"file": "binlog.000001", "place": 4}', "binlog.000001:4", "{}", ""])
def test_a_checkpoint_that_cannot_be_read_is_refused_and_a_resync_goes_on(position: str, begun: Move) -> None:
    begun.pair.target.server.execute(f"UPDATE _dbmigrate.checkpoint SET position = '{position}'")
    begun.pair.source.execute("UPDATE orders SET note = 'later' WHERE id = 7")
    result = begun.run("run", "--until", "cutover", expect=3)
    assert "the checkpoint of the forward stream cannot be read" in result.stderr
    assert "dbmigrate run --resync" in result.stderr
    begun.run("run", "--until", "cutover", "--resync")
    assert _require_equal(begun.pair) == 100
