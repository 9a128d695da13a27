"""A column's whole definition as SQL, for revisions that must say all of it again."""

from __future__ import annotations

from dbmigrate.lanes.changes import ColumnShape
from dbmigrate.mysql.identifiers import quote_identifier, quote_string


def format_column(column: ColumnShape) -> str:
    """What stands behind MODIFY."""
    parts = [quote_identifier(column.name), str(column.type).upper() if not column.type.members else str(column.type)]
    if column.charset:
        parts.append(f"CHARACTER SET {column.charset}")
    if column.collation:
        parts.append(f"COLLATE {column.collation}")
    if column.generation is not None:
        parts.append(f"AS ({column.expression}) {column.generation.value.upper()}")
    else:
        parts.append("NULL" if column.is_nullable else "NOT NULL")
    parts += _attributes(column)
    return " ".join(parts)


def _attributes(column: ColumnShape) -> list[str]:
    parts = []
    if column.is_auto_increment:
        parts.append("AUTO_INCREMENT")
    if column.default is not None:
        parts.append(f"DEFAULT ({column.default})" if column.computes_default else f"DEFAULT {column.default}")
    if column.on_update:
        parts.append(f"ON UPDATE {column.on_update}")
    if column.is_invisible:
        parts.append("INVISIBLE")
    if column.comment:
        parts.append(f"COMMENT {quote_string(column.comment)}")
    return parts
