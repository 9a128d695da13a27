"""Rows written from their bytes, by LOAD DATA LOCAL and by REPLACE: no file is ever read, a changed value is an error, and
literals do where neither may be used."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from databases import Pair
from moves import Move
from pymysql.constants import CLIENT

from dbmigrate.config import ServerSection
from dbmigrate.copying.loading import choose_load
from dbmigrate.domain.errors import DbmigrateError, FatalError
from dbmigrate.domain.routes import CarriedColumn, Route
from dbmigrate.domain.schema import Table, TableName
from dbmigrate.mysql.bulk_load import LoadPlan, LoadSettings, Way, plan_load, plan_replace
from dbmigrate.mysql.faults import ConnectionLostError, Retry
from dbmigrate.mysql.introspection import read_server_version, read_table
from dbmigrate.mysql.servers import Server
from dbmigrate.mysql.sessions import DATA_SESSION, Endpoint, Session
from dbmigrate.mysql.statements import KeyRange
from dbmigrate.mysql.transfer import ResultCutError, StreamedRows, load_rows
from dbmigrate.streaming import loading

PACKET = 1 << 25


class Side:
    """One side of a pair, as the data path sees it, and how rows are written to it."""

    def __init__(self, database: Any, planning: Callable[..., LoadPlan | None] = plan_load) -> None:
        self.database, self.planning = database, planning
        raw = {"use_unicode": False, "conv": {}, "client_flag": CLIENT.LOCAL_FILES, "autocommit": True}
        self.session = Session(database.connect(**raw), "here")
        for statement in DATA_SESSION:
            self.session.execute(statement)
        self.version = read_server_version(self.session.driver_connection)

    def read_table(self, name: str = "t") -> Table:
        with self.database.connect() as connection:
            return read_table(connection, self.version, TableName(self.database.schema, name))


@pytest.fixture(params=[plan_load, plan_replace], ids=["load", "replace"])
def sides(flavour_pair: Pair, request: pytest.FixtureRequest) -> Iterator[tuple[Side, Side]]:
    both = Side(flavour_pair.source), Side(flavour_pair.target, request.param)
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
    found = destination.planning(route, origin=origin.version, destination=destination.version)
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
            unanswered.append(destination.session.is_broken)  # so it counts while a REPLACE is under way
            yield StreamedRows(origin.session, route, KeyRange(lower, upper), found)

    with destination.session.transaction():
        load_rows(destination.session, route, read(), found, max_packet_bytes=PACKET)
        assert asked == [b"2", b"3", b"6", b"9"]
        assert unanswered == [False, *[found.way is Way.REPLACE] * 3]
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


@pytest.mark.parametrize("off", [-1, 0, 1])
def test_a_statement_of_about_one_packet_arrives_whole(mariadb_pair: Pair, off: int) -> None:
    """A packet that is full is followed by another, also where nothing is left for it."""
    origin, destination = Side(mariadb_pair.source), Side(mariadb_pair.target, plan_replace)
    for side in (origin, destination):
        side.database.execute("CREATE TABLE t (id INT PRIMARY KEY, v LONGBLOB)")
    _, found = plan(origin, destination)
    length = 0xFFFFFF + off - len("Q") - len(found.statement) - len("('1','')")  # Q stands for the command's byte
    origin.database.execute(f"INSERT INTO t VALUES (1, REPEAT('x', {length}))")
    move_rows(origin, destination)
    asked = "SELECT id, LENGTH(v), MD5(v) FROM t"
    assert destination.database.execute(asked) == origin.database.execute(asked)
    origin.session.close()
    destination.session.close()


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
    "CREATE TABLE wide (id INT PRIMARY KEY, v MEDIUMTEXT)", "INSERT INTO wide VALUES (1, REPEAT('x', 50000))",
)  # fmt: skip


def choosing(side: Side, choose: Callable[..., LoadPlan | None]) -> Callable[..., Way | None]:
    """How a table is written, by its name and a server's settings."""
    side.database.execute(*TABLES, "ANALYZE TABLE wide")

    def ask(name: str, *, is_allowed: bool = True, locks: bool = True, logs: bool = True, **options: Any) -> Way | None:
        table = side.read_table(name)
        route = Route(table, table, tuple(CarriedColumn(c, c) for c in table.columns), ("id",))
        settings = LoadSettings(is_allowed, locks, logs)
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
    assert ask("wide", workers=1) is Way.LOAD_DATA
    assert ask("wide", workers=1, logs=False) is (Way.REPLACE if side.version.is_mariadb else Way.LOAD_DATA)
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
    side.session.close()


@pytest.mark.parametrize("may_change", [True, False], ids=["with BINLOG ADMIN", "without"])
def test_whether_statements_stay_out_of_the_binlog_depends_on_the_account(
    mariadb_pair: Pair, may_change: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = mariadb_pair.target.server
    server.execute(
        "CREATE OR REPLACE USER mover@'%' IDENTIFIED BY 'mover'", f"GRANT ALL ON {mariadb_pair.target.schema}.* TO mover@'%'",
        f"GRANT PROCESS{', BINLOG ADMIN' if may_change else ''} ON *.* TO mover@'%'",
    )  # fmt: skip
    monkeypatch.setenv("MOVER", "mover")
    section = ServerSection(url=f"mariadb://mover@127.0.0.1:{server.port}/{mariadb_pair.target.schema}", password_env="MOVER")
    found = Server(Endpoint("target", section), "shop", clock=time.monotonic, retry=Retry())
    try:
        assert found.load_settings.logs_statements is not may_change
        mariadb_pair.target.execute("CREATE TABLE t (id INT PRIMARY KEY)", "FLUSH BINARY LOGS")
        with found.pool.borrow() as session:
            session.execute(f"INSERT INTO {mariadb_pair.target.schema}.t VALUES (1)")
        file = server.execute("SHOW MASTER STATUS")[0][0]
        kinds = [event[2] for event in server.execute(f"SHOW BINLOG EVENTS IN '{file}'")]
        assert any(kind.startswith("Write_rows") for kind in kinds)
        assert ("Annotate_rows" in kinds) is not may_change
    finally:
        found.close()
        server.execute("DROP USER mover@'%'")


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
