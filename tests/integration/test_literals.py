"""Every type makes the round trip between every pair of flavours, extremes included, and digests agree.

What is compared does not pass through the code under test: HEX() of every column, or a printed form for types whose
bytes the servers do not show.
"""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from databases import Pair
from exact_sessions import fetch, open_data_session, open_session
from plannings import PLANNINGS
from type_catalogue import KEYS, MARIADB_TYPES, MYSQL_TYPES, PROOFS, TYPES

from dbmigrate.domain.flavours import Flavour
from dbmigrate.domain.routes import CarriedColumn, Route
from dbmigrate.domain.schema import Column, Table, TableName
from dbmigrate.mysql.bulk_load import LoadPlan, Way
from dbmigrate.mysql.digests import compares_by_text, digest_expression, range_digest_expression
from dbmigrate.mysql.identifiers import quote_columns, quote_table
from dbmigrate.mysql.introspection import read_schema, read_server_version, read_table
from dbmigrate.mysql.key_predicates import KeyRange
from dbmigrate.mysql.literals import key_expression, literal_expression, row_literal_expression
from dbmigrate.mysql.transfer import StreamedRows, load_rows, read_few, read_range

Planning = Callable[..., LoadPlan | None]
CONVERTED = frozenset({"bit_1", "bit_64", "year", "latin1", "latin1_bin", "ucs2"})
CONVERTED_BY_MARIADB = frozenset({"inet4", "inet6", "uuid"})
LITERALS_ONLY = frozenset({"point", "geometry", "vector", "utf32", "utf16", "sjis", "gbk", "cp1251", "big5", "ascii"})


def load(connection: Any, schema: str, name: str, declaration: str, values: list[str]) -> Table:
    """A table ``name`` (id, v) holding the values and a NULL."""
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE `{name}` (id INT PRIMARY KEY, v {declaration}, w VARCHAR(9) COLLATE utf8mb4_bin)")
        for number, value in enumerate([*values, "NULL"]):
            cursor.execute(f"INSERT INTO `{name}` VALUES ({number}, {value}, '√')")
    return read_table(connection, read_server_version(connection), TableName(schema, name))


def carry(source: Any, target: Any, table: Table, values: dict[str, str] | None = None) -> None:
    """Read all rows as literals, write them to the same table on the target."""
    literal = row_literal_expression(table.columns, values or {})
    ((count, text),) = fetch(
        source, f"SELECT COUNT(*), GROUP_CONCAT({literal} SEPARATOR ',') FROM {quote_table(table.name)}"
    )
    names = quote_columns(column.name for column in table.columns)
    assert count == 0 or text
    fetch(target, f"REPLACE INTO {quote_table(table.name)} ({names}) VALUES {text}")


def carry_as_bytes(pair: Pair, table: Table, twin: Table, planning: Planning) -> bool:
    """Read all rows as bytes, and write those into the same table on the target; False where literals must."""
    columns = tuple(CarriedColumn(there, here) for here, there in zip(table.columns, twin.columns, strict=True))
    route = Route(table, twin, columns, ("id",))
    source, target = open_data_session(pair.source), open_data_session(pair.target)
    try:
        versions = (read_server_version(session.driver_connection) for session in (source, target))
        plan = planning(route, origin=next(versions), destination=next(versions))
        if plan is None:
            return False
        gathered = b"".join(bytes(part) for part in StreamedRows(source, route, KeyRange(), plan).parts)
        assert read_few(source, route, KeyRange(), plan).text == gathered
        assert read_few(source, route, KeyRange(), None) == read_range(source, route, KeyRange())
        load_rows(target, route, [StreamedRows(source, route, KeyRange(), plan)], plan, max_packet_bytes=1 << 26)
    finally:
        source.close()
        target.close()
    return True


def read_proof(connection: Any, table: Table) -> tuple[tuple[Any, ...], ...]:
    """What the rows hold, independent of literals."""
    shown = PROOFS.get(table.name.name, "HEX({})").format("`v`")
    return fetch(connection, f"SELECT id, v IS NULL, {shown}, HEX(w) FROM {quote_table(table.name)} ORDER BY id")


