"""What would run: the revisions that a database lacks, lane by lane, each statement with the ways that are tried.

Apart from the lint because it answers another question (in which order, and how), from the same judgements.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dbmigrate.domain.errors import RefusedError
from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.domain.lanes import Lane
from dbmigrate.lanes.ladder import Rung, build_ways
from dbmigrate.lanes.lint import LintedRevision
from dbmigrate.lanes.statements import parse_statement


@dataclass(frozen=True)
class PlannedStatement:
    """One statement and the rungs of the ladder that are tried for it, the cheapest first; empty where it does not run.

    Which of them the server takes only an attempt can tell, and an attempt that it takes is the change.
    """

    sql: str
    rungs: tuple[Rung, ...]


@dataclass(frozen=True)
class PlannedRevision:
    """A revision that the database lacks. ``statements`` has one entry an operation, in the order of ``linted``."""

    linted: LintedRevision
    statements: tuple[tuple[PlannedStatement, ...], ...]


def plan_lanes(
    revisions: Iterable[LintedRevision], version: ServerVersion
) -> Mapping[Lane | None, tuple[PlannedRevision, ...]]:
    """The pending revisions by lane, in the order of lanes and within each in that of running; without a lane last.

    Statements of refused operations have no rung: they do not run.
    """
    pending = [revision for revision in revisions if not revision.is_applied]
    return {
        lane: tuple(_plan(revision, version) for revision in pending if revision.lane is lane) for lane in (*Lane, None)
    }


def _plan(revision: LintedRevision, version: ServerVersion) -> PlannedRevision:
    may_run = not revision.refusals
    return PlannedRevision(
        revision,
        tuple(
            tuple(PlannedStatement(sql, _find_rungs(sql, version) if may_run else ()) for sql in one.statements)
            for one in revision.operations
        ),
    )


def _find_rungs(sql: str, version: ServerVersion) -> tuple[Rung, ...]:
    try:
        return tuple(way.rung for way in build_ways(parse_statement(sql, ""), version))
    except RefusedError:
        return ()
