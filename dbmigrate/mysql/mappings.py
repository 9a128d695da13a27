"""The control table of what instances map: written once by each instance, and again when its models change.

Apart from ``evidence``, whose reports come every second and stay small. An instance needs SELECT, INSERT, UPDATE and
DELETE on it; one that may not write it, or is of an older version, is known to have reported nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.dialects.mysql import insert as insert_into

from dbmigrate.domain.evidence import InstanceReport
from dbmigrate.domain.mappings import InstanceMapping, digest_columns
from dbmigrate.mysql.control_tables import ASCII, TEXT, declare_table

MAPPING = declare_table(
    "mapping",
    sa.Column("migration_id", ASCII, primary_key=True),
    sa.Column("instance_id", ASCII, primary_key=True),
    sa.Column("digest", ASCII, nullable=False),
    sa.Column("columns", TEXT, nullable=False),
)


def save_mapping(connection: sa.Connection, migration_id: str, instance_id: str, columns: Sequence[str]) -> None:
    """Replace what an instance maps, in the caller's transaction."""
    values = {"digest": digest_columns(columns), "columns": json.dumps(list(columns))}
    insert = insert_into(MAPPING).values(migration_id=migration_id, instance_id=instance_id, **values)
    connection.execute(insert.on_duplicate_key_update(**values))


def remove_mapping(connection: sa.Connection, migration_id: str, instance_id: str) -> None:
    """Forget an instance."""
    connection.execute(
        MAPPING.delete().where(MAPPING.c.migration_id == migration_id, MAPPING.c.instance_id == instance_id)
    )


def load_mappings(
    connection: sa.Connection, migration_id: str, live: Sequence[InstanceReport]
) -> tuple[InstanceMapping, ...]:
    """What each of these instances maps; without columns where it has not said, or has other models by now."""
    rows = connection.execute(sa.select(MAPPING).where(MAPPING.c.migration_id == migration_id))
    known = {row.instance_id: row for row in rows}
    found = []
    for report in live:
        row = known.get(report.instance_id)
        is_current = row is not None and row.digest == report.mapping_digest
        columns = frozenset(json.loads(row.columns)) if row is not None and is_current else None
        found.append(InstanceMapping(report.instance_id, report.host, report.pid, columns))
    return tuple(found)
