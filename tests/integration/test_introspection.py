"""What introspection says is what the server holds, on both flavours."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from databases import Database

from dbmigrate.domain.errors import FatalError
from dbmigrate.domain.flavours import Flavour
from dbmigrate.domain.schema import Generation, IndexKind, ObjectKind, ReferentialAction, Schema, Table, TableName
from dbmigrate.mysql.introspection import (
    read_foreign_keys_from_outside,
    read_schema,
    read_server_version,
    read_table,
)

FLAVOURS = [
    pytest.param(Flavour.MARIADB, id="mariadb"),
    pytest.param(Flavour.MYSQL, id="mysql", marks=pytest.mark.mysql),
]


@pytest.fixture(params=FLAVOURS)
def database(
    request: pytest.FixtureRequest, session_server: Any, database_factory: Callable[..., Database]
) -> Database:
    """A fresh schema on each flavour."""
    return database_factory(session_server(request.param, "source"))


def read(database: Database) -> Schema:
    """The schema as introspection sees it."""
    with database.connect() as connection:
        return read_schema(connection, read_server_version(connection), database.schema)


def read_one(database: Database, *statements: str) -> Table:
    """The table ``t`` that the statements create."""
    database.execute(*statements)
    with database.connect() as connection:
        return read_table(connection, read_server_version(connection), TableName(database.schema, "t"))


def test_columns_are_described_as_declared(database: Database) -> None:
    table = read_one(
        database,
        """CREATE TABLE t (
        id INT UNSIGNED PRIMARY KEY AUTO_INCREMENT, amount DECIMAL(12,3) NOT NULL DEFAULT 1.5, bits BIT(12),
        label VARCHAR(20) CHARACTER SET latin1, code BINARY(7), at DATETIME(4), j JSON, hidden INT DEFAULT 3 INVISIBLE,
        e ENUM('it''s','a,b','c\\\\d','','(x)') NOT NULL, s SET('p','q'),
        v INT AS (hidden + 1) VIRTUAL, w VARCHAR(10) AS (CONCAT('virtual', 'ly')) STORED)""",
    )
    columns = {column.name: column for column in table.columns}
    assert [column.position for column in table.columns] == list(range(len(columns)))
    assert columns["id"].is_unsigned
    assert columns["id"].is_auto_increment
    assert not columns["id"].is_nullable
    assert (columns["amount"].precision, columns["amount"].scale, columns["amount"].has_default) == (12, 3, True)
    assert columns["bits"].precision == 12
    assert (columns["label"].charset, columns["label"].octet_length) == ("latin1", 20)
    assert (columns["code"].octet_length, columns["code"].charset) == (7, None)
    assert columns["at"].fraction_digits == 4
    assert columns["j"].is_json
    assert columns["hidden"].is_invisible
    assert columns["e"].members == ("it's", "a,b", "c\\d", "", "(x)")
    assert columns["s"].members == ("p", "q")
    assert (columns["v"].generation, columns["w"].generation) == (Generation.VIRTUAL, Generation.STORED)
    assert [c.name for c in table.stored_columns if c.name in "vw"] == []
    assert (table.engine, table.charset) == ("InnoDB", "utf8mb4")


def test_a_text_that_is_merely_checked_is_not_json(database: Database) -> None:
    table = read_one(database, "CREATE TABLE t (id INT PRIMARY KEY, a VARCHAR(50) CHECK (json_valid(a)), b LONGTEXT)")
    assert [column.is_json for column in table.columns] == [False, False, False]


@pytest.mark.parametrize(
    ("definition", "key"),
    [
        ("a INT PRIMARY KEY, b INT NOT NULL UNIQUE", "PRIMARY"),
        ("a VARCHAR(50), b INT NOT NULL, PRIMARY KEY (a(10), b)", "PRIMARY"),
        ("a FLOAT PRIMARY KEY, b INT NOT NULL, UNIQUE KEY u (b)", "u"),
        ("a BIGINT NOT NULL, b CHAR(40) NOT NULL, c INT NOT NULL, UNIQUE KEY wide (b), UNIQUE KEY slim (a)", "slim"),
        ("a INT NOT NULL, b INT NOT NULL, UNIQUE KEY two (a, b), UNIQUE KEY one (b)", "one"),
        ("a INT, b INT NOT NULL, UNIQUE KEY u (a, b)", None),
        ("a VARCHAR(50) NOT NULL, UNIQUE KEY u (a(10))", None),
        ("a DOUBLE NOT NULL, UNIQUE KEY u (a)", None),
        ("a INT NOT NULL, b INT AS (a + 1) STORED UNIQUE", None),
        ("a INT NOT NULL, KEY k (a)", None),
    ],
)
def test_the_key_is_what_finds_one_row_exactly(database: Database, definition: str, key: str | None) -> None:
    table = read_one(database, f"CREATE TABLE t ({definition})")
    assert (table.key.name if table.key else None) == key


def test_indexes_are_described(database: Database) -> None:
    table = read_one(
        database,
        "CREATE TABLE t (id INT PRIMARY KEY, a VARCHAR(50), g POINT NOT NULL, KEY pre (a(10), id), FULLTEXT KEY ft (a), "
        "SPATIAL KEY sp (g), UNIQUE KEY u (id, a))",
    )
    indexes = {index.name: index for index in table.indexes}
    assert indexes["PRIMARY"].is_primary
    assert (indexes["pre"].columns, indexes["pre"].prefix_lengths) == (("a", "id"), (10, None))
    assert (indexes["ft"].kind, indexes["sp"].kind, indexes["u"].kind) == (
        IndexKind.FULLTEXT, IndexKind.SPATIAL, IndexKind.BTREE,
    )  # fmt: skip
    assert (indexes["u"].is_unique, indexes["pre"].is_unique) == (True, False)
    assert [index.name for index in table.secondary_unique_indexes] == ["u"]


def test_foreign_keys_are_described_on_both_ends_and_from_outside(
    database: Database, database_factory: Callable[..., Database]
) -> None:
    other = database_factory(database.server)
    database.execute(
        "CREATE TABLE parent (a INT, b INT, PRIMARY KEY (a, b))",
        "CREATE TABLE t (id INT PRIMARY KEY, x INT, y INT, CONSTRAINT fk FOREIGN KEY (x, y) REFERENCES parent (a, b) "
        "ON DELETE CASCADE ON UPDATE SET NULL)",
    )
    other.execute(
        f"CREATE TABLE far (id INT PRIMARY KEY, p INT, q INT, FOREIGN KEY (p, q) REFERENCES {database.schema}.parent (a, b))"
    )
    tables = {table.name.name: table for table in read(database).tables}
    (found,) = tables["t"].foreign_keys
    assert found.name == "fk"
    assert (found.columns, found.referenced_columns) == (("x", "y"), ("a", "b"))
    assert found.referenced_table == TableName(database.schema, "parent")
    assert (found.on_delete, found.on_update) == (ReferentialAction.CASCADE, ReferentialAction.SET_NULL)
    assert tables["parent"].referenced_columns == (("a", "b"),)
    with database.connect() as connection:
        (outside,) = read_foreign_keys_from_outside(connection, database.schema)
    assert (outside.table, outside.columns) == (TableName(other.schema, "far"), ("p", "q"))


def test_stored_objects_come_with_the_settings_they_were_made_under(database: Database) -> None:
    database.execute(
        "CREATE TABLE t (id INT PRIMARY KEY)",
        "CREATE VIEW v AS SELECT id FROM t",
        "SET sql_mode = 'ANSI_QUOTES', time_zone = '+02:00'",
        "CREATE FUNCTION f() RETURNS INT DETERMINISTIC RETURN 1",
        "CREATE PROCEDURE p() SELECT 1",
        "CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW SET NEW.id = NEW.id",
        "CREATE EVENT ev ON SCHEDULE EVERY 1 DAY STARTS '2037-01-01 00:00:00' DISABLE DO DELETE FROM t",
    )
    found = {stored.kind: stored for stored in read(database).objects}
    assert set(found) == {
        ObjectKind.VIEW,
        ObjectKind.FUNCTION,
        ObjectKind.PROCEDURE,
        ObjectKind.TRIGGER,
        ObjectKind.EVENT,
    }
    assert found[ObjectKind.FUNCTION].sql_mode == "ANSI_QUOTES"
    assert found[ObjectKind.TRIGGER].table == TableName(database.schema, "t")
    assert (found[ObjectKind.EVENT].is_enabled, found[ObjectKind.EVENT].time_zone) == (False, "+02:00")
    assert all("@" in stored.definer for stored in found.values())
    assert all("CREATE" in stored.create_statement for stored in found.values())


def test_sequences_and_packages_of_mariadb_are_objects(mariadb_server: Any, database_factory: Any) -> None:
    database = database_factory(mariadb_server)
    database.execute(
        "CREATE SEQUENCE numbers START WITH 7",
        "SET sql_mode = 'ORACLE'",
        "CREATE PACKAGE pk AS FUNCTION one RETURN INT; END",
        "CREATE PACKAGE BODY pk AS FUNCTION one RETURN INT AS BEGIN RETURN 1; END; END",
    )
    schema = read(database)
    assert schema.tables == ()
    (sequence,) = schema.of_kind(ObjectKind.SEQUENCE)
    assert "7" in sequence.create_statement
    first, second = schema.of_kind(ObjectKind.PACKAGE)
    assert "BODY" not in first.create_statement.split("pk", 1)[0].upper()
    assert "BODY" in second.create_statement.split("pk", 1)[0].upper()


def test_definitions_do_not_depend_on_the_session_which_stays_as_it_was(database: Database) -> None:
    settings = "SELECT @@sql_mode, @@time_zone, @@sql_quote_show_create"
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE t (`order` INT PRIMARY KEY, at TIMESTAMP DEFAULT '2024-01-01 12:00:00')")
        version = read_server_version(connection)
        plain = read_table(connection, version, TableName(database.schema, "t")).create_statement
        cursor.execute("SET sql_mode = 'ANSI_QUOTES', time_zone = '+05:00', sql_quote_show_create = 0")
        cursor.execute(settings)
        before = cursor.fetchall()
        assert read_table(connection, version, TableName(database.schema, "t")).create_statement == plain
        cursor.execute(settings)
        assert cursor.fetchall() == before


def test_what_is_absent_is_empty_or_refused(database: Database) -> None:
    with database.connect() as connection:
        version = read_server_version(connection)
        assert read_schema(connection, version, "no_such_database").tables == ()
        with pytest.raises(FatalError, match="does not exist"):
            read_table(connection, version, TableName(database.schema, "none"))


@pytest.mark.mysql
def test_the_hidden_key_that_mysql_makes_is_seen(mysql_server: Any, database_factory: Any) -> None:
    database = database_factory(mysql_server)
    database.execute(
        "SET sql_generate_invisible_primary_key = ON", "CREATE TABLE t (a INT)",
    )  # fmt: skip
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SET show_gipk_in_create_table_and_information_schema = OFF")
        table = read_table(connection, read_server_version(connection), TableName(database.schema, "t"))
    assert table.key is not None
    assert table.key.columns == ("my_row_id",)


def test_many_tables_are_read_in_few_queries(database: Database) -> None:
    """One SHOW CREATE a table, all else in a fixed number of queries."""
    with database.connect() as connection, connection.cursor() as cursor:
        for number in range(150):
            cursor.execute(f"CREATE TABLE t{number} (id INT PRIMARY KEY, a INT, KEY (a))")
        cursor.execute("SHOW SESSION STATUS LIKE 'Questions'")
        before = int(cursor.fetchone()[1])
        begun = time.monotonic()
        schema = read_schema(connection, read_server_version(connection), database.schema)
        assert time.monotonic() - begun < 30
        cursor.execute("SHOW SESSION STATUS LIKE 'Questions'")
        asked = int(cursor.fetchone()[1]) - before
    assert len(schema.tables) == 150
    assert asked < 150 + 30
