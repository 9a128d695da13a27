"""Tables as they are when a change comes to them: as a server has them, plus what was asked for since.

Apart from the rules because a revision is judged against what the revisions before it leave. Without a server the
history of revisions says what it can, from the first CREATE TABLE on; whatever it does not say is not known.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from sqlglot import exp

from dbmigrate.domain.schema import Column, Schema, Table
from dbmigrate.lanes import changes
from dbmigrate.lanes.changes import AddKey, Change, ColumnShape, KeyKind, TableShape
from dbmigrate.lanes.reading.columns import ColumnDefinition, NotUnderstood, parse_type, read_column
from dbmigrate.lanes.reading.trees import parse_single

_VERSION_COMMENT = re.compile(r"/\*M?!\d{5,6} ?(.*?) ?\*/")
_COLUMN_LINE = re.compile(r"^  (`(?:[^`]|``)+` .*?),?$")
_CHECK_LINE = re.compile(r"^  CONSTRAINT `((?:[^`]|``)+)` CHECK ", re.MULTILINE)


class Tables:
    """Tables by name; ``schema`` is the one meant where a name has none in front."""

    def __init__(self, schema: str = "", shapes: Iterable[TableShape] = ()) -> None:
        self._schema = schema
        self._shapes = {shape.name: shape for shape in shapes}

    def find(self, name: str) -> TableShape | None:
        """The table, or None where it is not known."""
        return self._shapes.get(self._plain(name))

    @property
    def is_empty(self) -> bool:
        """Whether no table is known."""
        return not self._shapes

    def copy(self) -> Tables:
        """The same tables, to be changed apart."""
        return Tables(self._schema, self._shapes.values())

    def _plain(self, name: str) -> str:
        return name.removeprefix(f"{self._schema}.") if self._schema else name

    def apply(self, change: Change) -> None:
        """What is there after ``change``. What cannot be told is forgotten, all of it after an ``Unread``."""
        name = self._plain(change.subject)
        match change:
            case changes.Unread():
                self._shapes.clear()
            case changes.CreateTable():
                self._create(name, change)
            case changes.DropTable() | changes.ConvertCharset():
                self._shapes.pop(name, None)
            case changes.RenameTable(new_name=new_name):
                if shape := self._shapes.pop(name, None):
                    self._shapes[self._plain(new_name)] = replace(shape, name=self._plain(new_name))
            case _:
                if shape := self._shapes.get(name):
                    self._shapes[name] = _change_table(shape, change)

    def _create(self, name: str, change: changes.CreateTable) -> None:
        if not change.is_complete:
            self._shapes.pop(name, None)
            return
        charset = change.collation.split("_")[0] if change.collation else None
        columns: dict[str, ColumnShape | None] = {column.name.casefold(): column for column in change.columns}
        keys = {key.name.casefold(): key for key in change.keys}
        self._shapes[name] = TableShape(name, columns, keys, change.collation, charset)


def _change_table(shape: TableShape, change: Change) -> TableShape:
    match change:
        case changes.AddColumn(column=column) | changes.ModifyColumn(column=column):
            return _with_column(shape, column.name, column)
        case changes.DropColumn(name=name):
            return replace(shape, columns={key: one for key, one in shape.columns.items() if key != name.casefold()})
        case changes.RenameColumn(name=name, new_name=new_name):
            known = shape.columns.get(name.casefold())
            rest = replace(shape, columns={key: one for key, one in shape.columns.items() if key != name.casefold()})
            return _with_column(rest, new_name, replace(known, name=new_name) if known else None)
        case changes.SetDefault(name=name, default=default):
            known = shape.columns.get(name.casefold())
            return _with_column(shape, name, replace(known, default=default) if known else None)
        case changes.SetColumnVisibility(name=name, is_visible=is_visible):
            known = shape.columns.get(name.casefold())
            return _with_column(shape, name, replace(known, is_invisible=not is_visible) if known else None)
        case AddKey(name=name):
            return replace(shape, keys={**shape.keys, name.casefold(): change})
        case changes.DropKey(name=name):
            return replace(shape, keys={key: one for key, one in shape.keys.items() if key != name.casefold()})
        case changes.SetOption(option=changes.TableOption.DEFAULT_CHARSET):
            return replace(shape, charset=None, collation=None, columns=dict.fromkeys(shape.columns))
        case _:
            return shape


def _with_column(shape: TableShape, name: str, column: ColumnShape | None) -> TableShape:
    return replace(shape, columns={**shape.columns, name.casefold(): column})


def build_tables(schema: Schema) -> Tables:
    """The tables of a server's database."""
    return Tables(schema.name, (_build_shape(table) for table in schema.tables))


def _build_shape(table: Table) -> TableShape:
    written = dict(_read_lines(table.create_statement))
    columns = {c.name.casefold(): _build_column(c, written.get(c.name.casefold())) for c in table.columns}
    return TableShape(
        table.name.name, columns, {key.name.casefold(): key for key in _build_keys(table)}, table.collation or None,
        (table.collation or "").split("_")[0] or None,
    )  # fmt: skip


def _read_lines(create_statement: str) -> Iterable[tuple[str, ColumnDefinition]]:
    """The columns of SHOW CREATE TABLE, one a line, by casefolded name; those that are not understood are left out."""
    for line in create_statement.split("\n"):
        if not (found := _COLUMN_LINE.match(line)):
            continue
        text = _VERSION_COMMENT.sub(r"\1", found[1])
        try:
            alter = parse_single(f"ALTER TABLE t ADD COLUMN {text}")
            actions = alter.args.get("actions") if isinstance(alter, exp.Alter) else None
            if actions and len(actions) == 1 and isinstance(actions[0], exp.ColumnDef):
                definition = read_column(actions[0])
                yield definition.shape.name.casefold(), definition
        except NotUnderstood:
            continue


def _build_column(column: Column, written: ColumnDefinition | None) -> ColumnShape | None:
    """What the server knows of a column, with what only its own text says (defaults, comments)."""
    if written is None:
        return None
    try:
        kind = parse_type("json" if column.is_json else column.column_type)
    except NotUnderstood:
        return None
    return replace(
        written.shape, type=kind, is_nullable=column.is_nullable, is_invisible=column.is_invisible,
        charset=None if column.is_json else column.charset, collation=None if column.is_json else column.collation,
    )  # fmt: skip


def _build_keys(table: Table) -> Iterable[AddKey]:
    name = table.name.name
    for index in table.indexes:
        kind = KeyKind.PRIMARY if index.is_primary else KeyKind.UNIQUE if index.is_unique else KeyKind.PLAIN
        yield AddKey(name, kind, index.name, index.columns)
    for foreign_key in table.foreign_keys:
        parent = foreign_key.referenced_table.name
        yield AddKey(name, KeyKind.FOREIGN, foreign_key.name, foreign_key.columns, parent)
    for check in _CHECK_LINE.findall(table.create_statement):
        yield AddKey(name, KeyKind.CHECK, check.replace("``", "`"))
