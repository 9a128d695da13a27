"""A sample of the real rows: one moment of the source, bounded reads, and every foreign key kept whole.

From each table rows are read in windows spread evenly over the key, by index. Then every row that a foreign key of a
sampled row names is fetched as well, until nothing is missing; what the source itself lacks stays missing. Rows travel
as literals that the source formats, as in a move.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from dbmigrate.domain.errors import RefusedError
from dbmigrate.domain.schema import ForeignKey, Schema, Table, TableName
from dbmigrate.mysql.identifiers import quote_columns, quote_identifier, quote_table
from dbmigrate.mysql.literals import INTEGERS, key_expression, literal_expression, row_literal_expression
from dbmigrate.mysql.sessions import Session
from dbmigrate.rehearsal.settings import SampledRows

WINDOWS = 20
BATCH_ROWS = 500
_BATCH_BYTES = 4 * 1024 * 1024
_MOST_ROUNDS = 100


def rows_wanted(table: Table, wanted: SampledRows) -> int:
    """How many rows of a table are asked for; the percentage is of the server's estimate."""
    if wanted.percent is None:
        return wanted.rows
    return max(1, round(table.estimated_rows * wanted.percent / 100))


@dataclass
class Sampler:
    """Copies a sample of ``schema`` from one session to another, whose database ``destination`` has the tables."""

    source: Session
    target: Session
    schema: Schema
    destination: str
    orphans: int = 0
    _written: dict[str, set[bytes]] = field(default_factory=dict)

    def copy(self, tables: Sequence[Table], wanted: SampledRows) -> dict[str, int]:
        """Sample these tables, then complete their parents; returns rows by table.

        Raises:
            DbmigrateError: a row cannot be read or written.
        """
        for table in tables:
            for rows in _read_windows(self.source, table, rows_wanted(table, wanted)):
                self._write(table, rows)
        self._complete()
        return {name: len(keys) for name, keys in self._written.items()}

    def _write(self, table: Table, rows: Sequence[tuple[bytes, bytes]]) -> int:
        """Write rows that are not there yet, each given as key and literal."""
        known = self._written.setdefault(table.name.name, set())
        fresh = {key: literal for key, literal in rows if key not in known}
        name = quote_table(TableName(self.destination, table.name.name))
        columns = quote_columns(c.name for c in table.stored_columns)
        for batch in _cut(list(fresh.values())):
            prefix = f"INSERT INTO {name} ({columns}) VALUES ".encode()
            self.target.execute_exactly(prefix + b",".join(batch), doing=f"loading {table.name}")
        known.update(fresh)
        return len(fresh)

    # --- foreign keys ---

    def _complete(self) -> None:
        """Fetch parents until a round finds none that the source has."""
        by_name = {table.name.name: table for table in self.schema.tables}
        for _ in range(_MOST_ROUNDS):
            fetched, self.orphans = 0, 0
            for child in [by_name[name] for name in list(self._written)]:
                for foreign_key in child.foreign_keys:
                    parent = by_name.get(foreign_key.referenced_table.name)
                    if parent is not None and foreign_key.referenced_table.schema == self.schema.name:
                        fetched += self._fetch_parents(foreign_key, parent)
            if not fetched:
                return
        raise RefusedError(
            "the parents of the sampled rows come to no end", place=self.schema.name,
            hint="sample fewer rows, or use --generate",
        )  # fmt: skip

    def _fetch_parents(self, foreign_key: ForeignKey, parent: Table) -> int:
        missing = self._find_missing(foreign_key)
        fetched = 0
        for start in range(0, len(missing), BATCH_ROWS):
            values = b",".join(missing[start : start + BATCH_ROWS]).decode("utf8")
            condition = f"({quote_columns(foreign_key.referenced_columns)}) IN ({values})"
            fetched += self._write(parent, _read_rows(self.source, parent, f"WHERE {condition}"))
        self.orphans += len(missing) - fetched if missing else 0
        return fetched

    def _find_missing(self, foreign_key: ForeignKey) -> list[bytes]:
        """The referenced keys, as literals, that sampled rows name and the sample lacks."""
        child, parent = (
            quote_table(TableName(self.destination, name.name))
            for name in (foreign_key.table, foreign_key.referenced_table)
        )
        pairs = list(zip(foreign_key.columns, foreign_key.referenced_columns, strict=True))
        table = next(t for t in self.schema.tables if t.name.name == foreign_key.table.name)
        parts = [literal_expression(table.column(name)) for name in foreign_key.columns]
        named = " AND ".join(f"{quote_identifier(name)} IS NOT NULL" for name in foreign_key.columns)
        joined = " AND ".join(f"p.{quote_identifier(b)} = c.{quote_identifier(a)}" for a, b in pairs)
        inner = f"SELECT DISTINCT {quote_columns(foreign_key.columns)} FROM {child} c WHERE {named} AND NOT EXISTS "
        inner += f"(SELECT 1 FROM {parent} p WHERE {joined})"
        literal = ", ',', ".join(parts)
        sql = f"SELECT CONCAT('(', {literal}, ')') FROM ({inner}) missing"
        return [row[0] for row in self.target.execute(sql, doing="looking for parents").rows if row[0] is not None]


def _cut(literals: list[bytes]) -> Iterator[list[bytes]]:
    """Batches that one statement may hold."""
    batch: list[bytes] = []
    size = 0
    for literal in literals:
        if batch and (len(batch) >= BATCH_ROWS or size + len(literal) > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(literal)
        size += len(literal)
    if batch:
        yield batch


def _read_rows(session: Session, table: Table, rest: str) -> list[tuple[bytes, bytes]]:
    """Key and literal of the rows that ``rest`` (WHERE, ORDER BY, LIMIT) names; without a key the literal is the key."""
    literal = row_literal_expression(table.stored_columns)
    key = key_expression(table.key_columns) if table.key else literal
    sql = f"SELECT {key}, {literal} FROM {quote_table(table.name)} {rest}"
    rows = session.execute(sql, doing=f"sampling {table.name}").rows
    return [(row[0] or b"", row[1]) for row in rows if row[1] is not None]


def _read_windows(session: Session, table: Table, rows: int) -> Iterator[list[tuple[bytes, bytes]]]:
    """About ``rows`` rows, in windows over a whole-number key, else from the start of the key."""
    key = table.key_columns
    if not key:
        yield _read_rows(session, table, f"LIMIT {rows}")
        return
    order = f"ORDER BY {quote_columns(c.name for c in key)}"
    starts = _find_starts(session, table, rows)
    if len(starts) < 2:
        yield _read_rows(session, table, f"{order} LIMIT {rows}")
        return
    first, each = quote_identifier(key[0].name), -(-rows // len(starts))
    for low, high in zip(starts, [*starts[1:], None], strict=True):
        bound = f" AND {first} < {high}" if high is not None else ""
        yield _read_rows(session, table, f"WHERE {first} >= {low}{bound} {order} LIMIT {each}")


def _find_starts(session: Session, table: Table, rows: int) -> list[int]:
    """Where windows begin: evenly between the lowest and the highest key. Empty where the key is no whole number."""
    first = table.key_columns[0]
    if first.data_type not in INTEGERS:
        return []
    name = quote_identifier(first.name)
    found = session.execute(f"SELECT MIN({name}), MAX({name}) FROM {quote_table(table.name)}", doing="looking at keys").rows
    low, high = found[0]
    if low is None or high is None or table.estimated_rows <= rows:
        return []
    lowest, highest = int(low), int(high)
    step = (highest - lowest + 1) / WINDOWS
    return sorted({lowest + int(i * step) for i in range(WINDOWS)})
