"""The class of each kind of change, and that what is shown instead passes the same rules."""

from __future__ import annotations

import re

import pytest
import sqlalchemy as sa
from alembic import op
from lane_catalogue import ORDERS, PLACED, REFUSED
from sqlalchemy.dialects import mysql

from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.domain.lanes import Lane, Placed, Refused, Stage, Undecided, Verdict
from dbmigrate.lanes import changes
from dbmigrate.lanes.changes import Change
from dbmigrate.lanes.lint import judge_operations
from dbmigrate.lanes.reading.statements import read_statement
from dbmigrate.lanes.recording import RecordedOperation, record_calls
from dbmigrate.lanes.rules import _JUDGES, RULES
from dbmigrate.lanes.rules.rule import EXAMPLE, Rule, fill
from dbmigrate.lanes.tables import Tables

MYSQL = ServerVersion.parse("8.4.3")
MARIADB = ServerVersion.parse("10.11.6-MariaDB")
BOTH = (MYSQL, MARIADB)

def known_tables() -> Tables:
    tables = Tables()
    for change in read_statement(ORDERS):
        tables.apply(change)
    return tables


def classify(sql: str, version: ServerVersion = MARIADB, tables: Tables | None = None) -> Verdict:
    recorded = [RecordedOperation(None, (sql,))]
    (judged,) = judge_operations(recorded, version, known_tables() if tables is None else tables)
    return judged.verdict


@pytest.mark.parametrize("version", BOTH, ids=str)
@pytest.mark.parametrize(("sql", "rule", "lane"), PLACED, ids=[sql for sql, *_ in PLACED])
def test_placed(sql: str, rule: str, lane: Lane, version: ServerVersion) -> None:
    verdict = classify(sql, version)
    assert isinstance(verdict, Placed), verdict
    assert (verdict.rule, verdict.lane) == (rule, lane)


@pytest.mark.parametrize("version", BOTH, ids=str)
@pytest.mark.parametrize(("sql", "rule"), REFUSED, ids=[sql for sql, *_ in REFUSED])
def test_refused_with_reason_and_way_around(sql: str, rule: str, version: ServerVersion) -> None:
    verdict = classify(sql, version)
    assert isinstance(verdict, Refused), verdict
    assert verdict.rule == rule
    assert verdict.breaks
    assert verdict.instead


def test_every_rule_is_met() -> None:
    """No rule of the documentation is out of reach, and none is missing there."""
    met = {rule for _, rule, *_ in [*PLACED, *REFUSED]}
    assert met | {"on-update", "generated"} == {rule.name for rule in RULES}


def test_rest_of_the_rules_are_met() -> None:
    """Those that only a statement can reach which says nearly all of the column."""
    seen = "ALTER TABLE orders MODIFY seen DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE NOW(3)"
    assert getattr(classify(seen), "rule", "") == "on-update"
    generated = "ALTER TABLE orders MODIFY twice INT AS (number * 3) VIRTUAL"
    assert getattr(classify(generated), "rule", "") == "generated"


def test_every_kind_of_change_has_a_judge() -> None:
    """Classes below ``Change`` that nobody judges would be refused as unknown."""

    kinds = {kind for kind in vars(changes).values() if isinstance(kind, type) and issubclass(kind, Change)}
    assert kinds - {Change} == set(_JUDGES)


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE unknown MODIFY a INT NOT NULL",
        "ALTER TABLE orders MODIFY nowhere INT NOT NULL",
        "ALTER TABLE unknown DROP CONSTRAINT c",
    ],
)
def test_what_depends_on_the_table_is_not_guessed(sql: str) -> None:
    verdict = classify(sql)
    assert isinstance(verdict, Undecided)
    assert "needs a server" in verdict.hint


def test_lengths_count_in_bytes_of_the_character_set() -> None:
    """InnoDB keeps a length in one byte up to 255; MariaDB does not care while a column fits 127."""
    assert getattr(classify("ALTER TABLE orders MODIFY code VARCHAR(250) CHARACTER SET ascii", MYSQL), "rule", "") == (
        "longer-text"
    )
    longer = "ALTER TABLE orders MODIFY code VARCHAR(300) CHARACTER SET ascii"
    assert getattr(classify(longer, MYSQL), "rule", "") == "type-wider"
    assert getattr(classify(longer, MARIADB), "rule", "") == "longer-text"


