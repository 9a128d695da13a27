"""What one server has is created on another, between all flavours, and means the same there.

The schema below has what schemas in the field have; where the Sakila sample is at hand, it is moved, too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from databases import Database, Pair

from dbmigrate.domain.errors import DbmigrateError
from dbmigrate.domain.flavours import Flavour
from dbmigrate.domain.schema import ObjectKind, Schema, StoredObject, TableName
from dbmigrate.mysql.definitions import (
    UntranslatableError,
    create_objects,
    enable_event,
    translate_collation,
    translate_object,
    translate_table,
)
from dbmigrate.mysql.introspection import read_schema, read_server_version
from dbmigrate.mysql.sessions import DATA_SESSION

COMMON = (
    "CREATE TABLE people (id BIGINT UNSIGNED PRIMARY KEY AUTO_INCREMENT, name VARCHAR(40) CHARACTER SET latin1 NOT NULL "
    "DEFAULT 'it''s \\\\ `x`' COMMENT 'DEFAULT uuid() CHECK (x) COLLATE utf8mb4_0900_ai_ci\n, ) /*!80000 y */', "
    "email VARCHAR(80) COLLATE utf8mb4_bin, born DATE DEFAULT '2000-01-01', bits BIT(3) DEFAULT b'101', doc JSON, "
    "state ENUM('new','it''s','a,b') NOT NULL DEFAULT 'new', changed TIMESTAMP(3) DEFAULT CURRENT_TIMESTAMP(3) "
    "ON UPDATE CURRENT_TIMESTAMP(3), token CHAR(36) DEFAULT (UUID()), due DATE DEFAULT (CURDATE() + INTERVAL 1 DAY), "
    "story TEXT DEFAULT ('once'), upper_email VARCHAR(80) AS (CONCAT('U(''', UPPER(email), '''')) VIRTUAL, "
    "next_id BIGINT UNSIGNED AS (bits + 1) STORED, hidden INT NOT NULL DEFAULT 4 INVISIBLE, place POINT NOT NULL, "
    "UNIQUE KEY by_email (email), KEY by_name (name DESC, born), KEY `odd ``name` (born), KEY by_state (state(1)), "
    "FULLTEXT KEY words (story), FULLTEXT KEY mails (email), SPATIAL KEY there (place), CHECK (hidden > 0), "
    "CONSTRAINT grown CHECK (born > '1900-01-01')) AUTO_INCREMENT=1000 COMMENT='people''s ENCRYPTION=''Y'''".replace(
        ", KEY by_state (state(1))", ""
    ),
    "CREATE TABLE orders (id INT PRIMARY KEY, person BIGINT UNSIGNED, parent INT, total DECIMAL(10,2) CHECK (total >= 0), "
    "CHECK (id <> 13), KEY by_total (total), FOREIGN KEY (person) REFERENCES people (id) ON DELETE CASCADE ON UPDATE SET NULL, "
    "CONSTRAINT tree FOREIGN KEY (parent) REFERENCES orders (id)) DEFAULT CHARSET=utf8mb3",
    "CREATE TABLE log (id INT NOT NULL, at DATE NOT NULL, note VARCHAR(50), PRIMARY KEY (id, at), KEY (note)) "
    "PARTITION BY RANGE (YEAR(at)) (PARTITION early VALUES LESS THAN (2020) COMMENT 'it''s', PARTITION late VALUES LESS THAN MAXVALUE)",
    "CREATE TABLE totals (person BIGINT UNSIGNED PRIMARY KEY, total DECIMAL(10,2)) ROW_FORMAT=DYNAMIC",
    "CREATE TABLE `o'clock` (`it's` INT PRIMARY KEY DEFAULT 1 COMMENT 'it''s', `a``b` INT, KEY `x'y` (`a``b`)) ENGINE=MyISAM",
    "CREATE VIEW a_first AS SELECT * FROM z_last WHERE name <> 'don''t {schema}.x'",
    "CREATE FUNCTION plus_tax(amount DECIMAL(10,2)) RETURNS DECIMAL(10,2) DETERMINISTIC RETURN amount * 1.2",
    "CREATE OR REPLACE VIEW b_taxed AS SELECT id, {schema}.plus_tax(total) AS gross FROM {schema}.orders",
    "CREATE PROCEDURE settle(IN who BIGINT) BEGIN -- don't stop at {schema}.orders\n"
    "UPDATE {schema}.totals SET total = (SELECT SUM(total) FROM {schema}.orders WHERE person = who) WHERE person = who; END",
    "CREATE TRIGGER ordered AFTER INSERT ON orders FOR EACH ROW INSERT INTO {schema}.totals VALUES (NEW.person, NEW.total) "
    "ON DUPLICATE KEY UPDATE total = {schema}.totals.total + NEW.total",
    "CREATE TRIGGER ordered_again AFTER INSERT ON orders FOR EACH ROW INSERT INTO log VALUES (NEW.id, '2024-01-01', 'größer')",
    "SET sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT'",
    "CREATE PROCEDURE greet() SELECT 'hello ' || \"name\" AS greeting FROM people",
    "CREATE EVENT tidy ON SCHEDULE EVERY 1 DAY ON COMPLETION PRESERVE ENABLE DO DELETE FROM {schema}.log WHERE at < NOW()",
)  # fmt: skip
OF_FLAVOUR = {
    Flavour.MARIADB: (
        "CREATE TABLE local (id INT PRIMARY KEY, a VARCHAR(100) COMPRESSED, b TEXT COLLATE utf8mb4_unicode_ci DEFAULT 'x', "
        "c VARCHAR(9) COLLATE utf8mb4_uca1400_as_cs, KEY k (b(9)) IGNORED, CHECK (id > 5)) PAGE_COMPRESSED=1",
        "CREATE TABLE crash_safe (id INT PRIMARY KEY) ENGINE=Aria TRANSACTIONAL=1",
    ),
    Flavour.MYSQL: (
        "CREATE TABLE local (id INT PRIMARY KEY, a VARCHAR(10) COLLATE utf8mb4_0900_as_cs NOT NULL, p POINT NOT NULL SRID 4326, "
        "v INT AS (id + 1) STORED NOT NULL, KEY k (a) INVISIBLE) COMPRESSION='zlib' STATS_PERSISTENT=1",
        "CREATE TABLE crash_safe (id INT PRIMARY KEY COLUMN_FORMAT FIXED)",
    ),
}


def read(database: Database) -> Schema:
    """The schema as introspection sees it."""
    with database.connect() as connection:
        return read_schema(connection, read_server_version(connection), database.schema)


class Mover:
    """Creates on the target what the source has."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.schema = read(pair.source)
        with pair.source.connect() as connection:
            self.source = read_server_version(connection)
        self.connection = pair.target.connect()
        self.target = read_server_version(self.connection)
        self.run(*DATA_SESSION)

    def run(self, *statements: str) -> tuple[Any, ...]:
        """Run statements on the target; the rows of the last."""
        with self.connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return tuple(cursor.fetchall())

    def create_tables(self, *, deferred: bool = False) -> None:
        """All tables, in alphabetical order: foreign keys are not checked."""
        for table in self.schema.tables:
            name = TableName(self.pair.target.schema, table.name.name)
            definition = translate_table(table, source=self.source, target=self.target, target_name=name)
            if deferred:
                self.run(definition.create_without_secondary, *definition.deferred_indexes)
            else:
                self.run(definition.create)

    def create_objects(self, *kinds: ObjectKind) -> None:
        """All objects of these kinds."""
        create_objects(
            self.connection, self.schema.of_kind(*kinds), source=self.source, target=self.target,
            source_schema=self.pair.source.schema, target_schema=self.pair.target.schema,
        )  # fmt: skip


