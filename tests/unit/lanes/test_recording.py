"""What a revision would send is written down completely, or the revision is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import op
from alembic.operations import MigrateOperation, Operations, ops

from dbmigrate.domain.errors import ConfigurationError, RefusedError
from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.domain.lanes import Lane
from dbmigrate.lanes.environment import lane_of_revision, load_environment
from dbmigrate.lanes.recording import RecordedOperation, record_calls, record_downgrade, record_upgrade

MYSQL = ServerVersion.parse("8.4.3")
MARIADB = ServerVersion.parse("10.11.6-MariaDB")
STORE = Path(__file__).parents[3] / "migrations"


def record(call: Callable[[], Any], version: ServerVersion = MARIADB) -> list[tuple[str, tuple[str, ...]]]:
    """Kind of each operation, and its statements on one line."""
    return [
        (type(one.operation).__name__ if one.operation else "SQL", tuple(" ".join(s.split()) for s in one.statements))
        for one in record_calls(call, version, place="a revision")
    ]


def test_operation_with_several_statements_is_one_record() -> None:
    """A column with a foreign key and an index: three statements, in order."""
    column = sa.Column("shop_id", sa.Integer, sa.ForeignKey("shop.id", name="fk_shop"), index=True)
    assert record(lambda: op.add_column("orders", column)) == [
        (
            "AddColumnOp",
            (
                "ALTER TABLE orders ADD COLUMN shop_id INTEGER",
                "ALTER TABLE orders ADD CONSTRAINT fk_shop FOREIGN KEY(shop_id) REFERENCES shop (id)",
                "CREATE INDEX ix_orders_shop_id ON orders (shop_id)",
            ),
        )
    ]


def test_texts_are_recorded_as_they_would_be_sent() -> None:
    """Percent signs, tabs and a closing semicolon: the server gets each statement as it is written."""
    assert record_calls(lambda: op.execute("UPDATE t SET a = '1\t%'  ;\n"), MYSQL, place="x") == (
        RecordedOperation(None, ("UPDATE t SET a = '1\t%'",)),
    )


def test_statements_of_sqlalchemy_carry_their_values() -> None:
    table = sa.table("t", sa.column("a", sa.String))

    def upgrade() -> None:
        op.execute(table.update().values(a="100%").where(table.c.a.is_(None)))
        op.execute(sa.text("DELETE FROM t WHERE a = :a").bindparams(a="it's"))
        op.bulk_insert(table, [{"a": "x"}, {"a": "y"}])

    assert record(upgrade) == [
        ("SQL", ("UPDATE t SET a='100%' WHERE t.a IS NULL",)),
        ("SQL", ("DELETE FROM t WHERE a = 'it''s'",)),
        ("BulkInsertOp", ("INSERT INTO t (a) VALUES ('x')", "INSERT INTO t (a) VALUES ('y')")),
    ]


def test_batch_is_recorded_operation_by_operation() -> None:
    def upgrade() -> None:
        with op.batch_alter_table("t") as batch:
            batch.add_column(sa.Column("a", sa.Integer))
            batch.execute("SELECT 1")
            batch.create_index("ix_a", ["a"])

    assert record(upgrade) == [
        ("AddColumnOp", ("ALTER TABLE t ADD COLUMN a INTEGER",)),
        ("SQL", ("SELECT 1",)),
        ("CreateIndexOp", ("CREATE INDEX ix_a ON t (a)",)),
    ]


def test_context_is_no_way_around() -> None:
    """SQL that goes to the context instead of ``op`` is recorded as well."""
    assert record(lambda: op.get_context().impl.execute("DROP TABLE t")) == [("SQL", ("DROP TABLE t",))]


def test_operations_of_plugins_are_recorded_whole() -> None:
    """One record for the outer operation, with what it invokes."""

    class GrantEverything(MigrateOperation):
        pass

    @Operations.implementation_for(GrantEverything)
    def _(operations: Operations, _: MigrateOperation) -> None:
        operations.execute("GRANT ALL ON *.* TO x")

    assert record(lambda: op.invoke(GrantEverything())) == [
        ("GrantEverything", ("GRANT ALL ON *.* TO x",))
    ]


@pytest.mark.parametrize(
    ("version", "statement"),
    [(MYSQL, "ALTER TABLE t DROP CHECK positive"), (MARIADB, "ALTER TABLE t DROP CONSTRAINT positive")],
)
def test_statements_are_those_of_the_flavour(version: ServerVersion, statement: str) -> None:
    assert record(lambda: op.drop_constraint("positive", "t", type_="check"), version) == [
        ("DropConstraintOp", (statement,))
    ]


def test_dialect_may_be_asked() -> None:
    """A revision may look which server it is for: that reads nothing."""

    def upgrade() -> None:
        assert op.get_bind().dialect.name == "mysql"
        assert op.get_bind().engine.dialect.is_mariadb
        assert op.get_context().dialect.server_version_info == (10, 11, 6)

    assert record(upgrade) == []


def _swallow() -> None:
    try:
        op.get_bind().execute(sa.text("SELECT 1"))
    except Exception:
        op.execute("SELECT 2")


@pytest.mark.parametrize(
    "upgrade",
    [
        lambda: op.get_bind().execute(sa.text("SELECT 1")).scalar(),
        lambda: op.get_context().connection.execute(sa.text("SELECT 1")),
        lambda: op.get_context().bind.scalar(sa.text("SELECT 1")),
        _swallow,
    ],
)
def test_revision_that_reads_is_refused(upgrade: Callable[[], Any]) -> None:
    """Even where it catches the error."""
    with pytest.raises(RefusedError, match="reads from the database"):
        record(upgrade)


def test_copied_table_is_refused() -> None:
    def upgrade() -> None:
        with op.batch_alter_table("t", recreate="always") as batch:
            batch.drop_column("a")

    with pytest.raises(RefusedError, match="copies the table"):
        record(upgrade)


@pytest.mark.parametrize(
    ("upgrade", "cause"),
    [
        (lambda: 1 / 0, "ZeroDivisionError"),
        (lambda: op.alter_column("t", "a", nullable=False), "require the existing type"),
        (lambda: op.execute(sa.text("SELECT :a")), "bind"),
    ],
)
def test_what_fails_is_refused_with_its_cause(upgrade: Callable[[], Any], cause: str) -> None:
    with pytest.raises(RefusedError) as caught:
        record(upgrade)
    assert caught.value.place == "a revision"
    assert cause in caught.value.cause


def test_inspector_is_refused() -> None:
    """SQLAlchemy itself says so, or asks the connection, depending on what else was imported."""
    with pytest.raises(RefusedError):
        record(lambda: sa.inspect(op.get_bind()).get_table_names())


def test_op_is_free_again_after_a_failure() -> None:
    """The next revision is recorded on a tape of its own."""
    with pytest.raises(RefusedError):
        record(lambda: 1 / 0)
    assert record(lambda: op.drop_table("t")) == [("DropTableOp", ("DROP TABLE t",))]


def test_revisions_of_a_project_are_walked_and_recorded() -> None:
    """The sample store's: parents first, up and down."""
    scripts = [script for script in load_environment(STORE).walk() if script.path.endswith(("catalogue.py", "checkout.py"))]
    assert [script.revision for script in scripts] == ["0001", "0002"]
    (up,) = [one for one in record_upgrade(scripts[1], MYSQL) if "orders" in one.statements[0].split()[2]]
    assert isinstance(up.operation, ops.CreateTableOp)
    assert len(up.statements) == 2, "the table, and its index"
    assert [one.statements for one in record_downgrade(scripts[1], MYSQL)] == [
        ("DROP TABLE payment",), ("DROP TABLE order_line",), ("DROP TABLE orders",),
    ]  # fmt: skip


