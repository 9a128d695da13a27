"""DDL on the source while the shop sells: it stops the move by name, or does no harm; never does it pass unseen."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

import pymysql
import pytest
from moves import Move

from dbmigrate.domain.routes import Side
from dbmigrate.streaming.stream import SchemaChangedError
from dbmigrate.throwaway.shop_writers import Writers

AUTO = '[cutover]\napproval = "auto"\nmax_write_pause_seconds = 5.0\nretry_seconds = 0.2\n'
WAITING = '[cutover]\napproval = "required"\nmax_write_pause_seconds = 5.0\nretry_seconds = 0.2\n'

EXTRAS = (
    "CREATE TABLE extras (id INT NOT NULL PRIMARY KEY, a INT NOT NULL DEFAULT 0, b VARCHAR(50), c INT, KEY a (a))",
    "INSERT INTO extras (id, a, b) SELECT n.id, n.id, 'x' FROM accounts n",
    "CREATE TABLE parts (id INT NOT NULL PRIMARY KEY, a INT) PARTITION BY RANGE (id) "
    "(PARTITION low VALUES LESS THAN (100), PARTITION high VALUES LESS THAN MAXVALUE)",
    "INSERT INTO parts SELECT id, id FROM accounts",
    "CREATE TABLE _outside (id INT NOT NULL PRIMARY KEY, a INT)",
    "CREATE TABLE _loose (id INT NOT NULL PRIMARY KEY, a INT)",
)
TABLES = '[tables]\ninclude = ["*"]\nexclude = ["_*"]\n'

STOPPING = {
    "add column": "ALTER TABLE extras ADD COLUMN d INT NOT NULL DEFAULT 7",
    "drop column": "ALTER TABLE extras DROP COLUMN b",
    "modify column": "ALTER TABLE extras MODIFY COLUMN a BIGINT NOT NULL DEFAULT 0",
    "rename column": "ALTER TABLE extras RENAME COLUMN c TO cc",
    "rename table": "RENAME TABLE extras TO extras_renamed",
    "drop table": "DROP TABLE extras",
    "add index": "ALTER TABLE extras ADD INDEX b (b)",
    "create index": "CREATE INDEX b ON extras (b)",
    "drop index": "DROP INDEX a ON extras",
    "add unique": "ALTER TABLE extras ADD UNIQUE KEY u (id, a)",
    "add foreign key": "ALTER TABLE extras ADD CONSTRAINT f FOREIGN KEY (c) REFERENCES products (no_such)",
    "truncate partition": "ALTER TABLE parts TRUNCATE PARTITION low",
    "drop partition": "ALTER TABLE parts DROP PARTITION low",
    "exchange partition": "ALTER TABLE parts EXCHANGE PARTITION low WITH TABLE _loose",
    "rebuild": "ALTER TABLE extras ENGINE=InnoDB",
    "convert": "ALTER TABLE extras CONVERT TO CHARACTER SET latin1",
    "replace table": "CREATE OR REPLACE TABLE extras (id INT NOT NULL PRIMARY KEY, z INT)",
    "online tool": "RENAME TABLE extras TO _extras_old, _extras_new TO extras",
    "odd spelling": "/* a */ ALTER /*!50000 TABLE */\n\t`%(schema)s` . `extras` -- who\n  ADD COLUMN e INT # x",
}
del STOPPING["add foreign key"]  # written below, it needs a column of the parent's type
STOPPING["add foreign key"] = (
    "ALTER TABLE extras ADD COLUMN p INT UNSIGNED, ADD CONSTRAINT f FOREIGN KEY (p) REFERENCES products (id)"
)
EVERYDAY = ("online tool",)


class Load(Writers):
    """The shop's customers, and one who keeps writing ``extras`` whatever happens to it."""

    def __init__(self, route: Callable[[], Any]) -> None:
        super().__init__(route, threads=2, rate=60)
        self._connect, self._closing = route, threading.Event()
        self._extra: threading.Thread | None = None

    def start(self) -> None:
        super().start()
        self._extra = threading.Thread(target=self._write_extras, daemon=True)
        self._extra.start()

    def stop(self) -> None:
        super().stop()
        self._closing.set()
        if self._extra is not None:
            self._extra.join()

    def _write_extras(self) -> None:
        number = 0
        while not self._closing.wait(0.02):
            with contextlib.suppress(pymysql.err.MySQLError), contextlib.closing(self._connect()) as connection:
                connection.autocommit(True)
                cursor = connection.cursor()
                while not self._closing.wait(0.01):
                    number += 1
                    cursor.execute(f"REPLACE INTO extras (id) VALUES ({number % 150})")


