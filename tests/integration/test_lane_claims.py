"""What the rules say of servers is true of them: which changes are made in place, and what MODIFY forgets.

Each change is tried on a table of its own, on both flavours, with the algorithms that hold nobody back.
"""

from __future__ import annotations

from collections.abc import Callable

import pymysql
import pytest
from databases import Database
from lane_catalogue import ORDERS, REFUSED

from dbmigrate.domain.flavours import Flavour, ServerVersion
from dbmigrate.domain.lanes import Placed, Refused
from dbmigrate.lanes.lint import judge_operations
from dbmigrate.lanes.recording import RecordedOperation
from dbmigrate.lanes.tables import build_tables
from dbmigrate.mysql.introspection import read_schema, read_server_version
from dbmigrate.throwaway.local_servers import LocalServer

BOTH_FLAVOURS = (Flavour.MARIADB, pytest.param(Flavour.MYSQL, marks=pytest.mark.mysql))

TABLE = """
CREATE TABLE t (
  id INT PRIMARY KEY AUTO_INCREMENT, a INT NOT NULL DEFAULT 1 COMMENT 'kept', b INT, parent INT, v50 VARCHAR(50),
  v60 VARCHAR(60), v100 VARCHAR(100), va VARCHAR(200) CHARACTER SET ascii, va100 VARCHAR(100) CHARACTER SET ascii,
  vb VARBINARY(50), ch CHAR(10), d DECIMAL(10,2), dt DATETIME, tx TEXT, e ENUM('a','b'), s SET('a','b'), js JSON,
  g POINT NOT NULL, at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
  hidden INT INVISIBLE, twice INT AS (b * 2) VIRTUAL, KEY ix (b), UNIQUE KEY uq (a, id), KEY parent (parent),
  CONSTRAINT fk FOREIGN KEY (parent) REFERENCES p (id), CONSTRAINT positive CHECK (a > 0)
) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci
"""

IN_PLACE = [
    "ADD COLUMN c INT", "ADD COLUMN c INT NOT NULL DEFAULT 5", "ADD COLUMN c DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)",
    "ADD COLUMN c INT INVISIBLE", "ADD COLUMN c INT AS (b + 1) VIRTUAL", "ADD COLUMN c INT GENERATED ALWAYS AS (b + 1)",
    "ADD COLUMN c JSON", "DROP COLUMN v50",
    "MODIFY b INT NOT NULL", "MODIFY a INT NULL DEFAULT 1 COMMENT 'kept'", "ALTER COLUMN b SET DEFAULT 4",
    "ALTER COLUMN v50 SET DEFAULT (UUID())", "ALTER COLUMN a DROP DEFAULT", "MODIFY b INT COMMENT 'x'",
    "MODIFY v50 VARCHAR(60)", "MODIFY v100 VARCHAR(300)", "MODIFY va VARCHAR(250) CHARACTER SET ascii", "MODIFY vb VARBINARY(100)",
    "MODIFY e ENUM('a','b','c')", "MODIFY s SET('a','b','c')", "MODIFY b INT INVISIBLE", "ADD INDEX ib (d) USING BTREE COMMENT 'x'",
    "ADD UNIQUE KEY ub (b)", "DROP INDEX ix", "DROP INDEX uq", "DROP FOREIGN KEY fk", "DROP CONSTRAINT positive",
    "COMMENT 'x'", "AUTO_INCREMENT = 100", "DEFAULT CHARACTER SET latin1",
]  # fmt: skip
"""Placed in a lane; a server must take them without holding writers back."""

IN_PLACE_ON_MARIADB = ["MODIFY va100 VARCHAR(300) CHARACTER SET ascii", "MODIFY vb VARBINARY(300)"]

COPIED = [
    "ADD COLUMN c CHAR(36) DEFAULT (UUID())", "ADD COLUMN c INT AS (a + 1) STORED", "MODIFY b BIGINT", "MODIFY b SMALLINT",
    "MODIFY b INT UNSIGNED", "MODIFY v50 VARCHAR(100)", "MODIFY v60 VARCHAR(70)", "MODIFY v100 VARCHAR(50)",
    "MODIFY v50 TEXT", "MODIFY ch CHAR(20)", "MODIFY va VARCHAR(300) CHARACTER SET ascii", "MODIFY d DECIMAL(12,2)",
    "MODIFY dt DATETIME(6)", "MODIFY tx MEDIUMTEXT", "MODIFY e ENUM('b','a')", "MODIFY e ENUM('a','x','b')", "MODIFY e ENUM('a')",
    "MODIFY v50 VARCHAR(50) CHARACTER SET latin1", "CONVERT TO CHARACTER SET latin1", "ADD FULLTEXT INDEX ft (v50)",
    "ADD SPATIAL INDEX sp (g)", "ADD CONSTRAINT c CHECK (a > 5)",
]  # fmt: skip
"""Refused, because the table is copied or writers wait."""

