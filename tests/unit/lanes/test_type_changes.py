"""From one type to another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.lanes.reading.columns import NotUnderstood, normalise_value, parse_type
from dbmigrate.lanes.rules.type_changes import TypeChange, compare_types, find_default_collation

MYSQL = ServerVersion.parse("8.4.3")
MARIADB = ServerVersion.parse("10.11.6-MariaDB")


def members(count: int) -> str:
    return ",".join(f"'m{n}'" for n in range(count))


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        ("int(10) unsigned", "INT UNSIGNED", TypeChange.NONE),
        ("tinyint(1)", "BOOL", TypeChange.NONE),
        ("decimal(10,0)", "NUMERIC", TypeChange.NONE),
        ("char(1)", "CHAR", TypeChange.NONE),
        ("datetime", "DATETIME(0)", TypeChange.NONE),
        ("double", "DOUBLE PRECISION", TypeChange.NONE),
        ("smallint", "int", TypeChange.WIDER),
        ("bigint", "int", TypeChange.NARROWER),
        ("int", "bigint unsigned", TypeChange.NARROWER),
        ("float", "double", TypeChange.WIDER),
        ("double", "float", TypeChange.NARROWER),
        ("text", "longtext", TypeChange.WIDER),
        ("blob", "tinyblob", TypeChange.NARROWER),
        ("bit(3)", "bit(8)", TypeChange.WIDER),
        ("time(3)", "time", TypeChange.NARROWER),
        ("time", "time(6)", TypeChange.WIDER),
        ("decimal(10,2)", "decimal(12,4)", TypeChange.WIDER),
        ("decimal(10,2)", "decimal(10,4)", TypeChange.NARROWER),
        ("varchar(10)", "char(20)", TypeChange.OTHER),
        ("text", "blob", TypeChange.OTHER),
        ("int", "varchar(11)", TypeChange.OTHER),
        ("enum('a')", "set('a')", TypeChange.OTHER),
        ("enum('a')", "varchar(1)", TypeChange.OTHER),
        (f"enum({members(255)})", f"enum({members(256)})", TypeChange.WIDER),
        (f"enum({members(200)})", f"enum({members(255)})", TypeChange.APPENDED),
        (f"set({members(8)})", f"set({members(9)})", TypeChange.WIDER),
        (f"set({members(33)})", f"set({members(64)})", TypeChange.APPENDED),
        ("enum('a','b')", "enum('b','a','c')", TypeChange.REORDERED),
        ("enum('A')", "enum('a')", TypeChange.REMOVED),
    ],
)
def test_change(before: str, after: str, change: TypeChange) -> None:
    for version in (MYSQL, MARIADB):
        assert compare_types(parse_type(before), parse_type(after), version, "utf8mb4") is change


def test_unknown_character_set_is_never_in_place() -> None:
    assert compare_types(parse_type("varchar(5)"), parse_type("varchar(6)"), MYSQL, None) is TypeChange.WIDER
    assert compare_types(parse_type("varchar(5)"), parse_type("varchar(6)"), MYSQL, "gbk") is TypeChange.WIDER


@given(st.integers(1, 20_000), st.integers(1, 20_000), st.sampled_from(["ascii", "utf8mb3", "utf8mb4"]))
def test_lengths_are_ordered(short: int, long: int, charset: str) -> None:
    """Shorter is narrower; longer is in place at most, and never both ways."""
    before, after = parse_type(f"varchar({short})"), parse_type(f"varchar({long})")
    there, back = (compare_types(a, b, MYSQL, charset) for a, b in ((before, after), (after, before)))
    if short == long:
        assert there is back is TypeChange.NONE
    else:
        assert {there, back} <= {TypeChange.NARROWER, TypeChange.LONGER, TypeChange.WIDER}
        assert (there is TypeChange.NARROWER) == (short > long)


@pytest.mark.parametrize("text", ["serial", "money", "int zerofill", "", "varchar(", "int; drop table t"])
def test_what_is_no_type_is_not_taken_for_one(text: str) -> None:
    with pytest.raises(NotUnderstood):
        parse_type(text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("CURRENT_TIMESTAMP", "current_timestamp()"), ("NOW(6)", "current_timestamp(6)"), ("'7'", "7"), ("(UUID())", "uuid()"),
        ("TRUE", "1"), ("((1 + 1))", "1 + 1"), ("'it''s'", "'it''s'"),
    ],
)  # fmt: skip
def test_spellings_of_one_default(one: str, other: str) -> None:
    assert normalise_value(one) == normalise_value(other)


@pytest.mark.parametrize(("one", "other"), [("'a'", "'A'"), ("'7a'", "7"), ("uuid()", "'uuid()'"), ("(1)+(2)", "1)+(2")])
def test_different_defaults(one: str, other: str) -> None:
    assert normalise_value(one) != normalise_value(other)


def test_collation_of_a_character_set_depends_on_the_server() -> None:
    assert find_default_collation("utf8mb4", MYSQL) == "utf8mb4_0900_ai_ci"
    assert find_default_collation("utf8mb4", MARIADB) == "utf8mb4_general_ci"
    assert find_default_collation("utf8mb4", ServerVersion.parse("11.8.2-MariaDB")) is None
