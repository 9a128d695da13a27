"""LOAD DATA LOCAL as the copy uses it: no file is ever read, a changed value is an error, and INSERT does where it may not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from databases import Pair
from moves import Move
from pymysql.constants import CLIENT

from dbmigrate.copying.loading import choose_load
from dbmigrate.domain.errors import DbmigrateError, FatalError
from dbmigrate.domain.routes import CarriedColumn, Route
from dbmigrate.domain.schema import Table, TableName
from dbmigrate.mysql.bulk_load import LoadPlan, LoadSettings, plan_load
from dbmigrate.mysql.faults import ConnectionLostError
from dbmigrate.mysql.introspection import read_server_version, read_table
from dbmigrate.mysql.sessions import DATA_SESSION, Session
from dbmigrate.mysql.statements import KeyRange
from dbmigrate.mysql.transfer import ResultCutError, StreamedRows, load_rows
from dbmigrate.streaming import loading

PACKET = 1 << 24


class Side:
    """One side of a pair, as the data path sees it."""

    def __init__(self, database: Any) -> None:
        self.database = database
        raw = {"use_unicode": False, "conv": {}, "client_flag": CLIENT.LOCAL_FILES, "autocommit": True}
        self.session = Session(database.connect(**raw), "here")
        for statement in DATA_SESSION:
            self.session.execute(statement)
        self.version = read_server_version(self.session.driver_connection)

    def read_table(self, name: str = "t") -> Table:
        with self.database.connect() as connection:
            return read_table(connection, self.version, TableName(self.database.schema, name))


@pytest.fixture
def sides(flavour_pair: Pair) -> Iterator[tuple[Side, Side]]:
    both = Side(flavour_pair.source), Side(flavour_pair.target)
    yield both
    for side in both:
        side.session.close()


def plan(origin: Side, destination: Side) -> tuple[Route, LoadPlan]:
    here, there = origin.read_table(), destination.read_table()
    columns = tuple(CarriedColumn(b, a) for a, b in zip(here.columns, there.columns, strict=True))
    route = Route(here, there, columns, (there.columns[0].name,))
    found = plan_load(route, origin=origin.version, destination=destination.version)
    assert found is not None
    return route, found


def move_rows(origin: Side, destination: Side) -> None:
    route, found = plan(origin, destination)
    rows = StreamedRows(origin.session, route, KeyRange(), found)
    with destination.session.transaction():
        load_rows(destination.session, route, [rows], found, max_packet_bytes=PACKET)


def test_rows_in_the_way_are_replaced_and_others_stay(sides: tuple[Side, Side]) -> None:
    origin, destination = sides
    for side in sides:
        side.database.execute("CREATE TABLE t (id INT PRIMARY KEY, code CHAR(3), UNIQUE KEY code (code))")
    origin.database.execute("INSERT INTO t VALUES (1, 'new'), (2, 'two')")
    destination.database.execute("INSERT INTO t VALUES (1, 'old'), (7, 'two'), (8, 'own')")
    move_rows(origin, destination)
    assert destination.database.execute("SELECT id, code FROM t ORDER BY id") == ((1, "new"), (2, "two"), (8, "own"))


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
    found = plan_load(route, origin=origin.version, destination=destination.version)
    assert found is not None
    origin.database.execute("DELETE FROM t WHERE id = 1")
    rows = StreamedRows(origin.session, route, KeyRange(), found)
    destination.session.execute("START TRANSACTION")
    with pytest.raises(DbmigrateError):
        load_rows(destination.session, route, [rows], found, max_packet_bytes=PACKET)
    destination.session.execute("ROLLBACK")
    assert destination.database.execute("SELECT COUNT(*) FROM t") == ((0,),)


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


def test_a_statement_that_loads_nothing_ends_the_session(sides: tuple[Side, Side]) -> None:
    session = sides[1].session
    with pytest.raises(FatalError, match="asked for no rows"):
        session.load("DO 1", (b"x",), doing="a load")
    assert session.is_broken


def test_a_refused_load_names_the_table_and_leaves_the_session_usable(sides: tuple[Side, Side]) -> None:
    session = sides[1].session
    with pytest.raises(DbmigrateError, match="loading rows of nowhere"):
        session.load("LOAD DATA LOCAL INFILE 'dbmigrate' INTO TABLE nowhere", (b"x",), doing="loading rows of nowhere")
    assert session.fetch_value("SELECT 1") == b"1"


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


def test_pieces_are_one_load_and_each_is_asked_for_when_the_one_before_was_sent(sides: tuple[Side, Side]) -> None:
    origin, destination = sides
    for side in sides:
        side.database.execute("CREATE TABLE t (id INT PRIMARY KEY, v VARBINARY(20))")
    origin.database.execute("INSERT INTO t VALUES (1, 'one'), (2, 'two'), (3, NULL), (7, 'seven')")
    route, found = plan(origin, destination)
    asked: list[bytes] = []

    def read() -> Iterator[StreamedRows]:
        for lower, upper in pairwise((b"0", b"2", b"3", b"6", b"9")):
            asked.append(upper)
            yield StreamedRows(origin.session, route, KeyRange(lower, upper), found)

    with destination.session.transaction():
        load_rows(destination.session, route, read(), found, max_packet_bytes=PACKET)
        assert asked == [b"2", b"3", b"6", b"9"]
        assert destination.database.execute("SELECT COUNT(*) FROM t") == ((0,),)
    assert destination.database.execute("SELECT id, v FROM t ORDER BY id") == origin.database.execute("SELECT id, v FROM t ORDER BY id")


def test_no_rows_in_any_piece_ask_the_destination_for_nothing(sides: tuple[Side, Side]) -> None:
    origin, destination = sides
    for side in sides:
        side.database.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    route, found = plan(origin, destination)
    destination.database.execute("DROP TABLE t")
    pieces = (StreamedRows(origin.session, route, KeyRange(), found) for _ in range(2))
    load_rows(destination.session, route, pieces, found, max_packet_bytes=PACKET)


@pytest.mark.parametrize("failing", ["cut by the server", "larger than the packet", "the origin is gone"])
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


class Settled:
    """A server's settings and version, as ``choose_load`` asks for them."""

    def __init__(self, version: Any, *, is_allowed: bool = True, locks: bool = True, logs: bool = True) -> None:
        self.version, self.load_settings = version, LoadSettings(is_allowed, locks, logs)