def fill(database: Database) -> None:
    """The sample schema, with what only this flavour has."""
    flavour = database.server.flavour
    text = [statement.replace("{schema}", database.schema) for statement in COMMON]
    tables, programs = text[:5], text[5:]
    # a view that sorts before the one it needs
    database.execute(*tables, *OF_FLAVOUR[flavour], "CREATE VIEW z_last AS SELECT id, name FROM people", *programs)


def describe(schema: Schema) -> dict[str, Any]:
    """What must be the same on both sides, apart from spelling."""
    return {
        table.name.name: (
            [(c.name, c.data_type if not c.is_json else "json", c.is_nullable or bool(c.generation), c.charset if not c.is_json
              else None, c.fraction_digits, c.precision if c.data_type == "decimal" else None, c.scale, c.is_unsigned, c.members,
              c.generation, c.is_invisible, c.is_auto_increment) for c in table.columns],
            sorted((i.name, i.columns, i.is_unique, i.kind, i.prefix_lengths) for i in table.indexes),
            sorted((fk.name, fk.columns, fk.referenced_table.name, fk.referenced_columns, str(fk.on_delete).replace("NO_ACTION", "RESTRICT"),
                    str(fk.on_update).replace("NO_ACTION", "RESTRICT")) for fk in table.foreign_keys),
            table.key and table.key.columns, table.auto_increment or 1, table.is_partitioned,
        )
        for table in schema.tables
    }  # fmt: skip


