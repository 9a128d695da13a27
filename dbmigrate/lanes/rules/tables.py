"""Whole tables: new ones, their options, and conversions of all that is in them."""

from __future__ import annotations

from collections.abc import Mapping

from dbmigrate.domain.lanes import Lane, Stage, Verdict
from dbmigrate.lanes.changes import ConvertCharset, CreateTable, KeyKind, SetOption, TableOption
from dbmigrate.lanes.rules.keys import refuse_nameless
from dbmigrate.lanes.rules.rule import Rule, Sequence, Surroundings, short_name

_NEW_TABLE: Sequence = (
    (Stage.EXPAND, 'op.execute("CREATE TABLE {new_table} LIKE {table}")'),
    (Stage.EXPAND, 'op.execute("ALTER TABLE {new_table} {action}")  # in the same revision, while it is empty'),
    (Stage.WRITE_BOTH, "a version that writes to {table} and {new_table}; LIKE leaves foreign keys out"),
    (Stage.BACKFILL, "INSERT INTO {new_table} ... SELECT ... FROM {table}, in batches by key"),
    (Stage.READ_NEW, "a version that uses {new_table} only"),
    (Stage.CONTRACT, 'op.drop_table("{table}")'),
)

CREATE = Rule("create-table", "create a table", Lane.EXPAND, "nobody knows it yet")
CREATE_SELECT = Rule(
    "create-table-select", "CREATE TABLE ... SELECT", None,
    "the rows that it reads are locked until it is done, and writers wait for them",
    (
        (Stage.EXPAND, 'op.create_table("{table}", sa.Column("id", sa.BigInteger, primary_key=True))'),
        (Stage.BACKFILL, "INSERT INTO {table} ... SELECT ..., in batches by key"),
    ),
)  # fmt: skip
CONVERT = Rule(
    "convert-charset", "convert a table to another character set (CONVERT TO)", None,
    "the table is copied while writers wait; types grow (TEXT to MEDIUMTEXT), keys may get too long, and what is equal "
    "changes with the collation", _NEW_TABLE,
)  # fmt: skip
COMMENT = Rule("table-comment", "change a table's comment", Lane.EXPAND, "nothing reads it")
DEFAULT_CHARSET = Rule(
    "default-charset", "change a table's default character set or collation", Lane.EXPAND,
    "columns that are there keep theirs",
)  # fmt: skip
COUNTER = Rule("table-auto-increment", "raise a table's AUTO_INCREMENT", Lane.EXPAND, "it counts for rows to come")
REBUILD = Rule(
    "rebuild", "rebuild a table (ENGINE, ROW_FORMAT, FORCE, ORDER BY)", None,
    "every row is written again; another engine copies the table while writers wait", _NEW_TABLE,
)  # fmt: skip
ALGORITHM = Rule(
    "algorithm", "ALGORITHM or LOCK in SQL", None,
    "the ladder tries INSTANT, NOCOPY and INPLACE with LOCK=NONE, and stops there; what is fixed here is not tried",
    ((Stage.EXPAND, 'op.execute("ALTER TABLE {table} ...")  # without ALGORITHM and LOCK'),),
)  # fmt: skip

RULES = (CREATE, CREATE_SELECT, CONVERT, COMMENT, DEFAULT_CHARSET, COUNTER, REBUILD, ALGORITHM)

_OPTIONS: Mapping[TableOption, Rule] = {
    TableOption.COMMENT: COMMENT, TableOption.DEFAULT_CHARSET: DEFAULT_CHARSET, TableOption.AUTO_INCREMENT: COUNTER,
    TableOption.REBUILD: REBUILD, TableOption.ALGORITHM: ALGORITHM,
}  # fmt: skip
_NEED_NAMES = frozenset({KeyKind.PLAIN, KeyKind.UNIQUE, KeyKind.FOREIGN})


def judge_created_table(change: CreateTable, surroundings: Surroundings) -> Verdict:
    """The class of CREATE TABLE; its keys need names as any others."""
    table = short_name(change.subject)
    if change.copies_rows:
        return CREATE_SELECT.verdict(table=table)
    nameless = next((key for key in change.keys if key.kind in _NEED_NAMES and not key.name), None)
    if nameless is not None:
        return refuse_nameless(nameless)
    return CREATE.verdict()


def judge_converted_charset(change: ConvertCharset, surroundings: Surroundings) -> Verdict:
    """The class of CONVERT TO CHARACTER SET."""
    table = short_name(change.subject)
    return CONVERT.verdict(table=table, new_table=f"{table}_new", action="CONVERT TO CHARACTER SET ...")


def judge_option(change: SetOption, surroundings: Surroundings) -> Verdict:
    """The class of one table option."""
    table = short_name(change.subject)
    return _OPTIONS[change.option].verdict(table=table, new_table=f"{table}_new", action="...")