def test_who_is_loaded(sides: tuple[Side, Side]) -> None:
    side = sides[0]
    side.database.execute("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, v INT)", "CREATE TABLE p (id INT PRIMARY KEY, g POINT)")

    def choose(name: str, workers: int, **settings: bool) -> bool:
        table = side.read_table(name)
        route = Route(table, table, tuple(CarriedColumn(c, c) for c in table.columns), ("id",))
        server: Any = Settled(side.version, **settings)
        return choose_load(route, server, server, workers=workers) is not None

    assert choose("t", 2)
    assert not choose("t", 4)
    assert choose("t", 4, locks=False)
    assert not choose("t", 2, is_allowed=False)
    assert not choose("p", 1)


def test_which_tables_a_stream_loads(sides: tuple[Side, Side]) -> None:
    """A mirror must not wait for a load that waits for it."""
    side = sides[0]
    side.database.execute(
        "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY)", "CREATE TABLE u (id INT PRIMARY KEY)",
        "CREATE TABLE p (id INT PRIMARY KEY, g POINT)",
    )  # fmt: skip

    def choose(name: str, *, is_mirrored: bool, **settings: bool) -> bool:
        table = side.read_table(name)
        route = Route(table, table, tuple(CarriedColumn(c, c) for c in table.columns), ("id",))
        server: Any = Settled(side.version, **settings)
        return loading.choose_load(route, server, server, is_mirrored=is_mirrored) is not None

    assert choose("t", is_mirrored=False)
    assert not choose("t", is_mirrored=True)
    assert choose("t", is_mirrored=True, locks=False)
    assert choose("u", is_mirrored=True)
    assert not choose("u", is_mirrored=False, is_allowed=False)
    assert not choose("p", is_mirrored=False)


@pytest.mark.parametrize("is_allowed", ["ON", "OFF"])
def test_a_copy_arrives_whether_or_not_the_target_takes_loads(
    is_allowed: str, server_factory: Callable[..., Any], mariadb_pair: Pair, tmp_path: Path
) -> None:
    source = mariadb_pair.source
    source.execute(
        "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(40), b BLOB)", "INSERT INTO t SELECT seq, CONCAT('it''s ', seq), UNHEX(SHA2(seq, 256)) FROM seq_1_to_30000"
    )
    target = mariadb_pair.target
    before = target.execute("SHOW GLOBAL STATUS LIKE 'Com_load'")[0][1]
    target.server.execute(f"SET GLOBAL local_infile = {is_allowed}")
    try:
        environment = {"SOURCE_PASSWORD": source.server.password, "TARGET_PASSWORD": target.server.password}
        move = Move(mariadb_pair, tmp_path / "dbmigrate.toml", environment)
        move.write("")
        move.run("run", "--until", "copy")
    finally:
        target.server.execute("SET GLOBAL local_infile = ON")
    assert target.execute("CHECKSUM TABLE t")[0][1] == source.execute("CHECKSUM TABLE t")[0][1]
    loads = int(target.execute("SHOW GLOBAL STATUS LIKE 'Com_load'")[0][1]) - int(before)
    assert (loads > 0) is (is_allowed == "ON")
