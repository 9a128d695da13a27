"""The statements that compare rows: digests of a range, of every row, and the values behind them, computed alike on both sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dbmigrate.domain.keys import Key
from dbmigrate.domain.routes import CarriedColumn, Route
from dbmigrate.domain.schema import Column, Table
from dbmigrate.mysql.digests import comparable_expression, digest_expression, range_digest_expression
from dbmigrate.mysql.identifiers import quote_columns, quote_identifier, quote_table
from dbmigrate.mysql.key_predicates import KeyRange, add_filter, keys_predicate, range_predicate
from dbmigrate.mysql.literals import key_expression
from dbmigrate.mysql.statements import type_of_value


@dataclass(frozen=True, slots=True)
class Comparison:
    """One side's half of a comparison: the same columns of a route, computed alike on both sides."""

    table: Table
    key_columns: tuple[str, ...]
    columns: tuple[Column, ...]
    values: tuple[tuple[str, str], ...]
    where: str | None

    @property
    def digest(self) -> str:
        """The row digest as a BIGINT UNSIGNED expression."""
        return digest_expression(self.columns, dict(self.values))

    @property
    def range_digest(self) -> str:
        """What a range combines by XOR, a BIGINT UNSIGNED expression."""
        return range_digest_expression(self.columns, dict(self.values))


_CAST = {
    "datetime": "DATETIME({fraction})", "timestamp": "DATETIME({fraction})", "time": "TIME({fraction})",
    "date": "DATE", "decimal": "DECIMAL({precision},{scale})",
}  # fmt: skip


def _cast(column: Column, sql: str) -> str:
    """``sql`` as the type of ``column``, so that its text is the one a stored value has."""
    target = _CAST.get(column.data_type)
    if target is None:
        return sql
    filled = target.format(fraction=column.fraction_digits, precision=column.precision, scale=column.scale)
    return f"CAST({sql} AS {filled})"


def _halves(carried: CarriedColumn) -> tuple[tuple[Column, str], tuple[Column, str]]:
    """How either side computes what is compared: a column that decides by its type, and SQL for the value.

    Both halves decide alike, but for the charset, which is each side's own. Where origin and destination print equal
    values differently the origin's is cast, and members that both sides number alike are compared by number.
    """
    column, sql = type_of_value(carried)
    origin, destination = carried.origin, carried.destination
    there = quote_identifier(column.name)
    shape = ("data_type", "fraction_digits", "precision", "scale")
    is_alike = origin is not None and all(getattr(origin, name) == getattr(destination, name) for name in shape)
    if not is_alike:
        column, sql = replace(destination, name=column.name), _cast(destination, sql)
    elif origin is not None and origin.members and origin.members == destination.members:
        column = replace(column, data_type="bigint", column_type="bigint unsigned", charset=None, members=())
        sql, there = f"CAST({sql} AS UNSIGNED)", f"CAST({there} AS UNSIGNED)"
    may_be_null = carried.expression is not None or origin is None or origin.is_nullable or destination.is_nullable
    column = replace(column, is_nullable=may_be_null)
    if column.charset is None:
        return (column, sql), (column, there)
    own = origin.charset if origin is not None and carried.expression is None else None
    own = "binary" if column.charset == "binary" else own  # what an expression gives is text or bytes as the column is
    return (replace(column, charset=own), sql), (replace(column, charset=destination.charset), there)


def compare_origin(route: Route, columns: Sequence[CarriedColumn]) -> Comparison:
    """The origin's half, over these columns of the route."""
    halves = [_halves(carried)[0] for carried in columns]
    names = tuple(column.name for column in route.origin.key_columns)
    values = tuple((column.name, sql) for column, sql in halves)
    return Comparison(route.origin, names, tuple(column for column, _ in halves), values, route.where)


def compare_destination(route: Route, columns: Sequence[CarriedColumn]) -> Comparison:
    """The destination's half."""
    halves = [_halves(carried)[1] for carried in columns]
    values = tuple((column.name, sql) for column, sql in halves)
    return Comparison(route.destination, route.destination_key, tuple(column for column, _ in halves), values, None)


def _key_literals(half: Comparison) -> str:
    return key_expression([half.table.column(name) for name in half.key_columns])


def build_range_digest(half: Comparison, keys: KeyRange) -> str:
    """Row count and combined digest of a range."""
    predicate = add_filter(range_predicate(half.key_columns, keys), half.where)
    return f"SELECT COUNT(*), BIT_XOR({half.range_digest}) FROM {quote_table(half.table.name)} WHERE {predicate}"


def build_row_digests(half: Comparison, keys: KeyRange) -> str:
    """Key and digest of every row in a range."""
    predicate = add_filter(range_predicate(half.key_columns, keys), half.where)
    return f"SELECT {_key_literals(half)}, {half.digest} FROM {quote_table(half.table.name)} WHERE {predicate}"


def build_first_keys(half: Comparison, most: int) -> str:
    """The first keys of a side's rows, in key order."""
    return (
        f"SELECT {_key_literals(half)} FROM {quote_table(half.table.name)} WHERE {add_filter('TRUE', half.where)} "
        f"ORDER BY {quote_columns(half.key_columns)} LIMIT {most}"
    )


def build_key_digests(half: Comparison, keys: Sequence[Key]) -> str:
    """Key and digest of the rows with these keys."""
    predicate = add_filter(keys_predicate(half.table, half.key_columns, keys), half.where)
    return f"SELECT {_key_literals(half)}, {half.digest} FROM {quote_table(half.table.name)} WHERE {predicate}"


def build_range_values(half: Comparison, keys: KeyRange) -> str:
    """Key and the literals of the compared columns of every row in a range."""
    values = dict(half.values)
    literals = ", ".join(comparable_expression(column, values[column.name]) for column in half.columns)
    predicate = add_filter(range_predicate(half.key_columns, keys), half.where)
    return f"SELECT {_key_literals(half)}, {literals} FROM {quote_table(half.table.name)} WHERE {predicate}"


def build_column_values(half: Comparison, key: Key) -> str:
    """The literal of every compared column of one row."""
    values = dict(half.values)
    literals = ", ".join(comparable_expression(column, values[column.name]) for column in half.columns)
    predicate = add_filter(keys_predicate(half.table, half.key_columns, [key]), half.where)
    return f"SELECT {literals} FROM {quote_table(half.table.name)} WHERE {predicate}"
