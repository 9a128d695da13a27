"""From a column's type to the SQL expression that yields its exact literal, and back by being that literal.

The server evaluates these expressions for every row it hands out; the text goes to the other server as it is. Apart
from the statements that use them because each type is a decision of its own, proved by a round trip on every flavour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.domain.schema import Column
from dbmigrate.mysql.identifiers import quote_identifier

_PLAIN_NUMBERS = frozenset({"tinyint", "smallint", "mediumint", "int", "bigint", "decimal", "year"})
_INEXACT = frozenset({"float", "double"})
_BY_NUMBER = frozenset({"bit", "enum", "set"})
_TEXTS = frozenset({"char", "varchar", "tinytext", "text", "mediumtext", "longtext"})
_BINARIES = frozenset({"binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"})
_GEOMETRIES = frozenset(
    {"geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon",
     "geometrycollection", "geomcollection"}
)  # fmt: skip
_PLAIN_TEXTS = frozenset({"date", "time", "datetime", "timestamp", "uuid", "inet4", "inet6"})
_SAFE_CHARSETS = frozenset({"utf8mb4", "utf8mb3", "utf8", "ascii", "latin1"})
"""Charsets whose text survives a way through utf8mb4 byte for byte and holds no bytes that look like a quote."""


def _is_binary(column: Column) -> bool:
    return column.data_type in _BINARIES | _GEOMETRIES | {"vector"} or column.charset == "binary"


def literal_expression(column: Column, value_sql: str | None = None) -> str:
    """SQL whose value is the text of the column's literal; a NULL becomes the word NULL.

    ``value_sql`` is evaluated in place of the column itself: an expression of the configuration.

    Raises:
        ValueError: a type that this module does not know.
    """
    value = value_sql if value_sql is not None else quote_identifier(column.name)
    text = _not_null_literal(column, value)
    if text is None:
        return _quoted(column, value)
    return text if _cannot_be_null(column, value_sql) else f"IFNULL({text}, 'NULL')"


def _cannot_be_null(column: Column, value_sql: str | None) -> bool:
    return not column.is_nullable and value_sql in (None, quote_identifier(column.name))


def _not_null_literal(column: Column, value: str) -> str | None:
    """The literal's text for a value that is there; None for texts, whose QUOTE() handles NULL itself."""
    kind = column.data_type
    if kind in _PLAIN_NUMBERS:
        return f"CONVERT({value} USING utf8mb4)"
    if kind in _INEXACT:
        # FLOAT prints 6 digits, so widen it; quoted, because -0 as a number literal is the integer 0.
        widened = f"CAST({value} AS DOUBLE)" if kind == "float" else value
        return f"CONCAT('''', {widened}, '''')"
    if kind in _BY_NUMBER:
        return f"CONVERT(CAST({value} AS UNSIGNED) USING utf8mb4)" if kind == "bit" else f"CONVERT({value} + 0 USING utf8mb4)"
    if kind in _PLAIN_TEXTS:
        return f"CONCAT('''', {value}, '''')"
    if _is_binary(column):
        return f"CONCAT('X''', HEX({value}), '''')"
    if kind in _TEXTS and column.charset not in _SAFE_CHARSETS:
        return f"CONCAT('_{column.charset} X''', HEX({value}), '''')"
    if kind in _TEXTS or kind == "json":
        return None
    raise ValueError(f"columns of type {column.column_type} are not supported")


def _quoted(column: Column, value: str) -> str:
    """QUOTE() escapes NUL, quote, backslash and Ctrl-Z, and turns NULL into the word."""
    if column.charset == "utf8mb4" and value == quote_identifier(column.name):
        return f"QUOTE({value})"
    return f"QUOTE(CONVERT({value} USING utf8mb4))"


def key_literal_expression(column: Column) -> str:
    """SQL whose value is the canonical key literal of ``domain.keys``; the column is NOT NULL."""
    value, kind = quote_identifier(column.name), column.data_type
    if kind in _TEXTS and not _is_binary(column):
        return f"CONCAT('_{column.charset} X''', HEX({value}), '''')"
    text = _not_null_literal(column, value)
    if text is None:
        raise ValueError(f"a column of type {column.column_type} cannot be part of a key")
    return text


def row_literal_expression(columns: Sequence[Column], values: Mapping[str, str] | None = None) -> str:
    """SQL whose value is ``(literal,literal,…)``; ``values`` gives the SQL of columns by name."""
    values = values or {}
    literals = ", ',', ".join(literal_expression(column, values.get(column.name)) for column in columns)
    return f"CONCAT('(', {literals}, ')')"


def key_expression(columns: Sequence[Column]) -> str:
    """SQL whose value is the row's key: its literals joined by commas."""
    if len(columns) == 1:
        return key_literal_expression(columns[0])
    return "CONCAT(" + ", ',', ".join(key_literal_expression(column) for column in columns) + ")"


def digest_expression(columns: Sequence[Column], values: Mapping[str, str] | None = None) -> str:
    """SQL whose value is a BIGINT UNSIGNED: 64 bits of SHA-256 over the row's literal."""
    literal = row_literal_expression(columns, values)
    return f"CAST(CONV(LEFT(SHA2({literal}, 256), 16), 16, 10) AS UNSIGNED)"


def refuse_reason_as_key(column: Column) -> str | None:
    """Why a column cannot be part of the key by which rows are found, or None."""
    if column.data_type in _INEXACT:
        return "equality on FLOAT and DOUBLE is not exact"
    if column.is_json or column.data_type == "json":
        return "JSON has no order and no exact text"
    if column.data_type in _GEOMETRIES:
        return "geometries have no order"
    if column.data_type == "vector":
        return "vectors have no order"
    return None


def compares_by_text(column: Column, source: ServerVersion, target: ServerVersion) -> bool:
    """Whether equal values have equal literals on both servers: everything but JSON between flavours."""
    return not (column.is_json or column.data_type == "json") or source.flavour is target.flavour