@pytest.fixture
def extra_move(shop_move: Move) -> Move:
    """The shop with tables that nobody misses, and two that do not move."""
    shop_move.pair.source.execute(*EXTRAS)
    shop_move.write(WAITING, tables=TABLES)
    return shop_move


@pytest.fixture
def extra_route(extra_move: Move) -> Callable[[], Any]:
    return extra_move.connect_to_owner


def await_end(process: subprocess.Popen[str], timeout: float = 60) -> tuple[int, str]:
    """A background command's exit code and what it said on stderr."""
    _, err = process.communicate(timeout=timeout)
    return process.returncode, err


def finish(move: Move, writers: Writers, phase: str = "soak") -> None:
    move.run("run", "--until", phase, "--yes")
    assert move.read_owner() is Side.TARGET
    writers.stop()
    move.run("run", "--until", "soak")
    move.require_equal(writers)


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=() if kind in EVERYDAY else pytest.mark.slow) for kind in STOPPING]
)
def test_ddl_while_streaming_stops_by_name_and_the_move_starts_again(
    kind: str, extra_move: Move, extra_route: Callable[[], Any]
) -> None:
    source, statement = extra_move.pair.source, STOPPING[kind] % {"schema": extra_move.pair.source.schema}
    if kind == "online tool":
        source.execute("CREATE TABLE _extras_new LIKE extras", "ALTER TABLE _extras_new ADD COLUMN d INT")
    with Load(extra_route) as writers:
        process = extra_move.start("run")
        extra_move.await_phase("cutover", process=process)
        source.server.execute(f"USE `{'information_schema' if kind == 'odd spelling' else source.schema}`", statement)
        code, err = await_end(process)
        assert code == 4, err
        assert "the schema of a moving table changed" in err
        table = "parts" if "partition" in kind else "extras"
        assert f"{source.schema}.{table} at binlog." in err
        assert statement.split()[-1].strip("`()") in err
        assert "dbmigrate abort" in err
        if kind not in ("rebuild", "truncate partition", "exchange partition"):
            again = extra_move.run("run", expect=3)
            assert table in again.stderr
            assert "dbmigrate abort" in again.stderr
        else:
            assert "the schema of a moving table changed" in extra_move.run("run", expect=4).stderr
        extra_move.run("abort")
        finish(extra_move, writers)


INJECTED = {
    "drop column": "ALTER TABLE extras DROP COLUMN b",
    "rename column": "ALTER TABLE extras RENAME COLUMN b TO bb",
    "rename table": "RENAME TABLE extras TO extras_renamed",
    "drop table": "DROP TABLE extras",
}


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        ("copy.chunk.barrier", "drop column"),
        pytest.param("copy.chunk.read", "rename table", marks=pytest.mark.slow),
        pytest.param("copy.chunk.barrier", "drop table", marks=pytest.mark.slow),
        pytest.param("copy.chunk.barrier", "rename column", marks=pytest.mark.slow),
        pytest.param("flush.chunks_done", "drop column", marks=pytest.mark.slow),
        pytest.param("flush.barrier", "rename table", marks=pytest.mark.slow),
        pytest.param("flush.barrier", "drop table", marks=pytest.mark.slow),
        pytest.param("flush.batch.read", "rename column", marks=pytest.mark.slow),
    ],
)
def test_ddl_that_breaks_a_read_is_named_as_the_cause(
    step: str, kind: str, extra_move: Move, extra_route: Callable[[], Any], run_here: Callable[..., Any]
) -> None:
    """Whoever meets it first, a chunk or a flush that fails or the reader: the message is the statement."""
    extra_move.write(AUTO, tables=TABLES)
    with Load(extra_route) as writers:
        failure = run_here(extra_move, {step: lambda: extra_move.pair.source.execute(INJECTED[kind])})
        assert isinstance(failure, SchemaChangedError), failure
        assert INJECTED[kind] in str(failure)
        assert f"{extra_move.pair.source.schema}.extras at binlog." in str(failure)
        extra_move.run("abort")
        finish(extra_move, writers)


