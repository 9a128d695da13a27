"""Names and texts become SQL in one way only."""

from __future__ import annotations

import pytest

from dbmigrate.domain.schema import TableName
from dbmigrate.mysql.identifiers import quote_columns, quote_identifier, quote_string, quote_table


def test_backticks_in_names_are_doubled() -> None:
    assert quote_identifier("a`b") == "`a``b`"
    assert quote_table(TableName("sh`op", "o`")) == "`sh``op`.`o```"
    assert quote_columns(["a", "b`"]) == "`a`, `b```"


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_what_no_server_accepts_as_a_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not a name"):
        quote_identifier(name)


def test_plain_ascii_stays_readable() -> None:
    assert quote_string("STRICT_ALL_TABLES, 100 %") == "'STRICT_ALL_TABLES, 100 %'"


@pytest.mark.parametrize("text", ["it's", "a\\", "\n", "\0", "ü", "'; DROP TABLE t -- "])
def test_anything_else_goes_as_hexadecimal(text: str) -> None:
    assert quote_string(text) == f"_utf8mb4 X'{text.encode().hex().upper()}'"