@pytest.mark.parametrize("deferred", [False, True], ids=["at-once", "deferred"])
def test_tables_are_the_same_on_the_target(flavour_pair: Pair, deferred: bool) -> None:
    fill(flavour_pair.source)
    mover = Mover(flavour_pair)
    mover.create_tables(deferred=deferred)
    created = read(flavour_pair.target)
    expected, found = describe(mover.schema), describe(created)
    assert set(found) == set(expected)
    for name, table in expected.items():
        for part, same in zip(table, found[name], strict=True):
            assert same == part, name
    # checks and defaults do what they did
    with pytest.raises(Exception, match=r"CONSTRAINT|[Cc]heck constraint"):
        mover.run("INSERT INTO orders (id, total) VALUES (13, 1)")
    with pytest.raises(Exception, match=r"CONSTRAINT|[Cc]heck constraint"):
        mover.run("INSERT INTO orders (id, total) VALUES (1, -1)")
    mover.run("INSERT INTO people (email, place) VALUES ('é', ST_GeomFromText('POINT(1 2)'))")
    ((row),) = mover.run(
        "SELECT id, name, born, bits + 0, state, story, upper_email, next_id, hidden, LENGTH(token), due > CURDATE() FROM people"
    )
    assert row[:1] == (1000,)
    assert row[1] == "it's \\ `x`"
    assert row[3:] == (5, "new", "once", "U('É'", 6, 4, 36, 1)
    comment = mover.run(
        "SELECT column_comment FROM information_schema.columns WHERE column_name = 'name' AND table_name = 'people' "
        f"AND table_schema = '{flavour_pair.target.schema}'"
    )
    assert comment[0][0].startswith("DEFAULT uuid() CHECK (x) COLLATE utf8mb4_0900_ai_ci\n, )")


def test_objects_work_on_the_target_under_another_databases_name(
    flavour_pair: Pair, database_factory: Callable[..., Database]
) -> None:
    fill(flavour_pair.source)
    moved = Pair(
        flavour_pair.source, database_factory(flavour_pair.target.server, f"{flavour_pair.source.schema}_moved")
    )
    mover = Mover(moved)
    mover.create_tables()
    mover.create_objects(ObjectKind.VIEW, ObjectKind.FUNCTION, ObjectKind.PROCEDURE)
    mover.create_objects(ObjectKind.VIEW, ObjectKind.FUNCTION, ObjectKind.PROCEDURE)  # what exists is kept
    mover.create_objects(ObjectKind.TRIGGER, ObjectKind.EVENT)
    mover.run(*DATA_SESSION, "SET NAMES utf8mb4")
    mover.run(
        "INSERT INTO people (id, name, email, place) VALUES (8, 'don''t {schema}.x', 'd', ST_GeomFromText('POINT(1 2)'))".replace(
            "{schema}", flavour_pair.source.schema
        )
    )
    mover.run("INSERT INTO people (id, name, email, place) VALUES (7, 'Ann', 'a', ST_GeomFromText('POINT(1 2)'))")
    mover.run("INSERT INTO orders (id, person, total) VALUES (1, 7, 10), (2, 7, 5)")
    assert mover.run("SELECT total FROM totals") == ((15,),)
    assert mover.run("SELECT note FROM log") == (("größer",), ("größer",))
    mover.run("UPDATE totals SET total = 0", "CALL settle(7)")
    assert mover.run("SELECT total FROM totals") == ((15,),)
    assert mover.run("SELECT gross FROM b_taxed ORDER BY id") == ((12,), (6,))
    assert mover.run("SELECT name FROM a_first") == (("Ann",),)
    assert mover.run("CALL greet()")[-1] == ("hello Ann",)
    created = read(moved.target)
    assert sorted(map(identify, created.objects)) == sorted(map(identify, mover.schema.objects))
    assert f"`{moved.source.schema}`." not in "".join(o.create_statement for o in created.objects)


def identify(thing: StoredObject) -> tuple[str, str, str, list[str]]:
    """What must be the same on both sides; MySQL has no NO_AUTO_CREATE_USER."""
    modes = {mode for mode in thing.sql_mode.split(",") if mode} - {"NO_AUTO_CREATE_USER"}
    return thing.kind.value, thing.name.name, thing.definer, sorted(modes)


def test_an_event_waits_until_it_is_enabled(flavour_pair: Pair) -> None:
    fill(flavour_pair.source)
    mover = Mover(flavour_pair)
    mover.create_tables()
    zone = mover.run("SELECT @@time_zone")
    (event,) = mover.schema.of_kind(ObjectKind.EVENT)
    for statement in translate_object(
        event, source=mover.source, target=mover.target,
        source_schema=flavour_pair.source.schema, target_schema=flavour_pair.target.schema,
    ):  # fmt: skip
        mover.run(statement)
    assert mover.run("SELECT @@time_zone") == zone
    (created,) = read(flavour_pair.target).of_kind(ObjectKind.EVENT)
    assert not created.is_enabled
    assert created.time_zone == event.time_zone
    mover.run(enable_event(event, flavour_pair.target.schema))
    (enabled,) = read(flavour_pair.target).of_kind(ObjectKind.EVENT)
    assert enabled.is_enabled
    mover.run(f"ALTER EVENT {flavour_pair.target.schema}.tidy DISABLE")


