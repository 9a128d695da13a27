"""The binlog reader against real servers of both flavours: what they write is what it must understand."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from databases import encrypting

from dbmigrate.domain.errors import FatalError, TransientError
from dbmigrate.domain.flavours import Flavour, ServerVersion
from dbmigrate.domain.positions import Position
from dbmigrate.domain.schema import Table, TableName
from dbmigrate.mysql.binlog import (
    BinlogReader,
    Delivery,
    PositionLost,
    SchemaChanged,
    Truncated,
    has_reached,
    read_current_position,
)
from dbmigrate.mysql.introspection import read_table
from dbmigrate.mysql.literals import key_expression

BOTH = [Flavour.MARIADB, pytest.param(Flavour.MYSQL, marks=pytest.mark.mysql)]
ONLY_MYSQL = [pytest.param(Flavour.MYSQL, marks=pytest.mark.mysql)]


class Source:
    """One schema on one server, with a session that writes and readers that follow."""

    def __init__(self, server: Any, schema: str | None) -> None:
        self.server = server
        self.schema = schema or ""
        self.session = server.connect(database=schema)
        version, comment = self.query("SELECT @@version, @@version_comment")[0]
        self.version = ServerVersion.parse(version, comment)
        self._readers: list[BinlogReader] = []

    def query(self, statement: str, *arguments: object) -> tuple[tuple[Any, ...], ...]:
        with self.session.cursor() as cursor:
            cursor.execute(statement, arguments or None)
            return tuple(cursor.fetchall())

    def run(self, *statements: str) -> None:
        for statement in statements:
            self.query(statement)

    @property
    def position(self) -> Position:
        return read_current_position(self.session, self.version)

    def table(self, name: str) -> Table:
        return read_table(self.session, self.version, TableName(self.schema, name))

    def follow(self, *names: str, start: Position | None = None, **connect: Any) -> BinlogReader:
        tables = {table.name: table for table in map(self.table, names)}
        reader = BinlogReader(
            lambda: self.server.connect(**connect), version=self.version, start=start or self.position,
            tables=tables, server_id=4_000_000 + len(self._readers),
        )  # fmt: skip
        self._readers.append(reader)
        return reader

    def close(self) -> None:
        for reader in self._readers:
            reader.close()
        self.session.close()


@pytest.fixture
def source_of(session_server: Any, database_factory: Any) -> Iterator[Callable[[Flavour], Source]]:
    """A fresh schema on the session's server of a flavour."""
    made: list[Source] = []

    def make(flavour: Flavour) -> Source:
        database = database_factory(session_server(flavour, "source"))
        made.append(Source(database.server, database.schema))
        return made[-1]

    yield make
    for source in made:
        source.close()


@pytest.fixture(params=BOTH)
def source(request: pytest.FixtureRequest, source_of: Callable[[Flavour], Source]) -> Source:
    """A fresh schema on the session's server of each flavour."""
    return source_of(request.param)


@pytest.fixture
def private_source(server_factory: Any) -> Iterator[Callable[..., Source]]:
    """A schema on a server of the test's own, for tests that change or stop it."""
    made: list[Source] = []

    def make(flavour: Flavour, *, schema: str | None = "shop", **options: str) -> Source:
        server = server_factory(flavour, **options)
        if schema:
            server.execute(f"CREATE DATABASE {schema} CHARACTER SET utf8mb4")
        made.append(Source(server, schema))
        return made[-1]

    yield make
    for source in made:
        source.close()


def read_to(reader: BinlogReader, wanted: Position, version: ServerVersion) -> list[Delivery]:
    """Deliveries up to a position that the server has already reached."""
    deliveries: list[Delivery] = []
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        delivery = reader.read(timeout_seconds=0.5)
        if delivery is not None:
            deliveries.append(delivery)
            if delivery.is_boundary and has_reached(delivery.position, wanted, version):
                return deliveries
    raise AssertionError(f"{wanted} was not reached: {deliveries}")


def keys_of(deliveries: list[Delivery], name: str = "a") -> list[str]:
    """All keys of one table in order of arrival."""
    return [key.decode() for d in deliveries for t, keys in d.keys.items() if t.name == name for key in keys]


def read_keys(source: Source, reader: BinlogReader, name: str = "a") -> list[str]:
    return keys_of(read_to(reader, source.position, source.version), name)


