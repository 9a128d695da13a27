"""Every type with its extremes through a whole move: copied, streamed as inserts, updates and deletes, and read back.

One move a pair of flavours carries all tables; each type is then a test of its own, so that a failure names it. What
is compared is what the servers say of the values (see ``type_catalogue``), not what the program's literals say.
"""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from databases import Database, Pair
from moves import Move
from type_catalogue import KEYS, MARIADB_TYPES, MYSQL_TYPES, PROOFS, TYPES

from dbmigrate.domain.flavours import Flavour
from dbmigrate.throwaway.row_comparison import compare

AUTO = '[cutover]\napproval = "auto"\nmax_write_pause_seconds = 20.0\n'
ANYTHING_GOES = "SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES', foreign_key_checks = 0"
KEY_TYPES = KEYS | {
    "key_uuid": ("UUID", ["'00000000-0000-0000-0000-000000000000'", "'123e4567-e89b-12d3-a456-426655440000'"]),
    "key_inet6": ("INET6", ["'::'", "'2001:db8::ff00:42:8329'"]),
    "key_timestamp": ("TIMESTAMP(6)", ["'1970-01-01 00:00:01'", "'2026-10-25 01:30:00.000001'"]),
    "key_utf16": ("VARCHAR(10) CHARACTER SET utf16", ["'ü😀'", "''"]),
    "key_utf8mb3": ("VARCHAR(20) CHARACTER SET utf8mb3", ["'ü€'", "'b'"]),
    "key_ucs2": ("VARCHAR(10) CHARACTER SET ucs2", ["'ü'", "''"]),
    "key_sjis": ("VARCHAR(10) CHARACTER SET sjis", ["_sjis X'835C5C27'", "'a'"]),
    "key_latin1": ("VARCHAR(10) CHARACTER SET latin1 COLLATE latin1_german1_ci", ["'ä'", "'b'", "'O''Brien'"]),
    "key_padded": ("CHAR(10) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci", ["'a'", "'É'", "''"]),
    "key_date_zero": ("DATE", ["'0000-00-00'", "'2024-02-31'", "'9999-12-31'"]),
    "key_time": ("TIME(3)", ["'-838:59:59'", "'-00:00:00.001'", "'00:00:00'"]),
}  # fmt: skip
ONLY_MARIADB = {*MARIADB_TYPES, "key_uuid", "key_inet6"}