def test_loss_is_told_with_the_statement_that_keeps_everything() -> None:
    """Which attribute, and the same operation with all of them."""
    verdict = classify("ALTER TABLE orders MODIFY number INT")
    assert isinstance(verdict, Refused)
    assert "would lose NOT NULL, DEFAULT 0, what it has as comment" in verdict.breaks
    (step,) = verdict.instead
    assert step.text == (
        'op.alter_column("orders", "number", existing_type=mysql.INTEGER(), existing_nullable=False, '
        "existing_server_default=sa.text('0'), existing_comment='for people')"
    )
    assert getattr(run(step.text), "rule", "") == "modify-nothing"


def test_loss_that_alembic_cannot_mend_is_mended_in_sql() -> None:
    verdict = classify("ALTER TABLE orders MODIFY seen DATETIME(6) NOT NULL")
    assert isinstance(verdict, Refused)
    (step,) = verdict.instead
    assert step.text == (
        "op.execute('ALTER TABLE orders MODIFY `seen` DATETIME(6) NOT NULL DEFAULT current_timestamp(6) "
        "ON UPDATE current_timestamp(6)')"
    )
    assert getattr(run(step.text), "rule", "") == "modify-nothing"


def run(
    code: str, tables: Tables | None = None, version: ServerVersion = MYSQL, created: set[str] | None = None
) -> Verdict:
    """The class of what a line of a safe sequence does."""
    names = {"op": op, "sa": sa, "mysql": mysql}
    recorded = record_calls(lambda: exec(code, names), version, place="a step")
    judged = judge_operations(recorded, version, tables or known_tables(), created=created)
    return judged[0].verdict if judged else Placed("nothing", Lane.EXPAND)


_LANES = {Stage.EXPAND: Lane.EXPAND, Stage.TIGHTEN: Lane.TIGHTEN, Stage.CONTRACT: Lane.CONTRACT}


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.lane is None], ids=lambda rule: rule.name)
def test_what_is_shown_instead_passes_the_lint(rule: Rule) -> None:
    """Every line of Python in a safe sequence, with the example's names, belongs into the lane of its stage."""
    assert rule.instead
    tables = known_tables()
    created: set[str] = set()
    for stage, text in rule.instead:
        code = fill(text, {**EXAMPLE, "default": "UUID()", "expression": "number * 2", "appended": "state ENUM('new','paid')"})
        if stage not in _LANES or code.startswith("#") or "..." in code:
            continue
        if stage is not Stage.EXPAND:
            created.clear()  # a later revision
        verdict = run(code, tables, created=created)
        assert isinstance(verdict, Undecided) or (isinstance(verdict, Placed) and verdict.lane is _LANES[stage]), (
            code,
            verdict,
        )


@pytest.mark.parametrize(("sql", "rule"), REFUSED, ids=[sql for sql, *_ in REFUSED])
def test_no_placeholder_is_left(sql: str, rule: str) -> None:
    verdict = classify(sql)
    assert isinstance(verdict, Refused)
    for text in (verdict.breaks, *(step.text for step in verdict.instead)):
        assert not re.search(r"\{\w+\}", text), text


def operation(call: str, version: ServerVersion = MARIADB) -> str:
    """The rule for a call of ``op``."""
    verdict = run(call, version=version)
    return verdict.rule