def read_digest(connection: Any, columns: tuple[Column, ...], table: Table) -> Any:
    """The table's combined digests, of its rows and as a range; none is NULL, which XOR would pass over."""
    row, in_range = digest_expression(columns), range_digest_expression(columns)
    sql = f"SELECT COUNT(*), COUNT({row}), COUNT({in_range}), BIT_XOR({row}), BIT_XOR({in_range}) FROM {quote_table(table.name)}"
    (found,) = fetch(connection, sql)
    assert found[0] == found[1] == found[2]
    return found


def check_type(pair: Pair, name: str, declaration: str, values: list[str]) -> None:
    """Carry one type over and compare proofs and digests."""
    source, target = open_session(pair.source), open_session(pair.target)
    with source, target:
        table = load(source, pair.source.schema, name, declaration, values)
        twin = load(target, pair.target.schema, name, declaration, [])
        fetch(target, f"TRUNCATE TABLE {quote_table(table.name)}")
        carry(source, target, table)
        expected, found = read_proof(source, table), read_proof(target, twin)
        if name in ("float", "double"):
            expected, found = without_negative_zeros(expected), without_negative_zeros(found)
        assert found == expected
        versions = read_server_version(source), read_server_version(target)
        if compares_by_text(table.column("v"), *versions):
            columns = table.columns
            assert read_digest(target, columns, twin) == read_digest(source, columns, table)
            single = (table.column("v"),)
            assert read_digest(target, single, twin) == read_digest(source, single, table)
        for way, planning in PLANNINGS.items():
            if way is Way.PARAMETERS and not versions[1].is_mariadb:
                continue
            fetch(target, f"DELETE FROM {quote_table(table.name)}")
            if carry_as_bytes(pair, table, twin, planning):
                found = read_proof(target, twin)
                assert (without_negative_zeros(found) if name in ("float", "double") else found) == expected
            elif way is not Way.REPLACE:
                assert name in LITERALS_ONLY
            else:
                assert name in LITERALS_ONLY | CONVERTED | (CONVERTED_BY_MARIADB if versions[1].is_mariadb else {"json"})
        fetch(target, f"DELETE FROM {quote_table(table.name)}")
        carry(source, target, table)
        # A changed value must change the digest.
        fetch(target, f"DELETE FROM {quote_table(table.name)} WHERE id = 0")
        assert read_digest(target, table.columns, twin) != read_digest(source, table.columns, table)


def without_negative_zeros(rows: tuple[tuple[Any, ...], ...]) -> list[tuple[Any, ...]]:
    """-0.0 as 0.0: MariaDB neither stores nor prints it."""
    return [tuple(0.0 if value == 0 and isinstance(value, float) else value for value in row) for row in rows]


@pytest.mark.parametrize("name", TYPES)
def test_type_survives_the_way_between_all_flavours(flavour_pair: Pair, name: str) -> None:
    check_type(flavour_pair, name, *TYPES[name])


@pytest.mark.parametrize("name", MARIADB_TYPES)
def test_types_of_mariadb_survive(mariadb_pair: Pair, name: str) -> None:
    check_type(mariadb_pair, name, *MARIADB_TYPES[name])


@pytest.mark.mysql
def test_vector_survives(mysql_pair: Pair) -> None:
    check_type(mysql_pair, "vector", *MYSQL_TYPES["vector"])


@pytest.mark.mysql
def test_negative_zero_keeps_its_sign_between_mysql_servers(mysql_pair: Pair) -> None:
    source, target = open_session(mysql_pair.source), open_session(mysql_pair.target)
    with source, target:
        for kind in ("float", "double"):
            table = load(source, mysql_pair.source.schema, kind, kind, ["'-0'"])
            load(target, mysql_pair.target.schema, kind, kind, [])
            carry(source, target, table)
            ((value,),) = fetch(target, f"SELECT v FROM {quote_table(table.name)} WHERE id = 0")
            assert math.copysign(1, value) == -1


