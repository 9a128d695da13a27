"""A plain row by row comparison of two schemas, in Python.

Deliberately apart from the program's own verifier, and sharing nothing with it: it is what the demo and the tests
believe. Slow and simple; for shops of some hundred thousand rows.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeAlias

from dbmigrate.throwaway.connections import Connection

Row: TypeAlias = tuple[Any, ...]

_PAGE_ROWS = 10_000
_INTEGERS = {"tinyint", "smallint", "mediumint", "int", "bigint"}


@dataclass(frozen=True, slots=True)
class Difference:
    """One row that is not the same on both sides; None where a side lacks it."""

    table: str
    key: Row
    source: Row | None
    target: Row | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """How many rows were looked at, how many differ, and the first of those."""

    rows: int
    differing: int
    first: tuple[Difference, ...]


def compare(
    source: Connection,
    target: Connection,
    schema: str,
    *,
    target_schema: str | None = None,
    tables: Sequence[str] | None = None,
    keep: int = 20,
) -> Comparison:
    """Compare every row of every base table (or of ``tables``) of the two schemas, by value.

    Each side is read in one snapshot, with times in UTC. JSON is compared as values, because servers keep its text
    differently. A table that exists on one side only counts with all its rows.
    """
    left, right = _Side(source, schema), _Side(target, target_schema or schema)
    names = tables if tables is not None else sorted({*left.read_tables(), *right.read_tables()})
    rows, differing, first = 0, 0, list[Difference]()
    for name in names:
        for is_same, difference in _compare_table(left, right, name):
            rows += 1
            differing += not is_same
            if difference is not None and len(first) < keep:
                first.append(difference)
    left.close()
    right.close()
    return Comparison(rows, differing, tuple(first))


class _Side:
    """One schema, read in one snapshot."""

    def __init__(self, connection: Connection, schema: str) -> None:
        self._connection = connection
        self._schema = schema
        connection.rollback()
        self._query("SET time_zone = '+00:00'")
        self._query("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        self._query("START TRANSACTION WITH CONSISTENT SNAPSHOT")

    def close(self) -> None:
        """Let go of the snapshot."""
        self._connection.rollback()

    def read_tables(self) -> list[str]:
        """The names of the base tables."""
        sql = "SELECT table_name FROM information_schema.tables WHERE table_schema = %s AND table_type = 'BASE TABLE'"
        return [str(name) for (name,) in self._query(sql, self._schema)]

    def read_columns(self, table: str) -> dict[str, str]:
        """Column names with their types, in order; empty where there is no such table."""
        sql = (
            "SELECT column_name, data_type FROM information_schema.columns "
            "WHERE table_schema = %s AND table_name = %s ORDER BY ordinal_position"
        )
        return {str(name): str(kind) for name, kind in self._query(sql, self._schema, table)}

    def read_key(self, table: str) -> list[str]:
        """The columns of the primary key."""
        sql = (
            "SELECT column_name FROM information_schema.statistics "
            "WHERE table_schema = %s AND table_name = %s AND index_name = 'PRIMARY' ORDER BY seq_in_index"
        )
        return [str(name) for (name,) in self._query(sql, self._schema, table)]

    def read_rows(self, table: str, columns: Sequence[str]) -> list[Row]:
        """All rows at once."""
        return self._query(f"SELECT {self._shown(table, columns)} FROM {_quote([self._schema])}.{_quote([table])}")

    def read_pages(self, table: str, columns: Sequence[str], key: Sequence[str]) -> Iterator[Row]:
        """All rows in the order of ``key``, which are the first columns of each, a page at a time."""
        after = ""
        while True:
            page = self._query(
                f"SELECT {self._shown(table, columns)} FROM {_quote([self._schema])}.{_quote([table])} {after} "
                f"ORDER BY {_quote(key)} LIMIT {_PAGE_ROWS}"
            )
            yield from page
            if len(page) < _PAGE_ROWS:
                return
            after = "WHERE " + _build_after(key, page[-1])

    def _shown(self, table: str, columns: Sequence[str]) -> str:
        """The columns as they are, but vectors, which drivers do not know, as digits."""
        kinds = self.read_columns(table)
        return ", ".join(f"HEX({_quote([name])})" if kinds[name] == "vector" else _quote([name]) for name in columns)

    def _query(self, sql: str, *parameters: str) -> list[Row]:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, parameters or None)
            return list(cursor.fetchall())


def _compare_table(left: _Side, right: _Side, table: str) -> Iterator[tuple[bool, Difference | None]]:
    columns, others = left.read_columns(table), right.read_columns(table)
    key = left.read_key(table) if columns else right.read_key(table)
    shared = [name for name in columns if name in others] if columns and others else list(columns or others)
    ordered = [*key, *(name for name in shared if name not in key)]
    has_same_columns = set(columns) == set(others)
    # MariaDB keeps JSON as the text it was given, MySQL as a value: only across the two may the text differ.
    as_json = frozenset(i for i, name in enumerate(ordered) if "json" in (columns.get(name), others.get(name)))
    paged = bool(key) and all((columns or others)[name] in _INTEGERS for name in key)
    sides = [
        _read(side, table, ordered, key, paged=paged) if exists else iter(())
        for side, exists in ((left, columns), (right, others))
    ]
    if not key:
        yield from _compare_without_key(table, *sides)
        return
    # Numbers sort alike everywhere and are merged as they come; text may not, and is looked up.
    pairs = _merge(*sides, width=len(key)) if paged else _look_up(*sides, width=len(key))
    for one, other in pairs:
        is_same = has_same_columns and one is not None and other is not None and _is_same_row(one, other, as_json)
        yield is_same, None if is_same else Difference(table, (one or other or ())[: len(key)], one, other)


def _read(side: _Side, table: str, columns: Sequence[str], key: Sequence[str], *, paged: bool) -> Iterator[Row]:
    return side.read_pages(table, columns, key) if paged else iter(side.read_rows(table, columns))


def _merge(left: Iterator[Row], right: Iterator[Row], *, width: int) -> Iterator[tuple[Row | None, Row | None]]:
    one, other = next(left, None), next(right, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one[:width] < other[:width]):
            yield one, None
            one = next(left, None)
        elif one is None or other[:width] < one[:width]:
            yield None, other
            other = next(right, None)
        else:
            yield one, other
            one, other = next(left, None), next(right, None)


def _look_up(left: Iterator[Row], right: Iterator[Row], *, width: int) -> Iterator[tuple[Row | None, Row | None]]:
    remaining = {row[:width]: row for row in right}
    for row in left:
        yield row, remaining.pop(row[:width], None)
    for row in remaining.values():
        yield None, row


def _compare_without_key(
    table: str, left: Iterator[Row], right: Iterator[Row]
) -> Iterator[tuple[bool, Difference | None]]:
    """Rows as a multiset: how often each occurs."""
    ours, theirs = Counter(map(repr, left)), Counter(map(repr, right))
    for text in {*ours, *theirs}:
        for _ in range(min(ours[text], theirs[text])):
            yield True, None
        for _ in range(abs(ours[text] - theirs[text])):
            is_ours = ours[text] > theirs[text]
            yield False, Difference(table, (), (text,) if is_ours else None, None if is_ours else (text,))


def _is_same_row(one: Row, other: Row, as_json: frozenset[int]) -> bool:
    if one == other:
        return True
    pairs = enumerate(zip(one, other, strict=True))
    return all(a == b or (i in as_json and _parse_json(a) == _parse_json(b)) for i, (a, b) in pairs)


def _parse_json(text: Any) -> Any:
    return None if text is None else json.loads(text, parse_float=Decimal)


def _build_after(key: Sequence[str], row: Row) -> str:
    """Rows after ``row`` in key order, in the form that servers answer from the index."""
    names = [_quote([name]) for name in key]
    alternatives = [
        " AND ".join([*(f"{names[i]} = {row[i]}" for i in range(last)), f"{names[last]} > {row[last]}"])
        for last in range(len(names))
    ]
    return f"{names[0]} >= {row[0]} AND ({' OR '.join(f'({text})' for text in alternatives)})"


def _quote(names: Sequence[str]) -> str:
    return ", ".join("`" + name.replace("`", "``") + "`" for name in names)
