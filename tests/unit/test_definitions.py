"""Definitions from one flavour's spelling to the other's: what is rewritten, refused and left alone."""

from __future__ import annotations

import pytest

from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.domain.schema import (
    Column,
    ForeignKey,
    Index,
    IndexKind,
    ObjectKind,
    ReferentialAction,
    StoredObject,
    Table,
    TableName,
)
from dbmigrate.mysql.definitions import (
    UntranslatableError,
    enable_event,
    translate_collation,
    translate_object,
    translate_table,
)
from dbmigrate.mysql.definitions.objects import rewrite_schema
from dbmigrate.mysql.definitions.tokens import set_strings_aside

MARIADB = ServerVersion.parse("10.11.6-MariaDB")
MARIADB_106 = ServerVersion.parse("10.6.20-MariaDB")
MARIADB_118 = ServerVersion.parse("11.8.2-MariaDB")
MYSQL = ServerVersion.parse("9.7.0")


def table(
    *lines: str, options: str = "ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin", **more: object
) -> Table:
    """A table as SHOW CREATE TABLE prints it."""
    body = ",\n".join(f"  {line}" for line in lines)
    fields: dict[str, object] = {
        "name": TableName("shop", "t"), "engine": "InnoDB", "columns": (), "indexes": (), "foreign_keys": (), "key": None,
        "create_statement": f"CREATE TABLE `t` (\n{body}\n) {options}", "collation": "utf8mb4_bin",
    } | more  # fmt: skip
    return Table(**fields)  # type: ignore[arg-type]


def to_mysql(*lines: str, **more: object) -> str:
    """The translated CREATE TABLE."""
    return translate_table(
        table(*lines, **more),
        source=MARIADB,
        target=MYSQL,
        target_name=TableName("shop", "t"),  # type: ignore[arg-type]
    ).create


def to_mariadb(*lines: str, target: ServerVersion = MARIADB, **more: object) -> str:
    """The translated CREATE TABLE."""
    return translate_table(
        table(*lines, **more),
        source=MYSQL,
        target=target,
        target_name=TableName("shop", "t"),  # type: ignore[arg-type]
    ).create


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("`a` char(36) DEFAULT uuid()", "`a` char(36) DEFAULT (uuid())"),
        ("`a` varchar(9) DEFAULT concat('(',')') COMMENT 'x'", "`a` varchar(9) DEFAULT (concat('(',')')) COMMENT 'x'"),
        ("`a` timestamp NULL DEFAULT current_timestamp()", "`a` timestamp NULL DEFAULT current_timestamp()"),
        ("`a` text DEFAULT 'x'", "`a` text DEFAULT ('x')"),
        ("`a` varchar(9) DEFAULT 'x'", "`a` varchar(9) DEFAULT 'x'"),
        ("`a` int(11) DEFAULT NULL COMMENT 'DEFAULT uuid() CHECK /*!1 x */'",
         "`a` int(11) DEFAULT NULL COMMENT 'DEFAULT uuid() CHECK /*!1 x */'"),
        ("`j` longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT '{}' CHECK (json_valid(`j`))",
         "`j` json NOT NULL DEFAULT ('{}')"),
        ("`a` varchar(9) /*M!100301 COMPRESSED*/ DEFAULT NULL", "`a` varchar(9)  DEFAULT NULL"),
        ("`a` varchar(9) COLLATE utf8mb4_uca1400_as_ci NOT NULL", "`a` varchar(9) COLLATE utf8mb4_0900_as_ci NOT NULL"),
        ("KEY `k` (`a`) IGNORED", "KEY `k` (`a`) INVISIBLE"),
        ("CONSTRAINT `CONSTRAINT_1` CHECK (`a` > 0)", "CHECK (`a` > 0)"),
        ("CONSTRAINT `positive` CHECK (`a` > 0)", "CONSTRAINT `positive` CHECK (`a` > 0)"),
    ],
)  # fmt: skip
def test_mariadb_lines_become_those_of_mysql(source: str, expected: str) -> None:
    assert f"\n  {expected}\n" in to_mysql(source)


@pytest.mark.parametrize(
    "line",
    [
        "`a` uuid NOT NULL", "`a` inet6 DEFAULT NULL", "`a` int(11) DEFAULT nextval(`shop`.`s`)",
        "`a` int(11) DEFAULT (nextval(`shop`.`s`))", "PERIOD FOR `p` (`x`, `y`)", "UNIQUE KEY `u` (`a`,`p` WITHOUT OVERLAPS)",
        "`a` int(11) WITHOUT SYSTEM VERSIONING", "UNIQUE KEY `u` (`a`) USING HASH", "VECTOR KEY `v` (`a`)",
        "`a` varchar(9) COLLATE utf8mb4_thai_520_w2",
    ],
)  # fmt: skip
def test_what_mysql_lacks_is_refused_by_name(line: str) -> None:
    with pytest.raises(UntranslatableError) as refused:
        to_mysql(line)
    assert refused.value.hint
    assert "MySQL 9.7.0" in refused.value.message