# Shapes of tables: how it is created, rows before the move as VALUES, changes while it streams.
NASTY = "we`ird 'na\"me'. %割引\\\\ select"
SHAPES: dict[str, tuple[str, list[str], list[str]]] = {
    "generated": (
        "(id INT PRIMARY KEY, a INT, twice INT GENERATED ALWAYS AS (a * 2) VIRTUAL, "
        "thrice INT GENERATED ALWAYS AS (a * 3) STORED, b INT, KEY (twice), KEY (thrice))",
        ["(id, a, b) VALUES (1, 10, 1), (2, NULL, 2), (3, -5, 3)"],
        ["UPDATE {t} SET a = 11 WHERE id = 1", "INSERT INTO {t} (id, a, b) VALUES (4, 4, 4)", "DELETE FROM {t} WHERE id = 3"],
    ),
    "invisible": (
        "(id INT PRIMARY KEY, hidden INT DEFAULT 7 INVISIBLE, a INT)",
        ["(id, hidden, a) VALUES (1, 1, 1), (2, NULL, 2)", "(id, a) VALUES (3, 3)"],
        ["UPDATE {t} SET hidden = 99 WHERE id = 1", "INSERT INTO {t} (id, a) VALUES (4, 4)"],
    ),
    "touched": (
        "(id INT PRIMARY KEY, a INT, changed TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3) "
        "ON UPDATE CURRENT_TIMESTAMP(3), at DATETIME(6) DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6))",
        ["(id, a, changed, at) VALUES (1, 1, '2001-02-03 04:05:06.789', '2001-01-01'), (2, 2, '2031-01-01', NULL)"],
        ["UPDATE {t} SET a = 3 WHERE id = 1", "INSERT INTO {t} (id, a) VALUES (4, 4)"],
    ),
    "computed_default": (
        "(id INT PRIMARY KEY, u VARCHAR(36) DEFAULT (UUID()), n DOUBLE DEFAULT (RAND()))",
        ["(id) VALUES (1), (2)"], ["INSERT INTO {t} (id) VALUES (3)", "UPDATE {t} SET n = 0.1 WHERE id = 1"],
    ),
    "by_range": (
        "(id INT, at DATE, PRIMARY KEY (id, at)) PARTITION BY RANGE (YEAR(at)) "
        "(PARTITION p0 VALUES LESS THAN (2020), PARTITION p1 VALUES LESS THAN MAXVALUE)",
        ["VALUES (1, '2019-01-01'), (2, '2021-01-01')"],
        ["UPDATE {t} SET at = '2022-01-01' WHERE id = 1", "INSERT INTO {t} VALUES (3, '1999-01-01')"],
    ),
    "by_list": (
        "(id INT PRIMARY KEY, a INT) PARTITION BY LIST (id) (PARTITION p0 VALUES IN (1, 2), PARTITION p1 VALUES IN (3, 4))",
        ["VALUES (1, 1), (3, 3)"], ["INSERT INTO {t} VALUES (2, 2)", "UPDATE {t} SET id = 4 WHERE id = 3"],
    ),
    "by_hash": (
        "(id INT PRIMARY KEY, a INT) PARTITION BY HASH (id) PARTITIONS 4",
        ["VALUES (1, 1), (2, 2), (3, 3)"], ["DELETE FROM {t} WHERE id = 2", "INSERT INTO {t} VALUES (9, 9)"],
    ),
    "by_key": (
        "(id VARCHAR(20) PRIMARY KEY, a INT) PARTITION BY KEY (id) PARTITIONS 3",
        ["VALUES ('a', 1), ('b', 2)"], ["UPDATE {t} SET id = 'c' WHERE id = 'a'"],
    ),
    "compressed_rows": (
        "(id INT PRIMARY KEY, a TEXT) ROW_FORMAT=COMPRESSED",
        ["VALUES (1, REPEAT('x', 60000))"], ["UPDATE {t} SET a = REPEAT('y', 60000)"],
    ),
    NASTY: (
        "(`i``d 'x' \"y\"` INT PRIMARY KEY, `select` INT, `größe . %s` VARCHAR(9), KEY `a``b` (`select`))",
        ["VALUES (1, 1, 'a'), (2, 2, 'b')"],
        ["UPDATE {t} SET `größe . %s` = 'c'", "DELETE FROM {t} WHERE `select` = 2", "INSERT INTO {t} VALUES (3, 3, NULL)"],
    ),
    "n" * 64: ("(" + "i" * 64 + " INT PRIMARY KEY)", ["VALUES (1), (2)"], ["INSERT INTO {t} VALUES (3)"]),
}  # fmt: skip

ALL_TYPES = TYPES | MARIADB_TYPES | MYSQL_TYPES
_numbers = itertools.count(1)


