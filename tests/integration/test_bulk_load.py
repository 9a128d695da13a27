"""Rows written from their bytes, as parameters, by LOAD DATA LOCAL and by REPLACE: no file is ever read, a changed value is an
error, and literals do where none of them may be used."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from databases import Database, Pair
from exact_sessions import open_data_session
from hiding_proxy import HidingProxy
from moves import Move
from plannings import PLANNINGS

from dbmigrate.copying.loading import choose_load
from dbmigrate.domain.errors import DbmigrateError, FatalError
from dbmigrate.domain.flavours import Flavour
from dbmigrate.domain.routes import CarriedColumn, Route
from dbmigrate.domain.schema import Table, TableName
from dbmigrate.mysql.bulk_load import LoadPlan, LoadSettings, Way, plan_load
from dbmigrate.mysql.faults import ConnectionLostError
from dbmigrate.mysql.introspection import read_server_version, read_table
from dbmigrate.mysql.key_predicates import KeyRange
from dbmigrate.mysql.transfer import (
    FEW_ROWS,
    ResultCutError,
    StreamedRows,
    load_rows,
    read_few,
    read_keys,
    read_range,
    write_rows,
)
from dbmigrate.streaming import loading
from dbmigrate.throwaway.local_servers import LocalServer

PACKET = 1 << 25


class Side:
    """One side of a pair, as the data path sees it, and how rows are written to it."""

    def __init__(self, database: Any, planning: Callable[..., LoadPlan | None] = plan_load) -> None:
        self.database, self.planning = database, planning
        self.session = open_data_session(database)
        self.version = read_server_version(self.session.driver_connection)

    def read_table(self, name: str = "t") -> Table:
        with self.database.connect() as connection:
            return read_table(connection, self.version, TableName(self.database.schema, name))


WAYS = [
    pytest.param(pair, planning, id=f"{way.value}-{pair}", marks=pytest.mark.mysql if "mysql" in pair else ())
    for way, planning in PLANNINGS.items()
    for pair in ("mariadb-mariadb", "mysql-mysql", "mariadb-mysql", "mysql-mariadb")
    if way is not Way.PARAMETERS or pair.endswith("-mariadb")
]


@pytest.fixture
def sides(
    pair: str, planning: Callable[..., LoadPlan | None], pair_factory: Callable[..., Pair]
) -> Iterator[tuple[Side, Side]]:
    databases = pair_factory(*(Flavour[name.upper()] for name in pair.split("-")))
    both = Side(databases.source), Side(databases.target, planning)
    yield both
    for side in both:
        side.session.close()


def plan(origin: Side, destination: Side) -> tuple[Route, LoadPlan]:
    here, there = origin.read_table(), destination.read_table()
    columns = tuple(CarriedColumn(b, a) for a, b in zip(here.columns, there.columns, strict=True))
    route = Route(here, there, columns, (there.columns[0].name,))
    found = destination.planning(route, origin=origin.version, destination=destination.version)
    assert found is not None
    return route, found


def move_rows(origin: Side, destination: Side) -> None:
    route, found = plan(origin, destination)
    rows = StreamedRows(origin.session, route, KeyRange(), found)
    with destination.session.transaction():
        load_rows(destination.session, route, [rows], found, max_packet_bytes=PACKET)


@pytest.mark.parametrize(("pair", "planning"), WAYS)
def test_rows_in_the_way_are_replaced_and_others_stay(sides: tuple[Side, Side]) -> None:
    origin, destination = sides
    for side in sides:
        side.database.execute("CREATE TABLE t (id INT PRIMARY KEY, code CHAR(3), UNIQUE KEY code (code))")
    origin.database.execute("INSERT INTO t VALUES (1, 'new'), (2, 'two')")
    destination.database.execute("INSERT INTO t VALUES (1, 'old'), (7, 'two'), (8, 'own')")
    move_rows(origin, destination)
    assert destination.database.execute("SELECT id, code FROM t ORDER BY id") == ((1, "new"), (2, "two"), (8, "own"))


@pytest.mark.parametrize(("pair", "planning"), WAYS)
def test_text_that_looks_like_the_format_arrives_as_it_is(sides: tuple[Side, Side]) -> None:
    origin, destination = sides
    for side in sides:
        side.database.execute("CREATE TABLE t (id INT PRIMARY KEY, a VARCHAR(40), b VARBINARY(40)) DEFAULT CHARSET utf8mb4")
    texts = ["),(", "'),('", "NULL", "'NULL'", "\\N", "\\", "\n", "\t),\n(", "\0\x1a", "), ", "(1,'", '"', "grüße 🙂"]
    with origin.database.connect() as connection, connection.cursor() as cursor:
        cursor.executemany("INSERT INTO t VALUES (%s, %s, %s)", [(n, t, t.encode()) for n, t in enumerate(texts)])
        cursor.execute("INSERT INTO t VALUES (100, NULL, NULL), (101, '', ''), (102, 'x', X'FF00275C1A0A')")
        connection.commit()
    move_rows(origin, destination)
    asked = "SELECT id, HEX(a), HEX(b), a IS NULL FROM t ORDER BY id"
    assert destination.database.execute(asked) == origin.database.execute(asked)


@pytest.mark.parametrize(
    ("column", "value"),
    [("CHAR(2)", "'abc'"), ("TINYINT", "300"), ("ENUM('a')", "'b'"), ("INT NOT NULL", "NULL"), ("DATE", "'2026-02-30'")],
    ids=["too long", "out of range", "no member", "null", "no date"],
)
@pytest.mark.parametrize(("pair", "planning"), WAYS)
def test_a_value_that_would_change_is_an_error_and_nothing_is_written(
    sides: tuple[Side, Side], column: str, value: str
) -> None:
    """LOCAL makes warnings of errors; here they are errors again."""
    origin, destination = sides
    origin.database.execute("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))", f"INSERT INTO t VALUES (1, 'a'), (2, {value})")
    destination.database.execute(f"CREATE TABLE t (id INT PRIMARY KEY, v {column})")
    if column == "DATE":  # the data session keeps such dates as they are
        destination.session.execute("SET sql_mode = 'STRICT_ALL_TABLES'")
    here, there = origin.read_table(), destination.read_table()
    route = Route(here, there, (CarriedColumn(there.columns[0], here.columns[0]), CarriedColumn(there.columns[1], here.columns[1])), ("id",))
    found = destination.planning(route, origin=origin.version, destination=destination.version)
    assert found is not None
    origin.database.execute("DELETE FROM t WHERE id = 1")
    rows = StreamedRows(origin.session, route, KeyRange(), found)
    destination.session.execute("START TRANSACTION")
    with pytest.raises(DbmigrateError):
        load_rows(destination.session, route, [rows], found, max_packet_bytes=PACKET)
    destination.session.execute("ROLLBACK")
    assert destination.database.execute("SELECT COUNT(*) FROM t") == ((0,),)


@pytest.mark.parametrize(("pair", "planning"), WAYS)
def test_no_server_can_make_the_program_read_a_file(sides: tuple[Side, Side], tmp_path: Path) -> None:
    """A server may ask for a file in answer to any statement; only a load answers, and with its own rows."""
    secret = tmp_path / "secret.txt"
    secret.write_text("1\n")
    _, destination = sides
    destination.database.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    with pytest.raises(RuntimeError, match="local_infile option is false"):
        destination.session.execute(f"LOAD DATA LOCAL INFILE '{secret}' INTO TABLE t")
    assert destination.session.is_broken
    assert destination.database.execute("SELECT COUNT(*) FROM t") == ((0,),)


@pytest.mark.parametrize(("pair", "planning"), WAYS)
def test_a_statement_that_loads_nothing_ends_the_session(sides: tuple[Side, Side]) -> None:
    session = sides[1].session
    with pytest.raises(FatalError, match="asked for no rows"):
        session.load("DO 1", (b"x",), doing="a load")
    assert session.is_broken


@pytest.mark.parametrize(("pair", "planning"), WAYS)
def test_a_refused_load_names_the_table_and_leaves_the_session_usable(sides: tuple[Side, Side]) -> None:
    session = sides[1].session
    with pytest.raises(DbmigrateError, match="loading rows of nowhere"):
        session.load("LOAD DATA LOCAL INFILE 'dbmigrate' INTO TABLE nowhere", (b"x",), doing="loading rows of nowhere")
    assert session.fetch_value("SELECT 1") == b"1"


@pytest.mark.parametrize(("pair", "planning"), WAYS)
def test_more_than_the_targets_packet_is_asked_for_again_in_less(sides: tuple[Side, Side]) -> None:
    """The load would take it, and no client could read the row again."""
    origin, destination = sides
    for side in sides:
        side.database.execute("CREATE TABLE t (id INT PRIMARY KEY, v TEXT)")
    origin.database.execute("INSERT INTO t VALUES (1, REPEAT('x', 5000))")
    route, found = plan(origin, destination)
    rows = StreamedRows(origin.session, route, KeyRange(), found)
    with pytest.raises(ResultCutError):
        load_rows(destination.session, route, [rows], found, max_packet_bytes=4096)


@pytest.mark.parametrize("planning", [pytest.param(plan_load, id="loaded"), pytest.param(None, id="literals")])
def test_a_row_larger_than_the_sources_packet_is_never_left_out(
    planning: Callable[..., LoadPlan | None] | None, server_factory: Callable[..., LocalServer]
) -> None:
    """However it is asked for: among few rows, which are read one by one, or among many."""
    server = server_factory(max_allowed_packet="1M")
    server.execute("CREATE DATABASE shop")
    server.execute("CREATE TABLE shop.t (id INT PRIMARY KEY, v LONGTEXT, w LONGTEXT)")
    server.execute("INSERT INTO shop.t VALUES (1, 'x', ''), (2, REPEAT('y', 700000), REPEAT('z', 700000)), (3, 'z', '')")
    side = Side(Database(server, "shop"))
    table = side.read_table()
    route = Route(table, table, tuple(CarriedColumn(column, column) for column in table.columns), ("id",))
    found = planning(route, origin=side.version, destination=side.version) if planning else None
    with contextlib.closing(side.session) as session:
        assert read_few(session, route, KeyRange(b"2"), found).count == 1
        assert read_keys(session, route, [b"1", b"3", b"9"], plan=found).count == 2
        for read in (
            lambda: read_few(session, route, KeyRange(), found),
            lambda: read_keys(session, route, [b"2"], plan=found),
            lambda: read_keys(session, route, [b"%d" % key for key in range(FEW_ROWS + 1)], plan=found),
        ):
            with pytest.raises(ResultCutError):
                read()


@pytest.mark.parametrize(("pair", "planning"), WAYS)
def test_each_piece_is_asked_for_when_the_one_before_was_sent(sides: tuple[Side, Side]) -> None:
    origin, destination = sides
    for side in sides:
        side.database.execute("CREATE TABLE t (id INT PRIMARY KEY, v VARBINARY(20))")
    origin.database.execute("INSERT INTO t VALUES (1, 'one'), (2, 'two'), (3, NULL), (7, 'seven')")
    route, found = plan(origin, destination)
    asked: list[bytes] = []
    unanswered: list[bool] = []

    def read() -> Iterator[StreamedRows]:
        for lower, upper in pairwise((b"0", b"2", b"3", b"6", b"9")):
            asked.append(upper)
            unanswered.append(destination.session.is_broken)  # so it counts while a statement is under way
            yield StreamedRows(origin.session, route, KeyRange(lower, upper), found)

    with destination.session.transaction():
        load_rows(destination.session, route, read(), found, max_packet_bytes=PACKET)
        assert asked == [b"2", b"3", b"6", b"9"]
        assert unanswered == [False, *[found.way is not Way.LOAD_DATA] * 3]
        assert destination.database.execute("SELECT COUNT(*) FROM t") == ((0,),)
    assert destination.database.execute("SELECT id, v FROM t ORDER BY id") == origin.database.execute("SELECT id, v FROM t ORDER BY id")


@pytest.mark.parametrize(("pair", "planning"), WAYS)
def test_no_rows_in_any_piece_ask_the_destination_for_nothing(sides: tuple[Side, Side]) -> None:
    origin, destination = sides
    for side in sides:
        side.database.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    route, found = plan(origin, destination)
    destination.database.execute("DROP TABLE t")
    pieces = (StreamedRows(origin.session, route, KeyRange(), found) for _ in range(2))
    load_rows(destination.session, route, pieces, found, max_packet_bytes=PACKET)


@pytest.mark.parametrize("failing", ["cut by the server", "larger than the packet", "the origin is gone"])
@pytest.mark.parametrize(("pair", "planning"), WAYS)
def test_nothing_stays_of_a_load_whose_later_piece_fails(sides: tuple[Side, Side], failing: str) -> None:
    """And the session is not used again: the server would take what it was sent for the whole."""
    origin, destination = sides
    for side in sides:
        side.database.execute("CREATE TABLE t (id INT PRIMARY KEY, v MEDIUMTEXT)")
    origin.database.execute("INSERT INTO t VALUES (1, 'small'), (2, REPEAT('x', 200000)), (3, REPEAT('y', 200000))")
    route, found = plan(origin, destination)
    number = origin.session.connection_id

    def read() -> Iterator[StreamedRows]:
        yield StreamedRows(origin.session, route, KeyRange(None, b"1"), found)
        if failing == "cut by the server":
            origin.session.execute("SET group_concat_max_len = 250000")
        if failing == "the origin is gone":
            origin.database.execute(f"KILL {number}")
        yield StreamedRows(origin.session, route, KeyRange(b"1"), found)

    most = 300_000 if failing == "larger than the packet" else PACKET
    with pytest.raises((ResultCutError, DbmigrateError)) as caught, destination.session.transaction():
        load_rows(destination.session, route, read(), found, max_packet_bytes=most)
    assert isinstance(caught.value, ConnectionLostError if failing == "the origin is gone" else ResultCutError)
    assert destination.session.is_broken
    destination.session.close()
    assert destination.database.execute("SELECT COUNT(*) FROM t") == ((0,),)


@pytest.mark.parametrize(("pair", "planning"), WAYS)
@pytest.mark.parametrize(
    ("before", "after", "values"),
    [
        ("DOUBLE", "VARCHAR(40)", "0.5|-1e-5|3e200|123456.7"),
        ("FLOAT", "DOUBLE", "0.1|-3e30"),
        ("DOUBLE", "DECIMAL(20,6)", "0.5|-123456.25"),
        ("INT", "VARCHAR(20)", "-7|0|2147483647"),
        ("INT(255) ZEROFILL", "VARCHAR(255)", "7|4294967295"),
        ("DOUBLE(20,6)", "VARCHAR(300)", "0.5|1e10"),
        ("DOUBLE(255,30)", "DOUBLE", "0.5|1e220"),
        ("VARCHAR(20)", "INT", "'7'|' -12'|'007'"),
        ("ENUM('a', 'öh')", "VARCHAR(10)", "'a'|'öh'"),
        ("DATETIME(6)", "VARCHAR(30)", "'2026-02-03 04:05:06.7'|'1000-01-01'"),
        ("VARBINARY(9)", "BLOB", "''|X'00FF5C27'"),
        ("TEXT CHARACTER SET latin1", "MEDIUMTEXT CHARACTER SET utf8mb4", "''|REPEAT('ÿ', 60000)"),
    ],
    ids=lambda value: value.split("(")[0].split(" ")[0],
)
def test_values_of_a_column_whose_type_changes_are_those_of_literals(
    before: str, after: str, values: str, sides: tuple[Side, Side]
) -> None:
    origin, destination = sides
    origin.database.execute(f"CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, v {before})")
    origin.database.execute(*(f"INSERT INTO t (v) VALUES ({value})" for value in [*values.split("|"), "NULL"]))
    destination.database.execute(f"CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, v {after})")
    here, there = origin.read_table(), destination.read_table()
    columns = tuple(CarriedColumn(b, a) for a, b in zip(here.columns, there.columns, strict=True))
    route = Route(here, there, columns, ("id",))
    found = destination.planning(route, origin=origin.version, destination=destination.version)
    asked = "SELECT id, HEX(v), v IS NULL FROM t ORDER BY id"
    with destination.session.transaction():
        write_rows(destination.session, route, read_range(origin.session, route, KeyRange()), max_packet_bytes=PACKET)
    expected = destination.database.execute(asked)
    if found is None:
        return
    destination.database.execute("TRUNCATE TABLE t")
    move_rows(origin, destination)
    assert destination.database.execute(asked) == expected


@pytest.mark.parametrize(
    "planning", [pytest.param(planning, id=way.value) for way, planning in PLANNINGS.items() if way is not Way.LOAD_DATA]
)
@pytest.mark.parametrize("off", [-1, 0, 1])
def test_a_statement_of_about_one_packet_arrives_whole(
    mariadb_pair: Pair, off: int, planning: Callable[..., LoadPlan | None]
) -> None:
    """A packet that is full is followed by another, also where nothing is left for it."""
    origin, destination = Side(mariadb_pair.source), Side(mariadb_pair.target, planning)
    for side in (origin, destination):
        side.database.execute("CREATE TABLE t (id INT PRIMARY KEY, v LONGBLOB)")
    _, found = plan(origin, destination)
    around = {
        Way.REPLACE: len(found.statement) + len("('1','')"),
        # number of the statement, what is sent, two types; 1 and its length; the length of the value and what says so
        Way.PARAMETERS: 4 + 2 + 2 * 2 + len("\0\0" "1") + 2 + 8,
        # its number, no cursor and once; one byte of bits, three types; 1, as the value may be NULL, and all lengths
        Way.PLACEHOLDERS: 4 + 1 + 4 + 1 + 1 + 3 * 2 + len("\0" "1") + len("\0" "1") + 1 + 8,
    }[found.way]
    length = 0xFFFFFF + off - 1 - around  # one byte is the command
    origin.database.execute(f"INSERT INTO t VALUES (1, REPEAT('x', {length}))")
    move_rows(origin, destination)
    asked = "SELECT id, LENGTH(v), MD5(v) FROM t"
    assert destination.database.execute(asked) == origin.database.execute(asked)
    origin.session.close()
    destination.session.close()


@pytest.mark.parametrize(("pair", "planning"), [case for case in WAYS if PLANNINGS[Way.REPLACE] not in case.values])
@pytest.mark.parametrize("length", [60, 300, 70_000, 17_000_000])
def test_fields_of_any_length_arrive(sides: tuple[Side, Side], length: int) -> None:
    """Beside each other, as one is taken for the next where a length is wrong."""
    origin, destination = sides
    for side in sides:
        side.database.execute("CREATE TABLE t (id INT PRIMARY KEY, b LONGBLOB, c LONGTEXT NOT NULL, j JSON, d LONGTEXT CHARACTER SET latin1)")
    origin.session.execute("SET group_concat_max_len = 1073741824")
    origin.database.execute(
        f"INSERT INTO t VALUES (1, REPEAT('b', {length}), REPEAT('c', {length + 1}), CONCAT('\"', REPEAT('j', {length}), '\"'), 'ü')",
        f"INSERT INTO t VALUES (2, NULL, REPEAT('ü', {length // 2}), NULL, REPEAT('ü', {length // 2 + 1})), (3, '', '', '0', NULL)",
    )
    route, found = plan(origin, destination)
    with destination.session.transaction():
        for lower, upper in ((None, b"1"), (b"1", None)):
            rows = StreamedRows(origin.session, route, KeyRange(lower, upper), found)
            load_rows(destination.session, route, [rows], found, max_packet_bytes=1 << 30)
    hashed = ", ".join(f"LENGTH({name}), SHA2({name}, 256)" for name in "bcjd")
    asked = f"SELECT id, {hashed} FROM t ORDER BY id"
    assert destination.database.execute(asked) == origin.database.execute(asked)


@pytest.mark.parametrize(("pair", "planning"), [case for case in WAYS if PLANNINGS[Way.PLACEHOLDERS] in case.values])
def test_more_rows_than_a_statement_can_name_are_asked_for_again_in_less(sides: tuple[Side, Side]) -> None:
    origin, destination = sides
    for side in sides:
        side.database.execute("CREATE TABLE t (id INT PRIMARY KEY, v INT)")
    origin.database.execute(
        "INSERT INTO t WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 900) SELECT n, NULLIF(n % 5, 0) FROM n",
        *(f"INSERT INTO t SELECT id + {900 * factor}, v FROM t WHERE id <= {900 * factor}" for factor in (1, 2, 4, 8, 16)),
    )
    route, found = plan(origin, destination)
    most = found.most_rows
    assert most == 65_535 // 3

    def move(rows: int) -> None:
        piece = StreamedRows(origin.session, route, KeyRange(None, str(rows).encode()), found)
        load_rows(destination.session, route, [piece], found, max_packet_bytes=PACKET)

    with pytest.raises(ResultCutError):
        move(most + 1)
    origin.session.close()
    origin.session = open_data_session(origin.database)
    move(most)
    asked = f"SELECT COUNT(*), SUM(v), SUM(v IS NULL) FROM t WHERE id <= {most}"
    assert destination.database.execute(asked) == origin.database.execute(asked)


@pytest.mark.parametrize(("pair", "planning"), WAYS)
def test_after_a_replace_literals_have_their_character_set_again(sides: tuple[Side, Side]) -> None:
    origin, destination = sides
    for side in sides:
        side.database.execute("CREATE TABLE t (id INT PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    asked = "SELECT CONCAT_WS(',', @@character_set_client, @@collation_connection, @@character_set_results), CHARSET('x')"
    before = destination.session.execute(asked).rows
    move_rows(origin, destination)
    assert destination.session.execute(asked).rows == before


TABLES = (
    "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, v INT)", "CREATE TABLE p (id INT PRIMARY KEY, g POINT)",
    "CREATE TABLE u (id INT PRIMARY KEY)", "CREATE TABLE old (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(9) CHARACTER SET latin1)",
    "CREATE TABLE short (id INT AUTO_INCREMENT PRIMARY KEY, v INT)", "INSERT INTO short VALUES (1, 1)",
    *["INSERT INTO short (v) SELECT v FROM short"] * 12,
    "CREATE TABLE wide (id INT AUTO_INCREMENT PRIMARY KEY, v BLOB)", "INSERT INTO wide VALUES (1, REPEAT('x', 4000))",
    *["INSERT INTO wide (v) SELECT v FROM wide"] * 8,
)  # fmt: skip


def choosing(side: Side, choose: Callable[..., LoadPlan | None]) -> Callable[..., Way | None]:
    """How a table is written, by its name and a server's settings."""
    side.database.execute(*TABLES, "ANALYZE TABLE short, wide")

    def ask(
        name: str, *, is_allowed: bool = True, locks: bool = True, logs: bool = True, takes: bool = False, **options: Any
    ) -> Way | None:
        table = side.read_table(name)
        route = Route(table, table, tuple(CarriedColumn(c, c) for c in table.columns), ("id",))
        settings = LoadSettings(is_allowed, locks, logs, takes)
        found = choose(route, settings, origin=side.version, destination=side.version, **options)
        return found.way if found else None

    return ask