def write_environment(directory: Path, **revisions: str) -> Path:
    """An environment whose versions have these names and contents."""
    (directory / "versions").mkdir()
    (directory / "alembic.ini").write_text("[alembic]\nscript_location = %(here)s\n")
    for name, text in revisions.items():
        (directory / "versions" / f"{name}.py").write_text(text)
    return directory


def test_lanes_are_branch_labels(tmp_path: Path) -> None:
    """A label holds for all that follows; dependencies come first."""
    place = write_environment(
        tmp_path,
        tighten="revision = 'b1'\ndown_revision = None\nbranch_labels = ('tighten',)\ndepends_on = ('a2',)",
        expand="revision = 'a1'\ndown_revision = None\nbranch_labels = ('expand',)",
        expand2="revision = 'a2'\ndown_revision = 'a1'",
        other="revision = 'c1'\ndown_revision = None",
    )
    environment = load_environment(place)
    assert [script.revision for script in environment.walk(Lane.EXPAND)] == ["a1", "a2"]
    assert [script.revision for script in environment.walk(Lane.TIGHTEN)] == ["b1"]
    assert environment.walk(Lane.CONTRACT) == ()
    order = [script.revision for script in environment.walk()]
    assert order.index("a2") < order.index("b1")
    assert lane_of_revision(environment.find("c1")) is None


@pytest.mark.parametrize("text", ["revision = 'a'\ndown_revision = 'nowhere'", "import no_such_module", "x ="])
def test_unreadable_revisions_are_told(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_environment(write_environment(tmp_path, first=text)).walk()


def test_environment_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no alembic\.ini"):
        load_environment(tmp_path / "nothing")
    (tmp_path / "alembic.ini").write_text("[alembic]\n")
    with pytest.raises(ConfigurationError, match="Alembic cannot use"):
        load_environment(tmp_path)