def test_each_image_gives_its_keys(source: Source) -> None:
    """Inserts, deletes and updates, full and minimal: both keys of a row whose key changed."""
    source.run("CREATE TABLE a (id INT UNSIGNED, b BINARY(4), v TEXT, PRIMARY KEY (id, b))")
    reader = source.follow("a")
    source.run("INSERT INTO a VALUES (4000000000, 'x', NULL), (1, 'y', 'text')")
    for image in ("FULL", "NOBLOB", "MINIMAL"):
        source.run(f"SET SESSION binlog_row_image = {image}")
        source.run("UPDATE a SET id = id + 1 WHERE id < 9", f"UPDATE a SET v = '{image}' WHERE id < 9")
        source.run("UPDATE a SET b = 'z' WHERE id < 9", "UPDATE a SET b = 'y' WHERE id < 9")
    source.run("DELETE FROM a WHERE id > 9")
    y, z = "X'79000000'", "X'7A000000'"
    expected = ["4000000000,X'78000000'", f"1,{y}"]
    for id_ in (1, 2, 3):
        new = id_ + 1
        expected += [
            f"{id_},{y}",
            f"{new},{y}",
            f"{new},{y}",
            f"{new},{y}",
            f"{new},{z}",
            f"{new},{z}",
            f"{new},{y}",
        ]
    assert read_keys(source, reader) == [*expected, "4000000000,X'78000000'"]


KEY_TYPES: list[tuple[str, list[str]]] = [
    ("TINYINT", ["-128", "127"]),
    ("TINYINT UNSIGNED", ["255"]),
    ("SMALLINT UNSIGNED", ["65535"]),
    ("MEDIUMINT", ["-8388608", "8388607"]),
    ("MEDIUMINT UNSIGNED", ["16777215"]),
    ("INT UNSIGNED", ["4294967295"]),
    ("BIGINT", ["-9223372036854775808"]),
    ("BIGINT UNSIGNED", ["18446744073709551615"]),
    ("YEAR", ["0", "1901", "2155"]),
    ("BIT(1)", ["1", "0"]),
    ("BIT(13)", ["5000", "0"]),
    ("BIT(64)", ["18446744073709551615"]),
    ("ENUM('a','b','')", ["'b'", "''"]),
    ("SET('a','b','c','d','e','f','g','h','i')", ["'a,i'", "''"]),
    ("DECIMAL(5,2)", ["-1.5", "0", "-0.01", "999.99"]),
    ("DECIMAL(65,30)", ["-12345678901234567890123456789012345.123456789012345678901234567890", "1e-30"]),
    ("DECIMAL(18,0)", ["-999999999999999999", "7"]),
    ("DECIMAL(9,2) ZEROFILL", ["1.5"]),
    ("INT ZEROFILL", ["7"]),
    (f"ENUM({', '.join(repr(str(n)) for n in range(300))})", ["'1'", "'299'"]),
    (f"SET({', '.join(repr(str(n)) for n in range(63))})", ["'62,0'"]),
    ("CHAR(5) CHARACTER SET latin1", ["'a '", "''", "'é'"]),
    ("CHAR(200)", ["'😀b'", "REPEAT('😀', 200)"]),
    ("VARCHAR(300)", ["'a'", "REPEAT('é', 300)"]),
    ("VARCHAR(9) CHARACTER SET utf16", ["'aé'"]),
    ("CHAR(9) CHARACTER SET gbk", ["'中'"]),
    ("BINARY(4)", ["X'0100'", "X''", "X'00000001'"]),
    ("BINARY(255)", ["X'0100'"]),
    ("VARBINARY(400)", ["X'0100'", "X''", "REPEAT('a', 400)"]),
    ("DATE", ["'2024-02-29'", "'0000-00-00'", "'9999-12-31'", "'2001-02-31'"]),
    *(
        (f"TIME({n})", ["'-838:59:59'", "'-00:00:01.5'", "'-10:11:12.999'", "'1:2:3.5'"])
        for n in range(7)
    ),
    *(
        (f"DATETIME({n})", ["'0000-00-00'", "'1000-01-01 23:59:58.123456'"])
        for n in range(7)
    ),
    *(
        (f"TIMESTAMP({n}) DEFAULT '2000-01-01'", ["'0000-00-00'", "'1970-01-01 00:00:01'", "'2038-01-19 03:14:07'", "'2024-02-29 12:34:56.65'"])
        for n in range(7)
    ),
]  # fmt: skip
MARIADB_KEY_TYPES: list[tuple[str, list[str]]] = [
    ("INET4", ["'0.0.0.0'", "'10.0.0.0'"]),
    ("INET6", ["'::'", "'2001:db8::'", "'::ffff:1.2.3.4'", "'1:0:2:0:0:3:0:0'", "'1:2:3:4:5:6:0:8'", "'0:1:2:3:4:5:6:7'"]),
    ("UUID", [f"'a1b2c3d4-0102-{version:x}708-{variant:x}90a-0b0c0d0e0f00'" for version in range(16) for variant in range(16)]),
]  # fmt: skip


