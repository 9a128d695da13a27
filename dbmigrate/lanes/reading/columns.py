"""Column definitions: from the parser's tree, and from what a server prints, to one shape that can be compared.

Apart from statements because the same words mean the same in ADD COLUMN, MODIFY, CREATE TABLE and SHOW CREATE TABLE.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlglot import exp

from dbmigrate.domain.schema import Generation
from dbmigrate.lanes.changes import Attribute, ColumnShape, ColumnType, Inline

_ALIASES = {
    "boolean": "tinyint", "bool": "tinyint", "integer": "int", "numeric": "decimal", "dec": "decimal", "fixed": "decimal",
    "real": "double", "double precision": "double", "character": "char", "character varying": "varchar",
}  # fmt: skip
_KNOWN_TYPES = frozenset({
    "tinyint", "smallint", "mediumint", "int", "bigint", "decimal", "float", "double", "bit", "date", "time", "datetime",
    "timestamp", "year", "char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set", "binary",
    "varbinary", "tinyblob", "blob", "mediumblob", "longblob", "json", "geometry", "point", "linestring", "polygon",
    "multipoint", "multilinestring", "multipolygon", "geometrycollection", "uuid", "inet4", "inet6", "vector",
})  # fmt: skip
"""Others are short for more than a type (SERIAL), or belong to another server."""
_INTEGERS = frozenset({"tinyint", "smallint", "mediumint", "int", "bigint"})
_TYPE = re.compile(r"(?P<base>[a-z0-9]+(?: precision| varying)?)\s*(?:\((?P<inner>.*)\))?(?P<rest>[\w\s]*)", re.DOTALL)
_MEMBER = re.compile(r"'((?:[^'\\]|''|\\.)*)'")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


class NotUnderstood(ValueError):  # noqa: N818  # an answer of the reader, never shown as an error of its own
    """The definition has something that is not known here; the message says what."""


@dataclass(frozen=True, slots=True)
class ColumnDefinition:
    """A column as it was written: its shape, which attributes were said, what came along."""

    shape: ColumnShape
    said: frozenset[Attribute]
    inline: frozenset[Inline]
    is_placed: bool


def parse_type(text: str) -> ColumnType:
    """The type in ``text``, as a server or SQLAlchemy writes it.

    Raises:
        NotUnderstood: it is none.
    """
    found = _TYPE.fullmatch(_lower_keywords(text.strip()))
    if not found:
        raise NotUnderstood(f"the type {text!r}")
    base = _ALIASES.get(found["base"], found["base"])
    words = set(found["rest"].split())
    if base not in _KNOWN_TYPES or words - {"unsigned", "signed"}:
        raise NotUnderstood(f"the type {text!r}")
    inner = found["inner"] or ""
    members = tuple(member.replace("''", "'") for member in _MEMBER.findall(inner))
    arguments = tuple(int(number) for number in re.findall(r"\d+", inner)) if not members else ()
    return ColumnType(base, _arguments_that_count(base, arguments), members, "unsigned" in words)


def _lower_keywords(text: str) -> str:
    """Lower case but for what stands in quotes."""
    return "".join(part if i % 2 else part.lower() for i, part in enumerate(re.split(r"('(?:[^'\\]|''|\\.)*')", text)))


def _arguments_that_count(base: str, arguments: tuple[int, ...]) -> tuple[int, ...]:
    if base in _INTEGERS | {"year"}:
        return ()  # the display width
    if base == "decimal":
        return (*arguments, *(10, 0)[len(arguments) :])
    if base in ("char", "binary", "bit"):
        return arguments or (1,)
    return () if arguments == (0,) else arguments


def normalise_value(text: str) -> str:
    """A default in one spelling, whichever flavour printed it: numbers bare, functions in lower case without ``()``."""
    text = text.strip()
    while text.startswith("(") and text.endswith(")") and _closes_at_end(text):
        text = text[1:-1].strip()
    if text.startswith("'"):
        inner = text[1:-1]
        return inner if _NUMBER.fullmatch(inner) else text
    text = re.sub(r"\s+", " ", _lower_keywords(text))
    text = re.sub(r"^(?:now|localtime|localtimestamp|current_timestamp)\b(?:\(\)|\(0\))?", "current_timestamp", text)
    return {"true": "1", "false": "0"}.get(text, text)


def _closes_at_end(text: str) -> bool:
    depth = 0
    for place, mark in enumerate(text):
        depth += {"(": 1, ")": -1}.get(mark, 0)
        if depth == 0:
            return place == len(text) - 1
    return False


def read_column(node: exp.ColumnDef) -> ColumnDefinition:
    """The column in the parser's tree.

    Raises:
        NotUnderstood: it has a clause that is not known here.
    """
    if not isinstance(node.kind, exp.DataType):
        raise NotUnderstood("a column without a type")
    shape = ColumnShape(node.name, _read_type(node.kind))
    said, inline = {Attribute.TYPE}, set()
    for constraint in node.constraints:
        clause = constraint.args["kind"]
        if (brought := _INLINE.get(type(clause))) is not None:
            inline.add(brought)
        elif (read := _CLAUSES.get(type(clause))) is not None:
            attribute, words = read(clause)
            shape = replace(shape, **words)
            said.add(attribute)
        else:
            raise NotUnderstood(f"{clause.sql('mysql')} in the column {node.name}")
    if Inline.PRIMARY in inline:
        shape = replace(shape, is_nullable=False)
    return ColumnDefinition(shape, frozenset(said), frozenset(inline), node.args.get("position") is not None)


def _read_type(node: exp.DataType) -> ColumnType:
    kind = node.this
    if kind is exp.DataType.Type.TIMESTAMPTZ:  # the parser's name for TIMESTAMP here
        node = node.copy()
        arguments = ", ".join(part.sql("mysql") for part in node.expressions)
        return parse_type(f"timestamp({arguments})" if arguments else "timestamp")
    return parse_type(node.sql("mysql"))


_Reader = Callable[[exp.Expression], tuple[Attribute, Mapping[str, Any]]]


def _value(node: exp.Expression) -> str | None:
    value = node.this
    return None if isinstance(value, exp.Null) else normalise_value(value.sql("mysql"))


def _read_default(node: exp.Expression) -> tuple[Attribute, Mapping[str, Any]]:
    value = _value(node)
    is_moment = (value or "").startswith("current_timestamp") and not isinstance(node.this, exp.Paren)
    return Attribute.DEFAULT, {
        "default": value, "computes_default": not is_moment and not isinstance(node.this, _NOT_COMPUTED)
    }  # fmt: skip


def _read_generated(node: exp.Expression) -> tuple[Attribute, Mapping[str, Any]]:
    kind = Generation.STORED if node.args.get("persisted") else Generation.VIRTUAL
    return Attribute.GENERATED, {"generation": kind, "expression": normalise_value(node.this.sql("mysql"))}


def _read_virtual(node: exp.Expression) -> tuple[Attribute, Mapping[str, Any]]:
    """GENERATED ALWAYS AS (...) without a word for its kind, which the parser takes for an identity of other servers."""
    expression = node.args.get("expression")
    if expression is None:
        raise NotUnderstood(node.sql("mysql"))
    return Attribute.GENERATED, {
        "generation": Generation.VIRTUAL, "expression": normalise_value(expression.sql("mysql"))
    }  # fmt: skip


_NOT_COMPUTED = (
    exp.Literal, exp.Neg, exp.Null, exp.Boolean, exp.HexString, exp.BitString, exp.Introducer, exp.National,
)  # fmt: skip
"""Values that are the same for every row of a statement."""

_CLAUSES: Mapping[type[exp.Expression], _Reader] = {
    exp.NotNullColumnConstraint: lambda n: (Attribute.NULLABLE, {"is_nullable": bool(n.args.get("allow_null"))}),
    exp.DefaultColumnConstraint: _read_default,
    exp.OnUpdateColumnConstraint: lambda n: (Attribute.ON_UPDATE, {"on_update": _value(n)}),
    exp.CharacterSetColumnConstraint: lambda n: (Attribute.CHARSET, {"charset": n.this.name.lower()}),
    exp.CollateColumnConstraint: lambda n: (Attribute.CHARSET, {"collation": n.this.name.lower()}),
    exp.CommentColumnConstraint: lambda n: (Attribute.COMMENT, {"comment": n.this.name}),
    exp.AutoIncrementColumnConstraint: lambda _: (Attribute.AUTO_INCREMENT, {"is_auto_increment": True}),
    exp.InvisibleColumnConstraint: lambda _: (Attribute.INVISIBLE, {"is_invisible": True}),
    exp.ComputedColumnConstraint: _read_generated,
    exp.GeneratedAsIdentityColumnConstraint: _read_virtual,
}

_INLINE: Mapping[type[exp.Expression], Inline] = {
    exp.UniqueColumnConstraint: Inline.UNIQUE,
    exp.PrimaryKeyColumnConstraint: Inline.PRIMARY,
    exp.Reference: Inline.REFERENCE,
    exp.CheckColumnConstraint: Inline.CHECK,
}