def test_engines_and_options_of_mariadb() -> None:
    aria = to_mysql("`a` int(11)", options="ENGINE=Aria DEFAULT CHARSET=utf8mb4 ROW_FORMAT=PAGE PAGE_CHECKSUM=1")
    assert aria.endswith("ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin")
    packed = to_mysql("`a` int(11)", options="ENGINE=InnoDB `PAGE_COMPRESSED`=1 COMMENT=' PAGE_COMPRESSED=1'")
    assert packed.endswith("ENGINE=InnoDB COMMENT=' PAGE_COMPRESSED=1'")
    assert " ENCRYPTION='Y'" in to_mysql("`a` int(11)", options="ENGINE=InnoDB `ENCRYPTED`=YES")
    for options in ("ENGINE=S3", "ENGINE=InnoDB WITH SYSTEM VERSIONING"):
        with pytest.raises(UntranslatableError):
            to_mysql("`a` int(11)", options=options)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("`v` int GENERATED ALWAYS AS ((`a` + 1)) STORED NOT NULL COMMENT 'NOT NULL'",
         "`v` int GENERATED ALWAYS AS ((`a` + 1)) STORED COMMENT 'NOT NULL'"),
        ("`a` int DEFAULT NULL /*!80023 INVISIBLE */", "`a` int DEFAULT NULL INVISIBLE"),
        ("KEY `k` (`a`) /*!80000 INVISIBLE */", "KEY `k` (`a`) IGNORED"),
        ("`p` point NOT NULL /*!80003 SRID 4326 */", "`p` point NOT NULL"),
        ("`a` varchar(9) COLLATE utf8mb4_0900_ai_ci", "`a` varchar(9) COLLATE utf8mb4_uca1400_nopad_ai_ci"),
        ("`a` varchar(9) DEFAULT (_utf8mb4'x /*!80000 y */')", "`a` varchar(9) DEFAULT ('x /*!80000 y */')"),
        ("KEY `(( k` (`a`)", "KEY `(( k` (`a`)"),
        ("CONSTRAINT `c` CHECK ((`a` > 0))", "CONSTRAINT `c` CHECK ((`a` > 0))"),
    ],
)  # fmt: skip
def test_mysql_lines_become_those_of_mariadb(source: str, expected: str) -> None:
    assert f"\n  {expected}\n" in to_mariadb(source)


@pytest.mark.parametrize(
    "line",
    [
        "KEY `f` ((lower(`a`)))", "KEY `f` (`b`,(lower(`a`)))", "`v` vector(3) DEFAULT NULL", "`a` int NOT NULL /*!80023 INVISIBLE */",
        "CONSTRAINT `c` CHECK ((`a` > 0)) /*!80016 NOT ENFORCED */", "FULLTEXT KEY `f` (`a`) /*!50100 WITH PARSER `ngram` */",
        "`a` varchar(9) COLLATE utf8mb4_ja_0900_as_cs", "`a` varchar(9) CHARACTER SET gb18030",
    ],
)  # fmt: skip
def test_what_mariadb_lacks_is_refused_by_name(line: str) -> None:
    with pytest.raises(UntranslatableError) as refused:
        to_mariadb(line)
    assert refused.value.hint


def test_vector_is_known_to_newer_mariadb() -> None:
    assert "`v` vector(3)" in to_mariadb("`v` vector(3) DEFAULT NULL", target=MARIADB_118)


def test_partitions_leave_their_version_comment() -> None:
    options = "ENGINE=InnoDB\n/*!50100 PARTITION BY RANGE (`a`)\n(PARTITION p VALUES LESS THAN (9) COMMENT = 'it\\'s' ENGINE = InnoDB) */"
    created = to_mariadb("`a` int", options=options)
    assert created.endswith(
        "\nPARTITION BY RANGE (`a`)\n(PARTITION p VALUES LESS THAN (9) COMMENT = 'it\\'s' ENGINE = InnoDB)"
    )