def test_key_literals_are_those_of_the_server(source: Source) -> None:
    """Every key type with its extremes: the stream's bytes equal what the server prints for the same row."""
    types = KEY_TYPES + (MARIADB_KEY_TYPES if source.version.is_mariadb else [])
    source.run("SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES'", "SET time_zone = '+00:00'")
    names = [f"t{number}" for number in range(len(types))]
    for name, (declared, _) in zip(names, types, strict=True):
        source.run(f"CREATE TABLE {name} (n TEXT, k {declared} NOT NULL, m VARCHAR(20), PRIMARY KEY (k))")
    reader = source.follow(*names)
    for name, (_, values) in zip(names, types, strict=True):
        for number, value in enumerate(values):
            others = "NULL" if number % 2 else "REPEAT('n', 300)", "'m'" if number % 3 else "NULL"
            source.run(f"INSERT IGNORE INTO {name} VALUES ({others[0]}, {value}, {others[1]})")
    deliveries = read_to(reader, source.position, source.version)
    for name, (declared, _) in zip(names, types, strict=True):
        expression = key_expression(source.table(name).key_columns)
        printed = [row[0] for row in source.query(f"SELECT {expression} FROM {name}")]
        assert sorted(keys_of(deliveries, name)) == sorted(printed), declared


def test_key_columns_come_in_the_order_of_the_key(source: Source) -> None:
    """Whatever their order in the table, and with columns of any width between them."""
    source.run("CREATE TABLE a (t TEXT, c INT, v VARCHAR(20) NOT NULL, n TEXT, b SMALLINT, PRIMARY KEY (b, v, c))")
    reader = source.follow("a")
    source.run("INSERT INTO a VALUES ('t', 1, 'v', NULL, 2)", "SET SESSION binlog_row_image = 'MINIMAL'")
    source.run("UPDATE a SET v = 'w', t = NULL", "UPDATE a SET c = 9, b = 8", "UPDATE a SET n = 'n'", "DELETE FROM a")
    printed = [f"2,_utf8mb4 X'{ord(c):X}',1" for c in "vvw"] + ["2,_utf8mb4 X'77',1", *["8,_utf8mb4 X'77',9"] * 3]
    assert read_keys(source, reader) == printed


COMMON_COLUMNS = (
    "a1 BIT(20), a2 FLOAT, a3 DOUBLE, a4 DECIMAL(30,9), a5 DATE, a6 TIME(3), a7 DATETIME, a8 TIMESTAMP(6) NULL, "
    "a9 YEAR, b1 CHAR(3), b2 VARCHAR(1000), b3 TINYTEXT, b4 TEXT, b5 MEDIUMBLOB, b6 LONGTEXT, b7 BINARY(9), "
    "b8 ENUM('x','y'), b9 SET('x','y'), c1 GEOMETRY, c2 JSON, c3 MEDIUMINT, c4 SMALLINT, c5 BIGINT"
)
COMMON_VALUES = [
    "9", "1.5", "2.5", "-3.25", "'2024-01-01'", "'1:2:3.5'", "'2024-01-01'", "'2024-01-01'", "2024", "'é'",
    "REPEAT('v', 999)", "'t'", "REPEAT('t', 3000)", "REPEAT('b', 70000)", "'long'", "'bin'", "'x'", "'x,y'",
    "ST_GeomFromText('POINT(1 2)')", "'{\"a\": [1, 2]}'", "-1", "-2", "-3",
]  # fmt: skip


def test_other_columns_are_stepped_over(source: Source) -> None:
    """Any mix of NULLs among columns of all types, more mixes than functions are generated for."""
    extra = "d1 TEXT COMPRESSED, d2 VARCHAR(400) COMPRESSED" if source.version.is_mariadb else "d1 VECTOR(3)"
    extras = ["REPEAT('c', 500)", "REPEAT('c', 300)"] if source.version.is_mariadb else ["TO_VECTOR('[1,2,3]')"]
    source.run(f"CREATE TABLE a ({COMMON_COLUMNS}, {extra}, id INT, PRIMARY KEY (id))")
    reader = source.follow("a")
    choose = random.Random(1)
    values = COMMON_VALUES + extras
    rows = [[choose.choice([value, "NULL"]) for value in values] for _ in range(100)]
    for number, row in enumerate(rows):
        source.run(f"INSERT INTO a VALUES ({', '.join(row)}, {number})")
    source.run("UPDATE a SET c3 = 5, b4 = NULL WHERE id < 2", "DELETE FROM a WHERE id = 3")
    assert read_keys(source, reader) == [*map(str, range(100)), "0", "1", "3"]