def test_harmless_ddl_and_truncate_while_streaming(extra_move: Move, extra_route: Callable[[], Any]) -> None:
    source = extra_move.pair.source
    other = f"{source.schema}_other"
    statements = [
        "TRUNCATE TABLE extras", "ANALYZE TABLE extras", "OPTIMIZE TABLE orders", "REPAIR TABLE extras",
        "/* two\n lines */ TRUNCATE /*!50000 TABLE */ `extras` -- bye",
        "ALTER TABLE _outside ADD COLUMN extras INT", "TRUNCATE TABLE _outside", "RENAME TABLE _outside TO _outside2",
        "CREATE INDEX extras ON _outside2 (a)", "DROP TABLE _outside2",
        f"CREATE DATABASE {other}", f"CREATE TABLE {other}.extras (id INT PRIMARY KEY)",
        f"ALTER TABLE {other}.extras ADD COLUMN z INT", f"TRUNCATE {other}.extras", f"DROP TABLE {other}.extras",
        f"DROP DATABASE {other}",
        "CREATE TRIGGER extras_write AFTER INSERT ON extras FOR EACH ROW REPLACE INTO parts VALUES (NEW.id + 500, 1)",
        "CREATE VIEW many_extras AS SELECT COUNT(*) AS many FROM extras", "DROP VIEW open_orders",
        "CREATE OR REPLACE PROCEDURE cancel_order(IN cancelled_id BIGINT UNSIGNED) "
        "UPDATE orders SET status = 'cancelled', note = 'by procedure' WHERE id = cancelled_id AND status <> 'shipped'",
        "CREATE FUNCTION one() RETURNS INT DETERMINISTIC RETURN 1",
        "CREATE TEMPORARY TABLE extras (id INT PRIMARY KEY)", "INSERT INTO extras VALUES (1)",
        "ALTER TABLE extras ADD COLUMN z INT", "DROP TEMPORARY TABLE extras",
        "CREATE TABLE IF NOT EXISTS extras (id INT)", "FLUSH TABLES", "COMMIT",
    ]  # fmt: skip
    with Load(extra_route) as writers:
        process = extra_move.start("run", "--until", "cutover")
        extra_move.await_phase("cutover", process=process)
        with source.connect() as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
                cursor.fetchall()
        extra_move.run("cutover")
        assert await_end(process)[0] == 0
        writers.stop()
        extra_move.run("run", "--until", "soak")
    extra_move.require_equal(writers)
    target = extra_move.pair.target
    assert target.execute("SELECT many > 0 FROM many_extras") == ((1,),)
    assert target.execute("SELECT one()") == ((1,),)
    assert target.execute("SHOW TABLES LIKE 'open_orders'") == ()
    assert "by procedure" in target.execute("SHOW CREATE PROCEDURE cancel_order")[0][2]
    assert len(target.execute("SHOW TRIGGERS LIKE 'extras'")) == 1


def test_a_table_created_during_the_move_holds_the_switch_back_by_name(
    extra_move: Move, extra_route: Callable[[], Any]
) -> None:
    source = extra_move.pair.source
    with Load(extra_route) as writers:
        process = extra_move.start("run", "--until", "cutover")
        extra_move.await_phase("cutover", process=process)
        source.execute("CREATE TABLE latecomer (id INT NOT NULL PRIMARY KEY)", "INSERT INTO latecomer VALUES (1), (2)")
        extra_move.run("approve")
        code, err = await_end(process)
        assert code == 3, err
        assert "latecomer is new" in err
        assert extra_move.read_owner() is Side.SOURCE
        extra_move.run("abort")
        finish(extra_move, writers)
    assert extra_move.pair.target.execute("SELECT * FROM latecomer") == ((1,), (2,))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["add column", "drop column"])
def test_ddl_on_the_target_in_soak_closes_the_way_back_until_the_source_has_it_too(
    kind: str, extra_move: Move, extra_route: Callable[[], Any]
) -> None:
    with Load(extra_route) as writers:
        process = extra_move.start("run", "--yes")
        extra_move.await_phase("soak", process=process)
        extra_move.pair.target.execute(STOPPING[kind])
        code, err = await_end(process)
        assert code == 4, err
        assert "dbmigrate run --resync" in err
        assert STOPPING[kind] in err
        assert extra_move.run("run", expect=4).stderr.count(STOPPING[kind]) == 1
        extra_move.pair.source.execute(STOPPING[kind])
        process = extra_move.start("run", "--resync")
        until = time.monotonic() + 60
        while not extra_move.pair.target.server.execute("SELECT 1 FROM _dbmigrate.evidence WHERE kind = 'resync'"):
            assert time.monotonic() < until
            time.sleep(0.02)
        extra_move.run("revert")  # while the source is still being repaired
        assert await_end(process)[0] == 0
        assert extra_move.read_owner() is Side.SOURCE
        writers.stop()
    extra_move.run("abort")
    finish(extra_move, writers)
