"""SQL statements to changes, through sqlglot's parser.

What the parser leaves as plain text is looked at by its tokens only as far as its kind (rows, programs, renames) can be
told for certain. Comments that servers execute are not looked into: a statement with one is not understood.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from sqlglot import exp

from dbmigrate.lanes.changes import (
    Change,
    ChangeProgram,
    ChangeRows,
    ConvertCharset,
    CreateTable,
    DropTable,
    KeyKind,
    ProgramVerb,
    RenameTable,
    RowVerb,
    SetIndexVisibility,
    SetOption,
    TableOption,
    TruncateTable,
    Unread,
)
from dbmigrate.lanes.reading.alters import read_action
from dbmigrate.lanes.reading.columns import NotUnderstood, read_column
from dbmigrate.lanes.reading.keys import read_dropped_index, read_key
from dbmigrate.lanes.reading.trees import STRING, parse_single, shorten, table_name

_PROGRAM = re.compile(
    r"(?P<verb>create|drop)\s+(?P<replace>or\s+replace\s+)?(?:algorithm\s*=\s*\w+\s+)?(?:definer\s*=\s*\S+\s+)?"
    r"(?:sql\s+security\s+\w+\s+)?(?:aggregate\s+)?"
    r"(?P<kind>trigger|procedure|function|event|view|sequence)\s+(?:if\s+(?:not\s+)?exists\s+)?(?P<name>[^\s(]+)",
    re.IGNORECASE,
)
_NAME = r"(?:`(?:[^`]|``)+`|[\w$]+)"
_INDEX = re.compile(
    rf"create\s+(?P<kind>unique\s+|fulltext\s+|spatial\s+)?index\s+(?:if\s+not\s+exists\s+)?(?P<name>{_NAME})\s+"
    rf"(?:using\s+\w+\s+)?on\s+(?P<table>{_NAME}(?:\.{_NAME})?)\s*(?P<rest>\(.*)", re.IGNORECASE | re.DOTALL,
)  # fmt: skip
_ALGORITHM = re.compile(r"\b(?:algorithm|lock)\b", re.IGNORECASE)
_IGNORED = re.compile(
    rf"alter\s+table\s+(?P<table>\S+)\s+alter\s+(?:index|key)\s+(?P<name>{_NAME})\s+(?P<visible>not\s+)?ignored",
    re.IGNORECASE,
)
_END = re.compile(r"\bend$", re.IGNORECASE)
_RENAME = re.compile(r"rename\s+tables?\s+(?P<pairs>.+)", re.IGNORECASE | re.DOTALL)
_CONVERT = re.compile(r"alter\s+table\s+(?P<table>\S+)\s+convert\s+to\s+(?:character\s+set|charset)\s", re.IGNORECASE)
_ROWS = {"insert": RowVerb.INSERT, "replace": RowVerb.UPDATE, "update": RowVerb.UPDATE, "delete": RowVerb.DELETE}


def read_statement(sql: str) -> tuple[Change, ...]:
    """What ``sql`` changes, in its order; one ``Unread`` where anything in it is not understood."""
    try:
        return tuple(_read(sql))
    except NotUnderstood as fault:
        return (Unread(shorten(sql), str(fault)),)


def _read(sql: str) -> Iterator[Change]:
    if _is_program_with_body(sql):
        yield from _read_by_words(sql)
        return
    if found := _INDEX.fullmatch(sql.strip()):
        yield from _read_create_index(found)
        return
    if found := _IGNORED.fullmatch(sql.strip()):  # MariaDB's word for an invisible index
        yield SetIndexVisibility(found["table"].replace("`", ""), found["name"].strip("`"), found["visible"] is not None)
        return
    tree = parse_single(sql)
    reader = _READERS.get(type(tree))
    if reader is not None:
        yield from reader(tree, sql)
    elif isinstance(tree, exp.Command | exp.Create | exp.Drop):
        yield from _read_by_words(sql)
    else:
        raise NotUnderstood(f"{sql.split()[0].upper()} is no change of a schema")


def _read_create_index(found: re.Match[str]) -> Iterator[Change]:
    """As ALTER TABLE ... ADD INDEX, of which the parser knows all options."""
    rest, tail = _split_columns(found["rest"])
    if _ALGORITHM.search(STRING.sub("''", tail)):
        yield SetOption(found["table"].replace("`", ""), TableOption.ALGORITHM)
        return
    tree = parse_single(f"ALTER TABLE {found['table']} ADD {found['kind'] or ''}INDEX {found['name']} {rest} {tail}")
    if not isinstance(tree, exp.Alter) or len(tree.args.get("actions") or ()) != 1 or tree.args.get("options"):
        raise NotUnderstood("an index with options that the parser does not know")
    yield from _read_alter(tree, "")


def _split_columns(text: str) -> tuple[str, str]:
    """The columns in parentheses, and what follows them."""
    depth, plain = 0, STRING.sub(lambda quoted: "x" * len(quoted[0]), text)
    for place, mark in enumerate(plain):
        depth += {"(": 1, ")": -1}.get(mark, 0)
        if depth == 0:
            return text[: place + 1], text[place + 1 :].strip()
    raise NotUnderstood("an index whose columns do not end")


def _read_alter(tree: exp.Expression, sql: str) -> Iterator[Change]:
    if tree.args.get("kind") != "TABLE":
        raise NotUnderstood(f"ALTER {tree.args.get('kind')}")
    table = table_name(tree.this)
    for option in tree.args.get("options") or ():
        yield SetOption(table, _option(option))
    for action in tree.args.get("actions") or ():
        yield from read_action(table, action)


def _option(node: exp.Expression) -> TableOption:
    option = _OPTIONS.get(type(node))
    if option is None:
        raise NotUnderstood(f"the table option {node.sql('mysql')}")
    return option


_OPTIONS: Mapping[type[exp.Expression], TableOption] = {
    exp.SchemaCommentProperty: TableOption.COMMENT,
    exp.CharacterSetProperty: TableOption.DEFAULT_CHARSET,
    exp.CollateProperty: TableOption.DEFAULT_CHARSET,
    exp.AutoIncrementProperty: TableOption.AUTO_INCREMENT,
    exp.EngineProperty: TableOption.REBUILD,
    exp.RowFormatProperty: TableOption.REBUILD,
    exp.Order: TableOption.REBUILD,
    exp.AlgorithmProperty: TableOption.ALGORITHM,
    exp.LockProperty: TableOption.ALGORITHM,
}


def _read_create(tree: exp.Expression, sql: str) -> Iterator[Change]:
    kind = str(tree.args.get("kind"))
    if kind == "TABLE" and not tree.args.get("replace"):
        yield _read_create_table(tree)
    else:
        yield from _read_by_words(sql)


def _read_create_table(tree: exp.Expression) -> CreateTable:
    schema, properties = tree.this, tree.args.get("properties")
    found = list(properties.expressions) if properties is not None else []
    if any(isinstance(one, exp.LikeProperty) for one in found):
        return CreateTable(table_name(schema), is_complete=False)
    copies = tree.args.get("expression") is not None
    if not isinstance(schema, exp.Schema):
        return CreateTable(table_name(schema), copies_rows=copies, is_complete=False)
    table, columns, keys = table_name(schema.this), [], []
    for part in schema.expressions:
        if isinstance(part, exp.ColumnDef):
            columns.append(read_column(part).shape)
        else:
            keys.append(read_key(table, part))
    collations = [one.this.name.lower() for one in found if isinstance(one, exp.CollateProperty)]
    primary = {name.casefold() for key in keys if key.kind is KeyKind.PRIMARY for name in key.columns}
    columns = [replace(column, is_nullable=False) if column.name.casefold() in primary else column for column in columns]
    return CreateTable(table, tuple(columns), tuple(keys), collations[0] if collations else None, copies)


def _read_drop(tree: exp.Expression, sql: str) -> Iterator[Change]:
    kind = str(tree.args.get("kind"))
    tables = tree.args.get("tables") or []
    if kind == "TABLE":
        yield from (DropTable(table_name(table)) for table in tables)
    elif kind == "INDEX":
        yield read_dropped_index(tree)
    else:
        yield from _read_by_words(sql)


def _read_truncate(tree: exp.Expression, sql: str) -> Iterator[Change]:
    yield from (TruncateTable(table_name(table)) for table in tree.expressions)


def _read_rows(tree: exp.Expression, sql: str) -> Iterator[Change]:
    verb = _ROWS[type(tree).__name__.lower()]
    if isinstance(tree, exp.Insert) and isinstance(tree.args.get("expression"), exp.Query):
        verb = RowVerb.COPY
    elif tree.args.get("conflict") is not None:  # ON DUPLICATE KEY UPDATE
        verb = RowVerb.UPDATE
    yield ChangeRows(shorten(sql, 60), verb)


_READERS: Mapping[type[exp.Expression], Callable[[exp.Expression, str], Iterator[Change]]] = {
    exp.Alter: _read_alter,
    exp.Create: _read_create,
    exp.Drop: _read_drop,
    exp.TruncateTable: _read_truncate,
    exp.Insert: _read_rows,
    exp.Update: _read_rows,
    exp.Delete: _read_rows,
}


def _is_program_with_body(sql: str) -> bool:
    """A trigger, routine or event whose body has semicolons, which the parser takes for the ends of statements."""
    text = sql.strip().rstrip(";").rstrip()
    found = _PROGRAM.match(text)
    return bool(found and found["verb"].lower() == "create" and ";" in text and _END.search(text))


def _read_by_words(sql: str) -> Iterator[Change]:
    """Statements whose inside does not matter: only what they are, and for which object."""
    text = sql.strip()
    if found := _PROGRAM.match(text):
        is_new = found["verb"].lower() == "create"
        verb = (ProgramVerb.REPLACE if found["replace"] else ProgramVerb.CREATE) if is_new else ProgramVerb.DROP
        yield ChangeProgram(found["name"].strip("`"), found["kind"].lower(), verb)
    elif found := _RENAME.match(text):
        for pair in found["pairs"].split(","):
            old, _, new = re.sub(r"\s+to\s+", "\0", pair.strip(), flags=re.IGNORECASE).partition("\0")
            yield RenameTable(old.replace("`", ""), new.replace("`", ""))
    elif found := _CONVERT.match(text):
        yield ConvertCharset(found["table"].replace("`", ""))
    elif text.split()[0].lower() in _ROWS:
        yield ChangeRows(shorten(sql, 60), _ROWS[text.split()[0].lower()])
    else:
        raise NotUnderstood("a statement that the parser does not know")