COPIED_ON_MYSQL = [
    "MODIFY va100 VARCHAR(300) CHARACTER SET ascii", "MODIFY vb VARBINARY(300)", "ADD INDEX ie ((b + 1))",
    "ADD COLUMN c INT DEFAULT (1)", "ADD COLUMN c DATE DEFAULT (CURRENT_DATE)",
]

NOT_THIS_WAY = {1800, 1845, 1846, 4092}
UNSAFE = 1674


@pytest.fixture(scope="module", params=BOTH_FLAVOURS, ids=lambda flavour: flavour.value)
def server(request: pytest.FixtureRequest, session_server: Callable[..., LocalServer]) -> LocalServer:
    return session_server(request.param, "source")


@pytest.fixture
def database(server: LocalServer, database_factory: Callable[..., Database]) -> Database:
    found = database_factory(server)
    found.execute("CREATE TABLE p (id INT PRIMARY KEY)", TABLE, "INSERT INTO t (b, g) VALUES (1, POINT(1, 1))")
    return found


def version_of(database: Database) -> ServerVersion:
    with database.connect() as connection:
        return read_server_version(connection)


def is_taken_in_place(database: Database, action: str) -> bool:
    """Whether one of the algorithms that hold nobody back is accepted. Other errors are errors."""
    mariadb = database.server.flavour is Flavour.MARIADB
    for algorithm in ("INSTANT", *(("NOCOPY",) if mariadb else ()), "INPLACE"):
        lock = "" if algorithm == "INSTANT" else ", LOCK=NONE"
        try:
            database.execute(f"ALTER TABLE t {action}, ALGORITHM={algorithm}{lock}")
        except pymysql.MySQLError as fault:
            if fault.args[0] not in NOT_THIS_WAY | {UNSAFE}:
                raise
        else:
            return True
    return False


def classify(database: Database, action: str) -> Placed | Refused:
    with database.connect() as connection:
        version = read_server_version(connection)
        tables = build_tables(read_schema(connection, version, database.schema))
    (judged,) = judge_operations([RecordedOperation(None, (f"ALTER TABLE t {action}",))], version, tables)
    assert isinstance(judged.verdict, Placed | Refused), judged.verdict
    return judged.verdict


def cases(shared: list[str], extra: list[str], extra_flavour: Flavour) -> list[tuple[str, Flavour | None]]:
    return [(action, None) for action in shared] + [(action, extra_flavour) for action in extra]


@pytest.mark.parametrize(("action", "only"), cases(IN_PLACE, IN_PLACE_ON_MARIADB, Flavour.MARIADB))
def test_placed_changes_hold_nobody_back(database: Database, action: str, only: Flavour | None) -> None:
    """Both the rules and the server say so."""
    if only in (None, database.server.flavour):
        verdict = classify(database, action)
        assert isinstance(verdict, Placed), verdict
        assert is_taken_in_place(database, action)


@pytest.mark.parametrize(("action", "only"), cases(COPIED, COPIED_ON_MYSQL, Flavour.MYSQL))
def test_refused_changes_would_hold_writers_back(database: Database, action: str, only: Flavour | None) -> None:
    """Both the rules and the server say so."""
    if only in (None, database.server.flavour):
        assert isinstance(classify(database, action), Refused)
        assert not is_taken_in_place(database, action)


def test_foreign_key_is_in_place_without_checks_only(database: Database) -> None:
    """What `add-foreign-key` says: with them the table is copied."""
    add = "ALTER TABLE t ADD CONSTRAINT fk2 FOREIGN KEY (b) REFERENCES p (id)"
    database.execute("INSERT INTO p VALUES (1)")
    with pytest.raises(pymysql.MySQLError) as caught:
        database.execute(f"{add}, ALGORITHM=INPLACE, LOCK=NONE")
    assert caught.value.args[0] in NOT_THIS_WAY
    database.execute("SET SESSION foreign_key_checks = 0", f"{add}, ALGORITHM=INPLACE, LOCK=NONE")


def test_column_of_a_key_goes_out_of_it_without_a_word(database: Database) -> None:
    """On MySQL; MariaDB refuses. The rule refuses on both."""
    verdict = classify(database, "DROP COLUMN a")
    assert verdict.rule == "drop-column-of-key"
    database.execute("ALTER TABLE t DROP CONSTRAINT positive")
    if database.server.flavour is Flavour.MYSQL:
        database.execute("ALTER TABLE t DROP COLUMN a")
        (create,) = [row[1] for row in database.execute("SHOW CREATE TABLE t")]
        assert "UNIQUE KEY `uq` (`id`)" in create
    else:
        with pytest.raises(pymysql.MySQLError, match="1072"):
            database.execute("ALTER TABLE t DROP COLUMN a")


