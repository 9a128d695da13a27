"""Cutting a table's key space into parts of about the same size, for workers that each take one.

Integer keys are cut by arithmetic; others by walking the key's index once.
"""

from __future__ import annotations

from collections.abc import Sequence

from dbmigrate.domain.keys import Key
from dbmigrate.domain.schema import Table
from dbmigrate.mysql.key_predicates import KeyRange, has_integer_key
from dbmigrate.mysql.sessions import Session
from dbmigrate.mysql.statements import build_boundary_probe, build_key_span


def cut_table(session: Session, table: Table, wanted: int) -> list[Key]:
    """Inner edges, ascending and distinct, that cut the table into at most about ``wanted`` parts."""
    if wanted <= 1:
        return []
    return _cut_integers(session, table, wanted) if has_integer_key(table) else _cut_index(session, table, wanted)


def cut_with_ends(session: Session, table: Table, wanted: int) -> list[Key]:
    """The edges of ``cut_table``, and where keys are cut by arithmetic the lowest and the highest key around them."""
    if wanted <= 1:
        return []
    if not has_integer_key(table):
        return _cut_index(session, table, wanted)
    low, high = _read_span(session, table)
    return [str(edge).encode() for edge in sorted({low, *cut_span(low, high, wanted), high})]


def find_stride(table: Table, edges: Sequence[Key], rows: int) -> int | None:
    """How wide a range of keys between these edges (``cut_with_ends``) is that holds about ``rows`` rows, and at most twice
    as many; None where keys are not integers, or lie too far apart for such a promise."""
    if not has_integer_key(table) or len(edges) < 2:
        return None
    span = int(edges[-1]) - int(edges[0]) + 1
    width = rows * span // max(1, table.estimated_rows)
    return max(rows, width) if width <= 2 * rows else None


def cut_span(low: int, high: int, wanted: int) -> list[int]:
    """Inner edges that cut ``low..high`` into at most ``wanted`` parts of equal width, ascending and distinct."""
    width = high - low + 1
    edges = (low + width * part // wanted - 1 for part in range(1, wanted))
    return sorted({edge for edge in edges if low <= edge < high})


def _cut_integers(session: Session, table: Table, wanted: int) -> list[Key]:
    return [str(edge).encode() for edge in cut_span(*_read_span(session, table), wanted)]


def _read_span(session: Session, table: Table) -> tuple[int, int]:
    low, high = session.execute(build_key_span(table), doing=f"reading the keys of {table.name}").rows[0]
    return int(low or 0), int(high or 0)


def _cut_index(session: Session, table: Table, wanted: int) -> list[Key]:
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
