"""Leaving the application word of how to mirror: the statements, built from the same routes that the stream uses."""

from __future__ import annotations

from dbmigrate.domain.routes import Direction, Side
from dbmigrate.domain.schema import ObjectKind, TableName
from dbmigrate.mysql.mirror_plan import MirrorPlan, build_mirror_plan, save_plans
from dbmigrate.workflow.migration import Migration


def save_mirror_plans(migration: Migration) -> None:
    """Replace the plans of both directions with what the configuration and the servers' definitions say now."""
    for direction in Direction:
        plans = _build_plans(migration, direction)
        migration.store.call(
            lambda connection, direction=direction, plans=plans: save_plans(  # type: ignore[misc]
                connection, migration.id, direction, plans
            )
        )


def _build_plans(migration: Migration, direction: Direction) -> list[MirrorPlan]:
    """The plans of the tables that can travel in this direction; a table that cannot is not mirrored either."""
    routes, _ = migration.build_routes(direction)
    tables = [route.origin for route in routes]
    triggered = _find_tables_with_triggers(migration)
    return [
        build_mirror_plan(route, children=tables, has_triggers=route.origin.name.name in triggered) for route in routes
    ]


def _find_tables_with_triggers(migration: Migration) -> set[str]:
    """By their bare names: triggers stand on the source until the switch takes them to the target."""
    found: set[TableName] = set()
    for side in Side:
        triggers = migration.read_schema(side).of_kind(ObjectKind.TRIGGER)
        found |= {trigger.table for trigger in triggers if trigger.table is not None}
    return {table.name for table in found}