def test_how_tables_are_copied(flavour_pair: Pair) -> None:
    side = Side(flavour_pair.source)
    ask = choosing(side, choose_load)
    assert ask("t", workers=2) is Way.LOAD_DATA
    assert ask("t", workers=4) is None
    assert ask("t", workers=4, logs=False) is Way.REPLACE
    assert ask("old", workers=4, logs=False) is None
    assert ask("t", workers=4, locks=False) is Way.LOAD_DATA
    assert ask("t", workers=2, is_allowed=False) is None
    assert ask("p", workers=1) is None
    assert ask("t", workers=1, takes=True) is Way.PARAMETERS
    assert ask("p", workers=1, takes=True) is None
    assert ask("short", workers=1, takes=True) is Way.LOAD_DATA
    assert ask("short", workers=2, takes=True, locks=False) is Way.LOAD_DATA
    assert ask("short", workers=2, takes=True) is Way.PARAMETERS
    assert ask("short", workers=1, takes=True, is_allowed=False) is Way.PARAMETERS
    assert ask("wide", workers=1) is Way.PLACEHOLDERS
    assert ask("wide", workers=4, is_allowed=False) is Way.PLACEHOLDERS
    assert ask("wide", workers=1, takes=True) is Way.PARAMETERS
    side.session.close()


