"""From a column's type to the SQL expression that yields its exact literal, and back by being that literal.

The server evaluates these expressions for every row it hands out; the text goes to the other server as it is. Apart
from the statements that use them because each type is a decision of its own, proved by a round trip on every flavour.

Three things hold for every literal. It is safe whatever the value is: an expression of the configuration may yield
text of the application's users, so everything is quoted by the server, in hexadecimal, or made a number first.
(Measured over a row of ten columns: all quoted 2.1 us on MariaDB 10.11 and 2.6 us on MySQL 9.7, numbers bare 2.6 and
2.8; writing them costs the same.) It needs a session with ``SET NAMES utf8mb4``, a UTC time zone and no
NO_BACKSLASH_ESCAPES. And the server that writes it gives no warning, but for one case:

An ENUM's index 0 (the error value '') travels as ``'0'``, which MySQL stores as index 0 under a strict sql_mode.
MariaDB has no literal for it there: the write fails with error 1265, and such rows must be mended on the source.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import Enum

from dbmigrate.domain.schema import Column
from dbmigrate.mysql.identifiers import quote_identifier

INTEGERS = frozenset({"tinyint", "smallint", "mediumint", "int", "bigint"})
EXACT_NUMBERS = INTEGERS | {"decimal"}
INEXACT = frozenset({"float", "double"})
TEXTS = frozenset({"char", "varchar", "tinytext", "text", "mediumtext", "longtext"})
_BINARIES = frozenset({"binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob", "vector"})
_GEOMETRIES = frozenset(
    {"geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon",
     "geometrycollection", "geomcollection"}
)  # fmt: skip
TEMPORALS = frozenset({"date", "time", "datetime", "timestamp"})
_PRINTED = frozenset({"uuid", "inet4", "inet6"})
_KNOWN = (
    EXACT_NUMBERS | INEXACT | TEXTS | _BINARIES | _GEOMETRIES | TEMPORALS | _PRINTED
    | {"year", "bit", "enum", "set", "json"}
)  # fmt: skip
_THROUGH_UTF8MB4 = frozenset({"utf8mb4", "utf8mb3", "utf8", "latin1", "gb18030", "ucs2", None})
"""Charsets whose text survives a way through utf8mb4 byte for byte; the others travel as bytes.

Tried on all one- and two-byte characters of every charset. ASCII is not among them: MariaDB stores bytes above 127 in
it, which become question marks. UCS-2 has to be: MySQL warns of its name in every literal, and a warning stops the
data path.
"""
_BARE_COLUMN = re.compile(r"`(?:[^`]|``)+`")


class LiteralForm(Enum):
    """What a column's literal looks like, for whoever reads it in another way than SQL does."""

    QUOTED = "quoted"
    """``'text'``, or NULL."""
    BARE = "bare"
    """A number without quotes, or NULL."""
    BYTES = "bytes"
    """``X'hex'``, or NULL."""
    GEOMETRY = "geometry"
    """The same, of a value with a structure."""
    INTRODUCED = "introduced"
    """``_charset X'hex'``, or NULL."""


def find_literal_form(column: Column) -> LiteralForm:
    """The form of ``literal_expression``'s value for this column.

    Raises:
        ValueError: a type that this module does not know.
    """
    require_known(column)
    if column.data_type in _GEOMETRIES | {"vector"}:
        return LiteralForm.GEOMETRY
    if is_binary(column):
        return LiteralForm.BYTES
    if column.data_type in ("bit", "year"):
        return LiteralForm.BARE
    if column.data_type in TEXTS and column.charset not in _THROUGH_UTF8MB4:
        return LiteralForm.INTRODUCED
    return LiteralForm.QUOTED


def is_text(column: Column) -> bool:
    """Whether the column holds plain text: CHAR to LONGTEXT, not JSON, ENUM or SET."""
    return column.data_type in TEXTS and not column.is_json


def is_binary(column: Column) -> bool:
    return column.data_type in _BINARIES | _GEOMETRIES or (column.data_type in TEXTS and column.charset == "binary")


def require_known(column: Column) -> None:
    if column.data_type not in _KNOWN:
        raise ValueError(f"columns of type {column.column_type} are not supported")


def literal_expression(column: Column, value_sql: str | None = None) -> str:
    """SQL whose value is the text of the column's literal; a NULL becomes the word NULL.

    ``value_sql`` is evaluated in place of the column itself: a column of another name, or an expression of the
    configuration, whose value is made one of ``column``'s type.

    Raises:
        ValueError: a type that this module does not know.
    """
    require_known(column)
    value = value_sql if value_sql is not None else quote_identifier(column.name)
    if is_binary(column):
        return _or_null(f"CONCAT('X''', HEX({value}), '''')")
    if column.data_type in TEXTS and column.charset not in _THROUGH_UTF8MB4:
        return _bytes_with_charset(column, value)
    text = text_expression(column, value)
    return _or_null(text) if find_literal_form(column) is LiteralForm.BARE else f"QUOTE({text})"