def test_xa_rows_count_at_commit(source: Source) -> None:
    """A prepared transaction holds the position back, survives a reconnect, and counts when it commits."""
    source.run("CREATE TABLE a (id INT PRIMARY KEY)")
    reader = source.follow("a")
    before = source.position
    source.run("XA START 'x','y',7", "INSERT INTO a VALUES (1)", "XA END 'x','y',7", "XA PREPARE 'x','y',7")
    source.server.execute(f"INSERT INTO {source.schema}.a VALUES (2)")
    for _ in range(2):
        delivery = reader.read(timeout_seconds=5)
        assert delivery is not None
        assert keys_of([delivery]) == ["2"]
        assert not delivery.is_boundary
        assert (delivery.position, delivery.rows) == (before, 1)
        reader.close()
    source.run("XA COMMIT 'x','y',7")
    assert "1" in read_keys(source, reader)
    source.run("XA START 'r'", "INSERT INTO a VALUES (3)", "XA END 'r'", "XA PREPARE 'r'", "XA ROLLBACK 'r'")
    source.run("XA START 'o'", "INSERT INTO a VALUES (4)", "XA END 'o'", "XA COMMIT 'o' ONE PHASE")
    assert read_keys(source, reader) == ["4"]


def test_xa_prepared_before_the_start_is_lost(source: Source) -> None:
    """Its rows lie before the start position, so its commit cannot be passed over."""
    source.run("CREATE TABLE a (id INT PRIMARY KEY)")
    source.run("XA START 'early'", "INSERT INTO a VALUES (1)", "XA END 'early'", "XA PREPARE 'early'")
    with source.server.connect() as other:
        start = read_current_position(other, source.version)
    source.run("XA COMMIT 'early'")
    with pytest.raises(PositionLost, match="prepared before the stream began"):
        source.follow("a", start=start).read(timeout_seconds=5)


def test_savepoints_stay_in_their_transaction(source: Source) -> None:
    """A partial rollback is no boundary."""
    source.run("CREATE TABLE a (id INT PRIMARY KEY)", "CREATE TABLE m (id INT PRIMARY KEY) ENGINE = MyISAM")
    reader = source.follow("a")
    source.run("BEGIN", "INSERT INTO a VALUES (1)", "SAVEPOINT s", "INSERT INTO a VALUES (2)")
    source.run("ROLLBACK TO s", "INSERT INTO a VALUES (3)", "COMMIT")
    assert set(read_keys(source, reader)) >= {"1", "3"}


def test_truncate_and_ddl_end_a_delivery(source: Source) -> None:
    """Keys before the statement come with it, keys after it in the next delivery."""
    source.run("CREATE TABLE a (id INT PRIMARY KEY)", "CREATE TABLE b (id INT PRIMARY KEY)")
    reader = source.follow("a")
    source.run("INSERT INTO a VALUES (1)", "TRUNCATE TABLE a", "INSERT INTO a VALUES (2)")
    source.run("CREATE TABLE c SELECT * FROM a", "ALTER TABLE b ADD x INT", "DROP TABLE b")
    source.run("ANALYZE TABLE a", "CREATE VIEW v AS SELECT * FROM a", "RENAME TABLE a TO z")
    deliveries = read_to(reader, source.position, source.version)
    (first,) = [d for d in deliveries if any(isinstance(e, Truncated) for e in d.events)]
    assert first.events == (Truncated(TableName(source.schema, "a"), first.position),)
    assert keys_of([first]) == ["1"]
    (last,) = [d for d in deliveries if any(isinstance(e, SchemaChanged) for e in d.events)]
    (event,) = last.events
    assert isinstance(event, SchemaChanged)
    assert event.tables == (TableName(source.schema, "a"),)
    assert "RENAME TABLE" in event.statement
    after = deliveries[deliveries.index(first) + 1 :]
    assert keys_of(after) == ["2"]