@pytest.mark.parametrize(
    ("call", "rule"),
    [
        ('op.add_column("orders", sa.Column("a", sa.Integer))', "add-column"),
        ('op.add_column("orders", sa.Column("a", sa.Integer, nullable=False))', "add-column-not-null"),
        ('op.add_column("orders", sa.Column("a", sa.Integer, unique=True))', "key-without-name"),
        ('op.add_column("orders", sa.Column("a", sa.Integer, sa.ForeignKey("p.id", name="f")))', "several-lanes"),
        ('op.alter_column("orders", "total", existing_type=sa.Numeric(10, 2), nullable=False)', "not-null"),
        ('op.alter_column("orders", "number", existing_type=sa.Integer, nullable=True)', "modify-forgets"),
        ('op.alter_column("orders", "total", existing_type=sa.Integer, nullable=False)', "modify-forgets"),
        (
            'op.alter_column("orders", "seen", existing_type=mysql.DATETIME(fsp=6), existing_nullable=False, '
            'server_default=sa.text("CURRENT_TIMESTAMP(6)"))',
            "modify-forgets",
        ),
        ('op.alter_column("orders", "number", server_default=None)', "drop-default"),
        ('op.alter_column("orders", "number", server_default="7")', "set-default"),
        ('op.alter_column("orders", "total", new_column_name="b", existing_type=sa.Integer)', "rename-column"),
        ('op.alter_column("orders", "note", existing_type=sa.String(50), type_=sa.String(20))', "type-narrower"),
        ('op.alter_column("orders", "note", existing_type=sa.String(50), type_=sa.String(60))', "longer-text"),
        ('op.alter_column("orders", "code", existing_type=sa.String(40), type_=sa.String(60))', "modify-forgets"),
        ('op.create_index("ix", "orders", ["note"])', "add-index"),
        ('op.create_index("ix", "orders", ["note"], unique=True)', "add-unique"),
        ('op.create_unique_constraint("uq", "orders", ["note"])', "add-unique"),
        ('op.create_unique_constraint(None, "orders", ["note"])', "key-without-name"),
        ('op.create_foreign_key("fk", "orders", "p", ["number"], ["id"])', "add-foreign-key"),
        ('op.create_check_constraint("c", "orders", "number > 0")', "add-check"),
        ('op.create_primary_key("pk", "orders", ["number"])', "primary-key"),
        ('op.drop_constraint("positive", "orders", type_="check")', "drop-check"),
        ('op.drop_constraint("fk", "orders", type_="foreignkey")', "drop-foreign-key"),
        ('op.drop_constraint("uq", "orders", type_="unique")', "drop-index"),
        ('op.drop_column("orders", "note")', "drop-column"),
        ('op.drop_index("ix_number", "orders")', "drop-index"),
        ('op.drop_table("orders")', "drop-table"),
        ('op.rename_table("orders", "purchase")', "rename-table"),
        ('op.create_table_comment("orders", "x")', "table-comment"),
        ('op.create_table("p", sa.Column("id", sa.Integer, primary_key=True))', "create-table"),
        ('op.bulk_insert(sa.table("p", sa.column("id", sa.Integer)), [{"id": 1}])', "insert"),
        ('op.execute("UPDATE orders SET total = 1")', "change-rows"),
    ],
)
def test_alembics_operations(call: str, rule: str) -> None:
    for version in BOTH:
        assert operation(call, version) == rule


def test_operation_of_a_plugin_is_refused() -> None:
    """Whatever its statements look like."""
    from alembic.operations import MigrateOperation, Operations

    class AddNothing(MigrateOperation):
        pass

    @Operations.implementation_for(AddNothing)
    def _(operations: Operations, _: MigrateOperation) -> None:
        operations.execute("ALTER TABLE orders ADD COLUMN a INT")

    (judged,) = judge_operations(
        record_calls(lambda: op.invoke(AddNothing()), MYSQL, place="x"), MYSQL, known_tables()
    )
    assert getattr(judged.verdict, "rule", "") == "unknown"


def test_keys_of_a_table_made_in_the_same_revision_are_part_of_it() -> None:
    """Nobody writes to it yet: a unique key may come with it. It needs a name all the same."""

    def upgrade() -> None:
        op.create_table("p", sa.Column("id", sa.Integer, primary_key=True), sa.Column("a", sa.Integer))
        op.create_index("uq", "p", ["a"], unique=True)
        op.create_unique_constraint(None, "p", ["a"])

    judged = judge_operations(record_calls(upgrade, MYSQL, place="x"), MYSQL, Tables())
    assert [getattr(one.verdict, "rule", "") for one in judged] == ["create-table", "create-table", "key-without-name"]


def test_later_operations_meet_what_earlier_ones_left() -> None:
    """A column that this revision adds can be changed by the next operation."""
    tables = known_tables()
    assert getattr(classify("ALTER TABLE orders ADD COLUMN a INT", tables=tables), "rule", "") == "add-column"
    assert getattr(classify("ALTER TABLE orders MODIFY a INT NOT NULL", tables=tables), "rule", "") == "not-null"
    assert getattr(classify("gibberish", tables=tables), "rule", "") == "unknown"
    assert isinstance(classify("ALTER TABLE orders MODIFY a INT NOT NULL", tables=tables), Undecided)
