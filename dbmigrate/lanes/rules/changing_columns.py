"""Columns that change: what a MODIFY asks for, and what it would silently take away because it does not say it again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.domain.lanes import Lane, Placed, Refused, Stage, Step, Verdict
from dbmigrate.lanes.changes import (
    Attribute,
    ColumnShape,
    ModifyColumn,
    SetColumnVisibility,
    SetDefault,
    TableShape,
)
from dbmigrate.lanes.rules.adding_columns import INLINE, POSITION
from dbmigrate.lanes.rules.column_sql import format_column
from dbmigrate.lanes.rules.rule import Rule, Sequence, Surroundings, fill, format_type, short_name
from dbmigrate.lanes.rules.type_changes import TypeChange, compare_types, find_default_collation

_NEW_COLUMN: Sequence = (
    (Stage.EXPAND, 'op.add_column("{table}", sa.Column("{new}", {type}, nullable=True))'),
    (Stage.WRITE_BOTH, "a version that writes {column} and {new}, and reads {column}"),
    (Stage.BACKFILL, 'backfill = Backfill("{table}", set={"{new}": "{column}"}, where="NOT ({new} <=> {column})")'),
    (Stage.TIGHTEN, 'op.alter_column("{table}", "{new}", existing_type={type}, nullable=False)'),
    (Stage.READ_NEW, "a version that uses {new} only"),
    (Stage.CONTRACT, 'op.drop_column("{table}", "{column}")'),
)

MODIFY = Rule("modify-column", "MODIFY, or alter_column, of a column that is not known", None, "")
NOTHING = Rule("modify-nothing", "a MODIFY that says what is there already", Lane.EXPAND, "INSTANT")
NOT_NULL = Rule(
    "not-null", "make a column NOT NULL", Lane.TIGHTEN,
    "INPLACE, the table is rebuilt while others write; it fails on rows without a value, and INSERTs of a version that "
    "leaves the column out fail from then on unless it has a default",
)  # fmt: skip
NULLABLE = Rule(
    "nullable", "let a column be NULL", Lane.EXPAND,
    "INPLACE, the table is rebuilt while others write; a running version may not expect the NULLs of the next one",
)  # fmt: skip
LONGER = Rule(
    "longer-text", "lengthen VARCHAR or VARBINARY while its length takes as many bytes as before (1 up to 255, else 2)",
    Lane.EXPAND, "INSTANT (MariaDB) or INPLACE (MySQL)",
)  # fmt: skip
APPENDED = Rule(
    "append-member", "add members at the end of an ENUM or SET", Lane.EXPAND,
    "INSTANT; a running version that maps values may fail on one that it does not know: write it only when all do",
)  # fmt: skip
WIDER = Rule(
    "type-wider", "a wider type (INT to BIGINT, VARCHAR beyond 255 bytes, CHAR, DECIMAL, more digits of a second, TEXT)",
    None, "the table is copied while writers wait, on both flavours", _NEW_COLUMN,
)  # fmt: skip
NARROWER = Rule(
    "type-narrower", "a narrower type", None,
    "values that do not fit stop the change, or are cut without strict mode; the running version still writes them, and "
    "the table is copied while writers wait", _NEW_COLUMN,
)  # fmt: skip
OTHER_TYPE = Rule(
    "type-change", "another type", None,
    "values are converted by the server's rules, and the table is copied while writers wait", _NEW_COLUMN,
)  # fmt: skip
REORDERED = Rule(
    "enum-order", "ENUM or SET members in another order, or a new one between them", None,
    "values are numbers in that order: the table is copied while writers wait, and ORDER BY and comparisons by number "
    "change for the running version",
    ((Stage.EXPAND, 'op.execute("ALTER TABLE {table} MODIFY {appended}")'),),
)  # fmt: skip
REMOVED = Rule(
    "enum-remove", "remove members of an ENUM or SET", None,
    "rows that have them stop the change, or lose them without strict mode; the running version still writes them",
    _NEW_COLUMN,
)  # fmt: skip
CHARSET = Rule(
    "column-charset", "another character set or collation of a column", None,
    "what is equal changes with the collation: unique keys and joins; another character set copies the table while writers "
    "wait", _NEW_COLUMN,
)  # fmt: skip
FORGETS = Rule(
    "modify-forgets", "a MODIFY, or alter_column, that leaves out an attribute which the column has", None,
    "MODIFY says the whole column, and what it leaves out is gone: {column} would lose {lost}",
    ((Stage.EXPAND, "{restated}"),),
)  # fmt: skip
SET_DEFAULT = Rule("set-default", "set or change a default", Lane.EXPAND, "INSTANT; it counts for rows to come")
DROP_DEFAULT = Rule(
    "drop-default", "drop a default", Lane.CONTRACT,
    "INSERTs that leave the column out fail (NOT NULL) or write NULL: every running version must name it",
)  # fmt: skip
COMMENT = Rule("comment", "change a column's comment", Lane.EXPAND, "INSTANT; nothing reads it")
ON_UPDATE = Rule("on-update", "set or change ON UPDATE CURRENT_TIMESTAMP", Lane.EXPAND, "INSTANT; for updates to come")
AUTO_INCREMENT = Rule(
    "auto-increment", "make a column AUTO_INCREMENT, or stop it", None,
    "the table is copied while writers wait; INSERTs without the column change their meaning", _NEW_COLUMN,
)  # fmt: skip
GENERATED = Rule(
    "generated", "change how a column is generated", None,
    "the table is copied while writers wait, and readers get other values", _NEW_COLUMN,
)  # fmt: skip
HIDE = Rule(
    "hide-column", "make a column invisible", Lane.CONTRACT,
    "INSTANT; SELECT * and INSERTs without a column list no longer have it. It can be undone: do it before a drop",
)  # fmt: skip
SHOW = Rule("show-column", "make a column visible", Lane.EXPAND, "INSTANT; SELECT * has it at its place again")
SEVERAL = Rule(
    "several-lanes", "one operation that does what belongs into several lanes", None,
    "its parts may not run at the same time",
    ((Stage.EXPAND, "# what is additive"), (Stage.TIGHTEN, "# what rows must obey"), (Stage.CONTRACT, "# what goes")),
)  # fmt: skip

RULES = (
    NOTHING, NOT_NULL, NULLABLE, LONGER, APPENDED, WIDER, NARROWER, OTHER_TYPE, REORDERED, REMOVED, CHARSET, FORGETS,
    SET_DEFAULT, DROP_DEFAULT, ON_UPDATE, COMMENT, AUTO_INCREMENT, GENERATED, HIDE, SHOW, SEVERAL,
)  # fmt: skip

_TYPE_RULES: Mapping[TypeChange, Rule] = {
    TypeChange.LONGER: LONGER, TypeChange.APPENDED: APPENDED, TypeChange.WIDER: WIDER, TypeChange.NARROWER: NARROWER,
    TypeChange.REORDERED: REORDERED, TypeChange.REMOVED: REMOVED, TypeChange.OTHER: OTHER_TYPE,
}  # fmt: skip
_TEXT_TYPES = frozenset({"char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set"})
_ALEMBIC_RESTATES = frozenset({Attribute.NULLABLE, Attribute.DEFAULT, Attribute.COMMENT, Attribute.AUTO_INCREMENT})
_STAGES = {Lane.EXPAND: Stage.EXPAND, Lane.TIGHTEN: Stage.TIGHTEN, Lane.CONTRACT: Stage.CONTRACT}


def judge_set_default(change: SetDefault, surroundings: Surroundings) -> Verdict:
    """The class of ALTER COLUMN SET DEFAULT and DROP DEFAULT."""
    return (DROP_DEFAULT if change.default is None else SET_DEFAULT).verdict()


def judge_column_visibility(change: SetColumnVisibility, surroundings: Surroundings) -> Verdict:
    """The class of ALTER COLUMN SET VISIBLE and INVISIBLE."""
    return (SHOW if change.is_visible else HIDE).verdict()


def judge_modified_column(change: ModifyColumn, surroundings: Surroundings) -> Verdict:
    """The class of a MODIFY, against the column as it is."""
    names = {"table": short_name(change.subject), "column": change.name, "new": f"{change.name}_new"}
    names["type"] = format_type(change.column.type)
    if change.is_placed or change.inline:
        bare = f"ALTER TABLE {names['table']} MODIFY {format_column(change.column)}"
        rule = POSITION if change.is_placed else INLINE
        return replace(rule, instead=((Stage.EXPAND, f"op.execute({bare!r})  # and any key by itself"),)).verdict(**names)
    table = surroundings.find_table(change.subject)
    current = table.columns.get(change.name.casefold()) if table else None
    if table is None or current is None:
        return MODIFY.undecided(f"the definition of {change.subject}.{change.name} is not known")
    different = frozenset(_differences(current, change.column, table, surroundings.version))
    asked = different & change.asked - _unsaid(change.column)
    verdicts = [_judge_attribute(attribute, current, change, table, surroundings, names) for attribute in in_order(asked)]
    verdict = merge_verdicts(verdicts)
    if lost := different - asked:
        stage = _STAGES[verdict.lane] if isinstance(verdict, Placed) else Stage.EXPAND
        return _refuse_loss(change, current, lost, stage, names)
    return verdict


def in_order(attributes: frozenset[Attribute]) -> list[Attribute]:
    """In the order in which they are declared, so that messages are the same every time."""
    return [attribute for attribute in Attribute if attribute in attributes]


def merge_verdicts(verdicts: list[Verdict]) -> Verdict:
    """One verdict for several parts of an operation: what may not run decides, then the one lane of all."""
    for verdict in verdicts:
        if not isinstance(verdict, Placed):
            return verdict
    lanes = {verdict.lane for verdict in verdicts if isinstance(verdict, Placed)}
    if len(lanes) > 1:
        return SEVERAL.verdict()
    return verdicts[0] if verdicts else NOTHING.verdict()


def _unsaid(column: ColumnShape) -> frozenset[Attribute]:
    """What a definition cannot have asked for, because it does not say it."""
    unsaid = set()
    if column.charset is None and column.collation is None:
        unsaid.add(Attribute.CHARSET)
    if column.on_update is None:
        unsaid.add(Attribute.ON_UPDATE)
    return frozenset(unsaid)


def _differences(
    current: ColumnShape, new: ColumnShape, table: TableShape, version: ServerVersion
) -> Iterator[Attribute]:
    pairs = {
        Attribute.TYPE: (current.type, new.type),
        Attribute.NULLABLE: (current.is_nullable, new.is_nullable),
        Attribute.DEFAULT: (current.default, new.default),
        Attribute.ON_UPDATE: (current.on_update, new.on_update),
        Attribute.COMMENT: (current.comment, new.comment),
        Attribute.AUTO_INCREMENT: (current.is_auto_increment, new.is_auto_increment),
        Attribute.INVISIBLE: (current.is_invisible, new.is_invisible),
        Attribute.GENERATED: ((current.generation, current.expression), (new.generation, new.expression)),
    }
    if current.type.base in _TEXT_TYPES and new.type.base in _TEXT_TYPES:
        pairs[Attribute.CHARSET] = (_collation(current, table, version), _collation(new, table, version))
    yield from (attribute for attribute, (before, after) in pairs.items() if before != after)


def _collation(column: ColumnShape, table: TableShape, version: ServerVersion) -> tuple[str | None, str | None]:
    """Character set and collation that count for the column, as far as they are known."""
    if column.collation is not None:
        return column.charset or column.collation.split("_")[0], column.collation
    if column.charset is not None:
        return column.charset, find_default_collation(column.charset, version)
    return table.charset, table.collation


def _judge_attribute(
    attribute: Attribute, current: ColumnShape, change: ModifyColumn, table: TableShape, surroundings: Surroundings,
    names: Mapping[str, str],
) -> Verdict:  # fmt: skip
    new = change.column
    match attribute:
        case Attribute.TYPE:
            charset = _collation(current, table, surroundings.version)[0]
            kind = compare_types(current.type, new.type, surroundings.version, charset)
            return _TYPE_RULES[kind].verdict(**names, appended=format_column(_append(current, new)))
        case Attribute.NULLABLE:
            return (NULLABLE if new.is_nullable else NOT_NULL).verdict()
        case Attribute.DEFAULT:
            return (DROP_DEFAULT if new.default is None else SET_DEFAULT).verdict()
        case Attribute.INVISIBLE:
            return (HIDE if new.is_invisible else SHOW).verdict()
        case _:
            return _ATTRIBUTE_RULES[attribute].verdict(**names)


_ATTRIBUTE_RULES = {
    Attribute.ON_UPDATE: ON_UPDATE, Attribute.COMMENT: COMMENT, Attribute.AUTO_INCREMENT: AUTO_INCREMENT,
    Attribute.CHARSET: CHARSET, Attribute.GENERATED: GENERATED,
}  # fmt: skip


def _append(current: ColumnShape, new: ColumnShape) -> ColumnShape:
    """The column with the new members behind those that it has."""
    added = tuple(member for member in new.type.members if member not in current.type.members)
    return replace(current, type=replace(current.type, members=current.type.members + added))


def _refuse_loss(
    change: ModifyColumn, current: ColumnShape, lost: frozenset[Attribute], stage: Stage, names: Mapping[str, str]
) -> Refused:
    kept = _restate(change.column, current, lost)
    if lost <= _ALEMBIC_RESTATES:
        code = _format_alter_column(change, current, kept, names)
    else:
        statement = f"ALTER TABLE {names['table']} MODIFY {format_column(kept)}"
        code = f"op.execute({statement!r})"
    told = ", ".join(_describe(attribute, current) for attribute in in_order(lost))
    return Refused(FORGETS.name, fill(FORGETS.why, {**names, "lost": told}), (Step(stage, code),))


def _restate(new: ColumnShape, current: ColumnShape, lost: frozenset[Attribute]) -> ColumnShape:
    fields = {
        Attribute.TYPE: ("type",), Attribute.NULLABLE: ("is_nullable",), Attribute.DEFAULT: ("default",),
        Attribute.ON_UPDATE: ("on_update",), Attribute.CHARSET: ("charset", "collation"), Attribute.COMMENT: ("comment",),
        Attribute.AUTO_INCREMENT: ("is_auto_increment",), Attribute.INVISIBLE: ("is_invisible",),
        Attribute.GENERATED: ("generation", "expression"),
    }  # fmt: skip
    kept = {name: getattr(current, name) for attribute in lost for name in fields[attribute]}
    return replace(new, **kept)


def _describe(attribute: Attribute, current: ColumnShape) -> str:
    match attribute:
        case Attribute.NULLABLE:
            return "NULL" if current.is_nullable else "NOT NULL"
        case Attribute.DEFAULT:
            return f"DEFAULT {current.default}" if current.default is not None else "having no default"
        case Attribute.CHARSET:
            return f"its collation {current.collation or current.charset}"
        case Attribute.TYPE:
            return f"its type {current.type}"
        case Attribute.ON_UPDATE:
            return f"ON UPDATE {current.on_update}"
        case _:
            return f"what it has as {attribute.value}"


def _format_alter_column(
    change: ModifyColumn, current: ColumnShape, kept: ColumnShape, names: Mapping[str, str]
) -> str:
    """``op.alter_column`` with everything that Alembic restates."""
    arguments = [f"existing_type={format_type(current.type)}"]
    if Attribute.TYPE in change.asked and kept.type != current.type:
        arguments.append(f"type_={format_type(kept.type)}")
    if Attribute.NULLABLE in change.asked and kept.is_nullable != current.is_nullable:
        arguments.append(f"nullable={kept.is_nullable}")
    else:
        arguments.append(f"existing_nullable={current.is_nullable}")
    if kept.default is not None:
        word = "server_default" if kept.default != current.default else "existing_server_default"
        arguments.append(f"{word}=sa.text({kept.default!r})")
    if kept.comment:
        word = "comment" if kept.comment != current.comment else "existing_comment"
        arguments.append(f"{word}={kept.comment!r}")
    if kept.is_auto_increment:
        arguments.append("existing_autoincrement=True")
    return f'op.alter_column("{names["table"]}", "{change.name}", {", ".join(arguments)})'
