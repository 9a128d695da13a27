"""Alembic's operations to changes: what is sent is read from the statements, what was meant from the object.

An operation of a class that is not listed here is not understood, whatever its statements look like: it may do more
than it emits.
"""

from __future__ import annotations

from dataclasses import replace

from alembic.operations import ops

from dbmigrate.lanes.changes import Attribute, Change, DropKey, KeyKind, ModifyColumn, Unread
from dbmigrate.lanes.reading.statements import read_statement
from dbmigrate.lanes.recording import RecordedOperation

KNOWN = (
    ops.AddColumnOp, ops.AlterColumnOp, ops.BulkInsertOp, ops.CreateCheckConstraintOp, ops.CreateForeignKeyOp,
    ops.CreateIndexOp, ops.CreatePrimaryKeyOp, ops.CreateTableCommentOp, ops.CreateTableOp, ops.CreateUniqueConstraintOp,
    ops.DropColumnOp, ops.DropConstraintOp, ops.DropIndexOp, ops.DropTableCommentOp, ops.DropTableOp, ops.RenameTableOp,
)  # fmt: skip
"""The operations whose statements are all they do."""

_CONSTRAINT_KINDS = {"check": KeyKind.CHECK, "foreignkey": KeyKind.FOREIGN, "unique": KeyKind.UNIQUE}


def read_operation(recorded: RecordedOperation) -> tuple[Change, ...]:
    """What one recorded operation changes."""
    operation = recorded.operation
    if operation is not None and type(operation) not in KNOWN:
        return (Unread(type(operation).__name__, "an operation that is not one of Alembic's own"),)
    changes = tuple(change for statement in recorded.statements for change in read_statement(statement))
    if isinstance(operation, ops.AlterColumnOp):
        return tuple(_say_what_was_asked(change, operation) for change in changes)
    if isinstance(operation, ops.DropConstraintOp):
        kind = _CONSTRAINT_KINDS.get(operation.constraint_type or "")
        return tuple(replace(c, kind=kind) if kind and isinstance(c, DropKey) else c for c in changes)
    return changes


def _say_what_was_asked(change: Change, operation: ops.AlterColumnOp) -> Change:
    """A MODIFY says everything; the operation knows which part of it is the change."""
    return replace(change, asked=_asked(operation)) if isinstance(change, ModifyColumn) else change


def _asked(operation: ops.AlterColumnOp) -> frozenset[Attribute]:
    asked = {
        Attribute.TYPE: operation.modify_type is not None,
        Attribute.CHARSET: operation.modify_type is not None,
        Attribute.NULLABLE: operation.modify_nullable is not None,
        Attribute.DEFAULT: operation.modify_server_default is not False,
        Attribute.ON_UPDATE: operation.modify_server_default is not False,  # SQLAlchemy writes both as one text
        Attribute.COMMENT: operation.modify_comment is not False,
        Attribute.AUTO_INCREMENT: operation.kw.get("autoincrement") is not None,
    }
    return frozenset(attribute for attribute, is_asked in asked.items() if is_asked)
