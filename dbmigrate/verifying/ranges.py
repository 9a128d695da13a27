"""One chunk of a comparison: find where it ends, compare its count and digest on both sides. Changes nothing, so it can
be done anywhere and any number of times."""

from __future__ import annotations

from dataclasses import dataclass

from dbmigrate.domain.routes import Route, Side
from dbmigrate.mysql.statements import KeyRange, build_boundary_probe
from dbmigrate.mysql.workplace import Workplace
from dbmigrate.verifying.comparing import TableComparison


@dataclass(frozen=True, slots=True)
class RangeTask:
    """The first ``chunk_rows`` rows of ``keys`` along a route that begins at ``origin``."""

    route: Route
    origin: Side
    keys: KeyRange
    chunk_rows: int


@dataclass(frozen=True, slots=True)
class ComparedRange:
    """A compared chunk: its keys, its rows on the origin, and whether both sides are the same."""

    keys: KeyRange
    rows: int
    is_equal: bool


def compare_next(workplace: Workplace, task: RangeTask) -> ComparedRange:
    """Compare the next chunk of a range."""
    origin, destination = workplace.servers[task.origin], workplace.servers[task.origin.other]
    probe = build_boundary_probe(task.route.origin, task.keys, task.chunk_rows)

    def verb() -> bytes | None:
        with origin.pool.borrow() as session:
            return session.fetch_value(probe, doing=f"probing {task.route.name}")

    upper = origin.retry.retrying(verb, idempotent=True) or task.keys.upper
    keys = KeyRange(task.keys.lower, upper)
    found = TableComparison(task.route, origin, destination, workplace.halves).compare_range(keys)
    return ComparedRange(keys, found.rows, found.is_equal)
