"""Columns that come: the running version of the application writes rows without them."""

from __future__ import annotations

from collections.abc import Iterator

from dbmigrate.domain.lanes import Lane, Stage, Verdict
from dbmigrate.domain.schema import Generation
from dbmigrate.lanes.changes import AddColumn
from dbmigrate.lanes.rules.rule import Rule, Surroundings, format_type, short_name

_ADD = 'op.add_column("{table}", sa.Column("{column}", {type}, nullable=True))'
_FILL = 'backfill = Backfill("{table}", set={"{column}": "..."}, where="{column} IS NULL")'
_REQUIRE = 'op.alter_column("{table}", "{column}", existing_type={type}, nullable=False)'

ADD = Rule(
    "add-column", "add a column at the end that is nullable, or has a constant default", Lane.EXPAND,
    "INSTANT on both flavours; the running version's INSERTs do not name it and need not",
)  # fmt: skip
ADD_MOMENT = Rule(
    "add-column-current-timestamp", "add a column with DEFAULT CURRENT_TIMESTAMP", Lane.EXPAND,
    "INSTANT; rows that exist get the moment of the change, not the one in which they were written",
)  # fmt: skip
ADD_VIRTUAL = Rule(
    "add-virtual-column", "add a VIRTUAL generated column", Lane.EXPAND, "INSTANT; it is computed when it is read"
)
REQUIRED = Rule(
    "add-column-not-null", "add a column that is NOT NULL and has no default", None,
    "every INSERT of the running version leaves {column} out and fails in strict mode (error 1364); rows that exist get "
    "an empty value that nobody chose",
    (
        (Stage.EXPAND, _ADD), (Stage.WRITE_BOTH, "a version that writes {column} in every new row"),
        (Stage.BACKFILL, _FILL), (Stage.TIGHTEN, _REQUIRE),
    ),
)  # fmt: skip
FUNCTION = Rule(
    "add-column-function-default", "add a column whose default is computed for each row", None,
    "MySQL copies the table while writers wait, even for a constant in parentheses, or refuses the function (error 1674: "
    "UUID(), RAND()); MariaDB copies it, too, or gives every row that exists the same value",
    (
        (Stage.EXPAND, _ADD),
        (Stage.EXPAND, 'op.alter_column("{table}", "{column}", existing_type={type}, server_default=sa.text("({default})"))'),
        (Stage.BACKFILL, _FILL),
    ),
)  # fmt: skip
STORED = Rule(
    "add-stored-column", "add a STORED generated column", None, "the table is copied while writers wait",
    (
        (Stage.EXPAND, 'op.add_column("{table}", sa.Column("{column}", {type}, sa.Computed("{expression}", persisted=False)))'),
    ),
)  # fmt: skip
NUMBERED = Rule(
    "add-auto-increment", "add an AUTO_INCREMENT column", None,
    "every row gets a number while writers wait, on a replica perhaps another one",
    (
        (Stage.EXPAND, 'op.create_table("{new_table}", sa.Column("{column}", sa.BigInteger, primary_key=True))'),
        (Stage.WRITE_BOTH, "a version that writes to {new_table} as well"),
        (Stage.BACKFILL, "INSERT INTO {new_table} ... SELECT ... FROM {table}, in batches by key"),
        (Stage.READ_NEW, "a version that uses {new_table} only"),
        (Stage.CONTRACT, 'op.drop_table("{table}")'),
    ),
)  # fmt: skip
POSITION = Rule(
    "column-position", "FIRST or AFTER, in ADD COLUMN or MODIFY", None,
    "INSERTs without a column list, and readers that count columns, get every value shifted by one",
    ((Stage.EXPAND, _ADD),),
)  # fmt: skip
INLINE = Rule(
    "column-with-key", "a column definition that brings a key, check or reference along", None,
    "the key is built in the same statement, so the column is not INSTANT any more, and the two are of different lanes",
    (
        (Stage.EXPAND, _ADD), (Stage.BACKFILL, _FILL),
        (Stage.TIGHTEN, 'op.create_unique_constraint("uq_{table}_{column}", "{table}", ["{column}"])'),
    ),
)  # fmt: skip

RULES = (ADD, ADD_MOMENT, ADD_VIRTUAL, REQUIRED, FUNCTION, STORED, NUMBERED, POSITION, INLINE)


def judge_added_column(change: AddColumn, surroundings: Surroundings) -> Verdict:
    """The class of one ADD COLUMN."""
    rule = next(_find_rules(change))
    column = change.column
    return rule.verdict(
        table=short_name(change.subject), column=column.name, type=format_type(column.type),
        default=column.default or "...", expression=column.expression, new_table=f"{short_name(change.subject)}_new",
    )  # fmt: skip


def _find_rules(change: AddColumn) -> Iterator[Rule]:
    column = change.column
    if column.is_auto_increment:
        yield NUMBERED
    if change.inline:
        yield INLINE
    if change.is_placed:
        yield POSITION
    if column.generation is not None:
        yield STORED if column.generation is Generation.STORED else ADD_VIRTUAL
    if column.computes_default:
        yield FUNCTION
    if not column.is_nullable and column.default is None:
        yield REQUIRED
    yield ADD_MOMENT if (column.default or "").startswith("current_timestamp") else ADD
