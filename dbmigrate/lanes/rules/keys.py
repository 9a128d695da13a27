"""Indexes and constraints: what is built while others write, and what is only true once rows and versions obey it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from dbmigrate.domain.lanes import Lane, Stage, Verdict
from dbmigrate.lanes.changes import AddKey, DropKey, KeyKind, RenameIndex, SetIndexVisibility
from dbmigrate.lanes.rules.rule import Rule, Sequence, Surroundings, short_name

_ADD_INDEX = 'op.create_index("{name}", "{table}", {columns})'

INDEX = Rule(
    "add-index", "add an index", Lane.EXPAND, "INPLACE (MySQL), NOCOPY (MariaDB): built while others read and write"
)
UNIQUE = Rule(
    "add-unique", "add a unique key", Lane.TIGHTEN,
    "INPLACE (MySQL), NOCOPY (MariaDB). It fails on rows that are equal already, and on those that a running version "
    "writes meanwhile: every version must keep it before",
)  # fmt: skip
FOREIGN = Rule(
    "add-foreign-key", "add a foreign key", Lane.TIGHTEN,
    "with foreign_key_checks=1 the table is copied while writers wait; with 0 it is INPLACE (MySQL) or INSTANT (MariaDB), "
    "and rows without a parent are not noticed: they are looked for before and after. Its index, if missing, is built along: add it in expand",
)  # fmt: skip
NAMELESS = Rule(
    "key-without-name", "an index or constraint without a name", None,
    "the server makes up a name, on another server perhaps another one: no later revision can name it for certain",
    ((Stage.EXPAND, _ADD_INDEX),),
)  # fmt: skip
PRIMARY = Rule(
    "primary-key", "add, change or drop a primary key", None,
    "the whole table is rebuilt in the order of the new key; replication, the move's own stream and every version of the "
    "application find rows by the key that they know",
    (
        (Stage.EXPAND, 'op.execute("CREATE TABLE {new_table} LIKE {table}")'),
        (Stage.EXPAND, 'op.execute("ALTER TABLE {new_table} DROP PRIMARY KEY, ADD PRIMARY KEY ({parts})")'),
        (Stage.WRITE_BOTH, "a version that writes to {table} and {new_table}"),
        (Stage.BACKFILL, "INSERT INTO {new_table} ... SELECT ... FROM {table}, in batches by key"),
        (Stage.READ_NEW, "a version that uses {new_table} only"),
        (Stage.CONTRACT, 'op.drop_table("{table}")'),
    ),
)  # fmt: skip
SEARCH = Rule(
    "fulltext-or-spatial", "add a FULLTEXT or SPATIAL index", None, "writers wait until it is built (LOCK=SHARED at best)",
    (
        (Stage.EXPAND, 'op.execute("CREATE TABLE {new_table} LIKE {table}")'),
        (Stage.EXPAND, 'op.execute("ALTER TABLE {new_table} ADD {kind} {name} ({parts})")'),
        (Stage.WRITE_BOTH, "a version that writes to {table} and {new_table}"),
        (Stage.BACKFILL, "INSERT INTO {new_table} ... SELECT ... FROM {table}, in batches by key"),
        (Stage.READ_NEW, "a version that uses {new_table} only"),
        (Stage.CONTRACT, 'op.drop_table("{table}")'),
    ),
)  # fmt: skip
EXPRESSION = Rule(
    "expression-index", "an index over an expression", None,
    "the table is copied while writers wait (MySQL); MariaDB has none",
    (
        (Stage.EXPAND, 'op.add_column("{table}", sa.Column("{column}", {type}, sa.Computed("...", persisted=False)))'),
        (Stage.EXPAND, 'op.create_index("{name}", "{table}", ["{column}"])'),
    ),
)  # fmt: skip
CHECK = Rule(
    "add-check", "add a CHECK constraint to a table that exists", None,
    "the table is copied while writers wait, on both flavours",
    (
        (Stage.WRITE_BOTH, "a version that writes only what the check would allow"),
        (Stage.BACKFILL, "mend the rows that break it"),
        (
            Stage.EXPAND,
            'op.execute("CREATE TRIGGER {table}_insert BEFORE INSERT ON {table} FOR EACH ROW IF NOT (...) THEN SIGNAL '
            "SQLSTATE '45000' SET MESSAGE_TEXT = '{table}: ...'; END IF\")  # and the same BEFORE UPDATE",
        ),
    ),
)  # fmt: skip
DROP_INDEX = Rule(
    "drop-index", "drop an index or unique key", Lane.CONTRACT,
    "statements that used it read the whole table; INSERT ... ON DUPLICATE KEY UPDATE no longer finds its row",
)  # fmt: skip
DROP_FOREIGN = Rule(
    "drop-foreign-key", "drop a foreign key", Lane.CONTRACT,
    "nothing deletes or empties child rows any more, and orphans come unnoticed",
)  # fmt: skip
DROP_CHECK = Rule("drop-check", "drop a CHECK constraint", Lane.EXPAND, "INSTANT; what was allowed stays allowed")
DROP_UNKNOWN = Rule("drop-constraint", "DROP CONSTRAINT in SQL, which may be a key or a check", None, "")
RENAME_INDEX = Rule(
    "rename-index", "rename an index", None, "a statement with an index hint names one that is not there (error 1176)",
    ((Stage.EXPAND, _ADD_INDEX), (Stage.CONTRACT, 'op.drop_index("{column}", table_name="{table}")')),
)  # fmt: skip
HIDE_INDEX = Rule(
    "hide-index", "make an index invisible", Lane.CONTRACT, "what a drop would do to statements, and it can be undone"
)
SHOW_INDEX = Rule("show-index", "make an index visible", Lane.EXPAND, "statements may use it again")

RULES = (
    INDEX, UNIQUE, FOREIGN, NAMELESS, PRIMARY, SEARCH, EXPRESSION, CHECK, DROP_INDEX, DROP_FOREIGN, DROP_CHECK,
    RENAME_INDEX, HIDE_INDEX, SHOW_INDEX,
)  # fmt: skip

_ADDED: Mapping[KeyKind, Rule] = {
    KeyKind.PLAIN: INDEX, KeyKind.UNIQUE: UNIQUE, KeyKind.FOREIGN: FOREIGN, KeyKind.PRIMARY: PRIMARY,
    KeyKind.FULLTEXT: SEARCH, KeyKind.SPATIAL: SEARCH, KeyKind.CHECK: CHECK,
}  # fmt: skip
_DROPPED: Mapping[KeyKind, Rule] = {
    KeyKind.PLAIN: DROP_INDEX, KeyKind.UNIQUE: DROP_INDEX, KeyKind.FOREIGN: DROP_FOREIGN, KeyKind.PRIMARY: PRIMARY,
    KeyKind.CHECK: DROP_CHECK,
}  # fmt: skip


_NAMED: Mapping[KeyKind, Sequence] = {
    KeyKind.PLAIN: ((Stage.EXPAND, _ADD_INDEX),),
    KeyKind.UNIQUE: ((Stage.TIGHTEN, 'op.create_unique_constraint("{name}", "{table}", {columns})'),),
    KeyKind.FOREIGN: ((Stage.TIGHTEN, 'op.create_foreign_key("{name}", "{table}", "{parent}", {columns}, {referenced})'),),
}
_PREFIXES = {KeyKind.UNIQUE: "uq", KeyKind.FOREIGN: "fk"}


def judge_added_key(change: AddKey, surroundings: Surroundings) -> Verdict:
    """The class of an index or constraint that is added to a table that exists."""
    rule = next(_find_rules(change))
    if rule is NAMELESS:
        return refuse_nameless(change)
    table = short_name(change.subject)
    return rule.verdict(
        table=table, new_table=f"{table}_new", name=change.name, kind=change.kind.value.upper(),
        parts=", ".join(change.columns) or "...", column=f"{table}_key",
    )  # fmt: skip


def refuse_nameless(change: AddKey) -> Verdict:
    """What to write for a key that has no name: the same with one."""
    table, prefix = short_name(change.subject), _PREFIXES.get(change.kind, "ix")
    rule = replace(NAMELESS, instead=_NAMED[change.kind])
    return rule.verdict(
        table=table, name=f"{prefix}_{table}_{'_'.join(change.columns)}", parent=short_name(change.reference),
        columns=_format_list(change.columns), referenced=_format_list(change.referenced),
    )  # fmt: skip


def _format_list(names: Iterable[str]) -> str:
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"


def _find_rules(change: AddKey) -> Iterator[Rule]:
    if change.kind in (KeyKind.PLAIN, KeyKind.UNIQUE) and "" in change.columns:
        yield EXPRESSION
    if not change.name and change.kind in (KeyKind.PLAIN, KeyKind.UNIQUE, KeyKind.FOREIGN):
        yield NAMELESS
    yield _ADDED[change.kind]


def judge_dropped_key(change: DropKey, surroundings: Surroundings) -> Verdict:
    """The class of an index or constraint that goes; what DROP CONSTRAINT drops is looked up."""
    kind = change.kind
    if kind is KeyKind.UNKNOWN:
        shape = surroundings.find_table(change.subject)
        key = shape.keys.get(change.name.casefold()) if shape else None
        if key is None:
            return DROP_UNKNOWN.undecided(f"is {change.name} of {change.subject} a key, a foreign key or a check?")
        kind = key.kind
    table = short_name(change.subject)
    return _DROPPED[kind].verdict(table=table, new_table=f"{table}_new", parts="...")


def judge_renamed_index(change: RenameIndex, surroundings: Surroundings) -> Verdict:
    """The class of RENAME INDEX."""
    shape = surroundings.find_table(change.subject)
    key = shape.keys.get(change.name.casefold()) if shape else None
    columns = _format_list(key.columns) if key else "[...]"
    return RENAME_INDEX.verdict(
        table=short_name(change.subject), name=change.new_name, column=change.name, columns=columns
    )


def judge_index_visibility(change: SetIndexVisibility, surroundings: Surroundings) -> Verdict:
    """The class of ALTER INDEX VISIBLE or INVISIBLE (MySQL)."""
    return (SHOW_INDEX if change.is_visible else HIDE_INDEX).verdict()


