"""DDL on the source while the shop sells: it stops the move by name, or does no harm; never does it pass unseen."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pymysql
import pytest
from moves import Move

from dbmigrate.domain.routes import Side
from dbmigrate.rehearsal.shop_writers import Writers

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
EVERYDAY = ("drop column", "drop table", "online tool")


class ExtraWriter:
    """Keeps writing one table whatever happens to it."""

    def __init__(self, connect: Callable[[], Any], table: str = "extras") -> None:
        self._connect, self._table = connect, table
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> ExtraWriter:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _work(self) -> None:
        number = 0
        while not self._stopping.is_set():
            with contextlib.suppress(pymysql.err.MySQLError), contextlib.closing(self._connect()) as connection:
                connection.autocommit(True)
                cursor = connection.cursor()
                while not self._stopping.wait(0.01):
                    number += 1
                    cursor.execute(f"REPLACE INTO `{self._table}` (id) VALUES ({number % 150})")


@pytest.fixture
def extra_move(shop_move: Move) -> Iterator[Move]:
    """The shop with tables that nobody misses, and two that do not move."""
    shop_move.pair.source.execute(*EXTRAS)
    shop_move.write(WAITING, tables=TABLES)
    with ExtraWriter(shop_move.connect_to_owner):
        yield shop_move


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
    with Writers(extra_route, threads=2, rate=60) as writers:
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
