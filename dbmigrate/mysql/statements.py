"""The statements of the data path, built by pure functions from a route.

Rows never become Python values: reads return the text of SQL literals that the server formatted, and writes send
that text to the other server. Keys arrive in the canonical form of ``domain.keys``, whose literals hold no comma
outside their separators, so a composite key splits into its parts at every comma.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from dbmigrate.domain.keys import Key
from dbmigrate.domain.routes import CarriedColumn, Route
from dbmigrate.domain.schema import Column, ForeignKey, Table, TableName
from dbmigrate.mysql.digests import comparable_expression, digest_expression, range_digest_expression
from dbmigrate.mysql.identifiers import quote_columns, quote_identifier, quote_table
from dbmigrate.mysql.literals import key_expression, row_literal_expression

_INTEGERS = frozenset({"tinyint", "smallint", "mediumint", "int", "bigint"})
_LEAST_RUN = 20  # keys a range, on average: one range costs servers as much as ten keys


@dataclass(frozen=True, slots=True)
class KeyRange:
    """Rows whose key is above ``lower`` and not above ``upper``; None means without end."""

    lower: Key | None = None
    upper: Key | None = None


def _parts(key: Key) -> list[str]:
    return key.decode("ascii").split(",")


def _quoted(columns: Sequence[str]) -> list[str]:
    return [quote_identifier(name) for name in columns]


def _above(columns: list[str], literals: list[str], last: str) -> str:
    """``(c1, c2) > (l1, l2)`` spelled out, because neither flavour uses an index for the row form."""
    terms = []
    for i, column in enumerate(columns):
        equal = [f"{c} = {v}" for c, v in zip(columns[:i], literals[:i], strict=True)]
        operator = last if i == len(columns) - 1 else last[0]
        terms.append("(" + " AND ".join([*equal, f"{column} {operator} {literals[i]}"]) + ")")
    joined = " OR ".join(terms)
    return joined if len(columns) == 1 else f"({columns[0]} {last[0]}= {literals[0]} AND ({joined}))"


def range_predicate(key_columns: Sequence[str], keys: KeyRange) -> str:
    """SQL that is true for the rows in ``keys``; ``TRUE`` for the whole table."""
    columns, terms = _quoted(key_columns), []
    if keys.lower is not None:
        terms.append(_above(columns, _parts(keys.lower), ">"))
    if keys.upper is not None:
        terms.append(_above(columns, _parts(keys.upper), "<="))
    return " AND ".join(terms) or "TRUE"


def keys_predicate(table: Table, key_columns: Sequence[str], keys: Sequence[Key]) -> str:
    """SQL that is true for the rows of ``table`` that hold these keys in ``key_columns``.

    MySQL 9.7 finds nothing by ``(e, n) IN ((1, 2), (3, 4))`` where ``e`` is an ENUM or SET (by one pair it does), so these
    are spelled out; for others the short form is four times as fast.
    """
    columns = _quoted(key_columns)
    if len(columns) == 1:
        return f"{columns[0]} IN ({b','.join(keys).decode('ascii')})"
    if any(table.column(name).data_type in ("enum", "set") for name in key_columns):
        equal = (zip(columns, _parts(key), strict=True) for key in keys)
        return "(" + " OR ".join("(" + " AND ".join(f"{c} = {v}" for c, v in pairs) + ")" for pairs in equal) + ")"
    rows = ",".join(f"({key.decode('ascii')})" for key in keys)
    return f"({','.join(columns)}) IN ({rows})"


def has_integer_key(table: Table) -> bool:
    """Whether the key is one integer, so that keys have neighbours."""
    return [column.data_type in _INTEGERS for column in table.key_columns] == [True]


def own_keys_predicate(table: Table, keys: Sequence[Key]) -> str:
    """Like ``keys_predicate``, by the table's own key, for reads that take no locks.

    Keys in long runs of consecutive integers become ranges, which hold exactly these keys. Servers read them in half
    of the time: 1.6 us a row instead of 2.9 (measured on MariaDB 10.11, an order of ten columns; runs of 100 take 1.7, of
    10 take 2.6). Where rows are locked, a range could touch the row behind its end.
    """
    if has_integer_key(table):
        runs = _find_runs(keys)
        if len(runs) * _LEAST_RUN <= len(keys):
            column = quote_identifier(table.key_columns[0].name)
            return "(" + " OR ".join(f"{column} BETWEEN {first} AND {last}" for first, last in runs) + ")"
    return keys_predicate(table, [column.name for column in table.key_columns], keys)


def _find_runs(keys: Sequence[Key]) -> list[tuple[int, int]]:
    """First and last of each run of consecutive numbers."""
    numbers = sorted(map(int, keys))
    starts = [place for place, (one, following) in enumerate(pairwise(numbers), 1) if following - one > 1]
    return [(numbers[first], numbers[last - 1]) for first, last in pairwise([0, *starts, len(numbers)])]


def _from(table: Table) -> str:
    index = f" FORCE INDEX ({quote_identifier(table.key.name)})" if table.key else ""
    return f"{quote_table(table.name)}{index}"


def _where(predicate: str, where: str | None) -> str:
    return f"{predicate} AND ({where})" if where else predicate


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
    return f"FROM {_from(route.origin)} WHERE {_where(predicate, route.where)}"


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


# --- comparison -------------------------------------------------------------------------------------------------


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
    predicate = _where(range_predicate(half.key_columns, keys), half.where)
    return f"SELECT COUNT(*), BIT_XOR({half.range_digest}) FROM {quote_table(half.table.name)} WHERE {predicate}"


def build_row_digests(half: Comparison, keys: KeyRange) -> str:
    """Key and digest of every row in a range."""
    predicate = _where(range_predicate(half.key_columns, keys), half.where)
    return f"SELECT {_key_literals(half)}, {half.digest} FROM {quote_table(half.table.name)} WHERE {predicate}"


def build_first_keys(half: Comparison, most: int) -> str:
    """The first keys of a side's rows, in key order."""
    return (
        f"SELECT {_key_literals(half)} FROM {quote_table(half.table.name)} WHERE {_where('TRUE', half.where)} "
        f"ORDER BY {quote_columns(half.key_columns)} LIMIT {most}"
    )


