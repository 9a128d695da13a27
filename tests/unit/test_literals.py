"""The SQL of literals, where its text is a promise to other modules. What it yields is tested on real servers."""

from __future__ import annotations

import pytest

from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.domain.schema import Column, Generation
from dbmigrate.mysql.digests import compares_by_text, digest_expression
from dbmigrate.mysql.literals import (
    key_expression,
    key_literal_expression,
    literal_expression,
    refuse_reason_as_key,
)

MARIADB = ServerVersion.parse("10.11.6-MariaDB")
MYSQL = ServerVersion.parse("9.7.0")


def column(kind: str, name: str = "c", **more: object) -> Column:
    """A NOT NULL column of a type."""
    options: dict[str, object] = {"column_type": kind, "is_nullable": False, "position": 0} | more
    return Column(name=name, data_type=kind, **options)  # type: ignore[arg-type]


def test_text_in_the_session_charset_is_quoted_in_one_collation_without_conversion() -> None:
    assert literal_expression(column("text", charset="utf8mb4")) == "QUOTE(`c` COLLATE utf8mb4_bin)"
    assert literal_expression(column("text", charset="latin1")) == "QUOTE(CONVERT(`c` USING utf8mb4))"


def test_an_expression_takes_the_place_of_the_column() -> None:
    assert literal_expression(column("int"), "(a + b)") == "QUOTE((a + b))"
    assert literal_expression(column("text", charset="utf8mb4"), "(a)") == "QUOTE(CONVERT((a) USING utf8mb4))"


def test_a_charset_whose_bytes_may_look_like_quotes_goes_as_bytes() -> None:
    sql = literal_expression(column("varchar", charset="gbk"))
    assert sql == "IFNULL(CONCAT('_gbk X''', HEX(CONVERT(`c` USING gbk)), ''''), 'NULL')"


def test_key_literals_have_the_canonical_form() -> None:
    assert key_literal_expression(column("varchar", charset="latin1")) == "CONCAT('_latin1 X''', HEX(`c`), '''')"
    assert key_literal_expression(column("binary")) == "CONCAT('X''', HEX(`c`), '''')"
    assert key_literal_expression(column("timestamp")) == "CONCAT('''', `c`, '''')"
    assert key_literal_expression(column("int", column_type="int(5) zerofill")) == "CONVERT(`c` + 0 USING utf8mb4)"
    assert key_expression([column("int", "a"), column("enum", "b")]) == (
        "CONCAT(CONVERT(`a` USING utf8mb4), ',', CONVERT(`b` | 0 USING utf8mb4))"
    )


@pytest.mark.parametrize("kind", ["float", "double", "json", "geometry", "point", "vector", "xmltype"])
def test_types_without_exact_equality_are_refused_as_keys(kind: str) -> None:
    assert refuse_reason_as_key(column(kind))
    with pytest.raises(ValueError, match="cannot be part of a key"):
        key_literal_expression(column(kind))


def test_columns_that_cannot_be_found_by_value_are_refused_as_keys() -> None:
    assert refuse_reason_as_key(column("int", generation=Generation.STORED))
    assert refuse_reason_as_key(column("set", members=tuple(map(str, range(64)))))
    assert refuse_reason_as_key(column("longtext", charset="utf8mb4", is_json=True))
    assert refuse_reason_as_key(column("set", members=tuple(map(str, range(63))))) is None


@pytest.mark.parametrize("kind", ["xmltype", "unheard_of"])
def test_unknown_types_are_refused_rather_than_guessed(kind: str) -> None:
    with pytest.raises(ValueError, match="not supported"):
        literal_expression(column(kind))
    with pytest.raises(ValueError, match="not supported"):
        digest_expression([column(kind)])


def test_only_json_held_by_mysql_is_compared_by_value() -> None:
    json, maria_json = column("json"), column("longtext", charset="utf8mb4", is_json=True)
    assert compares_by_text(maria_json, MARIADB, MARIADB)
    assert not compares_by_text(json, MYSQL, MYSQL)
    assert not compares_by_text(maria_json, MYSQL, MARIADB)
    assert compares_by_text(column("double"), MYSQL, MARIADB)
