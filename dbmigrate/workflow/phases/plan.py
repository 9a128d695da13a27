"""Plan: look for everything that could stop the move, and remember how both sides were found."""

from __future__ import annotations

from dataclasses import asdict

from dbmigrate.domain.errors import RefusedError
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Side
from dbmigrate.mysql.fence import read_is_read_only
from dbmigrate.workflow.check import check_migration
from dbmigrate.workflow.migration import Migration
from dbmigrate.workflow.preflight import has_obstacles
from dbmigrate.workflow.preflight.finding import Finding, Severity
from dbmigrate.workflow.run import Run

FOUND = "found"


def work(run: Run) -> Phase | None:
    """Run the preflight.

    Raises:
        RefusedError: there are obstacles; all of them are named.
    """
    findings = require_no_obstacles(run.migration)
    content = [{**asdict(f), "severity": f.severity.value} for f in findings]
    run.migration.store.save_evidence("preflight", {"findings": content})
    run.migration.store.save_evidence(FOUND, _read_found(run.migration))
    return Phase.EXPAND


def require_no_obstacles(migration: Migration) -> list[Finding]:
    """Everything the preflight found, unless it stops the move.

    Raises:
        RefusedError: there are obstacles; all of them are named.
    """
    findings = check_migration(migration, is_first_run=True)
    if has_obstacles(findings):
        obstacles = [f for f in findings if f.severity is Severity.OBSTACLE]
        raise RefusedError(
            f"{len(obstacles)} obstacle(s) stand in the way", place=f"migration {migration.id}",
            cause="; ".join(f"{f.place}: {f.message}" for f in obstacles),
            hint=" | ".join(f.remedy for f in obstacles if f.remedy) + " | `dbmigrate check` shows everything",
        )  # fmt: skip
    return findings


def _read_found(migration: Migration) -> dict[str, bool]:
    """Whether each side was read-only before we came, so that abort leaves it so."""
    found = {}
    for side in Side:
        with migration.servers[side].pool.borrow() as session:
            found[side.value] = read_is_read_only(session)
    return found


def was_read_only(migration: Migration, side: Side) -> bool:
    """How a side was found."""
    found = migration.store.load_evidence(FOUND)
    return bool(found and found.content.get(side.value))
