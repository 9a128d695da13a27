"""Rows of the source's shape and of nobody's content.

From the real server come definitions and, per nullable column, the share of NULLs among some rows: no value leaves it.
Parents are made before children, children name parents that exist, unique columns are numbered. The same seed makes the
same rows. What a CHECK refuses is left out and counted.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from dbmigrate.domain.errors import DbmigrateError, FatalError
from dbmigrate.domain.schema import Column, ForeignKey, Schema, Table, TableName
from dbmigrate.mysql.identifiers import quote_columns, quote_identifier, quote_table
from dbmigrate.mysql.sessions import Session
from dbmigrate.rehearsal.values import make_value

NULL_SAMPLE_ROWS = 1_000
_BATCH_ROWS = 500
_DEFAULT_NULL_RATE = 0.1

NullRates = Mapping[tuple[str, str], float]


def read_null_rates(session: Session, tables: Sequence[Table]) -> dict[tuple[str, str], float]:
    """By table and column, the share of NULLs among the first rows of each table."""
    rates: dict[tuple[str, str], float] = {}
    for table in tables:
        columns = [column.name for column in table.stored_columns if column.is_nullable]
        if not columns:
            continue
        shares = ", ".join(f"AVG({quote_identifier(name)} IS NULL)" for name in columns)
        some = f"SELECT {quote_columns(columns)} FROM {quote_table(table.name)} LIMIT {NULL_SAMPLE_ROWS}"
        row = session.execute(f"SELECT {shares} FROM ({some}) some_rows", doing="counting NULLs").rows[0]
        for name, share in zip(columns, row, strict=True):
            rates[table.name.name, name] = float(share) if share is not None else _DEFAULT_NULL_RATE
    return rates


def order_by_parents(tables: Sequence[Table]) -> list[Table]:
    """Parents before their children; where tables reference each other in a circle, by name."""
    left = {table.name.name: table for table in sorted(tables, key=lambda table: table.name.name)}
    ordered: list[Table] = []
    while left:
        free = [t for t in left.values() if not _parents_of(t) & (left.keys() - {t.name.name})]
        for table in free or [next(iter(left.values()))]:
            ordered.append(left.pop(table.name.name))
    return ordered


def _parents_of(table: Table) -> set[str]:
    return {fk.referenced_table.name for fk in table.foreign_keys if fk.referenced_table.schema == table.name.schema}


@dataclass
class Generator:
    """Fills the tables of one throwaway server's database ``destination``."""

    session: Session
    schema: Schema
    destination: str
    null_rates: NullRates
    seed: int
    refused: int = 0
    _made: dict[tuple[str, tuple[str, ...]], list[tuple[str, ...]]] = field(default_factory=dict)
    """By table and referenced columns, the values that children may name."""

    def fill(self, tables: Sequence[Table], rows: int) -> dict[str, int]:
        """Up to ``rows`` rows a table; returns how many each got.

        Raises:
            FatalError: a table got none.
        """
        counts = {}
        for table in order_by_parents(tables):
            made = list(self._make_rows(table, rows))
            counts[table.name.name] = self._write(table, made)
            if rows and not counts[table.name.name]:
                raise FatalError(
                    f"no row could be generated for {table.name.name}", place=str(table.name),
                    cause="a CHECK or a unique key refuses every made-up row",
                    hint="exclude the table, or rehearse with --rows or --dump",
                )  # fmt: skip
        return counts

    # --- making ---

    def _make_rows(self, table: Table, rows: int) -> Iterator[dict[str, str]]:
        random = Random(self.seed * 1_000_003 + zlib.crc32(table.name.name.encode()))  # noqa: S311  # rows, not secrets
        uniques = [i.columns for i in table.indexes if i.is_unique and all(i.columns)]
        seen: list[set[tuple[str, ...]]] = [set() for _ in uniques]
        for number in range(rows):
            row = self._make_row(table, random, number)
            keys = [tuple(row[_fold(name)] for name in columns) if _has(row, columns) else () for columns in uniques]
            if any(key in known for key, known in zip(keys, seen, strict=True) if key and "NULL" not in key):
                continue
            for key, known in zip(keys, seen, strict=True):
                known.add(key)
            for columns in table.referenced_columns:
                names = tuple(map(_fold, columns))
                self._made.setdefault((table.name.name, names), []).append(tuple(row[name] for name in names))
            yield row

    def _make_row(self, table: Table, random: Random, number: int) -> dict[str, str]:
        """Literals by folded column name: foreign keys first, then everything else."""
        row: dict[str, str] = {}
        for foreign_key in table.foreign_keys:
            row |= self._choose_parent(table, foreign_key, random, number, row)
        distinct = {_fold(c) for index in table.indexes if index.is_unique for c in index.columns}
        for column in table.stored_columns:
            name = _fold(column.name)
            if name in row:
                continue
            if column.is_nullable and random.random() < self.null_rates.get((table.name.name, column.name), 0.0):
                row[name] = "NULL"
            else:
                row[name] = make_value(column, random, number, distinct=name in distinct)
        return row | self._reference_itself(table, row)

    def _reference_itself(self, table: Table, row: Mapping[str, str]) -> dict[str, str]:
        """The first row of a table that must reference one of its own rows references itself."""
        own: dict[str, str] = {}
        for foreign_key in table.foreign_keys:
            names, referenced = (tuple(map(_fold, c)) for c in (foreign_key.columns, foreign_key.referenced_columns))
            is_missing = not self._made.get((table.name.name, referenced)) and "NULL" not in [row[name] for name in names]
            if foreign_key.referenced_table == table.name and is_missing:
                own |= dict(zip(names, (row[name] for name in referenced), strict=True))
        return own

    def _choose_parent(
        self, table: Table, foreign_key: ForeignKey, random: Random, number: int, row: Mapping[str, str]
    ) -> dict[str, str]:
        names = [_fold(name) for name in foreign_key.columns]
        if any(name in row for name in names):
            return {}  # shares a column with a foreign key before it
        columns = [table.column(name) for name in foreign_key.columns]
        referenced = tuple(map(_fold, foreign_key.referenced_columns))
        parents = self._made.get((foreign_key.referenced_table.name, referenced), [])
        rate = max((self.null_rates.get((table.name.name, c.name), 0.0) for c in columns if c.is_nullable), default=0.0)
        may_be_null = any(c.is_nullable for c in columns)
        if may_be_null and (not parents or random.random() < rate):
            return {name: "NULL" if c.is_nullable else make_value(c, random, number) for name, c in zip(names, columns, strict=True)}
        if not parents:
            return {}
        is_unique = any(i.is_unique and set(map(_fold, i.columns)) <= set(names) for i in table.indexes)
        parent = parents[number % len(parents)] if is_unique or _leads_key(table, names) else random.choice(parents)
        return dict(zip(names, parent, strict=True))

    # --- writing ---

    def _write(self, table: Table, rows: Sequence[dict[str, str]]) -> int:
        written: list[dict[str, str]] = []
        for start in range(0, len(rows), _BATCH_ROWS):
            written += self._write_batch(table, rows[start : start + _BATCH_ROWS])
        for columns in table.referenced_columns:
            names = tuple(map(_fold, columns))
            self._made[table.name.name, names] = [tuple(row[name] for name in names) for row in written]
        return len(written)

    def _write_batch(self, table: Table, rows: Sequence[dict[str, str]]) -> Sequence[dict[str, str]]:
        """Write them at once; where one is refused, one by one."""
        try:
            self.session.execute(self._build_insert(table, rows), doing=f"filling {table.name.name}")
        except DbmigrateError:
            if len(rows) == 1:
                self.refused += 1
                return []
            return [row for one in rows for row in self._write_batch(table, [one])]
        return rows

    def _build_insert(self, table: Table, rows: Sequence[dict[str, str]]) -> str:
        names = [column.name for column in table.stored_columns]
        values = ", ".join(f"({', '.join(row[_fold(name)] for name in names)})" for row in rows)
        target = quote_table(TableName(self.destination, table.name.name))
        return f"INSERT INTO {target} ({quote_columns(names)}) VALUES {values}"


def _fold(name: str) -> str:
    return name.casefold()


def _has(row: Mapping[str, str], columns: Sequence[str]) -> bool:
    return all(_fold(name) in row for name in columns)


def _leads_key(table: Table, names: Sequence[str]) -> bool:
    """Whether the foreign key is part of the table's key, so that parents are taken in turns."""
    return table.key is not None and bool(set(map(_fold, table.key.columns)) & set(names))


def writable_columns(table: Table) -> tuple[Column, ...]:
    """Columns that may be changed on their own: in no key, no unique index and no foreign key."""
    bound = {_fold(c) for index in table.indexes if index.is_unique for c in index.columns}
    bound |= {_fold(c) for foreign_key in table.foreign_keys for c in foreign_key.columns}
    bound |= {_fold(c) for columns in table.referenced_columns for c in columns}
    return tuple(c for c in table.stored_columns if _fold(c.name) not in bound)
