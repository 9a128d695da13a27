"""The expand lane inside the phase expand: the target gets the schema that the next version of the application wants.

Its tables are as the source has them and still empty, so every change is cheap. Which revisions the source has is told
to the target's own Alembic table first, so that only the newer ones run.
"""

from __future__ import annotations

from dbmigrate.config.models import VERSION_TABLE
from dbmigrate.domain.errors import RefusedError
from dbmigrate.domain.lanes import Lane
from dbmigrate.domain.routes import Side
from dbmigrate.domain.schema import TableName
from dbmigrate.mysql.faults import ServerRefusedError
from dbmigrate.mysql.identifiers import quote_table
from dbmigrate.mysql.lane_journal import Journal
from dbmigrate.workflow.lanes import open_lanes, target_of
from dbmigrate.workflow.migration import Migration
from dbmigrate.workflow.run import Run

EXPANDED = "expanded"
_NO_SUCH_TABLE = 1146


def run_expand_lane(run: Run) -> bool:
    """Run what the target's expand lane lacks; False when asked to stop first. Nothing without ``[lanes] directory``.

    Raises:
        RefusedError: the source does not say which revisions it has, or a revision cannot be run.
    """
    migration = run.migration
    if migration.config.lanes.directory is None:
        return True
    lanes = open_lanes(
        target_of(migration.config, migration.config.lanes.directory), around=migration.around, stopping=migration.stopping, should_stop=lambda: run.should_stop
    )
    run.waiting_for = "the expand lane on the target"
    lanes.adopt(_read_source_versions(migration))
    report = lanes.run(Lane.EXPAND)
    migration.store.save_evidence(EXPANDED, {"revisions": report.revisions})
    return not report.was_stopped


def _read_source_versions(migration: Migration) -> tuple[str, ...]:
    """The rows of the source's Alembic table.

    Raises:
        RefusedError: it has none.
    """
    table = TableName(migration.schema_name(Side.SOURCE), VERSION_TABLE)
    try:
        with migration.source.pool.borrow() as session:
            rows = session.execute(f"SELECT version_num FROM {quote_table(table)}", doing="reading revisions").rows
    except ServerRefusedError as refused:
        if refused.number != _NO_SUCH_TABLE:
            raise
        rows = ()
    if not rows:
        raise RefusedError(
            "the source does not say which revisions it has", place=str(table),
            cause="with [lanes] directory, the revisions that it lacks are run on the target",
            hint="`alembic stamp` the revisions that the source's tables have; or leave [lanes] directory out",
        )  # fmt: skip
    return tuple((row[0] or b"").decode() for row in rows)


def forget_expanded(migration: Migration) -> None:
    """After an abort: the tables that the lane changed are gone, and so is what the journal knew of them."""
    with migration.target.pool.borrow() as session:
        journal = Journal(session, migration.schema_name(Side.TARGET))
        if journal.exists():
            journal.forget()