def test_every_collation_is_translated_to_one_that_exists_or_refused(flavour_pair: Pair) -> None:
    def names(database: Database) -> set[str]:
        rows = database.execute(
            "SELECT collation_name FROM information_schema.collations WHERE collation_name LIKE '%\\_%' "
            "AND id IS NOT NULL"
        )  # fmt: skip
        return {name for (name,) in rows}

    there = names(flavour_pair.target)
    with flavour_pair.source.connect() as a, flavour_pair.target.connect() as b:
        source, target = read_server_version(a), read_server_version(b)
        refused = 0
        for name in names(flavour_pair.source):
            try:
                translated = translate_collation(name, source=source, target=target)
            except UntranslatableError:
                refused += 1
                assert name not in there
            else:
                with b.cursor() as cursor:
                    charset = translated.split("_")[0]
                    cursor.execute(f"SELECT CONVERT('x' USING {charset}) COLLATE {translated} = 'x'")
        assert refused == 0 or source.flavour is not target.flavour


def test_sequences_and_packages_move_between_mariadb_servers(mariadb_pair: Pair) -> None:
    mariadb_pair.source.execute(
        "CREATE SEQUENCE numbers START WITH 70 INCREMENT BY 7",
        "SET sql_mode = 'ORACLE'",
        "CREATE PACKAGE pk AS FUNCTION one RETURN INT; END",
        "CREATE PACKAGE BODY pk AS FUNCTION one RETURN INT AS BEGIN RETURN 1; END; END",
    )
    mover = Mover(mariadb_pair)
    mover.create_objects(ObjectKind.SEQUENCE, ObjectKind.PACKAGE)
    assert mover.run("SELECT NEXTVAL(numbers), pk.one()") == ((70, 1),)


def test_what_cannot_be_created_is_named_with_the_servers_reason(mariadb_pair: Pair) -> None:
    mariadb_pair.source.execute("CREATE TABLE t (id INT PRIMARY KEY)", "CREATE VIEW v AS SELECT id FROM t")
    mover = Mover(mariadb_pair)
    with pytest.raises(DbmigrateError, match=r"v.*creating the view"):
        mover.create_objects(ObjectKind.VIEW)


# --- Sakila -------------------------------------------------------------------------------------------------------


def _find_sakila() -> Path | None:
    shared = os.environ.get("DBMIGRATE_SHARED_DATA", str(Path(__file__).parents[3] / "shared" / "data"))
    path = Path(shared) / "sakila" / "schema.sql"
    return path if path.exists() else None


def _statements(text: str) -> Iterator[str]:
    """The statements of a dump, DELIMITER lines obeyed."""
    delimiter, pending = ";", ""
    for line in text.splitlines():
        if line.upper().startswith("DELIMITER "):
            delimiter = line.split()[1]
        elif pending or (line.strip() and not line.startswith("--")):
            pending += line + "\n"
            if line.rstrip().endswith(delimiter):
                yield pending.rstrip().removesuffix(delimiter)
                pending = ""


def test_a_schema_from_the_field_moves(flavour_pair: Pair, database_factory: Callable[..., Database]) -> None:
    """Sakila where it is at hand; else the sample of this file."""
    sakila = _find_sakila()
    if sakila is None:
        fill(flavour_pair.source)
    else:
        with flavour_pair.source.connect() as connection, connection.cursor() as cursor:
            cursor.execute("SET foreign_key_checks = 0, sql_mode = ''")
            for statement in _statements(sakila.read_text()):
                if not re.match(r"(?i)\s*(DROP|CREATE) SCHEMA|\s*USE ", statement):
                    cursor.execute(statement.replace("sakila.", ""))
    mover = Mover(Pair(flavour_pair.source, database_factory(flavour_pair.target.server, "moved_away")))
    mover.create_tables(deferred=True)
    mover.create_objects(*ObjectKind)
    created = read(mover.pair.target)
    assert describe(created).keys() == describe(mover.schema).keys()
    for name, parts in describe(mover.schema).items():
        assert describe(created)[name] == parts, name
    assert {(o.kind, o.name.name) for o in created.objects} == {(o.kind, o.name.name) for o in mover.schema.objects}
    for view in created.of_kind(ObjectKind.VIEW):
        mover.run(f"SELECT * FROM `{view.name.name}` LIMIT 1")