def test_rows_logged_as_a_statement_stop_the_stream(source: Source) -> None:
    """A session with its own binlog_format hides its rows."""
    source.run("CREATE TABLE a (id INT PRIMARY KEY)")
    reader = source.follow("a")
    source.run(
        "SET SESSION binlog_format = 'STATEMENT'",
        "INSERT INTO a VALUES (1)",
        "SET SESSION binlog_format = 'ROW'",
    )
    with pytest.raises(FatalError, match="binlog_format"):
        reader.read(timeout_seconds=5)


def test_unseen_ddl_is_noticed_by_the_table_map(source: Source) -> None:
    """A table map that does not fit the schema is refused by name."""
    source.run("CREATE TABLE a (id INT PRIMARY KEY, v INT)")
    table = source.table("a")
    source.run("ALTER TABLE a MODIFY id BIGINT")
    reader = BinlogReader(
        source.server.connect, version=source.version, start=source.position, tables={table.name: table},
        server_id=4_100_000,
    )  # fmt: skip
    source.run("INSERT INTO a VALUES (1, 1)")
    with pytest.raises(FatalError, match="look for DDL"):
        reader.read(timeout_seconds=5)
    reader.close()


def test_lost_connection_resumes_without_a_gap(source: Source) -> None:
    """KILL of the dump thread between and inside reads: at least everything comes again."""
    source.run("CREATE TABLE a (id INT PRIMARY KEY)")
    reader = source.follow("a")
    seen: list[str] = []
    losses = 0
    for number in range(30):
        source.run(f"INSERT INTO a VALUES ({number})")
        if number % 10 == 5:
            for row in source.query("SHOW PROCESSLIST"):
                if str(row[4]).startswith("Binlog Dump"):
                    source.run(f"KILL {row[0]}")
        try:
            delivery = reader.read(timeout_seconds=0.5)
        except TransientError:
            losses += 1
            continue
        seen += keys_of([delivery]) if delivery else []
    seen += keys_of(list(iter(lambda: reader.read(timeout_seconds=0.5), None)))
    assert losses
    assert list(dict.fromkeys(seen)) == [str(number) for number in range(30)]


@pytest.mark.parametrize("by_gtid", [True, False])
def test_resume_starts_exactly_at_the_boundary(source: Source, by_gtid: bool) -> None:
    """From each position, by GTID or by file and offset, exactly what came after it, over rotations."""
    source.run("CREATE TABLE a (id INT PRIMARY KEY)")
    positions = []
    for number in range(6):
        at = source.position
        positions.append(at if by_gtid else Position(at.file, at.offset))
        source.run(f"INSERT INTO a VALUES ({number})", *(["FLUSH BINARY LOGS"] if number % 2 else []))
    for number, start in enumerate(positions):
        reader = source.follow("a", start=start)
        assert read_keys(source, reader) == [str(n) for n in range(number, 6)]
        assert str(reader.read(timeout_seconds=0.1)) == "None"
        reader.close()


def test_large_transaction_comes_in_bounded_deliveries(source: Source) -> None:
    """Deliveries inside a transaction keep the position in front of it."""
    source.run("CREATE TABLE a (id INT PRIMARY KEY, v CHAR(20))", "CREATE TABLE d (n INT PRIMARY KEY)")
    source.run("INSERT INTO d VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)")
    reader, before = source.follow("a"), source.position
    tens = " + ".join(f"{10**i} * d{i}.n" for i in range(5))
    source.run(f"INSERT INTO a SELECT {tens}, 'v' FROM " + " JOIN ".join(f"d d{i}" for i in range(5)))
    deliveries = read_to(reader, source.position, source.version)
    assert len(deliveries) > 2
    assert max(d.rows for d in deliveries) < 40_000
    assert all(d.position == before and not d.is_boundary for d in deliveries[:-1])
    assert sorted(map(int, keys_of(deliveries))) == list(range(100_000))


def test_events_larger_than_a_packet(source: Source) -> None:
    """A row of more than 16 MiB arrives in several packets."""
    source.run("CREATE TABLE a (v LONGBLOB, id INT PRIMARY KEY)")
    reader = source.follow("a")
    for size in (2**24 - 1 - 60, 2**24, 2**25 + 5):
        source.run(f"INSERT INTO a VALUES (REPEAT('x', {size}), {size})")
    assert read_keys(source, reader) == [str(2**24 - 1 - 60), str(2**24), str(2**25 + 5)]


