"""Abort: before the switch, end the move and leave the source as it was found."""

from __future__ import annotations

from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Direction, Side
from dbmigrate.domain.schema import TableName
from dbmigrate.mysql.fence import drop_control_schema, forget_migration
from dbmigrate.mysql.identifiers import quote_table
from dbmigrate.workflow.announcing import forget_rows
from dbmigrate.workflow.expanding import forget_expanded
from dbmigrate.workflow.fences import lift_leftovers
from dbmigrate.workflow.guards import ABORT_PATIENCE_SECONDS, QuietMoments, find_removals
from dbmigrate.workflow.migration import Migration
from dbmigrate.workflow.phases.cutover import finish_interrupted_switch
from dbmigrate.workflow.phases.expand import CREATED, load_created_objects, load_created_tables
from dbmigrate.workflow.phases.plan import was_read_only
from dbmigrate.workflow.run import Run

LOCK_SECONDS = 1


def abort(run: Run) -> Phase:
    """Stop streaming, remove everything this move has put on either side, and return the phase that follows.

    Should a crash have happened right after the switch was committed, the switch is completed instead: the data
    then belongs to the target, and only `dbmigrate revert` leads back.
    """
    migration = run.migration
    run.stop_stream()
    if run.state.phase is Phase.CUTOVER and finish_interrupted_switch(run, Direction.FORWARD):
        return Phase.SOAK
    quiet = QuietMoments(
        migration.source, migration.id, migration.stopping.wait, patience_seconds=ABORT_PATIENCE_SECONDS
    )
    for side in Side:
        server = migration.servers[side]
        quiet.execute(server, find_removals(server, migration.schema_name(side)), doing="dropping the guards")
        lift_leftovers(
            migration.servers[side], migration.config.cutover.fence, was_read_only=was_read_only(migration, side)
        )
    _drop_created_tables(migration)
    forget_rows(migration)
    for side in Side:
        migration.retry.retrying(lambda side=side: _forget(migration, side), idempotent=True)  # type: ignore[misc]
    forget_expanded(migration)
    migration.store.delete_migration()
    return Phase.ABORTED


def _forget(migration: Migration, side: Side) -> None:
    """Remove the control rows of a side, and the source's control schema. The application's write transactions lock
    the fence row: none of them may wait long behind this, so it is tried often rather than for long."""
    with migration.servers[side].pool.borrow() as session:
        session.execute(f"SET SESSION innodb_lock_wait_timeout = {LOCK_SECONDS}, lock_wait_timeout = {LOCK_SECONDS}")
        try:
            forget_migration(session, migration.id)
            if side is Side.SOURCE:
                drop_control_schema(session)
        finally:
            session.execute("SET SESSION innodb_lock_wait_timeout = 10, lock_wait_timeout = 60")


def _drop_created_tables(migration: Migration) -> None:
    """The target's tables that this move created hold nothing but copies; the next run would find them in its way."""
    schema = migration.schema_name(Side.TARGET)
    with migration.target.pool.borrow() as session:
        for kind, name in load_created_objects(migration):
            session.execute(
                f"DROP {kind.upper()} IF EXISTS {quote_table(TableName(schema, name))}", doing=f"dropping {name}"
            )
        session.execute("SET SESSION foreign_key_checks = 0")
        for name in load_created_tables(migration):
            session.execute(f"DROP TABLE IF EXISTS {quote_table(TableName(schema, name))}", doing=f"dropping {name}")
    migration.store.save_evidence(CREATED, {"tables": [], "deferred": {}})
