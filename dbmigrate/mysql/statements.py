"""The statements that move rows, built by pure functions from a route.

Rows never become Python values: reads return the text of SQL literals that the server formatted, and writes send
that text to the other server.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dbmigrate.domain.keys import Key
from dbmigrate.domain.routes import CarriedColumn, Route
from dbmigrate.domain.schema import Column, Table, TableName
from dbmigrate.mysql.identifiers import quote_columns, quote_identifier, quote_table
from dbmigrate.mysql.key_predicates import KeyRange, add_filter, keys_predicate, own_keys_predicate, range_predicate
from dbmigrate.mysql.literals import key_expression, row_literal_expression


def _from(table: Table) -> str:
    index = f" FORCE INDEX ({quote_identifier(table.key.name)})" if table.key else ""
    return f"{quote_table(table.name)}{index}"


def type_of_value(carried: CarriedColumn) -> tuple[Column, str]:
    """The column whose type decides the literal, and the SQL that yields its value on the origin."""
    if carried.expression is not None:
        return carried.destination, f"({carried.expression})"
    origin = carried.origin or carried.destination
    typing, value = carried.destination, quote_identifier(origin.name)
    if origin.data_type == typing.data_type:
        typing = origin
    elif typing.charset == "utf8mb4" and origin.charset not in (None, "utf8mb4"):
        value = f"CONVERT({value} USING utf8mb4)"
    return replace(typing, name=carried.destination.name), value


def build_row_literal(route: Route) -> str:
    """The SQL expression over the origin that yields a row of the destination, as a literal."""
    typed = [type_of_value(carried) for carried in route.columns]
    return row_literal_expression([column for column, _ in typed], {column.name: sql for column, sql in typed})


def build_boundary_probe(table: Table, keys: KeyRange, rows: int) -> str:
    """The key of the ``rows``-th row of a range in key order; no row where the range holds fewer."""
    return f"{_keys_in_order(table, keys)} LIMIT 1 OFFSET {rows - 1}"


def build_next_keys(table: Table, keys: KeyRange, rows: int) -> str:
    """The keys of the first ``rows`` rows of a range, in key order; fewer where it holds fewer."""
    return f"{_keys_in_order(table, keys)} LIMIT {rows}"


def _keys_in_order(table: Table, keys: KeyRange) -> str:
    names = [column.name for column in table.key_columns]
    return (
        f"SELECT {key_expression(table.key_columns)} FROM {_from(table)} WHERE {range_predicate(names, keys)} "
        f"ORDER BY {quote_columns(names)}"
    )


def build_last_key(table: Table) -> str:
    """The highest key of a table."""
    names = [column.name for column in table.key_columns]
    descending = ", ".join(f"{quote_identifier(name)} DESC" for name in names)
    return f"SELECT {key_expression(table.key_columns)} FROM {_from(table)} ORDER BY {descending} LIMIT 1"


def build_key_span(table: Table) -> str:
    """Lowest and highest value of the first key column, for tables keyed by an integer first."""
    first = quote_identifier(table.key_columns[0].name)
    return f"SELECT MIN({first}), MAX({first}) FROM {quote_table(table.name)}"


def build_chunk_read(route: Route, keys: KeyRange, *, row: str | None = None, separator: str = ",") -> str:
    """Row count and the text of all rows of a range: literals ready to follow VALUES, or what ``row`` makes of each."""
    return _gathered(route, row, _in_range(route, keys), separator)


def build_keys_read(route: Route, keys: Sequence[Key], *, row: str | None = None, separator: str = ",") -> str:
    """Row count and the text of the rows with these keys: literals ready to follow VALUES, or what ``row`` makes of each."""
    return _gathered(route, row, own_keys_predicate(route.origin, keys), separator)


def build_few_of_range(route: Route, keys: KeyRange, *, row: str | None = None) -> str:
    """The text of every row of a range, each as a row of the result: a literal, or what ``row`` makes of it."""
    return _one_by_one(route, row, _in_range(route, keys))


def build_few_keys_read(route: Route, keys: Sequence[Key], *, row: str | None = None) -> str:
    """The text of the rows with these keys, each as a row of the result: a literal, or what ``row`` makes of it."""
    return _one_by_one(route, row, own_keys_predicate(route.origin, keys))


def _in_range(route: Route, keys: KeyRange) -> str:
    return range_predicate([column.name for column in route.origin.key_columns], keys)


def _gathered(route: Route, row: str | None, predicate: str, separator: str) -> str:
    return f"SELECT COUNT(*), GROUP_CONCAT({row or build_row_literal(route)} SEPARATOR '{separator}') {_of_rows(route, predicate)}"


def _one_by_one(route: Route, row: str | None, predicate: str) -> str:
    return f"SELECT {row or build_row_literal(route)} {_of_rows(route, predicate)}"


def _of_rows(route: Route, predicate: str) -> str:
    return f"FROM {_from(route.origin)} WHERE {add_filter(predicate, route.where)}"


def build_replace_prefix(route: Route) -> bytes:
    """What stands before the row literals of a write."""
    return b"REPLACE" + _into(route)


def build_insert_prefix(route: Route) -> bytes:
    """What stands before the row literals of a write that must not evict other rows."""
    return b"INSERT" + _into(route)


def _into(route: Route) -> bytes:
    names = quote_columns(carried.destination.name for carried in route.columns)
    return f" INTO {quote_table(route.destination.name)} ({names}) VALUES ".encode()


def build_unique_values(route: Route, unique: Sequence[str], keys: Sequence[Key]) -> str:
    """What the origin's rows with these keys hold in a unique index of the destination; NULL where part of it is."""
    origins = {c.destination.name.casefold(): c.origin for c in route.columns if c.origin is not None}
    columns = [origins[name.casefold()] for name in unique]
    predicate = keys_predicate(route.origin, [c.name for c in route.origin.key_columns], keys)
    return f"SELECT {key_expression(columns)} FROM {_from(route.origin)} WHERE {predicate}"


def build_holders(route: Route, unique: Sequence[str], values: Sequence[Key]) -> str:
    """Keys of the destination's rows that hold these values in a unique index."""
    key = key_expression([route.destination.column(name) for name in route.destination_key])
    return f"SELECT {key} FROM {quote_table(route.destination.name)} WHERE {keys_predicate(route.destination, unique, values)}"


def build_delete(route: Route, keys: Sequence[Key]) -> str:
    """Delete the destination's rows with these keys of the origin."""
    return f"DELETE FROM {quote_table(route.destination.name)} WHERE {keys_predicate(route.destination, route.destination_key, keys)}"


def build_truncate(table: TableName) -> str:
    """Empty a table."""
    return f"TRUNCATE TABLE {quote_table(table)}"