def test_how_a_stream_writes_tables(flavour_pair: Pair) -> None:
    """A mirror must not wait for a load that waits for it."""
    side = Side(flavour_pair.source)
    ask = choosing(side, loading.choose_load)
    assert ask("t", is_mirrored=False) is Way.LOAD_DATA
    assert ask("t", is_mirrored=False, logs=False) is Way.LOAD_DATA
    assert ask("t", is_mirrored=True) is None
    assert ask("t", is_mirrored=True, logs=False) is Way.REPLACE
    assert ask("t", is_mirrored=True, locks=False) is Way.LOAD_DATA
    assert ask("old", is_mirrored=True, logs=False) is None
    assert ask("u", is_mirrored=True) is Way.LOAD_DATA
    assert ask("u", is_mirrored=False, is_allowed=False) is None
    assert ask("p", is_mirrored=False) is None
    assert ask("t", is_mirrored=True, takes=True) is Way.PARAMETERS
    assert ask("short", is_mirrored=False, takes=True) is Way.PARAMETERS
    assert ask("wide", is_mirrored=False) is Way.LOAD_DATA
    assert ask("p", is_mirrored=False, takes=True) is None
    side.session.close()


@pytest.mark.parametrize("hides", [False, True], ids=["parameters", "hidden by a proxy"])
@pytest.mark.parametrize("is_allowed", ["ON", "OFF"])
def test_a_copy_arrives_whatever_the_target_takes(
    is_allowed: str, hides: bool, mariadb_pair: Pair, tmp_path: Path
) -> None:
    source, target = mariadb_pair.source, mariadb_pair.target
    source.execute(
        "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(200), b BLOB)",
        "INSERT INTO t SELECT seq, CONCAT('it''s ', REPEAT(seq, 20)), UNHEX(SHA2(seq, 256)) FROM seq_1_to_30000", "ANALYZE TABLE t",
    )  # fmt: skip
    before = read_commands(target)
    target.server.execute(f"SET GLOBAL local_infile = {is_allowed}")
    environment = {"SOURCE_PASSWORD": source.server.password, "TARGET_PASSWORD": target.server.password}
    move = Move(mariadb_pair, tmp_path / "dbmigrate.toml", environment)
    with HidingProxy(target.server.host, target.server.port) if hides else contextlib.nullcontext() as proxy:
        if proxy:
            move.target_url = target.url.replace(f":{target.server.port}/", f":{proxy.port}/")
        move.write("")
        try:
            move.run("run", "--until", "copy")
        finally:
            target.server.execute("SET GLOBAL local_infile = ON")
    assert target.execute("CHECKSUM TABLE t")[0][1] == source.execute("CHECKSUM TABLE t")[0][1]
    used = {name for name, times in read_commands(target).items() if times > before[name]}
    expected = {"Com_load"} if is_allowed == "ON" else set()
    assert used & {"Com_stmt_prepare", "Com_load"} == (expected if hides else {"Com_stmt_prepare"})


def read_commands(database: Database) -> dict[str, int]:
    """How often the server ran each command."""
    return {name: int(times) for name, times in database.execute("SHOW GLOBAL STATUS LIKE 'Com\\_%'")}