def test_a_charset_without_collation_is_given_the_sources_default_by_name() -> None:
    """Which collation is the default of a charset differs between releases, of one flavour, too."""
    column = Column("a", 0, "varchar", "varchar(9)", True, charset="utf8mb3", collation="utf8mb3_general_ci")
    created = translate_table(
        table(
            "`a` varchar(9) CHARACTER SET utf8mb3 DEFAULT NULL",
            options="ENGINE=InnoDB DEFAULT CHARSET=latin1",
            columns=(column,), collation="latin1_swedish_ci",
        ),
        source=MARIADB, target=MARIADB_118, target_name=TableName("shop", "t"),
    ).create  # fmt: skip
    assert "CHARACTER SET utf8mb3 COLLATE utf8mb3_general_ci DEFAULT NULL" in created
    assert created.endswith("DEFAULT CHARSET=latin1 COLLATE=latin1_swedish_ci")


def test_collations_change_under_unique_keys_with_a_note() -> None:
    column = Column("a", 0, "varchar", "varchar(9)", False, charset="utf8mb4", collation="utf8mb4_0900_ai_ci")
    definition = translate_table(
        table("`a` varchar(9)", columns=(column,), indexes=(Index("u", ("a",), is_unique=True, prefix_lengths=(None,)),)),
        source=MYSQL, target=MARIADB, target_name=TableName("shop", "t"),
    )  # fmt: skip
    (note,) = definition.notes
    assert "utf8mb4_0900_ai_ci becomes utf8mb4_uca1400_nopad_ai_ci" in note
    assert "index u" in note


@pytest.mark.parametrize(
    ("name", "source", "target", "expected"),
    [
        ("utf8mb4_0900_ai_ci", MYSQL, MARIADB, "utf8mb4_uca1400_nopad_ai_ci"),
        ("utf8mb4_0900_ai_ci", MYSQL, MARIADB_106, "utf8mb4_unicode_520_nopad_ci"),
        ("utf8mb4_0900_ai_ci", MYSQL, MYSQL, "utf8mb4_0900_ai_ci"),
        ("utf8mb4_general_ci", MYSQL, MARIADB, "utf8mb4_general_ci"),
        ("utf8mb4_uca1400_ai_ci", MARIADB_118, MYSQL, "utf8mb4_0900_ai_ci"),
    ],
)
def test_collations_have_counterparts(name: str, source: ServerVersion, target: ServerVersion, expected: str) -> None:
    assert translate_collation(name, source=source, target=target) == expected


# --- deferred indexes ---------------------------------------------------------------------------------------------


def test_only_indexes_that_nothing_needs_are_deferred() -> None:
    columns = tuple(
        Column(name, place, "int", "int", False, is_auto_increment=name == "n")
        for place, name in enumerate(("id", "n", "p", "r", "a", "b", "x"))
    )

    def index(name: str, *names: str, unique: bool = False, kind: IndexKind = IndexKind.BTREE) -> Index:
        return Index(name, names, unique, name == "PRIMARY", kind, tuple(None for _ in names))

    lines = ["PRIMARY KEY (`id`)", "UNIQUE KEY `u` (`a`)", "KEY `auto` (`n`)", "KEY `child` (`p`,`a`)", "KEY `parent` (`r`)",
             "KEY `plain` (`a`,`b`)", "KEY `back``tick` (`b`)", "FULLTEXT KEY `f1` (`x`)", "FULLTEXT KEY `f2` (`x`)"]  # fmt: skip
    source = table(
        *lines, columns=columns, referenced_columns=(("r",),), foreign_keys=(_foreign_key("p"),),
        indexes=(index("PRIMARY", "id", unique=True), index("u", "a", unique=True), index("auto", "n"), index("child", "p", "a"),
                 index("parent", "r"), index("plain", "a", "b"), index("back`tick", "b"),
                 index("f1", "x", kind=IndexKind.FULLTEXT), index("f2", "x", kind=IndexKind.FULLTEXT)),
    )  # fmt: skip
    definition = translate_table(source, source=MYSQL, target=MYSQL, target_name=TableName("new", "t"))
    assert definition.deferred_indexes == (
        "ALTER TABLE `new`.`t` ADD KEY `plain` (`a`,`b`), ADD KEY `back``tick` (`b`)",
        "ALTER TABLE `new`.`t` ADD FULLTEXT KEY `f1` (`x`)",
        "ALTER TABLE `new`.`t` ADD FULLTEXT KEY `f2` (`x`)",
    )
    kept = definition.create_without_secondary
    assert all(line in kept for line in lines[:5])
    assert not any(line in kept for line in lines[5:])
    assert all(line in definition.create for line in lines)
    assert definition.create.startswith("CREATE TABLE `new`.`t` (")