def text_expression(column: Column, value: str) -> str:
    """SQL whose value is what stands between the quotes of a literal, or a bare one as a whole; NULL stays NULL.

    For columns whose literals are quoted or bare.
    """
    kind = column.data_type
    if kind in INEXACT:
        return _double_text(f"{value} * 1e0")  # widened, because FLOAT prints 6 digits
    if kind == "bit":  # a quoted number would be taken for the bits of its digits
        return f"CONVERT(CAST({value} AS UNSIGNED) USING utf8mb4)"
    if kind == "year":  # a quoted 0 would become 2000
        return f"CONVERT({value} + 0 USING utf8mb4)"
    if kind == "enum":
        return _enum_text(column, value)
    if kind == "set" and "" in column.members:
        return f"{value} | 0"  # by name, the empty member would be no member
    if kind in TEXTS | {"set", "json"}:
        return _as_utf8mb4(column, value)
    return without_zerofill(column, value)


def _or_null(literal: str) -> str:
    return f"IFNULL({literal}, 'NULL')"


def without_zerofill(column: Column, value: str) -> str:
    return f"{value} + 0" if "zerofill" in column.column_type.lower() else value


def _double_text(value: str) -> str:
    """All digits of a double, to be quoted, because -0 as a number literal is the integer 0.

    MySQL prints computed doubles into 22 characters and rounds what does not fit: up to two digits of very small and very
    large numbers. JSON prints all.
    """
    exact = f"JSON_UNQUOTE(JSON_EXTRACT(JSON_ARRAY({value}), '$[0]'))"
    return f"IF(ABS({value}) NOT BETWEEN 1e-3 AND 1e99 AND {value} <> 0, {exact}, CONCAT({value}))"


def _as_utf8mb4(column: Column, value: str) -> str:
    """Text in the session's charset, so that columns of many charsets concatenate.

    In one collation, too: servers refuse to concatenate columns of some that they cannot decide between, such as
    utf8mb4_bin and utf8mb4_nopad_bin.
    """
    if column.charset == "utf8mb4" and _BARE_COLUMN.fullmatch(value):
        return f"{value} COLLATE utf8mb4_bin"
    return f"CONVERT({value} USING utf8mb4)"


def _bytes_with_charset(column: Column, value: str) -> str:
    """Bytes introduced by their charset; a value of any other charset is converted first."""
    return _or_null(f"CONCAT('_{column.charset} X''', HEX(CONVERT({value} USING {column.charset})), '''')")


def _enum_text(column: Column, value: str) -> str:
    """An ENUM by name, so that tables may list members in another order; index 0 as zeros that name no member."""
    named = f"CONVERT({value} USING utf8mb4)"
    if not _BARE_COLUMN.fullmatch(value):
        return named
    zero = next("0" * n for n in range(1, 6) if "0" * n not in column.members)
    return f"IF({value} = '' AND {value} + 0 = 0, '{zero}', {named})"


# --- keys ---------------------------------------------------------------------------------------------------------


def key_literal_expression(column: Column) -> str:
    """SQL whose value is the canonical key literal of ``domain.keys``; the column is NOT NULL.

    Raises:
        ValueError: a type that cannot be part of a key.
    """
    value, kind = quote_identifier(column.name), column.data_type
    if is_binary(column) and kind not in _GEOMETRIES | {"vector"}:
        return f"CONCAT('X''', HEX({value}), '''')"
    if kind in EXACT_NUMBERS:
        return f"CONVERT({without_zerofill(column, value)} USING utf8mb4)"
    if kind == "year":
        return f"CONVERT({value} + 0 USING utf8mb4)"
    if kind == "bit":
        return f"CONVERT(CAST({value} AS UNSIGNED) USING utf8mb4)"
    if kind in ("enum", "set"):  # `+ 0` would print the 64th member as -1, and MySQL the others as doubles
        return f"CONVERT({value} | 0 USING utf8mb4)"
    if kind in TEXTS:
        return f"CONCAT('_{column.charset} X''', HEX({value}), '''')"
    if kind in TEMPORALS | _PRINTED:
        return f"CONCAT('''', {value}, '''')"
    raise ValueError(f"a column of type {column.column_type} cannot be part of a key")


def key_expression(columns: Sequence[Column]) -> str:
    """SQL whose value is the row's key: its literals joined by commas."""
    if len(columns) == 1:
        return key_literal_expression(columns[0])
    return "CONCAT(" + ", ',', ".join(key_literal_expression(column) for column in columns) + ")"


def refuse_reason_as_key(column: Column) -> str | None:
    """Why a column cannot be part of the key by which rows are found, or None."""
    if column.data_type in INEXACT:
        return "equality on FLOAT and DOUBLE is not exact"
    if column.is_json or column.data_type == "json":
        return "JSON has no order and no exact text"
    if column.data_type in _GEOMETRIES:
        return "geometries have no order"
    if column.data_type == "vector":
        return "vectors have no order"
    if column.generation is not None:
        return "a generated column is not written, and its value may differ on the other side"
    if column.data_type == "set" and len(column.members) == 64:
        return "servers do not find a SET by number when its 64th member is in it"
    if column.data_type not in _KNOWN:
        return f"the type {column.column_type} is not supported"
    return None


# --- rows ---------------------------------------------------------------------------------------------------------


def row_literal_expression(columns: Sequence[Column], values: Mapping[str, str] | None = None) -> str:
    """SQL whose value is ``(literal,literal,…)``; ``values`` gives the SQL of columns by name."""
    values = values or {}
    return join_row([literal_expression(column, values.get(column.name)) for column in columns])


def join_row(parts: Sequence[str]) -> str:
    """SQL whose value is ``(part,part,…)`` from SQL for each part."""
    return "CONCAT('(', " + ", ',', ".join(parts) + ", ')')"
