"""The preflight as a command and as the plan phase use it: gather what the checks look at, and run them."""

from __future__ import annotations

from dbmigrate.domain.routes import Side
from dbmigrate.workflow.migration import Migration
from dbmigrate.workflow.preflight import run_checks
from dbmigrate.workflow.preflight.finding import Finding, Surroundings
from dbmigrate.workflow.routing import select_tables


def check_migration(migration: Migration, *, is_first_run: bool) -> list[Finding]:
    """Everything that would stop or endanger the move, each with its remedy. Changes nothing."""
    source_schema = migration.read_schema(Side.SOURCE, anew=True)
    target_schema = migration.read_schema(Side.TARGET, anew=True)
    with migration.source.pool.borrow() as source, migration.target.pool.borrow() as target:
        return run_checks(
            Surroundings(
                config=migration.config,
                source=source,
                target=target,
                source_version=migration.source.version,
                target_version=migration.target.version,
                source_schema=source_schema,
                target_schema=target_schema,
                tables=select_tables(migration.config.tables, source_schema),
                is_first_run=is_first_run,
            )
        )