def _foreign_key(column: str) -> ForeignKey:
    action = ReferentialAction.RESTRICT
    return ForeignKey("fk", TableName("shop", "t"), (column,), TableName("shop", "o"), ("id",), action, action)


# --- stored objects -----------------------------------------------------------------------------------------------


def stored(text: str, kind: ObjectKind = ObjectKind.PROCEDURE, **more: object) -> StoredObject:
    """An object of the database ``shop``."""
    return StoredObject(kind, TableName("shop", "o"), text, "root@localhost", **more)  # type: ignore[arg-type]


def translate(thing: StoredObject, source: ServerVersion, target: ServerVersion, to: str = "shop") -> tuple[str, ...]:
    """Its statements on the target."""
    return translate_object(thing, source=source, target=target, source_schema="shop", target_schema=to)


def test_an_object_is_created_under_its_own_settings() -> None:
    thing = stored(
        "CREATE x", sql_mode="ANSI_QUOTES,NO_AUTO_CREATE_USER", charset="latin1", collation="utf8mb4_uca1400_ai_ci"
    )
    session, text = translate(thing, MARIADB, MYSQL)
    assert session == (
        "SET SESSION sql_mode = 'ANSI_QUOTES', character_set_client = latin1, collation_connection = utf8mb4_0900_ai_ci"
    )
    assert text == "CREATE x"


def test_text_beyond_ascii_is_sent_as_what_it_is() -> None:
    session, _ = translate(stored("CREATE 'ü'", charset="latin1"), MYSQL, MYSQL)
    assert "character_set_client = utf8mb4" in session


@pytest.mark.parametrize("kind", [ObjectKind.SEQUENCE, ObjectKind.PACKAGE])
def test_kinds_that_mysql_lacks_are_refused(kind: ObjectKind) -> None:
    with pytest.raises(UntranslatableError):
        translate(stored("CREATE x", kind), MARIADB, MYSQL)


def test_a_dialect_that_mysql_lacks_is_refused() -> None:
    with pytest.raises(UntranslatableError, match="ORACLE"):
        translate(stored("CREATE x", sql_mode="PIPES_AS_CONCAT,ORACLE"), MARIADB, MYSQL)


def test_an_event_is_created_disabled_in_its_own_time_zone() -> None:
    text = "CREATE EVENT `e` ON SCHEDULE EVERY 1 DAY ON COMPLETION PRESERVE ENABLE COMMENT 'ON COMPLETION PRESERVE ENABLE' DO x"
    event = stored(text, ObjectKind.EVENT, time_zone="+02:00", is_enabled=True)
    _, before, created, after = translate(event, MYSQL, MYSQL)
    assert before == "SET @dbmigrate_time_zone = @@SESSION.time_zone, time_zone = '+02:00'"
    assert "PRESERVE DISABLE COMMENT 'ON COMPLETION PRESERVE ENABLE'" in created
    assert after == "SET time_zone = @dbmigrate_time_zone"
    assert enable_event(event, "new") == "ALTER EVENT `new`.`o` ENABLE"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("select `shop`.`a`.`b` from `shop`.`a`", "select `new`.`a`.`b` from `new`.`a`"),
        ("FROM shop.a JOIN shop . b", "FROM `new`.a JOIN `new`. b"),
        (
            "SELECT 'shop.a', \"shop.a\" -- shop.a\n, /* shop.a */ x",
            "SELECT 'shop.a', \"shop.a\" -- shop.a\n, /* shop.a */ x",
        ),
        ("FROM workshop.a, shop_b.c, @shop.x, a.shop.b", "FROM workshop.a, shop_b.c, @shop.x, a.shop.b"),
        ("-- don't\nFROM shop.a -- it's", "-- don't\nFROM `new`.a -- it's"),
        ("SELECT `t`.`shop` FROM `shop`.`t`", "SELECT `t`.`shop` FROM `new`.`t`"),
    ],
)
def test_the_databases_name_is_followed_where_it_means_the_database(text: str, expected: str) -> None:
    assert rewrite_schema(text, "shop", "new", place="o") == expected


def test_an_ambiguous_name_is_refused() -> None:
    with pytest.raises(UntranslatableError, match="not clear"):
        rewrite_schema("select `shop`.`id` from `other` `shop`", "shop", "new", place="o")


def test_strings_set_aside_come_back_as_they_were() -> None:
    text = r"`o'clock` a 'x' b 'it''s' c 'back\'slash\\' d ''"
    aside = set_strings_aside(text)
    assert "x" not in aside.text
    assert aside.restore(aside.text) == text