def test_random_floats_are_exact_and_printed_alike(flavour_pair: Pair) -> None:
    """Any bits that make a finite number: the digest is over its text, so both servers must print it alike."""
    chance = random.Random(20)
    values = []
    while len(values) < 2000:
        (value,) = struct.unpack("<d", chance.randbytes(8))
        if math.isfinite(value):
            values.append(repr(value))
    values += [repr(chance.uniform(-1e6, 1e6)) for _ in range(1000)]
    values += [repr(-chance.uniform(1e-38, 9e-36)) for _ in range(300)]
    values += [f"{digits}e{power}" for digits in ("1", "-1.5", "-9.999999999999999") for power in range(-40, 38)]
    source, target = open_session(flavour_pair.source), open_session(flavour_pair.target)
    with source, target:
        for connection in (source, target):
            fetch(connection, "CREATE TABLE f (id INT PRIMARY KEY AUTO_INCREMENT, v DOUBLE, g FLOAT)")
        rows = ",".join(f"('{v}', '{v if abs(float(v)) < 1e38 else 0}')" for v in values)
        fetch(source, f"INSERT INTO f (v, g) VALUES {rows}")
        table = read_table(source, read_server_version(source), TableName(flavour_pair.source.schema, "f"))
        carry(source, target, table)
        proof = "SELECT id, v, g * 1e0 FROM f ORDER BY id"
        assert without_negative_zeros(fetch(target, proof)) == without_negative_zeros(fetch(source, proof))
        assert read_digest(target, table.columns, table) == read_digest(source, table.columns, table)


def test_float_carried_into_a_double_keeps_all_it_had(flavour_pair: Pair) -> None:
    """The literal's type is the destination's where the types differ."""
    source, target = open_session(flavour_pair.source), open_session(flavour_pair.target)
    with source, target:
        load(source, flavour_pair.source.schema, "w", "FLOAT", ["0.1", "'-1.17549435e-38'"])
        twin = load(target, flavour_pair.target.schema, "w", "DOUBLE", [])
        carry(source, target, twin, {"v": "`v`"})
        assert fetch(target, "SELECT v FROM w ORDER BY id") == fetch(source, "SELECT v * 1e0 FROM w ORDER BY id")
        assert read_digest(target, twin.columns, twin) == read_digest(source, twin.columns, twin)


@pytest.mark.parametrize("name", KEYS)
def test_key_literal_finds_exactly_its_row(flavour_pair: Pair, name: str) -> None:
    """On the server that printed it and on the other one, also as part of a composite key."""
    declaration, values = KEYS[name]
    source, target = open_session(flavour_pair.source), open_session(flavour_pair.target)
    with source, target:
        for connection in (source, target):
            fetch(connection, f"CREATE TABLE k (v {declaration} NOT NULL, n INT NOT NULL, PRIMARY KEY (v, n))")
        for number, value in enumerate(values):
            fetch(source, f"INSERT INTO k VALUES ({value}, {number})")
        table = read_table(source, read_server_version(source), TableName(flavour_pair.source.schema, "k"))
        carry(source, target, table)
        assert table.key is not None
        keys = [row[0] for row in fetch(source, f"SELECT {key_expression(table.key_columns)} FROM k")]
        assert len(set(keys)) == len(values)
        assert sorted(keys) == sorted(
            row[0] for row in fetch(target, f"SELECT {key_expression(table.key_columns)} FROM k")
        )
        for key in keys:
            assert key.isascii()
            assert key.count(",") == 1
            for connection in (source, target):
                found = fetch(
                    connection, f"SELECT {key_expression(table.key_columns)} FROM k WHERE (v, n) IN (({key}))"
                )
                assert found == ((key,),)


def test_enum_index_zero_is_kept_by_mysql_and_refused_by_mariadb(flavour_pair: Pair) -> None:
    source, target = open_session(flavour_pair.source), open_session(flavour_pair.target)
    with source, target:
        for name, declaration in (("plain", "ENUM('a','b')"), ("zeros", "ENUM('a','0','000')")):
            fetch(target, f"CREATE TABLE {name} (id INT PRIMARY KEY, v {declaration}, w INT)")
            fetch(source, f"CREATE TABLE {name} (id INT PRIMARY KEY, v {declaration}, w INT)")
            with source.cursor() as cursor:
                cursor.execute("SET sql_mode = ''")
                cursor.execute(f"INSERT INTO {name} VALUES (1, 0, 0), (2, 'a', 0)")
            version = read_server_version(target)
            table = read_table(source, read_server_version(source), TableName(flavour_pair.source.schema, name))
            if version.flavour is Flavour.MARIADB:
                with pytest.raises(Exception, match="Data truncated for column 'v'"):
                    carry(source, target, table)
            else:
                carry(source, target, table)
                assert fetch(target, f"SELECT v + 0 FROM {name} ORDER BY id") == ((0,), (1,))


