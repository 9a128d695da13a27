"""Expand: create on the target what the source has, from the source's own definitions.

Triggers and events wait for the cutover. What exists already is kept, so the phase may be repeated, and a table that
the operator prepared with another shape is used as it is.
"""

from __future__ import annotations

from dbmigrate.domain.errors import FatalError
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Direction, Side
from dbmigrate.domain.schema import ObjectKind, Schema, Table, TableName
from dbmigrate.mysql.definitions import create_objects, translate_table
from dbmigrate.mysql.fence import create_fence_tables
from dbmigrate.mysql.identifiers import quote_identifier, quote_table
from dbmigrate.mysql.sessions import Session
from dbmigrate.workflow.drift import STANDING_KINDS, find_changed_objects, save_definitions, save_object_definitions
from dbmigrate.workflow.expanding import run_expand_lane
from dbmigrate.workflow.migration import Migration
from dbmigrate.workflow.routing import select_tables, target_name
from dbmigrate.workflow.run import Run

CREATED = "created"

LEAST_DEFERRED_BYTES = 1024 * 1024
"""Of a table's rows, for its secondary indexes to be built after the copy: the ALTER TABLE costs some milliseconds, which
thousands of small tables would wait for (measured: 8 ms each, more than copying its rows)."""


def work(run: Run) -> Phase | None:
    """Create database, tables, sequences, routines and views on the target, and the fence tables on the source."""
    migration = run.migration
    with migration.source.pool.borrow() as session:
        create_fence_tables(session)
    migration.source.heartbeat.ensure_row()
    migration.target.heartbeat.ensure_row()
    source = migration.read_schema(Side.SOURCE, anew=True)
    save_definitions(migration, source)
    with migration.target.pool.borrow() as session:
        _create_database(session, migration, source)
        _create_objects(migration, source, ObjectKind.SEQUENCE)  # first: defaults of tables may name them
        _create_tables(session, migration, select_tables(migration.config.tables, source))
    _create_objects(migration, source, ObjectKind.PROCEDURE, ObjectKind.FUNCTION, ObjectKind.PACKAGE, ObjectKind.VIEW)
    if not _expand_further(run):
        return None
    _require_all(migration, source)
    return Phase.COPY


def _expand_further(run: Run) -> bool:
    """Run the expand lane; tables that come into being by it go with an abort as well."""
    before = _read_table_names(run.migration)
    try:
        return run_expand_lane(run)
    finally:
        _record_tables(run.migration, _read_table_names(run.migration) - before)


def _read_table_names(migration: Migration) -> set[str]:
    return {table.name.name for table in migration.read_schema(Side.TARGET, anew=True).tables}


def _record_tables(migration: Migration, names: set[str]) -> None:
    if names:
        recorded = migration.store.load_evidence(CREATED)
        content = recorded.content if recorded else {"tables": [], "deferred": {}}
        migration.store.save_evidence(CREATED, {**content, "tables": sorted({*content["tables"], *names})})


def _create_database(session: Session, migration: Migration, source: Schema) -> None:
    name = quote_identifier(migration.schema_name(Side.TARGET))
    session.execute(
        f"CREATE DATABASE IF NOT EXISTS {name} CHARACTER SET {source.charset}", doing="creating the database"
    )


def _create_tables(session: Session, migration: Migration, tables: tuple[Table, ...]) -> None:
    """Create what is missing. What is created is recorded before, so that an abort removes no more and no less."""
    present = {table.name for table in migration.read_schema(Side.TARGET, anew=True).tables}
    recorded = migration.store.load_evidence(CREATED)
    content = recorded.content if recorded else {"tables": [], "deferred": {}}
    statements = []
    for table in tables:
        name = target_name(migration.config.tables, table.name, migration.schema_name(Side.TARGET))
        if name in present:
            continue
        definition = translate_table(
            table, source=migration.source.version, target=migration.target.version, target_name=name
        )
        defers = migration.config.copy_.defer_secondary_indexes and table.data_bytes >= LEAST_DEFERRED_BYTES
        if defers and definition.deferred_indexes:
            content["deferred"][name.name] = list(definition.deferred_indexes)
            statements.append((name, definition.create_without_secondary))
        else:
            statements.append((name, definition.create))
    if statements:
        content["tables"] = sorted({*content["tables"], *(name.name for name, _ in statements)})
        migration.store.save_evidence(CREATED, content)
    session.execute(f"USE {quote_identifier(migration.schema_name(Side.TARGET))}")
    for name, statement in statements:
        session.execute(statement, doing=f"creating {name}")


def follow_objects(migration: Migration) -> None:
    """Give the target the views, routines and sequences that were made or changed on the source since.

    No row event tells of them. What the operator made on the target by hand stays as it is.
    """
    source = migration.read_schema(Side.SOURCE, anew=True)
    changed = find_changed_objects(migration, source)
    if not changed:
        return
    with migration.target.pool.borrow() as session:
        for kind, name in sorted(changed & set(load_created_objects(migration))):
            table = quote_table(TableName(migration.schema_name(Side.TARGET), name))
            session.execute(f"DROP {kind.upper()} IF EXISTS {table}", doing=f"dropping {name}")
    _create_objects(migration, source, *STANDING_KINDS)
    save_object_definitions(migration, source)


def _create_objects(migration: Migration, source: Schema, *kinds: ObjectKind) -> None:
    _record_objects(migration, source, kinds)
    connection = migration.target.endpoint.connect(schema=migration.schema_name(Side.TARGET))
    try:
        create_objects(
            connection,
            source.of_kind(*kinds),
            source=migration.source.version, target=migration.target.version,
            source_schema=source.name, target_schema=migration.schema_name(Side.TARGET),
        )  # fmt: skip
    finally:
        connection.close()


def _record_objects(migration: Migration, source: Schema, kinds: tuple[ObjectKind, ...]) -> None:
    """Note what is not there yet, before it is created: an abort removes that and nothing else."""
    present = {(o.kind, o.name.name) for o in migration.read_schema(Side.TARGET, anew=True).objects}
    fresh = [[o.kind.value, o.name.name] for o in source.of_kind(*kinds) if (o.kind, o.name.name) not in present]
    if fresh:
        recorded = migration.store.load_evidence(CREATED)
        content = recorded.content if recorded else {"tables": [], "deferred": {}}
        content["objects"] = [*content.get("objects", []), *fresh]
        migration.store.save_evidence(CREATED, content)


def load_created_objects(migration: Migration) -> list[tuple[str, str]]:
    """Kind and name of the target's other objects that this migration created."""
    recorded = migration.store.load_evidence(CREATED)
    return [(kind, name) for kind, name in recorded.content.get("objects", [])] if recorded else []


def _require_all(migration: Migration, source: Schema) -> None:
    migration.read_schema(Side.TARGET, anew=True)
    routes = migration.require_routes(Direction.FORWARD)
    missing = {table.name for table in select_tables(migration.config.tables, source)} - {r.name for r in routes}
    if missing:
        raise FatalError(
            f"no counterpart on the target for {', '.join(sorted(map(str, missing)))}", place="expand", hint="run again"
        )


def load_deferred_indexes(migration: Migration) -> dict[str, list[str]]:
    """The index statements that wait for the rows, by table."""
    recorded = migration.store.load_evidence(CREATED)
    return dict(recorded.content["deferred"]) if recorded else {}


def load_created_tables(migration: Migration) -> list[str]:
    """The target's tables that this migration created."""
    recorded = migration.store.load_evidence(CREATED)
    return list(recorded.content["tables"]) if recorded else []
