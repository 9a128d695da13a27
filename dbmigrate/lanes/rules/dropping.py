"""What goes: destructive changes belong into contract, and a name is never changed in place."""

from __future__ import annotations

from dbmigrate.domain.lanes import Lane, Stage, Verdict
from dbmigrate.lanes.changes import DropColumn, DropTable, KeyKind, RenameColumn, RenameTable, TruncateTable
from dbmigrate.lanes.rules.rule import Rule, Surroundings, format_type, short_name

DROP_COLUMN = Rule(
    "drop-column", "drop a column", Lane.CONTRACT,
    "its values are gone; every running version must have stopped naming it, and a version that is rolled back would not",
)  # fmt: skip
DROP_OF_KEY = Rule(
    "drop-column-of-key", "drop a column that a unique key of several columns has", None,
    "MySQL takes the column out of the key {name} without a word, which then forbids rows that were allowed; MariaDB refuses "
    "(error 1072)",
    (
        (Stage.TIGHTEN, 'op.create_unique_constraint("{name}_new", "{table}", [...])  # if the rest must be unique'),
        (Stage.CONTRACT, 'op.drop_index("{name}", table_name="{table}")'),
        (Stage.CONTRACT, 'op.drop_column("{table}", "{column}")'),
    ),
)  # fmt: skip
DROP_TABLE = Rule("drop-table", "drop a table", Lane.CONTRACT, "its rows are gone, for every version of the application")
RENAME_COLUMN = Rule(
    "rename-column", "rename a column (RENAME COLUMN, CHANGE, alter_column(new_column_name=...))", None,
    "the running version names {column} until its last instance has stopped (error 1054); the next one names {new} before "
    "the change has run",
    (
        (Stage.EXPAND, 'op.add_column("{table}", sa.Column("{new}", {type}, nullable=True))'),
        (Stage.WRITE_BOTH, "a version that writes {column} and {new}, and reads {column}"),
        (Stage.BACKFILL, 'backfill = Backfill("{table}", set={"{new}": "{column}"}, where="NOT ({new} <=> {column})")'),
        (Stage.TIGHTEN, 'op.alter_column("{table}", "{new}", existing_type={type}, nullable=False)'),
        (Stage.READ_NEW, "a version that uses {new} only"),
        (Stage.CONTRACT, 'op.drop_column("{table}", "{column}")'),
    ),
)  # fmt: skip
RENAME_TABLE = Rule(
    "rename-table", "rename a table", None,
    "the running version names {table} until its last instance has stopped (error 1146), and foreign keys, triggers and "
    "views go on to mean the old or the new name, each by its own rule",
    (
        (Stage.EXPAND, 'op.execute("CREATE VIEW {new_table} AS SELECT * FROM {table}")'),
        (Stage.READ_NEW, "a version that reads and writes {new_table}: a view of one whole table takes writes"),
    ),
)  # fmt: skip
TRUNCATE = Rule(
    "truncate", "TRUNCATE", None,
    "all rows are gone at once, whatever they are by then; readers wait until it is done",
    ((Stage.BACKFILL, "DELETE FROM {table} WHERE ..., in batches"),),
)  # fmt: skip

RULES = (DROP_COLUMN, DROP_OF_KEY, DROP_TABLE, RENAME_COLUMN, RENAME_TABLE, TRUNCATE)


def judge_dropped_column(change: DropColumn, surroundings: Surroundings) -> Verdict:
    """The class of DROP COLUMN; keys are looked at where the table is known."""
    table, name = surroundings.find_table(change.subject), change.name.casefold()
    for key in table.keys.values() if table else ():
        names = [column.casefold() for column in key.columns]
        if key.kind in (KeyKind.UNIQUE, KeyKind.PRIMARY) and name in names and len(names) > 1:
            return DROP_OF_KEY.verdict(table=short_name(change.subject), column=change.name, name=key.name)
    return DROP_COLUMN.verdict()


def judge_dropped_table(change: DropTable, surroundings: Surroundings) -> Verdict:
    """The class of DROP TABLE."""
    return DROP_TABLE.verdict()


def judge_renamed_column(change: RenameColumn, surroundings: Surroundings) -> Verdict:
    """A rename, with the column's type in the way around where it is known."""
    names = {"table": short_name(change.subject), "column": change.name, "new": change.new_name}
    if (column := surroundings.find_column(change.subject, change.name)) is not None:
        names["type"] = format_type(column.type)
    return RENAME_COLUMN.verdict(**names)


def judge_renamed_table(change: RenameTable, surroundings: Surroundings) -> Verdict:
    """The class of RENAME TABLE."""
    return RENAME_TABLE.verdict(table=short_name(change.subject), new_table=short_name(change.new_name))


def judge_truncated_table(change: TruncateTable, surroundings: Surroundings) -> Verdict:
    """The class of TRUNCATE."""
    return TRUNCATE.verdict(table=short_name(change.subject))
