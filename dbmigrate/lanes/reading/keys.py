"""Indexes and constraints, wherever they are written: CREATE INDEX, ADD CONSTRAINT, inside CREATE TABLE."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from sqlglot import exp

from dbmigrate.lanes.changes import AddKey, DropKey, KeyKind
from dbmigrate.lanes.reading.columns import NotUnderstood
from dbmigrate.lanes.reading.trees import table_name

_INDEX_KINDS = {"FULLTEXT": KeyKind.FULLTEXT, "SPATIAL": KeyKind.SPATIAL}


def read_dropped_index(tree: exp.Expression) -> DropKey:
    """DROP INDEX ... ON."""
    on = tree.args.get("cluster")
    return DropKey(table_name(on.this if on is not None else None), KeyKind.PLAIN, tree.args["tables"][0].name)


def read_key(table: str, node: exp.Expression) -> AddKey:
    """An index or constraint of ``table``, with or without CONSTRAINT NAME before it.

    Raises:
        NotUnderstood: it is neither.
    """
    if isinstance(node, exp.Constraint):
        if len(node.expressions) != 1:
            raise NotUnderstood(f"the constraint {node.sql('mysql')}")
        key = read_key(table, node.expressions[0])
        return replace(key, name=node.name or key.name)
    if isinstance(node, exp.UniqueColumnConstraint):
        schema = node.this
        return AddKey(table, KeyKind.UNIQUE, schema.name if schema.this else "", _columns(schema.expressions))
    if isinstance(node, exp.IndexColumnConstraint):
        kind = _INDEX_KINDS.get(str(node.args.get("kind") or "").upper(), KeyKind.PLAIN)
        return AddKey(table, kind, node.name, _columns(node.expressions))
    if isinstance(node, exp.PrimaryKey):
        return AddKey(table, KeyKind.PRIMARY, "PRIMARY", _columns(node.expressions))
    if isinstance(node, exp.ForeignKey):
        parent = node.args["reference"].this
        columns, referenced = _columns(node.expressions), _columns(parent.expressions)
        return AddKey(table, KeyKind.FOREIGN, node.name, columns, table_name(parent.this), referenced)
    if isinstance(node, exp.CheckColumnConstraint):
        return AddKey(table, KeyKind.CHECK, "")
    raise NotUnderstood(node.sql("mysql"))


def _columns(nodes: Iterable[exp.Expression]) -> tuple[str, ...]:
    """Their names; an expression or a prefix is empty or named by its column."""
    return tuple(_name(node.this if isinstance(node, exp.Ordered) else node) for node in nodes)


def _name(node: exp.Expression) -> str:
    return node.name if isinstance(node, exp.Column | exp.Identifier | exp.ColumnPrefix) else ""
