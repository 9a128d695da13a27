"""The pure parts of running lanes: what a statement is, which ways it has, what a backfill becomes, what may run when."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from dbmigrate.app.mapped import MappedColumns
from dbmigrate.domain.errors import ConfigurationError, RefusedError
from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.domain.lanes import Lane
from dbmigrate.domain.mappings import InstanceMapping
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.schema import TableName
from dbmigrate.lanes.alone import build_lock_name
from dbmigrate.lanes.backfill import Backfill
from dbmigrate.lanes.backfilling import build_batch
from dbmigrate.lanes.hiding import hidden_name, make_invisible
from dbmigrate.lanes.ladder import Rung, build_ways, climb
from dbmigrate.lanes.statements import StatementKind, parse_statement
from dbmigrate.mysql.dependents import _names
from dbmigrate.mysql.faults import ServerRefusedError
from dbmigrate.mysql.key_predicates import KeyRange
from dbmigrate.workflow.lanes import judge_lane

MARIADB = ServerVersion.parse("10.11.6-MariaDB")
MYSQL = ServerVersion.parse("9.7.0")
T = TableName("shop", "t")


@pytest.mark.parametrize(
    ("text", "kind", "tables"),
    [
        ("ALTER TABLE t ADD COLUMN x INT", StatementKind.ALTER_TABLE, ["shop.t"]),
        ("alter table `s`.`a b` drop x;", StatementKind.ALTER_TABLE, ["s.a b"]),
        ("ALTER TABLE t ADD FOREIGN KEY (p) REFERENCES q (id)", StatementKind.ALTER_TABLE, ["shop.t", "shop.q"]),
        ("CREATE UNIQUE INDEX i ON t (a)", StatementKind.CREATE_INDEX, ["shop.t"]),
        ("DROP INDEX `i` ON s.t", StatementKind.DROP_INDEX, ["s.t"]),
        ("CREATE TABLE q (p INT REFERENCES z (id))", StatementKind.DEFINITION, ["shop.q", "shop.z"]),
        ("DROP TABLE IF EXISTS a, `b`", StatementKind.DEFINITION, ["shop.a", "shop.b"]),
        ("RENAME TABLE a TO b, c TO d", StatementKind.DEFINITION, ["shop.a", "shop.b", "shop.c", "shop.d"]),
        ("CREATE VIEW v AS SELECT 1", StatementKind.DEFINITION, []),
        ("CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW BEGIN SET @a = 1; END", StatementKind.DEFINITION, []),
        ("UPDATE t SET a = 1", StatementKind.ROWS, []),
        ("/* DROP TABLE x */ INSERT INTO t VALUES (';')", StatementKind.ROWS, []),
    ],
)
def test_a_statement_is_what_its_tokens_say(text: str, kind: StatementKind, tables: list[str]) -> None:
    statement = parse_statement(text, "shop")
    assert statement.kind is kind
    assert list(map(str, statement.tables)) == tables


@pytest.mark.parametrize(
    ("text", "dropped", "added"),
    [
        ("ALTER TABLE t DROP COLUMN a, DROP `b`, ADD c INT, ADD COLUMN IF NOT EXISTS d INT", ["a", "b"], ["c", "d"]),
        ("ALTER TABLE t DROP INDEX a, DROP PRIMARY KEY, DROP FOREIGN KEY f, DROP CONSTRAINT g, ADD UNIQUE (a)", [], []),
        ("ALTER TABLE t ADD COLUMN (a INT, b INT)", [], []),
        ("ALTER TABLE t COMMENT 'x, DROP COLUMN y'", [], []),
        ("ALTER TABLE t ADD COLUMN e ENUM('a', 'b'), DROP x", ["x"], ["e"]),
    ],
)
def test_columns_that_come_and_go(text: str, dropped: list[str], added: list[str]) -> None:
    statement = parse_statement(text, "shop")
    assert [one.column for one in statement.dropped] == dropped
    assert list(statement.added) == added


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("SELECT 1", "SELECT is no change"),
        ("", "nothing is no change"),
        ("UPDATE a SET b = 1; DELETE FROM c", "more than one statement"),
        ("ALTER TABLE t ADD x INT, ALGORITHM=INPLACE", "chooses an ALGORITHM or LOCK"),
        ("CREATE INDEX i ON t (a) LOCK = NONE", "chooses an ALGORITHM or LOCK"),
    ],
)
def test_what_is_not_run(text: str, cause: str) -> None:
    with pytest.raises(RefusedError) as refused:
        parse_statement(text, "shop")
    assert cause in refused.value.cause


def test_a_column_may_be_called_algorithm() -> None:
    assert parse_statement("ALTER TABLE t ADD COLUMN algorithm INT", "shop").added == ("algorithm",)


def _sent(text: str, version: ServerVersion) -> list[str]:
    return [" ".join(way.sql.split()) for way in build_ways(parse_statement(text, "shop"), version)]


def test_the_ways_of_a_change() -> None:
    assert _sent("ALTER TABLE t DROP x", MYSQL) == [
        "ALTER TABLE t DROP x , ALGORITHM=INSTANT", "ALTER TABLE t DROP x , ALGORITHM=INPLACE, LOCK=NONE",
    ]  # fmt: skip
    assert _sent("DROP INDEX i ON t", MARIADB)[1] == "ALTER TABLE `shop`.`t` DROP INDEX `i` , ALGORITHM=NOCOPY, LOCK=NONE"
    assert _sent("CREATE INDEX i ON t (a)", MARIADB)[2] == "CREATE INDEX i ON t (a) ALGORITHM=INPLACE LOCK=NONE"
    assert _sent("CREATE TABLE u (a INT)", MARIADB) == ["CREATE TABLE u (a INT)"]


def _server(accepted: str, number: int = 1846) -> Any:
    sent: list[str] = []

    def execute(sql: str) -> None:
        sent.append(sql)
        if accepted not in sql:
            raise ServerRefusedError("refused", number=number, cause="cannot")

    execute.sent = sent  # type: ignore[attr-defined]
    return execute


def test_the_first_rung_that_is_taken_is_the_last_that_is_tried() -> None:
    execute = _server("NOCOPY")
    assert climb(parse_statement("ALTER TABLE t DROP x", "shop"), MARIADB, execute) is Rung.NOCOPY
    assert len(execute.sent) == 2


def test_a_refusal_for_another_reason_ends_the_climb() -> None:
    execute = _server("nothing", number=1060)
    with pytest.raises(ServerRefusedError):
        climb(parse_statement("ALTER TABLE t ADD x INT", "shop"), MARIADB, execute, may_copy=True)
    assert len(execute.sent) == 1


def test_a_backfill_says_what_is_wrong_with_it() -> None:
    with pytest.raises(ConfigurationError, match=r"set must name.*where is empty.*batch_rows"):
        Backfill("t", set={}, where=" ", batch_rows=0)


def test_a_batch_is_one_update_of_a_range_of_keys() -> None:
    backfill = Backfill("t", set={"a": "b + 1"}, where="a IS NULL OR a = 0")
    assert " ".join(build_batch(T, ("id",), backfill, KeyRange(b"5", b"9")).split()) == (
        "UPDATE `shop`.`t` SET `a` = (b + 1) WHERE (`id` > 5) AND (`id` <= 9) AND (a IS NULL OR a = 0 ) "
        "AND (SELECT TRUE AS dbmigrate_lane)"
    )


@pytest.mark.parametrize(
    ("line", "hidden"),
    [
        ("`a` int(11) DEFAULT NULL", "`a` int(11) DEFAULT NULL INVISIBLE"),
        ("`a` text DEFAULT ' CHECK (' COMMENT 'it''s'", "`a` text DEFAULT ' CHECK (' COMMENT 'it''s' INVISIBLE"),
        (
            "`j` longtext DEFAULT NULL CHECK (json_valid(`j`))",
            "`j` longtext DEFAULT NULL INVISIBLE CHECK (json_valid(`j`))",
        ),
    ],
)
def test_invisible_stands_where_mariadb_takes_it(line: str, hidden: str) -> None:
    assert make_invisible(line) == hidden


def test_names_stay_within_the_servers_limits() -> None:
    assert len(hidden_name(TableName("s", "t" * 64), "r" * 32).name) <= 64
    assert len(build_lock_name("s" * 64)) <= 64


@pytest.mark.parametrize(
    ("text", "column", "is_named"),
    [
        ("SELECT `t`.`a` FROM `shop`.`t`", "a", True),
        ("SELECT a FROM T", "A", True),
        ("SELECT `b` FROM `t` /* a */", "a", False),
        ("SELECT `a` FROM `other`.`t`", "a", False),
        ("SELECT `a` FROM `u`", "a", False),
        ("SELECT 1 FROM t", "", True),
    ],
)
def test_a_text_names_a_column_of_a_table(text: str, column: str, is_named: bool) -> None:
    assert _names(text, T, column, is_on=False) is is_named


def test_a_text_of_the_table_itself_names_the_column_alone() -> None:
    assert _names("SET NEW.a = 1", T, "a", is_on=True)
    assert not _names("SET NEW.b = 1", T, "a", is_on=True)


def test_an_instance_that_says_nothing_may_use_everything() -> None:
    assert InstanceMapping("i", "h", 1, None).may_use("t", "a")
    known = InstanceMapping("i", "h", 1, frozenset({"t.a"}))
    assert known.may_use("T", "A")
    assert known.may_use("t", "")
    assert not known.may_use("t", "b")
    assert not known.may_use("u", "")


def _allowed(phase: Phase | None) -> Iterable[Lane]:
    return {lane for lane in Lane if not judge_lane(lane, phase)}


def test_which_lanes_run_in_which_phase() -> None:
    """None while the streams rely on both schemas; contract never before the soak has passed."""
    for phase in Phase:
        expected: set[Lane] = set()
        if phase is Phase.EXPAND:
            expected = {Lane.EXPAND}
        if phase in (Phase.CONTRACT, Phase.DONE, Phase.ABORTED):
            expected = set(Lane)
        assert _allowed(phase) == expected, phase
    assert _allowed(None) == set(Lane)
    assert "only after soak has passed" in judge_lane(Lane.CONTRACT, Phase.SOAK)


def test_mapped_columns_are_found_without_being_named() -> None:
    """In classes that are mapped later as well, and in tables that no class maps."""
    metadata = sa.MetaData()
    sa.Table("unmapped_stamp", metadata, sa.Column("At", sa.Integer))
    mapped = MappedColumns([metadata])
    assert "unmapped_stamp.at" in mapped.read()

    class Base(DeclarativeBase):
        pass

    class Later(Base):
        __tablename__ = "mapped_later"
        id: Mapped[int] = mapped_column(primary_key=True)
        renamed: Mapped[int] = mapped_column("in_the_database")

    assert Later
    assert {"mapped_later.id", "mapped_later.in_the_database"} <= set(mapped.read())
