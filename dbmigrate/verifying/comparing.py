"""Digests of key ranges and rows, on both sides, over the same columns.

A comparison never decides on one look: rows differ for a moment whenever the stream is a little behind. It returns
suspects; only the verifier, after the stream has passed, calls one a mismatch.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from dbmigrate.domain.errors import FatalError
from dbmigrate.domain.keys import Key
from dbmigrate.domain.routes import CarriedColumn, Route
from dbmigrate.domain.schema import TableName
from dbmigrate.mysql.comparison import (
    Comparison,
    build_column_values,
    build_first_keys,
    build_key_digests,
    build_range_digest,
    build_range_values,
    build_row_digests,
    compare_destination,
    compare_origin,
)
from dbmigrate.mysql.digests import compares_by_text
from dbmigrate.mysql.key_predicates import KeyRange
from dbmigrate.mysql.servers import Server
from dbmigrate.mysql.sessions import SessionPool

Digests = dict[Key, bytes]
SAMPLED_KEYS = 20
KEY_LOOKS = 3


@dataclass(frozen=True, slots=True)
class RangeResult:
    """One compared range: rows on the origin, and whether counts and digests are the same on both sides."""

    rows: int
    is_equal: bool


class TableComparison:
    """Both halves of one table's comparison.

    Columns whose text may differ for equal values (JSON between flavours) stay out of the digests and are compared
    by value.
    """

    def __init__(self, route: Route, origin: Server, destination: Server, executor: Executor) -> None:
        self.route = route
        self._origin, self._destination, self._executor = origin, destination, executor
        by_text = [c for c in route.columns if _is_by_text(c, origin, destination)]
        self._by_value = [c for c in route.columns if c not in by_text]
        self._halves = (compare_origin(route, by_text), compare_destination(route, by_text))
        self._value_halves = (compare_origin(route, self._by_value), compare_destination(route, self._by_value))

    def compare_range(self, keys: KeyRange) -> RangeResult:
        """Count and digest of a range on both sides at about the same time."""
        statements = [build_range_digest(half, keys) for half in self._halves]
        (origin,), (destination,) = self._both(statements)
        is_equal = origin == destination and not (self._by_value and self._find_value_suspects(keys))
        return RangeResult(int(origin[0] or 0), is_equal)

    def find_suspects(self, keys: KeyRange) -> list[Key]:
        """The keys in a range that exist on one side only or differ."""
        origin, destination = (dict(rows) for rows in self._both([build_row_digests(h, keys) for h in self._halves]))
        differing = {key for key, digest in origin.items() if destination.get(key) != digest}
        found = differing | (destination.keys() - origin.keys())
        if self._by_value:
            found |= self._find_value_suspects(keys)
        return sorted(key for key in found if key is not None)

    def read_origin_digests(self, keys: Sequence[Key]) -> Digests:
        """Digest of each of these rows that exists on the origin, JSON as canonical values."""
        return self._read_digests(self._origin.pool, self._halves[0], self._value_halves[0], keys)

    def read_destination_digests(self, keys: Sequence[Key]) -> Digests:
        """The same on the destination."""
        return self._read_digests(self._destination.pool, self._halves[1], self._value_halves[1], keys)

    def require_keys_find_rows(self) -> None:
        """Read rows of both sides by the keys that they gave: what flush and judgement rest on.

        Raises:
            FatalError: a server does not find its own rows by key.
        """
        for pool, half in ((self._origin.pool, self._halves[0]), (self._destination.pool, self._halves[1])):
            missing: set[Key] | None = None
            for _ in range(KEY_LOOKS):
                keys = {row[0] for row in self._fetch(pool, build_first_keys(half, SAMPLED_KEYS)) if row[0]}
                found = {row[0] for row in self._fetch(pool, build_key_digests(half, list(keys)))} if keys else set()
                missing = (keys - found) & (keys if missing is None else missing)  # a deleted row is not listed again
                if not missing:
                    break
            if missing:
                raise _refuse_keys(half.table.name, pool.endpoint.place, missing)

    def require_found_by_key(self, keys: KeyRange, absent: set[Key]) -> None:
        """``absent`` were suspects of a range and by key on neither side: gone by now, or never to be found by key.

        Raises:
            FatalError: a range still holds them.
        """
        for _ in range(KEY_LOOKS):
            absent &= set(self.find_suspects(keys))
            if absent:
                absent -= self.read_origin_digests(list(absent)).keys()
            if absent:
                absent -= self.read_destination_digests(list(absent)).keys()
            if not absent:
                return
        raise _refuse_keys(self.route.name, self._origin.place, absent)

    def find_differing_columns(self, key: Key) -> tuple[str, ...]:
        """Which columns of one row differ; all of them where a side has no such row."""
        names = [c.destination.name for c in self.route.columns]
        halves = (compare_origin(self.route, self.route.columns), compare_destination(self.route, self.route.columns))
        origin, destination = self._both([build_column_values(half, key) for half in halves])
        if not origin or not destination:
            return tuple(names)
        by_value = {c.destination.name for c in self._by_value}
        return tuple(
            name
            for name, left, right in zip(names, origin[0], destination[0], strict=True)
            if (_canonical(left) != _canonical(right) if name in by_value else left != right)
        )

    # --- plumbing ---

    def _both(self, statements: Sequence[str]) -> tuple[Any, Any]:
        """The rows of one statement on each side, run at the same time."""
        right = self._executor.submit(self._fetch, self._destination.pool, statements[1])
        left = self._fetch(self._origin.pool, statements[0])
        return left, right.result()

    def _fetch(self, pool: SessionPool, sql: str) -> tuple[tuple[bytes | None, ...], ...]:
        def verb() -> tuple[tuple[bytes | None, ...], ...]:
            with pool.borrow() as session:
                return session.execute(sql, doing=f"comparing {self.route.name}").rows

        return self._origin.retry.retrying(verb, idempotent=True)

    def _read_digests(self, pool: SessionPool, half: Comparison, values: Comparison, keys: Sequence[Key]) -> Digests:
        found = {key: digest or b"" for key, digest in self._fetch(pool, build_key_digests(half, keys)) if key}
        if self._by_value:
            for key in found:
                rows = self._fetch(pool, build_column_values(values, key))
                found[key] += b"".join(_canonical(value) for value in rows[0]) if rows else b"gone"
        return found

    def _find_value_suspects(self, keys: KeyRange) -> set[Key]:
        """Rows whose by-value columns differ; every value of the range passes through here."""
        sides = self._both([build_range_values(half, keys) for half in self._value_halves])
        origin, destination = ({row[0]: tuple(map(_canonical, row[1:])) for row in rows} for rows in sides)
        return {key for key, value in origin.items() if key in destination and destination[key] != value}


def _refuse_keys(table: TableName, place: str, keys: set[Key]) -> FatalError:
    return FatalError(
        "a server does not find its own rows by key", place=f"{table} on {place}",
        cause=f"a range holds the row with key {min(keys).decode('ascii', 'replace')}, and looking it up finds nothing",
        hint="report this with the table's definition; until then list the table in [tables] exclude",
    )  # fmt: skip


def _is_by_text(carried: CarriedColumn, origin: Server, destination: Server) -> bool:
    return compares_by_text(carried.destination, origin.version, destination.version)


def _canonical(value: bytes | None) -> bytes:
    """A JSON document's value as canonical text; anything else as it is.

    Numbers are compared as numbers of arbitrary precision, objects regardless of the order of their members.
    """
    if value is None:
        return b"\0"
    text = _unquote(value)
    try:
        parsed = json.loads(text, parse_float=Decimal, parse_int=Decimal)
    except ValueError:
        return value
    return json.dumps(_plain(parsed), sort_keys=True).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return f"number {value.normalize():f}" if value == value.to_integral_value() else f"number {value.normalize()}"
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value


_ESCAPES = {ord("0"): 0, ord("Z"): 26, ord("n"): 10, ord("r"): 13, ord("t"): 9}


def _unquote(literal: bytes) -> bytes:
    """The bytes inside a literal that the server quoted."""
    if not literal.startswith(b"'"):
        return literal
    inner, out, i = literal[1:-1], bytearray(), 0
    while i < len(inner):
        if inner[i] == 0x5C and i + 1 < len(inner):
            out.append(_ESCAPES.get(inner[i + 1], inner[i + 1]))
            i += 2
        else:
            out.append(inner[i])
            i += 1
    return bytes(out)
