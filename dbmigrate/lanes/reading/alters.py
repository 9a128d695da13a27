"""The actions of one ALTER TABLE."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sqlglot import exp

from dbmigrate.lanes.changes import (
    AddColumn,
    Change,
    DropColumn,
    DropKey,
    KeyKind,
    ModifyColumn,
    RenameColumn,
    RenameIndex,
    RenameTable,
    SetColumnVisibility,
    SetDefault,
    SetIndexVisibility,
    SetOption,
    TableOption,
)
from dbmigrate.lanes.reading.columns import NotUnderstood, normalise_value, read_column
from dbmigrate.lanes.reading.keys import read_key
from dbmigrate.lanes.reading.trees import table_name

_DROPPED_KINDS = {
    "INDEX": KeyKind.PLAIN, "KEY": KeyKind.PLAIN, "FOREIGN KEY": KeyKind.FOREIGN, "CHECK": KeyKind.CHECK,
    "CONSTRAINT": KeyKind.UNKNOWN,
}  # fmt: skip


def read_action(table: str, action: exp.Expression) -> Iterator[Change]:
    """What one action of an ALTER TABLE changes.

    Raises:
        NotUnderstood: it is not known here.
    """
    reader = _READERS.get(type(action))
    if reader is None:
        raise NotUnderstood(f"ALTER TABLE ... {action.sql('mysql')}")
    yield from reader(table, action)


def _read_add_column(table: str, action: Any) -> Iterator[Change]:
    added = read_column(action)
    yield AddColumn(table, added.shape, added.is_placed, added.inline)


def _read_modify(table: str, action: Any) -> Iterator[Change]:
    written = read_column(action.this)
    renamed_from = action.args.get("rename_from")
    name = renamed_from.name if renamed_from is not None else written.shape.name
    if name.casefold() != written.shape.name.casefold():
        yield RenameColumn(table, name, written.shape.name)
        return
    yield ModifyColumn(table, name, written.shape, written.said, written.is_placed, written.inline)


def _read_alter_column(table: str, action: Any) -> Iterator[Change]:
    visible = action.args.get("visible")
    if visible:
        yield SetColumnVisibility(table, action.name, str(visible).upper() == "VISIBLE")
    elif action.args.get("drop"):
        yield SetDefault(table, action.name, None)
    elif action.args.get("default") is not None:
        yield SetDefault(table, action.name, normalise_value(action.args["default"].sql("mysql")))
    else:
        raise NotUnderstood(action.sql("mysql"))


def _read_drop(table: str, action: Any) -> Iterator[Change]:
    kind, names = str(action.args.get("kind")), [one.name for one in action.args.get("tables") or ()]
    for name in names:
        if kind == "COLUMN":
            yield DropColumn(table, name)
        elif kind in _DROPPED_KINDS:
            yield DropKey(table, _DROPPED_KINDS[kind], name)
        else:
            raise NotUnderstood(f"DROP {kind}")


def _read_add_constraint(table: str, action: Any) -> Iterator[Change]:
    yield from (read_key(table, node) for node in action.expressions)


def _read_index_visibility(table: str, action: Any) -> Iterator[Change]:
    visible = action.args.get("visible")
    yield SetIndexVisibility(table, action.name, visible is True or str(visible).upper() == "VISIBLE")


_READERS: Mapping[type[exp.Expression], Callable[[str, Any], Iterator[Change]]] = {
    exp.ColumnDef: _read_add_column,
    exp.ModifyColumn: _read_modify,
    exp.AlterColumn: _read_alter_column,
    exp.Drop: _read_drop,
    exp.AddConstraint: _read_add_constraint,
    exp.DropPrimaryKey: lambda table, _: iter([DropKey(table, KeyKind.PRIMARY, "PRIMARY")]),
    exp.RenameColumn: lambda table, action: iter([RenameColumn(table, action.this.name, action.args["to"].name)]),
    exp.AlterRename: lambda table, action: iter([RenameTable(table, table_name(action.this))]),
    exp.RenameIndex: lambda table, action: iter([RenameIndex(table, action.name, action.args["to"].name)]),
    exp.AlterIndex: _read_index_visibility,
    exp.ForceProperty: lambda table, _: iter([SetOption(table, TableOption.REBUILD)]),
}
