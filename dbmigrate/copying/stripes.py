"""Cutting a table into stripes: key ranges that workers copy independently, each with a cursor of its own.

A stripe is copied from its lower end upwards, one chunk at a time, so its progress is one key. Keys above the highest one at planning time need no stripe:
rows that appear there later arrive through the stream.
"""

from __future__ import annotations

from dbmigrate.domain.keys import Key
from dbmigrate.domain.routes import Route
from dbmigrate.mysql.cuts import cut_table
from dbmigrate.mysql.sessions import Session
from dbmigrate.mysql.statements import build_last_key
from dbmigrate.mysql.stripes import StripeState

LEAST_ROWS = 20_000
LEAST_BYTES = 8 * 1024 * 1024
"""A table smaller than two of these, in rows and in bytes, is one stripe."""
STRIPES_A_WORKER = 4


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
    cuts = cut_table(session, table, wanted)
    edges: list[Key | None] = [None, *cuts, last]
    return tuple(
        StripeState(table.name, number, edges[number], edges[number + 1], edges[number], 0, is_done=False)
        for number in range(len(edges) - 1)
    )