def build_key_digests(half: Comparison, keys: Sequence[Key]) -> str:
    """Key and digest of the rows with these keys."""
    predicate = _where(keys_predicate(half.table, half.key_columns, keys), half.where)
    return f"SELECT {_key_literals(half)}, {half.digest} FROM {quote_table(half.table.name)} WHERE {predicate}"


def build_range_values(half: Comparison, keys: KeyRange) -> str:
    """Key and the literals of the compared columns of every row in a range."""
    values = dict(half.values)
    literals = ", ".join(comparable_expression(column, values[column.name]) for column in half.columns)
    predicate = _where(range_predicate(half.key_columns, keys), half.where)
    return f"SELECT {_key_literals(half)}, {literals} FROM {quote_table(half.table.name)} WHERE {predicate}"


def build_column_values(half: Comparison, key: Key) -> str:
    """The literal of every compared column of one row."""
    values = dict(half.values)
    literals = ", ".join(comparable_expression(column, values[column.name]) for column in half.columns)
    predicate = _where(keys_predicate(half.table, half.key_columns, [key]), half.where)
    return f"SELECT {literals} FROM {quote_table(half.table.name)} WHERE {predicate}"


def build_orphan_count(foreign_key: ForeignKey) -> str:
    """How many rows of a table reference a parent that does not exist."""
    pairs = list(zip(foreign_key.columns, foreign_key.referenced_columns, strict=True))
    joined = " AND ".join(f"p.{quote_identifier(there)} = c.{quote_identifier(own)}" for own, there in pairs)
    given = " AND ".join(f"c.{quote_identifier(own)} IS NOT NULL" for own, _ in pairs)
    return (
        f"SELECT COUNT(*) FROM {quote_table(foreign_key.table)} c LEFT JOIN {quote_table(foreign_key.referenced_table)} p "
        f"ON {joined} WHERE {given} AND p.{quote_identifier(pairs[0][1])} IS NULL"
    )


# --- cascades ---------------------------------------------------------------------------------------------------


def build_children_lookup(child: Table, foreign_key: ForeignKey, parent: Table, parent_keys: Sequence[Key]) -> str:
    """Keys of the rows of ``child`` that reference these rows of ``parent`` through ``foreign_key``.

    Where the referenced columns are the parent's key, the parent's row need not exist any more.
    """
    key = _key_of(child)
    referenced = {
        name.casefold(): own for own, name in zip(foreign_key.columns, foreign_key.referenced_columns, strict=True)
    }
    parent_key = [column.name for column in parent.key_columns]
    if {name.casefold() for name in parent_key} == set(referenced):
        own = [referenced[name.casefold()] for name in parent_key]
        return f"SELECT {key} FROM {quote_table(child.name)} WHERE {keys_predicate(child, own, parent_keys)}"
    pairs = " AND ".join(
        f"c.{quote_identifier(own)} = p.{quote_identifier(name)}"
        for own, name in zip(foreign_key.columns, foreign_key.referenced_columns, strict=True)
    )
    carried = ", ".join(f"c.{quote_identifier(column.name)}" for column in child.key_columns)
    inner = (
        f"SELECT {carried} FROM {quote_table(child.name)} c JOIN "
        f"(SELECT * FROM {quote_table(parent.name)} WHERE {keys_predicate(parent, parent_key, parent_keys)}) p ON {pairs}"
    )
    return f"SELECT {key} FROM ({inner}) AS children"


def build_orphans_lookup(
    child: Table, foreign_key: ForeignKey, *, after: Key | None = None, most: int, parent_keys: Sequence[Key] = ()
) -> str:
    """Keys of the rows of ``child`` whose ``foreign_key`` points at no row, in key order.

    ``parent_keys``: only those that point at these values of the referenced columns, which are in the order of the
    parent's key then.
    """
    own_table, names = quote_table(child.name), [column.name for column in child.key_columns]
    pairs = list(zip(foreign_key.columns, foreign_key.referenced_columns, strict=True))
    joined = " AND ".join(f"p.{quote_identifier(there)} = {own_table}.{quote_identifier(own)}" for own, there in pairs)
    given = " AND ".join(f"{quote_identifier(own)} IS NOT NULL" for own, _ in pairs)
    pointing = f"{keys_predicate(child, foreign_key.columns, parent_keys)} AND " if parent_keys else ""
    return (
        f"SELECT {_key_of(child)} FROM {own_table} WHERE {pointing}{range_predicate(names, KeyRange(after))} AND {given} "
        f"AND NOT EXISTS (SELECT 1 FROM {quote_table(foreign_key.referenced_table)} p WHERE {joined}) "
        f"ORDER BY {quote_columns(names)} LIMIT {most}"
    )


def _key_of(table: Table) -> str:
    return key_expression(table.key_columns)
