"""One chunk of a comparison: find where it ends, compare its count and digest on both sides. Changes nothing, so it can
be done anywhere and any number of times."""

from __future__ import annotations

from dataclasses import dataclass

from dbmigrate.domain.keys import Key
from dbmigrate.domain.routes import Route, Side
from dbmigrate.mysql.key_predicates import KeyRange
from dbmigrate.mysql.servers import Server
from dbmigrate.mysql.statements import build_boundary_probe
from dbmigrate.mysql.workplace import Workplace
from dbmigrate.verifying.comparing import TableComparison


@dataclass(frozen=True, slots=True)
class RangeTask:
    """The first ``chunk_rows`` rows of ``keys`` along a route that begins at ``origin``.

    With a ``stride`` the keys are integers, and the rows are those of so many keys: nobody has to walk them to find where
    they end.
    """

    route: Route
    origin: Side
    keys: KeyRange
    chunk_rows: int
    stride: int | None = None


@dataclass(frozen=True, slots=True)
class ComparedRange:
    """A compared chunk: its keys, its rows on the origin, whether both sides are the same, and the seconds it took."""

    keys: KeyRange
    rows: int
    is_equal: bool
    seconds: float


def compare_next(workplace: Workplace, task: RangeTask) -> ComparedRange:
    """Compare the next chunk of a range."""
    began = workplace.clock()
    origin, destination = workplace.servers[task.origin], workplace.servers[task.origin.other]
    upper = _step(task) or _probe(origin, task) or task.keys.upper
    keys = KeyRange(task.keys.lower, upper)
    found = TableComparison(task.route, origin, destination, workplace.halves).compare_range(keys)
    return ComparedRange(keys, found.rows, found.is_equal, workplace.clock() - began)


def _step(task: RangeTask) -> Key | None:
    if task.stride is None or task.keys.lower is None or task.keys.upper is None:
        return None
    return str(min(int(task.keys.lower) + task.stride, int(task.keys.upper))).encode()


def _probe(origin: Server, task: RangeTask) -> Key | None:
    probe = build_boundary_probe(task.route.origin, task.keys, task.chunk_rows)

    def verb() -> Key | None:
        with origin.pool.borrow() as session:
            return session.fetch_value(probe, doing=f"probing {task.route.name}")

    return origin.retry.retrying(verb, idempotent=True)