@pytest.mark.parametrize("flavour", ONLY_MYSQL)
def test_compressed_transactions(source_of: Callable[[Flavour], Source], flavour: Flavour) -> None:
    """MySQL's transaction payloads, large ones too, beside plain transactions."""
    source = source_of(flavour)
    source.run("CREATE TABLE a (id INT PRIMARY KEY, v VARCHAR(2000))")
    reader = source.follow("a")
    source.run("SET SESSION binlog_transaction_compression = ON", "SET SESSION cte_max_recursion_depth = 100000")
    source.run(
        "INSERT INTO a WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 30000) "
        "SELECT n, REPEAT('v', 200) FROM s"
    )
    source.run("UPDATE a SET v = 'w' WHERE id < 3", "SET SESSION binlog_transaction_compression = OFF")
    source.run("DELETE FROM a WHERE id = 1")
    keys = read_keys(source, reader)
    assert keys == [*map(str, range(1, 30_001)), "1", "2", "1"]


@pytest.mark.parametrize("flavour", ONLY_MYSQL)
def test_tagged_gtids_and_partial_json(source_of: Callable[[Flavour], Source], flavour: Flavour) -> None:
    """Tags stay in the position, and a resume by them works; partial updates carry their keys."""
    source = source_of(flavour)
    source.run("CREATE TABLE a (id INT PRIMARY KEY, v INT, j JSON, j2 JSON)")
    reader = source.follow("a")
    source.run("SET SESSION binlog_row_value_options = 'PARTIAL_JSON'")
    source.run("INSERT INTO a VALUES (1, 0, JSON_OBJECT('a', REPEAT('x', 200), 'b', 2), NULL)")
    source.run("SET SESSION gtid_next = 'AUTOMATIC:rehearsal'", "UPDATE a SET j = JSON_SET(j, '$.b', 3), id = 2")
    source.run("SET SESSION binlog_row_image = 'MINIMAL'", "UPDATE a SET j = JSON_SET(j, '$.b', 4), v = 1, id = 3")
    source.run("UPDATE a SET v = 2", "SET SESSION gtid_next = 'AUTOMATIC'")
    deliveries = read_to(reader, source.position, source.version)
    assert keys_of(deliveries) == ["1", "1", "2", "2", "3", "3"]
    last = deliveries[-1].position
    assert ":rehearsal:" in last.gtids
    assert last == source.position
    source.run("INSERT INTO a VALUES (9, 0, NULL, NULL)")
    assert read_keys(source, source.follow("a", start=last)) == ["9"]


@pytest.mark.parametrize("flavour", ONLY_MYSQL)
def test_stream_over_tls(source_of: Callable[[Flavour], Source], flavour: Flavour) -> None:
    """The socket's own reading works on a TLS connection, waiting and not."""
    source = source_of(flavour)
    source.run("CREATE TABLE a (id INT PRIMARY KEY, v TEXT)")
    reader = source.follow("a", ssl={"check_hostname": False, "verify_mode": "none"})
    assert reader.read(timeout_seconds=0.3) is None
    assert type(reader._connection._sock).__name__ == "SSLSocket"
    for number in range(50):
        source.run(f"INSERT INTO a VALUES ({number}, REPEAT('v', 40000))")
    assert read_keys(source, reader) == [str(number) for number in range(50)]


@pytest.mark.parametrize(
    ("flavour", "connect"),
    [
        pytest.param(Flavour.MARIADB, {}, id="mariadb"),
        pytest.param(
            Flavour.MYSQL, {"ssl": {"check_hostname": False, "verify_mode": "none"}}, id="mysql-tls", marks=pytest.mark.mysql
        ),
    ],
)
def test_a_read_that_waits_is_interrupted_and_the_next_goes_on(
    source_of: Callable[[Flavour], Source], flavour: Flavour, connect: dict[str, Any]
) -> None:
    """It waits for far longer than this test does, and nothing is lost by its end."""
    source = source_of(flavour)
    source.run("CREATE TABLE a (id INT PRIMARY KEY)")
    reader = source.follow("a", **connect)
    source.run("INSERT INTO a VALUES (1)")
    assert read_keys(source, reader) == ["1"]
    ended: list[BaseException] = []

    def wait() -> None:
        try:
            while True:
                reader.read(timeout_seconds=600)
        except TransientError as fault:
            ended.append(fault)

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    time.sleep(0.3)
    assert waiting.is_alive()
    reader.interrupt()
    waiting.join(timeout=30)
    assert len(ended) == 1
    reader.interrupt()  # nothing to do: it is closed
    source.run("INSERT INTO a VALUES (2)")
    assert read_keys(source, reader) == ["2"]