LOSSES = [
    ("a", "a INT NOT NULL", ("DEFAULT 1", "comment")),
    ("a", "a INT DEFAULT 1 COMMENT 'kept'", ("NOT NULL",)),
    ("id", "id INT NOT NULL", ("autoincrement",)),
    ("va", "va VARCHAR(200)", ("collation ascii_general_ci",)),
    ("at", "at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)", ("ON UPDATE",)),
    ("hidden", "hidden INT", ("invisible",)),
]


def definition(database: Database, column: str) -> str:
    text = str(database.execute("SHOW CREATE TABLE t")[0][1])
    return next(line.strip() for line in text.split("\n") if line.strip().startswith(f"`{column}` "))


@pytest.mark.parametrize(("column", "modify", "lost"), LOSSES, ids=[loss[0] + " " + loss[2][0] for loss in LOSSES])
def test_modify_forgets_what_it_does_not_say(
    database: Database, column: str, modify: str, lost: tuple[str, ...]
) -> None:
    """The server takes the attribute away without a word; the rule names it and shows a statement that keeps it."""
    before = definition(database, column)
    verdict = classify(database, f"MODIFY {modify}")
    assert isinstance(verdict, Refused)
    assert verdict.rule == "modify-forgets"
    for attribute in lost:
        assert attribute in verdict.breaks
    database.execute("SET SESSION foreign_key_checks = 0", f"ALTER TABLE t MODIFY {modify}")
    assert definition(database, column) != before
    database.execute("DROP TABLE t", TABLE)
    (step,) = verdict.instead
    apply_step(database, step.text)
    assert definition(database, column) == before


@pytest.mark.slow
def test_what_is_shown_instead_runs(database: Database) -> None:
    """Every line of every safe sequence, as it is shown for a table with rows, up to one that leaves something open."""
    with database.connect() as connection:
        version = read_server_version(connection)
    ran = 0
    for sql, rule in REFUSED:
        database.execute(
            "SET SESSION foreign_key_checks = 0", "DROP TABLE IF EXISTS t, p, orders, orders_new, copies", "DROP VIEW IF EXISTS purchase",
            "CREATE TABLE p (id INT PRIMARY KEY, a INT)", "INSERT INTO p VALUES (0, 0)", ORDERS, "INSERT INTO orders (total, note, state) VALUES (1, 'x', 'new')",
        )  # fmt: skip
        with database.connect() as connection:
            tables = build_tables(read_schema(connection, version, database.schema))
        (judged,) = judge_operations([RecordedOperation(None, (sql,))], version, tables)
        assert isinstance(judged.verdict, Refused), (sql, judged.verdict)
        assert judged.verdict.rule == rule, (sql, judged.verdict)
        for step in judged.verdict.instead:
            if "drop_column" in step.text and rule != "drop-column-of-key":  # else the lint of that step would name them
                database.execute("ALTER TABLE orders DROP KEY uq_two, DROP COLUMN twice, DROP CONSTRAINT positive")
            if step.text.startswith("op.") and "..." in step.text:
                break  # something to be filled in, on which the rest may depend
            if step.text.startswith("op."):
                apply_step(database, step.text.replace("nullable=False)", "nullable=True)"))  # nobody has filled it in
                ran += 1
    assert ran > 60


def apply_step(database: Database, code: str) -> None:
    """Run a line of a safe sequence on the server, as Alembic would."""
    import sqlalchemy as sa
    from alembic.migration import MigrationContext
    from alembic.operations import Operations
    from sqlalchemy.dialects import mysql

    engine = sa.create_engine("mysql+pymysql://", creator=database.connect)
    with engine.connect() as connection:
        exec(code, {"op": Operations(MigrationContext.configure(connection)), "sa": sa, "mysql": mysql})


def test_whole_tables_are_understood(database: Database) -> None:
    """Every column of a table with every kind of attribute, as both flavours print it, but for geometry."""
    with database.connect() as connection:
        version = read_server_version(connection)
        shape = build_tables(read_schema(connection, version, database.schema)).find("t")
    assert shape is not None
    assert [name for name, column in shape.columns.items() if column is None] in ([], ["g"])
    assert {"ix", "uq", "fk", "positive", "primary"} <= set(shape.keys)


def test_restating_a_column_changes_nothing(database: Database) -> None:
    """What the server prints for a column, given back to it, is a change of nothing: no attribute is misread."""
    for line in str(database.execute("SHOW CREATE TABLE t")[0][1]).split("\n"):
        text = line.strip().removesuffix(",").replace("/*!80023 INVISIBLE */", "INVISIBLE")
        if not text.startswith("`") or text.startswith(("`g`", "`js`")):
            continue
        verdict = classify(database, f"MODIFY {text}")
        assert verdict.rule == "modify-nothing", (text, verdict)
    assert classify(database, "MODIFY js JSON").rule == "modify-nothing"
