"""Digests: SQL that makes of a row, or of all rows of a range, a number that both servers agree on where the rows are equal.

Both work on text that the server makes of values, as literals do, but such text is never parsed: it needs only to differ
where rows differ. A row's digest is part of SHA-256 and names the rows that differ; a range's is as cheap as was found
(records 15 and 18 of the decisions) and only asks whether any does. Both need a session like that of literals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.domain.schema import Column
from dbmigrate.mysql.identifiers import quote_identifier
from dbmigrate.mysql.literals import (
    EXACT_NUMBERS,
    INEXACT,
    TEMPORALS,
    TEXTS,
    is_binary,
    is_text,
    literal_expression,
    require_known,
    without_zerofill,
)

_HUGE = frozenset(
    {"mediumtext", "longtext", "mediumblob", "longblob", "json", "vector", "geometry", "point", "linestring", "polygon",
     "multipoint", "multilinestring", "multipolygon", "geometrycollection", "geomcollection"}
)  # fmt: skip
_UTF8 = frozenset({"utf8mb4", "utf8mb3", "utf8"})


# --- rows ---------------------------------------------------------------------------------------------------------


def digest_expression(columns: Sequence[Column], values: Mapping[str, str] | None = None) -> str:
    """SQL whose value is a BIGINT UNSIGNED: 64 bits of SHA-256 over the row. Names a row that differs.

    Equal rows have equal digests on every flavour, whatever charset a side keeps its text in; for the columns for
    which ``compares_by_text`` is false that cannot be, and they are to be left out. -0.0 equals 0.0, as in SQL, and
    characters that Unicode does not have (262 of Big5, none of Latin 1) equal each other.
    """
    return f"CAST(CONV(LEFT({_hash_expression(columns, values)}, 16), 16, 10) AS UNSIGNED)"


_FLAGS_A_NUMBER = 32


def _hash_expression(columns: Sequence[Column], values: Mapping[str, str] | None) -> str:
    """SHA-256 of a text that no two different rows share.

    It begins with flags (which values are NULL, and are left out), and every field that follows ends by itself: a number
    or a time at the comma, a text after as many bytes as were announced, a literal at its quote. Such text costs
    half of what literals cost. All of it is bytes, those of UTF-8: columns of many collations do not concatenate.
    """
    values = values or {}
    flags: list[str] = []
    fields: list[str] = []
    for column in columns:
        own_flags, own_fields = _digest_parts(column, values.get(column.name, quote_identifier(column.name)))
        flags += own_flags
        fields += own_fields
    numbers = [
        " + ".join(f"{1 << bit} * ({flag})" for bit, flag in enumerate(flags[start : start + _FLAGS_A_NUMBER]))
        for start in range(0, len(flags), _FLAGS_A_NUMBER)
    ]
    return f"SHA2(CONCAT_WS(',', {', '.join([*numbers, *fields])}), 256)"


def _digest_parts(column: Column, value: str) -> tuple[list[str], list[str]]:
    """Flags and fields of one column. A field is NULL only where a flag says so."""
    require_known(column)
    kind = column.data_type
    is_null = [f"{value} IS NULL"] if column.is_nullable else []
    if kind in _HUGE:
        # Its digest in its place: a row longer than max_allowed_packet would be NULL, and NULL goes unnoticed.
        text = value if is_binary(column) else f"CONVERT({value} USING utf8mb4)"
        return is_null, [f"SHA2({text}, 256)"]
    if kind in INEXACT:
        return is_null, [f"HEX({_double_bytes(column, value)})"]
    if kind in EXACT_NUMBERS:
        return is_null, [without_zerofill(column, value)]
    if kind in TEMPORALS:
        return is_null, [value]
    if _is_plain_text(column):
        text = _as_utf8(column, value)
        return is_null, [f"LENGTH({text})", f"CONVERT({text} USING binary)"]
    text = literal_expression(column, value)
    return [], [text if column.charset is None else f"CONVERT({text} USING binary)"]


def _double_bytes(column: Column, value: str) -> str:
    """The 64 bits of a number as both servers store them in a geometry, 0.0 for -0.0.

    Printing a double is the most expensive thing a digest can do, and no other function of both hands out its bytes.
    """
    number = f"{value} * 1e0" if column.data_type == "float" else value
    return f"POINT({number} + 0e0, 0)"


# --- ranges -------------------------------------------------------------------------------------------------------

SPREAD = 2654435761
"""An odd number of 32 bits, 19 of them set: its product with a checksum fits 64 bits."""


def range_digest_expression(columns: Sequence[Column], values: Mapping[str, str] | None = None) -> str:
    """SQL whose value is a BIGINT UNSIGNED with 32 bits of checksum in it; XOR of them says whether ranges differ.

    A row's checksum alone would not do: it is linear, and the XOR of two rows that swapped a value is the old one. The
    carries of a product are not: over random checksums one swap in 1.5 billion goes unnoticed, a number as good as
    random being passed by one in 4 billion. Equal rows are equal here wherever ``digest_expression`` has them equal.
    """
    sql = {c.name: (values or {}).get(c.name, quote_identifier(c.name)) for c in columns}
    # The last text needs no end, so it may be anything; where it is NULL, the comma before it is missing.
    texts = [c for c in columns if is_text(c) and not is_binary(c) and c.data_type not in _HUGE][-1:]
    fields = [_range_field(c, sql[c.name]) for c in columns if c not in texts] or ["''"]
    return f"CRC32(CONCAT_WS(',', {', '.join(fields + [_as_utf8(c, sql[c.name]) for c in texts])})) * {SPREAD}"


def _range_field(column: Column, value: str) -> str:
    """Text without a comma, never NULL: a number, a time, or the checksum of anything else."""
    require_known(column)
    if column.data_type in INEXACT:
        field = f"CRC32({_double_bytes(column, value)})"
    elif column.data_type in EXACT_NUMBERS:
        field = without_zerofill(column, value)
    elif column.data_type in TEMPORALS:
        field = value
    elif is_binary(column):
        field = f"CRC32({value})"
    elif _is_plain_text(column):
        field = f"CRC32({_as_utf8(column, value)})"
    elif column.data_type == "json":
        field = f"CRC32(CONVERT({value} USING utf8mb4))"
    else:
        return f"CRC32({literal_expression(column, value)})"
    return f"IFNULL({field}, 'N')" if column.is_nullable else field


# --- both ---------------------------------------------------------------------------------------------------------


def _is_plain_text(column: Column) -> bool:
    return column.data_type in TEXTS and not is_binary(column)


def _as_utf8(column: Column, value: str) -> str:
    return value if column.charset in _UTF8 else f"CONVERT({value} USING utf8mb4)"


def comparable_expression(column: Column, value: str) -> str:
    """SQL whose value is the same text on both sides for equal values, in whatever charset a side keeps its text."""
    if _is_plain_text(column):
        return f"QUOTE(CONVERT({value} USING utf8mb4))"
    return literal_expression(column, value)


def compares_by_text(column: Column, source: ServerVersion, target: ServerVersion) -> bool:
    """Whether equal values have equal literals on both servers: everything but JSON that MySQL holds.

    MariaDB keeps JSON as the text it was given, MySQL as values. And MySQL keeps decimals inside JSON (as SQL functions
    make them) apart from doubles: 1.10 goes over as text and prints as 1.1 from then on.
    """
    is_json = column.is_json or column.data_type == "json"
    return not is_json or (source.is_mariadb and target.is_mariadb)