@pytest.mark.parametrize("flavour", [Flavour.MARIADB])
def test_mariadb_compressed_and_encrypted_binlog(
    private_source: Callable[..., Source], flavour: Flavour, tmp_path: Any
) -> None:
    """log_bin_compress and encrypt_binlog together; the server decrypts, the reader unfolds."""
    source = private_source(flavour, **encrypting(tmp_path), log_bin_compress="ON", log_bin_compress_min_len="10")
    source.run("CREATE TABLE a (id INT PRIMARY KEY, v VARCHAR(900)) /* a comment that is long enough to compress */")
    reader = source.follow("a")
    source.run("INSERT INTO a VALUES (1, REPEAT('v', 900)), (2, 'w')", "UPDATE a SET v = REPEAT('u', 900)")
    source.run("DELETE FROM a WHERE id = 1", "FLUSH BINARY LOGS", "INSERT INTO a VALUES (3, REPEAT('v', 900))")
    source.run("ALTER TABLE a COMMENT 'a comment that is long enough to be compressed in the binlog'")
    deliveries = read_to(reader, source.position, source.version)
    assert keys_of(deliveries) == ["1", "2", "1", "2", "1", "3"]
    assert [type(event) for d in deliveries for event in d.events] == [SchemaChanged]
    assert source.query("SELECT @@encrypt_binlog, @@log_bin_compress") == ((1, 1),)


@pytest.mark.parametrize("flavour", [Flavour.MARIADB])
def test_mariadb_hidden_hash_columns(source_of: Callable[[Flavour], Source], flavour: Flavour) -> None:
    """A unique index over TEXT adds a column that the schema does not show."""
    source = source_of(flavour)
    source.run("CREATE TABLE a (id INT PRIMARY KEY, t TEXT, UNIQUE (t))")
    reader = source.follow("a")
    source.run("INSERT INTO a VALUES (1, 'x'), (2, NULL)", "UPDATE a SET t = 'y' WHERE id = 1")
    assert read_keys(source, reader) == ["1", "2", "1"]


@pytest.mark.parametrize("flavour", BOTH)
def test_purged_binlog_is_position_lost(private_source: Callable[..., Source], flavour: Flavour) -> None:
    """By GTID or by file: the error that lets the caller start anew."""
    source = private_source(flavour)
    source.run("CREATE TABLE a (id INT PRIMARY KEY)")
    start = source.position
    source.run("INSERT INTO a VALUES (1)", "FLUSH BINARY LOGS", "INSERT INTO a VALUES (2)", "FLUSH BINARY LOGS")
    source.run(f"PURGE BINARY LOGS TO '{source.position.file}'")
    for position in (start, Position(start.file, start.offset)):
        with pytest.raises(PositionLost, match="no longer has"):
            source.follow("a", start=position).read(timeout_seconds=5)


@pytest.mark.parametrize("flavour", BOTH)
def test_server_killed_and_restarted(private_source: Callable[..., Source], flavour: Flavour) -> None:
    """A crashed server ends its file without a rotation; the reader finds the next one."""
    source = private_source(flavour)
    source.run("CREATE TABLE a (id INT PRIMARY KEY)")
    reader = source.follow("a")
    source.run("INSERT INTO a VALUES (1)")
    seen = read_keys(source, reader)
    source.run("INSERT INTO a VALUES (2)")
    source.server.kill()
    source.server.start()
    source.server.execute("INSERT INTO shop.a VALUES (3)", "FLUSH BINARY LOGS", "INSERT INTO shop.a VALUES (4)")
    deadline = time.monotonic() + 20
    while "4" not in seen and time.monotonic() < deadline:
        try:
            delivery = reader.read(timeout_seconds=0.5)
        except TransientError:
            continue
        seen += keys_of([delivery]) if delivery else []
    assert list(dict.fromkeys(seen)) == ["1", "2", "3", "4"]


