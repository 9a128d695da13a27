"""The source's definitions as the move found them, held against what they are now.

The stream stops at DDL that it meets. What it cannot meet (a table that is new, DDL in a part of the binlog that is
gone or was left behind, a runner that reads the schema again after it was stopped) shows in the definitions.
"""

from __future__ import annotations

import hashlib
import re

from dbmigrate.domain.errors import RefusedError
from dbmigrate.domain.routes import Side
from dbmigrate.domain.schema import ObjectKind, Schema
from dbmigrate.workflow.migration import Migration
from dbmigrate.workflow.routing import select_tables

DEFINITIONS = "definitions"
STANDING_KINDS = (
    ObjectKind.SEQUENCE, ObjectKind.PROCEDURE, ObjectKind.FUNCTION, ObjectKind.PACKAGE, ObjectKind.VIEW,
)  # fmt: skip
"""What the target gets with its tables; triggers and events come with the switch."""

_COUNTER = re.compile(r" AUTO_INCREMENT=\d+")


def save_definitions(migration: Migration, source: Schema) -> None:
    """Record what the target's tables and objects were created after."""
    content = {"tables": _digest(migration, source), "objects": _digest_objects(source)}
    migration.store.save_evidence(DEFINITIONS, content)


def save_object_definitions(migration: Migration, source: Schema) -> None:
    """Record the objects anew, and leave the tables' definitions as they were recorded."""
    recorded = migration.store.load_evidence(DEFINITIONS)
    tables = recorded.content["tables"] if recorded else {}
    migration.store.save_evidence(DEFINITIONS, {"tables": tables, "objects": _digest_objects(source)})


def find_changed_objects(migration: Migration, source: Schema) -> set[tuple[str, str]]:
    """Kind and name of views, routines and sequences that are new, gone or different since they were recorded."""
    recorded = migration.store.load_evidence(DEFINITIONS)
    before = {tuple(row) for row in recorded.content["objects"]} if recorded else set()
    return {(kind, name) for kind, name, _ in before ^ {tuple(row) for row in _digest_objects(source)}}


def require_same_definitions(migration: Migration) -> None:
    """Read the source's definitions anew; none may have changed since they were recorded.

    Raises:
        RefusedError: tables were changed, removed or added; all are named.
    """
    recorded = migration.store.load_evidence(DEFINITIONS)
    if recorded is None:
        return
    before, now = recorded.content["tables"], _digest(migration, migration.read_schema(Side.SOURCE, anew=True))
    differing = [f"{name} is new" for name in sorted(now.keys() - before.keys())]
    differing += [f"{name} is gone" for name in sorted(before.keys() - now.keys())]
    differing += [f"{name} was altered" for name in sorted(before.keys() & now.keys()) if before[name] != now[name]]
    if differing:
        raise RefusedError(
            "the schema of the moving tables has changed since the target's was created",
            place=f"{migration.source.place}, database {migration.schema_name(Side.SOURCE)}",
            cause="; ".join(differing),
            hint="`dbmigrate abort`, then `dbmigrate run`, starts again with the new schema; or undo the change "
            "and run again",
        )


def _digest_objects(source: Schema) -> list[list[str]]:
    return [
        [o.kind.value, o.name.name, hashlib.sha256(f"{o.sql_mode}\0{o.create_statement}".encode()).hexdigest()]
        for o in source.of_kind(*STANDING_KINDS)
    ]


def _digest(migration: Migration, source: Schema) -> dict[str, str]:
    """Each moving table's definition without its counter, which moves with the rows."""
    return {
        table.name.name: hashlib.sha256(_COUNTER.sub("", table.create_statement).encode()).hexdigest()
        for table in select_tables(migration.config.tables, source)
    }
