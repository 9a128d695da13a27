"""Guard triggers created and dropped under writers that follow the fence row: nobody is rolled back by it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import pymysql
import pytest
from app_rows import ID, replace_row

from dbmigrate.config.loading import parse_config
from dbmigrate.domain.ownership import FenceRow
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Side
from dbmigrate.domain.schema import TableName
from dbmigrate.mysql.faults import Retry, RolledBackError
from dbmigrate.mysql.fence import create_fence_tables
from dbmigrate.mysql.servers import Server
from dbmigrate.workflow.guards import QuietMoments, arm_at_once, find_missing, find_removals
from dbmigrate.workflow.migration import build_endpoints

TABLES = [f"t{number}" for number in range(4)]


class Writers:
    """Transactions that read a table and then write to it, behind the fence row, as the application library does."""

    def __init__(self, database: Any, count: int) -> None:
        self._database = database
        self.errors: list[int] = []
        self.done = 0
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(number,)) for number in range(count)]

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *fault: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _write(self, number: int) -> None:
        connection = self._database.server.connect(database=self._database.schema)
        chance = random.Random(number)
        with connection, connection.cursor() as cursor:
            while not self._stopping.is_set():
                table, key = chance.choice(TABLES), chance.randint(1, 100)
                try:
                    cursor.execute("BEGIN")
                    cursor.execute(f"SELECT v FROM {table} WHERE id = {key}")
                    cursor.execute(f"SELECT epoch FROM _dbmigrate.fence WHERE migration_id = '{ID}' LOCK IN SHARE MODE")
                    cursor.execute(f"UPDATE {table} SET v = v + 1 WHERE id = {key}")
                    cursor.execute("COMMIT")
                    self.done += 1
                except pymysql.MySQLError as fault:
                    self.errors.append(fault.args[0])
                    cursor.execute("ROLLBACK")


@pytest.fixture(params=["mariadb_pair", pytest.param("mysql_pair", marks=pytest.mark.mysql)])
def busy(request: pytest.FixtureRequest, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, Server]]:
    """A database with rows and a fence row, and its server as the runner sees it."""
    pair = request.getfixturevalue(request.param)
    for table in TABLES:
        pair.source.execute(f"CREATE TABLE {table} (id INT PRIMARY KEY, v INT NOT NULL)")
        pair.source.execute(f"INSERT INTO {table} VALUES " + ",".join(f"({n}, 0)" for n in range(1, 101)))
    text = f'[migration]\nid = "{ID}"\n'
    for side, database in (("source", pair.source), ("target", pair.target)):
        monkeypatch.setenv(f"{side.upper()}_PASSWORD", database.server.password)
        text += f'[{side}]\nurl = "{database.server.url(database.schema)}"\npassword_env = "{side.upper()}_PASSWORD"\n'
    endpoints = build_endpoints(parse_config(text, place="the test", directory=tmp_path))
    server = Server(endpoints[Side.SOURCE], ID, clock=time.monotonic, retry=Retry())
    with server.pool.borrow() as session:
        create_fence_tables(session)
    pair.source.server.execute(replace_row(FenceRow(1, Side.SOURCE, Phase.CATCH_UP)))
    yield pair.source, server
    server.pool.close()
    pair.source.server.execute("DROP DATABASE _dbmigrate")


def missing(database: Any, server: Server) -> list[str]:
    tables = [TableName(database.schema, table) for table in TABLES]
    return find_missing(server, tables, ID, closed_when_owner=Side.TARGET)


def test_in_quiet_moments_nobody_is_rolled_back(busy: tuple[Any, Server]) -> None:
    database, server = busy
    quiet = QuietMoments(server, ID, time.sleep)
    with Writers(database, 6) as writers:
        for _ in range(2):
            before = writers.done
            quiet.execute(server, missing(database, server), doing="arming")
            assert missing(database, server) == []
            quiet.execute(server, find_removals(server, database.schema), doing="dropping")
            assert len(missing(database, server)) == 3 * len(TABLES)
            assert writers.done > before
    assert writers.errors == []


def test_at_any_moment_somebody_may_be(busy: tuple[Any, Server]) -> None:
    """What quiet moments are for: the check above can fail."""
    database, server = busy
    with Writers(database, 6) as writers:
        until = time.monotonic() + 30
        while not writers.errors and time.monotonic() < until:
            try:
                arm_at_once(server, missing(database, server))
                arm_at_once(server, find_removals(server, database.schema))
            except RolledBackError:
                continue
    assert 1213 in writers.errors


def test_a_table_that_is_in_use_for_long_is_given_up_and_who_uses_it_is_named(busy: tuple[Any, Server]) -> None:
    database, server = busy
    holder = database.server.connect(database=database.schema)
    with holder, holder.cursor() as cursor, Writers(database, 2) as writers:
        cursor.execute("BEGIN")
        # A row that no writer wants: a writer that waited for it would hold the fence row all the while.
        cursor.execute("INSERT INTO t1 VALUES (1000, 0)")
        began, done = time.monotonic(), writers.done
        with pytest.raises(RolledBackError) as failure:
            QuietMoments(server, ID, time.sleep, patience_seconds=4).execute(
                server, missing(database, server), doing="arming"
            )
        assert time.monotonic() - began < 30
        assert str(holder.thread_id()) in str(failure.value)
        assert writers.done > done
        cursor.execute("ROLLBACK")
    assert len(missing(database, server)) == 3  # those of the other tables are there