def _knows(pair: Pair, name: str) -> bool:
    flavours = {pair.source.server.flavour, pair.target.server.flavour}
    if name in ONLY_MARIADB:
        return flavours == {Flavour.MARIADB}
    return flavours == {Flavour.MYSQL} if name in MYSQL_TYPES else True


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``").replace("\\\\", "\\") + "`"


def _fill(database: Database, pair: Pair) -> None:
    """Every table with the rows that the copy finds."""
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute(ANYTHING_GOES)
        for name, (declaration, values) in ALL_TYPES.items():
            if _knows(pair, name):
                cursor.execute(f"CREATE TABLE t_{name} (id INT PRIMARY KEY, v {declaration}, w VARCHAR(9))")
                for number, value in enumerate([*values, "NULL"]):
                    cursor.execute(f"INSERT INTO t_{name} VALUES ({number}, {value}, 'copied')")
        for name, (declaration, values) in KEY_TYPES.items():
            if _knows(pair, name):
                cursor.execute(f"CREATE TABLE k_{name} (v {declaration} NOT NULL, n INT NOT NULL, w VARCHAR(9), PRIMARY KEY (v, n))")
                for number, value in enumerate(values):
                    first = 10 * number  # values may be equal under their collation
                    cursor.execute(f"INSERT INTO k_{name} VALUES ({value}, {first + 1}, 'copied'), ({value}, {first + 2}, 'copied')")
        for name, (definition, rows, _) in SHAPES.items():
            cursor.execute(f"CREATE TABLE {_quoted(name)} {definition}")
            for row in rows:
                cursor.execute(f"INSERT INTO {_quoted(name)} {row}")


def _change(database: Database, pair: Pair) -> None:
    """What the stream finds: each value inserted, each updated to the next one and from NULL, rows deleted, keys moved."""
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute(ANYTHING_GOES)
        for name, (_, values) in ALL_TYPES.items():
            if not _knows(pair, name):
                continue
            everything = [*values, "NULL"]
            for number, value in enumerate(everything):
                cursor.execute(f"INSERT INTO t_{name} VALUES ({number + 100}, {value}, 'new'), ({number + 200}, {value}, 'gone')")
                cursor.execute(f"UPDATE t_{name} SET v = {everything[number - 1]}, w = 'changed' WHERE id = {number}")
            cursor.execute(f"DELETE FROM t_{name} WHERE id >= 200")
        for name, (_, values) in KEY_TYPES.items():
            if not _knows(pair, name):
                continue
            for number, value in enumerate(values):
                first = 10 * number
                cursor.execute(f"UPDATE k_{name} SET w = 'changed' WHERE n = {first + 1}")
                cursor.execute(f"DELETE FROM k_{name} WHERE n = {first + 2}")
                cursor.execute(f"INSERT INTO k_{name} VALUES ({value}, {first + 3}, 'new'), ({value}, {first + 4}, 'moves')")
                cursor.execute(f"UPDATE k_{name} SET n = {first + 5} WHERE n = {first + 4}")
            cursor.execute(f"UPDATE k_{name} SET v = {values[-1]} WHERE n = 3")
        for name, (_, _, changes) in SHAPES.items():
            for change in changes:
                cursor.execute(change.replace("{t}", _quoted(name)))


def _move_everything(pair: Pair, directory: Path) -> None:
    """Fill, copy, change, cut over."""
    _fill(pair.source, pair)
    passwords = {"SOURCE_PASSWORD": pair.source.server.password, "TARGET_PASSWORD": pair.target.server.password}
    move = Move(pair, directory / "dbmigrate.toml", passwords)
    move.write(AUTO)
    try:
        move.run("run", "--until", "catch_up", timeout=240)
        _change(pair.source, pair)
        move.run("run", "--until", "cutover", timeout=240)
    finally:
        move.stop_all()


def _flavours(request: pytest.FixtureRequest) -> list[Flavour]:
    return [Flavour[name.upper()] for name in request.param.split("-")]


@pytest.fixture(
    scope="module",
    params=[
        "mariadb-mariadb", pytest.param("mysql-mysql", marks=pytest.mark.mysql),
        pytest.param("mariadb-mysql", marks=pytest.mark.mysql), pytest.param("mysql-mariadb", marks=pytest.mark.mysql),
    ],
)  # fmt: skip
def moved(request: pytest.FixtureRequest, session_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """All tables, moved."""
    schema = f"types_{next(_numbers)}"
    source, target = (session_server(f, side) for f, side in zip(_flavours(request), ("source", "target"), strict=True))
    for server in (source, target):
        server.execute(f"CREATE DATABASE {schema} CHARACTER SET utf8mb4")
    pair = Pair(Database(source, schema), Database(target, schema))
    _move_everything(pair, tmp_path_factory.mktemp("types"))
    yield pair
    for server in (source, target):
        server.execute("SET GLOBAL read_only = OFF", f"DROP DATABASE IF EXISTS {schema}", "DROP DATABASE IF EXISTS _dbmigrate")


def _read(database: Database, name: str, columns: str) -> list[tuple[Any, ...]]:
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SET time_zone = '+00:00'")
        cursor.execute(f"SELECT {columns} FROM {name}")
        return sorted(cursor.fetchall(), key=repr)


def _without_negative_zeros(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """-0.0 as 0.0: MariaDB neither stores nor prints it."""
    return [tuple(0.0 if value == 0 and isinstance(value, float) else value for value in row) for row in rows]


def _shown_key(name: str) -> str:
    return "HEX(v), n, w" if name in ONLY_MARIADB else "HEX(v), v + 0, n, w"


def _require_equal(pair: Pair, name: str, columns: str, expected_rows: int) -> None:
    there, here = _read(pair.source, name, columns), _read(pair.target, name, columns)
    if pair.source.server.flavour is not pair.target.server.flavour:
        there, here = sorted(_without_negative_zeros(there), key=repr), sorted(_without_negative_zeros(here), key=repr)
    assert here == there
    assert len(here) == expected_rows


@pytest.mark.parametrize("name", ALL_TYPES)
def test_values_are_copied_and_streamed(moved: Pair, name: str) -> None:
    if not _knows(moved, name):
        return  # which `check` refuses, see below
    shown = PROOFS.get(name, "HEX({})").format("`v`")
    _require_equal(moved, f"t_{name}", f"id, v IS NULL, {shown}, w", 2 * (len(ALL_TYPES[name][1]) + 1))


@pytest.mark.parametrize("name", KEY_TYPES)
def test_keys_are_copied_streamed_deleted_and_moved(moved: Pair, name: str) -> None:
    if not _knows(moved, name):
        return
    _require_equal(moved, f"k_{name}", _shown_key(name), 3 * len(KEY_TYPES[name][1]))


@pytest.mark.parametrize("name", SHAPES, ids=lambda name: name[:16] if name.isidentifier() else "nasty names")
def test_tables_of_every_shape_arrive(moved: Pair, name: str) -> None:
    columns = "*, hidden" if name == "invisible" else "*"
    rows = {"by_list": 3, NASTY: 2, "touched": 3, "invisible": 4, "by_hash": 3, "by_key": 2, "compressed_rows": 1}.get(name, 3)
    _require_equal(moved, _quoted(name), columns, rows)


def test_the_digests_of_the_program_agree_that_all_is_equal(moved: Pair) -> None:
    """And so does the comparison that the other tests rely on."""
    with moved.source.connect() as source, moved.target.connect() as target:
        result = compare(source, target, moved.source.schema)
    ours = {difference.table for difference in result.first}
    assert ours <= {"t_json"} if moved.source.server.flavour is not moved.target.server.flavour else not ours, result.first


# --- how the binlog is written ------------------------------------------------------------------------------------

MARIADB_LOGS = (
    {"binlog_row_image": "MINIMAL"},
    {"binlog_row_image": "NOBLOB", "binlog_row_metadata": "FULL"},
    {"log_bin_compress": "ON", "log_bin_compress_min_len": "10", "binlog_row_image": "MINIMAL", "binlog_checksum": "NONE"},
)
MYSQL_LOGS = (
    {"binlog_row_image": "MINIMAL", "binlog_row_value_options": "PARTIAL_JSON"},
    {"binlog_transaction_compression": "ON", "binlog_row_metadata": "FULL", "binlog_checksum": "NONE"},
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flavour", "options"),
    [
        *((Flavour.MARIADB, options) for options in MARIADB_LOGS),
        *(pytest.param(Flavour.MYSQL, options, marks=pytest.mark.mysql) for options in MYSQL_LOGS),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else value.name.lower(),
)
def test_every_type_however_the_binlog_is_written(
    flavour: Flavour, options: dict[str, str], server_factory: Callable[..., Any], tmp_path: Path
) -> None:
    source, target = server_factory(flavour, **options), server_factory(flavour)
    for server in (source, target):
        server.execute("CREATE DATABASE shop CHARACTER SET utf8mb4")
    pair = Pair(Database(source, "shop"), Database(target, "shop"))
    _move_everything(pair, tmp_path)
    for name in ALL_TYPES:
        if _knows(pair, name):
            shown = PROOFS.get(name, "HEX({})").format("`v`")
            _require_equal(pair, f"t_{name}", f"id, v IS NULL, {shown}, w", 2 * (len(ALL_TYPES[name][1]) + 1))
    for name in KEY_TYPES:
        if _knows(pair, name):
            _require_equal(pair, f"k_{name}", _shown_key(name), 3 * len(KEY_TYPES[name][1]))


# --- time zones ---------------------------------------------------------------------------------------------------


def test_timestamps_keep_their_instant_between_time_zones_and_over_the_repeated_hour(
    server_factory: Callable[..., Any], tmp_path: Path
) -> None:
    """In Berlin 02:30 came twice on 2026-10-25, and not at all on 2026-03-29: as values and as keys."""
    source, target = server_factory(), server_factory(default_time_zone="-03:00")
    zone = subprocess.run(
        ["mariadb-tzinfo-to-sql", "/usr/share/zoneinfo/Europe/Berlin", "Europe/Berlin"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    with source.connect(database="mysql") as connection, connection.cursor() as cursor:
        for statement in filter(str.strip, zone.split(";\n")):
            cursor.execute(statement)
    source.execute("SET GLOBAL time_zone = 'Europe/Berlin'")
    for server in (source, target):
        server.execute("CREATE DATABASE shop CHARACTER SET utf8mb4")
    pair = Pair(Database(source, "shop"), Database(target, "shop"))
    instants = ["2026-10-25 00:30:00", "2026-10-25 01:30:00", "2026-03-29 00:59:59", "2026-03-29 01:00:00", "2026-07-01 12:00:00"]
    source_has = (
        "CREATE TABLE moments (at TIMESTAMP NOT NULL PRIMARY KEY, again TIMESTAMP NULL, local DATETIME, "
        "changed TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6))"
    )
    pair.source.execute(source_has, "SET time_zone = '+00:00'", *(
        f"INSERT INTO moments (at, again, local) VALUES ('{at}', '{at}', '{at}')" for at in instants
    ))  # fmt: skip
    move = Move(pair, tmp_path / "dbmigrate.toml", {"SOURCE_PASSWORD": source.password, "TARGET_PASSWORD": target.password})
    move.write(AUTO)
    move.run("run", "--until", "catch_up")
    pair.source.execute(
        "SET time_zone = '+00:00'",
        "UPDATE moments SET again = '2026-10-25 01:15:00' WHERE at = '2026-10-25 00:30:00'",
        "DELETE FROM moments WHERE at = '2026-10-25 01:30:00'",
        "INSERT INTO moments (at, again) VALUES ('2026-10-25 01:30:01', '2026-10-25 00:30:01')",
        "UPDATE moments SET at = '2026-10-25 01:59:59' WHERE at = '2026-07-01 12:00:00'",
    )
    pair.source.execute("UPDATE moments SET local = NOW() WHERE again IS NOT NULL")
    move.run("run", "--until", "cutover")
    read = "SELECT UNIX_TIMESTAMP(at), UNIX_TIMESTAMP(again), local, UNIX_TIMESTAMP(changed) FROM moments ORDER BY 1"
    with source.connect(database="shop") as one, target.connect(database="shop") as other:
        rows = []
        for connection in (one, other):
            with connection.cursor() as cursor:
                cursor.execute("SET time_zone = '+00:00'")
                cursor.execute(read)
                rows.append(cursor.fetchall())
    assert rows[0] == rows[1]
    assert len(rows[0]) == 5


# --- sizes --------------------------------------------------------------------------------------------------------


def _two_servers(server_factory: Callable[..., Any], tmp_path: Path, packet: str, smaller: str = "") -> Move:
    source, target = server_factory(max_allowed_packet=packet), server_factory(max_allowed_packet=smaller or packet)
    for server in (source, target):
        server.execute("CREATE DATABASE shop CHARACTER SET utf8mb4")
    source.execute("CREATE TABLE shop.files (id INT PRIMARY KEY, body LONGBLOB, note LONGTEXT)")
    pair = Pair(Database(source, "shop"), Database(target, "shop"))
    move = Move(pair, tmp_path / "dbmigrate.toml", {"SOURCE_PASSWORD": source.password, "TARGET_PASSWORD": target.password})
    move.write(AUTO)
    return move


def _digests(database: Database) -> Any:
    return database.execute("SELECT id, LENGTH(body), SHA2(body, 256), SHA2(note, 256) FROM files ORDER BY id")


@pytest.mark.slow
def test_blobs_of_16_to_64_mb_are_copied_and_streamed(server_factory: Callable[..., Any], tmp_path: Path) -> None:
    move = _two_servers(server_factory, tmp_path, "512M")
    million = 2**20
    move.pair.source.execute(
        f"INSERT INTO files VALUES (1, REPEAT(X'00FF275C', {4 * million}), 'sixteen'), (2, RANDOM_BYTES(1024), 'small')",
        f"INSERT INTO files VALUES (3, REPEAT(X'00FF275C', {16 * million}), REPEAT('ü', {million}))",
    )
    move.run("run", "--until", "catch_up", timeout=240)
    move.pair.source.execute(
        f"INSERT INTO files VALUES (4, REPEAT('\\\\''', {16 * million}), NULL)", "UPDATE files SET note = 'changed' WHERE id = 3",
        f"UPDATE files SET body = REPEAT(X'1A', {20 * million}) WHERE id = 1",
    )  # fmt: skip
    move.run("run", "--until", "cutover", timeout=240)
    assert _digests(move.pair.target) == _digests(move.pair.source)
    assert [row[1] for row in _digests(move.pair.target)] == [20 * million, 1024, 64 * million, 32 * million]


def test_a_row_that_the_target_does_not_take_stops_the_copy_by_name_and_goes_on_once_it_does(
    server_factory: Callable[..., Any], tmp_path: Path
) -> None:
    move = _two_servers(server_factory, tmp_path, "64M", "2M")
    source, target = move.pair.source, move.pair.target
    source.execute("INSERT INTO files SELECT seq, 'x', 'y' FROM seq_1_to_50", "INSERT INTO files VALUES (77, REPEAT(X'00', 3000000), '')")
    assert "max_allowed_packet is smaller than the source's" in move.run("check").stdout
    result = move.run("run", "--until", "cutover", expect=4)
    assert "files" in result.stderr
    assert "the row after key 50" in result.stderr
    assert "max_allowed_packet" in result.stderr
    assert source.execute("SELECT COUNT(*) FROM files") == ((51,),)
    target.server.execute(f"SET GLOBAL max_allowed_packet = {64 * 2**20}")
    move.run("run", "--until", "cutover")
    assert _digests(target) == _digests(source)


def test_a_row_that_the_target_does_not_take_stops_the_stream_by_name_and_goes_on_once_it_does(
    server_factory: Callable[..., Any], tmp_path: Path
) -> None:
    move = _two_servers(server_factory, tmp_path, "64M", "2M")
    source, target = move.pair.source, move.pair.target
    source.execute("INSERT INTO files SELECT seq, 'x', 'y' FROM seq_1_to_50")
    move.run("run", "--until", "catch_up")
    source.execute("INSERT INTO files VALUES (77, REPEAT(X'00', 3000000), '')", "UPDATE files SET note = 'later' WHERE id = 5")
    result = move.run("run", "--until", "cutover", expect=4)
    assert "files" in result.stderr
    assert "77" in result.stderr
    assert "max_allowed_packet" in result.stderr
    target.server.execute(f"SET GLOBAL max_allowed_packet = {64 * 2**20}")
    move.run("run", "--until", "cutover")
    assert _digests(target) == _digests(source)


# --- what one flavour has and the other has not --------------------------------------------------------------------


@pytest.mark.mysql
@pytest.mark.parametrize(
    ("source", "target", "declaration"),
    [
        *((Flavour.MARIADB, Flavour.MYSQL, MARIADB_TYPES[name][0]) for name in MARIADB_TYPES),
        (Flavour.MYSQL, Flavour.MARIADB, MYSQL_TYPES["vector"][0]),
    ],
    ids=lambda value: value.name.lower() if isinstance(value, Flavour) else value,
)
def test_a_type_that_the_target_lacks_is_refused_by_name_or_carried_exactly(
    source: Flavour, target: Flavour, declaration: str, pair_factory: Callable[..., Pair], tmp_path: Path
) -> None:
    pair = pair_factory(source, target)
    pair.source.execute(f"CREATE TABLE things (id INT PRIMARY KEY, special {declaration})")
    move = Move(pair, tmp_path / "dbmigrate.toml",
                {"SOURCE_PASSWORD": pair.source.server.password, "TARGET_PASSWORD": pair.target.server.password})  # fmt: skip
    move.write(AUTO)
    result = move.run("check", expect=None)
    if "COMPRESSED" in declaration:  # a way to store text, which the other flavour may leave out
        assert result.returncode == 0, result.stdout
    else:
        assert result.returncode == 3
        assert "things" in result.stdout
        assert f"the type {declaration.split('(')[0].split()[0]} has no counterpart" in result.stdout
        assert not pair.target.execute("SHOW TABLES")


@pytest.mark.mysql
@pytest.mark.parametrize("target", [Flavour.MYSQL, Flavour.MARIADB], ids=lambda flavour: flavour.name.lower())
def test_an_invisible_primary_key_that_mysql_made_is_carried(
    target: Flavour, pair_factory: Callable[..., Pair], tmp_path: Path
) -> None:
    pair = pair_factory(Flavour.MYSQL, target)
    pair.source.execute(
        "SET SESSION sql_generate_invisible_primary_key = ON", "CREATE TABLE log (line TEXT)",
        "INSERT INTO log VALUES ('one'), ('two'), ('two')",
    )  # fmt: skip
    move = Move(pair, tmp_path / "dbmigrate.toml",
                {"SOURCE_PASSWORD": pair.source.server.password, "TARGET_PASSWORD": pair.target.server.password})  # fmt: skip
    move.write(AUTO)
    move.run("run", "--until", "catch_up")
    pair.source.execute("UPDATE log SET line = 'changed' LIMIT 1", "INSERT INTO log VALUES ('three')", "DELETE FROM log WHERE line = 'two' LIMIT 1")
    move.run("run", "--until", "cutover")
    read = "SELECT my_row_id, line FROM log ORDER BY my_row_id"
    assert pair.target.execute(read) == pair.source.execute(read)
    assert len(pair.target.execute(read)) == 3