def test_enum_goes_by_name_where_members_stand_in_another_order(mariadb_pair: Pair) -> None:
    source, target = open_session(mariadb_pair.source), open_session(mariadb_pair.target)
    with source, target:
        table = load(source, mariadb_pair.source.schema, "e", "ENUM('a','b','1')", ["'a'", "'b'", "'1'"])
        load(target, mariadb_pair.target.schema, "e", "ENUM('1','b','c','a')", [])
        carry(source, target, table)
        shown = "SELECT CONCAT(v) FROM e ORDER BY id"
        assert fetch(target, shown) == fetch(source, shown) == (("a",), ("b",), ("1",), (None,))
        assert read_digest(target, table.columns, table) == read_digest(source, table.columns, table)


HOSTILE = "'1),(7,(SELECT 1)),(8,0'"


@pytest.mark.parametrize("name", [n for n in TYPES if n not in ("json", "geometry", "point")])
def test_text_from_an_expression_never_becomes_sql(mariadb_server: Any, database_factory: Any, name: str) -> None:
    """Whatever type a column has: a value of the application that reads like SQL stays one literal."""
    database = database_factory(mariadb_server)
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE t (id INT PRIMARY KEY, v {TYPES[name][0]})")
        cursor.execute("CREATE TABLE s (v TEXT)")
        cursor.execute(f"INSERT INTO s VALUES ({HOSTILE})")
        column = read_table(connection, read_server_version(connection), TableName(database.schema, "t")).column("v")
        for value in ("`v`", "(CONCAT(v))"):
            cursor.execute(f"SELECT {literal_expression(column, value)} FROM s")
            ((text,),) = cursor.fetchall()
            cursor.execute(f"SELECT {text}, 'end'")
            assert cursor.fetchall()[0][1] == "end"


def test_digest_does_not_depend_on_the_charset_a_side_keeps_its_text_in(mariadb_pair: Pair) -> None:
    source, target = open_session(mariadb_pair.source), open_session(mariadb_pair.target)
    with source, target:
        table = load(source, mariadb_pair.source.schema, "c", "VARCHAR(9) CHARACTER SET gbk", ["'中国'", "''"])
        twin = load(target, mariadb_pair.target.schema, "c", "VARCHAR(9)", [])
        carry(source, target, table)
        assert fetch(target, "SELECT CONCAT(v) FROM c WHERE id = 0") == (("中国",),)
        assert read_digest(target, table.columns, twin) == read_digest(source, table.columns, table)
        single = (replace(table.column("v")),)
        assert read_digest(target, single, twin) == read_digest(source, single, table)


@pytest.mark.parametrize("other", ["utf8mb4_nopad_bin", "utf8mb4_general_ci", "utf8mb4_unicode_ci"])
def test_a_row_whose_columns_have_different_collations_has_one_literal(other: str, mariadb_pair: Any) -> None:
    """MariaDB refuses to concatenate utf8mb4_bin with utf8mb4_nopad_bin by itself."""
    mariadb_pair.source.execute(
        f"CREATE TABLE t (id VARCHAR(9) COLLATE {other} PRIMARY KEY, b VARCHAR(9) COLLATE utf8mb4_bin, "
        "c VARCHAR(9) COLLATE utf8mb4_unicode_520_ci, d VARCHAR(9) CHARACTER SET latin1, n INT)",
        "INSERT INTO t VALUES ('é', 'b', 'c', 'é', 1)",
    )
    with mariadb_pair.source.connect() as connection:
        (table,) = read_schema(connection, read_server_version(connection), mariadb_pair.source.schema).tables
    ((literal,),) = mariadb_pair.source.execute(f"SELECT {row_literal_expression(table.stored_columns)} FROM t")
    assert literal == "('é','b','c','é','1')"
    assert mariadb_pair.source.execute(f"SELECT {range_digest_expression(table.stored_columns)} FROM t")[0][0]
