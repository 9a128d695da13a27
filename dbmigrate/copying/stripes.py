"""Cutting a table into stripes: key ranges that workers copy independently, each with a cursor of its own.

A stripe is copied from its lower end upwards, one chunk at a time, so its progress is one key. Integer keys are cut
by arithmetic; others by walking the key's index once. Keys above the highest one at planning time need no stripe:
rows that appear there later arrive through the stream.
"""

from __future__ import annotations

from dbmigrate.domain.keys import Key
from dbmigrate.domain.routes import Route
from dbmigrate.domain.schema import Table
from dbmigrate.mysql.control import StripeState
from dbmigrate.mysql.sessions import Session
from dbmigrate.mysql.statements import KeyRange, build_boundary_probe, build_key_span, build_last_key

LEAST_ROWS = 20_000
LEAST_BYTES = 8 * 1024 * 1024
"""A table smaller than two of these, in rows and in bytes, is one stripe."""
STRIPES_A_WORKER = 4
_INTEGERS = frozenset({"tinyint", "smallint", "mediumint", "int", "bigint"})


def plan_stripes(session: Session, route: Route, *, workers: int) -> tuple[StripeState, ...]:
    """The stripes of one table, in key order, together covering every key up to the highest.

    An empty table gets one stripe that is already done.
    """
    table = route.origin
    last = session.fetch_value(build_last_key(table), doing=f"reading the last key of {table.name}")
    if last is None:
        return (StripeState(table.name, 0, None, None, None, 0, is_done=True),)
    worthwhile = max(table.estimated_rows // LEAST_ROWS, table.data_bytes // LEAST_BYTES)
    wanted = max(1, min(workers * STRIPES_A_WORKER, worthwhile, table.estimated_rows))
    cuts = _cut_integers(session, table, wanted) if _is_cut_by_arithmetic(table) else _cut_index(session, table, wanted)
    edges: list[Key | None] = [None, *cuts, last]
    return tuple(
        StripeState(table.name, number, edges[number], edges[number + 1], edges[number], 0, is_done=False)
        for number in range(len(edges) - 1)
    )


def _is_cut_by_arithmetic(table: Table) -> bool:
    return len(table.key_columns) == 1 and table.key_columns[0].data_type in _INTEGERS


def cut_span(low: int, high: int, wanted: int) -> list[int]:
    """Inner edges that cut ``low..high`` into at most ``wanted`` parts of equal width, ascending and distinct."""
    width = high - low + 1
    edges = (low + width * part // wanted - 1 for part in range(1, wanted))
    return sorted({edge for edge in edges if low <= edge < high})


def _cut_integers(session: Session, table: Table, wanted: int) -> list[Key]:
    low, high = session.execute(build_key_span(table), doing=f"reading the keys of {table.name}").rows[0]
    return [str(edge).encode() for edge in cut_span(int(low or 0), int(high or 0), wanted)]


def _cut_index(session: Session, table: Table, wanted: int) -> list[Key]:
    if wanted == 1:
        return []
    step = max(1, table.estimated_rows // wanted)
    cuts: list[Key] = []
    lower: Key | None = None
    while len(cuts) < 4 * wanted:  # the estimate may be far too low; the last stripe takes what is left
        probe = build_boundary_probe(table, KeyRange(lower), step)
        lower = session.fetch_value(probe, doing=f"cutting {table.name}")
        if lower is None:
            break
        cuts.append(lower)
    return cuts