@pytest.mark.parametrize("flavour", BOTH)
def test_failover_to_a_replica(private_source: Callable[..., Source], flavour: Flavour) -> None:
    """The address moves to a replica with files of its own: by GTID nothing is lost and nothing comes twice."""
    first = private_source(flavour)
    first.run("CREATE TABLE a (id INT PRIMARY KEY)", "CREATE USER 'r'@'127.0.0.1' IDENTIFIED BY 'r-Secret1'")
    first.run("GRANT REPLICATION SLAVE ON *.* TO 'r'@'127.0.0.1'", "FLUSH BINARY LOGS", "FLUSH BINARY LOGS")
    second = private_source(flavour, schema=None)
    address = f"HOST = '127.0.0.1', {{0}}_PORT = {first.server.port}, {{0}}_USER = 'r', {{0}}_PASSWORD = 'r-Secret1'"
    if first.version.is_mariadb:
        second.run(f"CHANGE MASTER TO MASTER_{address.format('MASTER')}, MASTER_USE_GTID = slave_pos", "START SLAVE")
    else:
        options = "SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1"
        second.run(f"CHANGE REPLICATION SOURCE TO SOURCE_{address.format('SOURCE')}, {options}", "START REPLICA")
    servers = [first.server]
    table = first.table("a")
    reader = BinlogReader(
        lambda: servers[-1].connect(), version=first.version, start=first.position, tables={table.name: table},
        server_id=4_300_000,
    )  # fmt: skip
    first.run("INSERT INTO a VALUES (1)", "INSERT INTO a VALUES (2)")
    assert read_keys(first, reader) == ["1", "2"]
    first.run("INSERT INTO a VALUES (3)")
    deadline = time.monotonic() + 20
    while not has_reached(second.position, first.position, first.version) and time.monotonic() < deadline:
        time.sleep(0.05)
    first.server.kill()
    servers.append(second.server)
    seen: list[str] = []
    for delivery in iter(lambda: _read_until_lost(reader), None):
        seen += keys_of([delivery])
    second.run("STOP SLAVE" if first.version.is_mariadb else "STOP REPLICA")
    second.server.execute("INSERT INTO shop.a VALUES (4)")
    assert seen + read_keys(second, reader) == ["3", "4"]
    assert second.position == reader._changes.delivered
    reader.close()


def _read_until_lost(reader: BinlogReader) -> Delivery | None:
    """The next delivery; None once the connection is lost."""
    try:
        delivery = reader.read(timeout_seconds=5)
    except TransientError:
        return None
    assert delivery is not None, "a killed server's connection is still open"
    return delivery


def _read_by_library(source: Source, start: Position, tables: list[str]) -> dict[str, list[str]]:
    """Keys as python-mysql-replication sees them: before- and after-image of each row of integer keys."""
    from pymysqlreplication import BinLogStreamReader
    from pymysqlreplication.row_event import DeleteRowsEvent, UpdateRowsEvent, WriteRowsEvent

    server = source.server
    settings = {"host": server.host, "port": server.port, "user": server.user, "passwd": server.password}
    stream = BinLogStreamReader(
        connection_settings=settings, server_id=4_200_000, log_file=start.file, log_pos=start.offset,
        resume_stream=True, blocking=False, only_events=[WriteRowsEvent, UpdateRowsEvent, DeleteRowsEvent],
        only_schemas=[source.schema], only_tables=tables,
    )  # fmt: skip
    keys: dict[str, list[str]] = {name: [] for name in tables}
    for event in stream:
        for row in event.rows:
            images = [row["values"]] if "values" in row else [row["before_values"], row["after_values"]]
            found = [f"{image['id']},{image['part']}" for image in images]
            keys[event.table] += list(dict.fromkeys(found))
    stream.close()
    return keys


def test_same_keys_as_the_library(source: Source) -> None:
    """Random DML on three tables, in transactions with savepoints: key by key in the same order."""
    tables = ["a", "b", "c"]
    source.run("SET GLOBAL binlog_row_metadata = 'FULL'")
    for name in tables:
        source.run(f"CREATE TABLE {name} (v VARCHAR(99), id INT, n INT, part BIGINT UNSIGNED, PRIMARY KEY (id, part))")
    start, reader = source.position, source.follow(*tables)
    choose = random.Random(7)
    for _ in range(400):
        name, number = choose.choice(tables), choose.randrange(-20, 20)
        statement = choose.choice(
            [
                f"REPLACE INTO {name} VALUES ('x', {number}, NULL, 1), (NULL, {number + 1}, 3, {2**63})",
                f"UPDATE IGNORE {name} SET id = id + {number} WHERE id > {number}",
                f"UPDATE {name} SET v = REPEAT('y', 50), n = id WHERE id < {number}",
                f"DELETE FROM {name} WHERE id = {number}",
                "BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT s",
            ]
        )  # fmt: skip
        source.run(statement)
    source.run("COMMIT")
    deliveries = read_to(reader, source.position, source.version)
    ours = {name: keys_of(deliveries, name) for name in tables}
    assert ours == _read_by_library(source, start, tables)
    assert sum(map(len, ours.values())) > 250
