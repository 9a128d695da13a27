"""Whether both sides are equal at the end, by means that share nothing with the program's own verification.

Tables that move as they are go to the row by row comparison of ``throwaway``. Where names, columns or rows differ by
configuration, each side is asked for what should be equal, and the rows are compared as multisets.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dbmigrate.config import TableOptions, TablesSection
from dbmigrate.domain.routes import Side
from dbmigrate.domain.schema import Schema, Table
from dbmigrate.mysql.identifiers import quote_columns, quote_identifier
from dbmigrate.rehearsal.report import RowDifference
from dbmigrate.rehearsal.servers import StandIn
from dbmigrate.throwaway.row_comparison import compare

_MOST_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Verdict:
    """Rows looked at, rows that differ, and the first of those."""

    rows: int
    differing: int
    first: tuple[RowDifference, ...]


def compare_sides(stand_ins: Mapping[Side, StandIn], tables: TablesSection, source: Schema, target: Schema) -> Verdict:
    """Compare every table that moves. Both sides stand still."""
    moving = [table for table in source.tables if tables.selects(table.name.name)]
    plain = [t for t in moving if _travels_as_it_is(t, tables.options_for(t.name.name), target)]
    left, right = (stand_ins[side] for side in Side)
    with contextlib.closing(left.connect()) as one, contextlib.closing(right.connect()) as other:
        names = [table.name.name for table in plain]
        result = compare(one, other, left.schema, target_schema=right.schema, tables=names, keep=_MOST_SHOWN)
        found = [Verdict(result.rows, result.differing, tuple(_name(d.table, d.key) for d in result.first))]
        for table in moving:
            if table not in plain:
                found.append(_compare_reshaped(one, other, table, tables.options_for(table.name.name), target))
    first = tuple(difference for verdict in found for difference in verdict.first)[:_MOST_SHOWN]
    return Verdict(sum(v.rows for v in found), sum(v.differing for v in found), first)


def _name(table: str, key: Sequence[Any]) -> RowDifference:
    return RowDifference(table, ", ".join(map(str, key)))


def _travels_as_it_is(table: Table, options: TableOptions, target: Schema) -> bool:
    twin = next((t for t in target.tables if t.name.name == table.name.name), None)
    has_same_columns = twin is not None and {c.name for c in twin.columns} == {c.name for c in table.columns}
    return has_same_columns and not (options.where or options.columns or options.rename or options.omit)


def _compare_reshaped(one: Any, other: Any, table: Table, options: TableOptions, target: Schema) -> Verdict:
    """What the source says the target should hold, against what it holds."""
    name = options.rename or table.name.name
    twin = next((t for t in target.tables if t.name.name == name), None)
    if twin is None:
        return Verdict(1, 1, (RowDifference(name, "the table does not exist on the target"),))
    wanted = _expected_columns(table, twin, options)
    where = f" WHERE ({options.where})" if options.where else ""
    shown = ", ".join(f"{sql} AS {quote_identifier(column)}" for column, sql in wanted.items())
    left = f"SELECT {shown} FROM {quote_identifier(table.name.schema)}.{quote_identifier(table.name.name)}{where}"
    right = f"SELECT {quote_columns(wanted)} FROM {quote_identifier(target.name)}.{quote_identifier(name)}"
    ours, theirs = _count_rows(one, left), _count_rows(other, right)
    differing = (ours - theirs) + (theirs - ours)
    key = [i for i, column in enumerate(wanted) if twin.key and column in twin.key.columns]
    first = tuple(_name(name, [row[i] for i in key]) for row in list(differing)[:_MOST_SHOWN])
    return Verdict(max(ours.total(), theirs.total()), differing.total(), first)


def _expected_columns(table: Table, twin: Table, options: TableOptions) -> dict[str, str]:
    """By target column, the SQL over the source's columns that should be in it."""
    given = {column.casefold(): sql for column, sql in options.columns.items()}
    own = {column.name.casefold(): column.name for column in table.columns}
    wanted = {}
    for column in twin.stored_columns:
        folded = column.name.casefold()
        if folded in given:
            wanted[column.name] = given[folded]
        elif folded in own:
            wanted[column.name] = quote_identifier(own[folded])
    return wanted


def _count_rows(connection: Any, sql: str) -> Counter[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute("SET time_zone = '+00:00'")
        cursor.execute(sql)
        return Counter(tuple(map(_plain, row)) for row in cursor.fetchall())


def _plain(value: Any) -> Any:
    """Numbers by value, whatever type a server computes them in."""
    return float(value) if not isinstance(value, str | bytes | bool) and hasattr(value, "__float__") else value
