"""Which way a change goes on each flavour, what the server refuses, and that a refusal waits for nobody."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from databases import Database, endpoint_of

from dbmigrate.domain.errors import RefusedError, TransientError
from dbmigrate.domain.flavours import Flavour, ServerVersion
from dbmigrate.domain.schema import TableName
from dbmigrate.lanes import alone
from dbmigrate.lanes.alone import working_alone
from dbmigrate.lanes.ladder import Rung, build_ways, climb
from dbmigrate.lanes.patience import Patience, Patient
from dbmigrate.lanes.stalls import StallMeter
from dbmigrate.lanes.statements import parse_statement
from dbmigrate.mysql.introspection import read_server_version
from dbmigrate.mysql.sessions import SessionPool
from dbmigrate.mysql.table_holders import read_holders

TABLE = (
    "CREATE TABLE t (id INT PRIMARY KEY, a INT, b INT NOT NULL DEFAULT 1, v VARCHAR(50), e ENUM('x', 'y'), p INT, q INT, "
    "KEY iv (v), KEY ip (p), CONSTRAINT fk0 FOREIGN KEY (q) REFERENCES parent (id))"
)
EXPECTED = [  # statement, rung on MariaDB 10.11, rung on MySQL 9.7; None: on none
    ("ALTER TABLE t ADD COLUMN c INT", Rung.INSTANT, Rung.INSTANT),
    ("ALTER TABLE t ADD COLUMN c INT NOT NULL DEFAULT 5", Rung.INSTANT, Rung.INSTANT),
    ("ALTER TABLE t DROP COLUMN b", Rung.INSTANT, Rung.INSTANT),
    ("ALTER TABLE t ADD INDEX ia (a)", Rung.NOCOPY, Rung.INPLACE),
    ("CREATE UNIQUE INDEX ua ON t (id, a)", Rung.NOCOPY, Rung.INPLACE),
    ("DROP INDEX iv ON t", Rung.NOCOPY, Rung.INPLACE),
    ("ALTER TABLE t RENAME COLUMN v TO w", Rung.INSTANT, Rung.INSTANT),
    ("ALTER TABLE t ALTER COLUMN a SET DEFAULT 3", Rung.INSTANT, Rung.INSTANT),
    ("ALTER TABLE t MODIFY COLUMN e ENUM('x', 'y', 'z')", Rung.INSTANT, Rung.INSTANT),
    ("ALTER TABLE t MODIFY COLUMN e ENUM('y', 'x')", None, None),
    ("ALTER TABLE t MODIFY COLUMN a BIGINT", None, None),
    ("ALTER TABLE t MODIFY COLUMN a INT NOT NULL", Rung.INPLACE, Rung.INPLACE),
    ("ALTER TABLE t MODIFY COLUMN b INT DEFAULT 1", Rung.INPLACE, Rung.INPLACE),
    ("ALTER TABLE t ADD CONSTRAINT fk1 FOREIGN KEY (p) REFERENCES parent (id)", Rung.INSTANT, Rung.INPLACE),
    ("ALTER TABLE t DROP FOREIGN KEY fk0", Rung.INSTANT, Rung.INPLACE),
    ("ALTER TABLE t CONVERT TO CHARACTER SET latin1", None, None),
    ("ALTER TABLE t DROP PRIMARY KEY, ADD PRIMARY KEY (id, b)", Rung.INPLACE, Rung.INPLACE),
    ("ALTER TABLE t ADD COLUMN g INT AS (a + 1) STORED", None, None),
    ("ALTER TABLE t ADD CHECK (a > 0)", None, None),
    ("ALTER TABLE t ADD FULLTEXT INDEX ft (v)", None, None),
    ("CREATE TABLE u (id INT PRIMARY KEY)", Rung.PLAIN, Rung.PLAIN),
]  # fmt: skip

Create = Callable[..., Database]


@pytest.fixture(params=["mariadb", pytest.param("mysql", marks=pytest.mark.mysql)])
def database(request: pytest.FixtureRequest, session_server: Any, database_factory: Create) -> Database:
    """A database with one table of several kinds of columns, on each flavour."""
    found = database_factory(session_server(Flavour[request.param.upper()], "target"))
    found.execute("CREATE TABLE parent (id INT PRIMARY KEY)", TABLE)
    found.execute("INSERT INTO parent VALUES (1)", "INSERT INTO t (id, a, v, e) VALUES (1, 1, 'one', 'x')")
    return found


def _version(database: Database) -> ServerVersion:
    with database.connect() as connection:
        return read_server_version(connection)


def test_each_change_goes_the_cheapest_way(database: Database) -> None:
    """And what the server would only do by copying is not done: the definition stays as it was."""
    version, found = _version(database), []
    for text, on_mariadb, on_mysql in EXPECTED:
        database.execute("SET foreign_key_checks = 0", "DROP TABLE IF EXISTS t, u", TABLE)
        with working_alone(endpoint_of(database), database.schema) as session:
            statement = parse_statement(text, database.schema)
            session.execute(f"SET SESSION foreign_key_checks = {int(not statement.adds_foreign_key)}")
            before = database.execute("SHOW CREATE TABLE t")
            try:
                rung = climb(statement, version, session.execute)
            except RefusedError:
                rung = None
                assert database.execute("SHOW CREATE TABLE t") == before
        expected = on_mariadb if version.is_mariadb else on_mysql
        if rung is not expected:
            found.append((text, rung, expected))
    assert found == []


def test_a_copy_is_made_where_it_was_asked_for(database: Database) -> None:
    with working_alone(endpoint_of(database), database.schema) as session:
        statement = parse_statement("ALTER TABLE t MODIFY COLUMN a BIGINT", database.schema)
        assert climb(statement, _version(database), session.execute, may_copy=True) is Rung.COPY
    assert "bigint" in database.execute("SHOW CREATE TABLE t")[0][1]


def test_a_rung_that_is_refused_waits_for_nobody(database: Database) -> None:
    """With the table held by an open transaction, every refusal comes at once."""
    with database.connect() as holder, working_alone(endpoint_of(database), database.schema) as session:
        holder.begin()
        holder.cursor().execute("SELECT * FROM t")
        session.execute("SET SESSION lock_wait_timeout = 30")
        statement = parse_statement("ALTER TABLE t MODIFY COLUMN a BIGINT", database.schema)
        began_at = time.monotonic()
        with pytest.raises(RefusedError) as refused:
            climb(statement, _version(database), session.execute)
        assert "--allow-copy t" in refused.value.hint
        assert time.monotonic() - began_at < 1.0


def test_a_statement_behind_an_open_transaction_gives_up_without_piling_up_readers(database: Database) -> None:
    """Readers wait a lock wait at most, and the one in the way is named."""
    stop, longest, reads = threading.Event(), [0.0], [0]

    def read() -> None:
        with database.connect() as connection, connection.cursor() as cursor:
            while not stop.is_set():
                began_at = time.monotonic()
                cursor.execute("SELECT COUNT(*) FROM t")
                longest[0] = max(longest[0], time.monotonic() - began_at)
                reads[0] += 1
                time.sleep(0.01)

    readers = [threading.Thread(target=read) for _ in range(4)]
    with database.connect() as holder, working_alone(endpoint_of(database), database.schema) as session:
        holder.begin()
        holder.cursor().execute("SELECT * FROM t")
        time.sleep(1.1)
        for reader in readers:
            reader.start()
        patient = Patient(
            session, _version(database), Patience(1, 3, 0.3, 0.5), time.sleep, pool=SessionPool(endpoint_of(database))
        )
        began_at = time.monotonic()
        with pytest.raises(TransientError) as raised:
            patient.execute("ALTER TABLE t ADD COLUMN c INT", [TableName(database.schema, "t")], doing="adding")
        seconds = time.monotonic() - began_at
        stop.set()
        for reader in readers:
            reader.join()
        assert f"connection {holder.thread_id()}" in raised.value.cause
    assert "at each of 3 attempts" in raised.value.message
    assert seconds < 0.5 + 3 * 1.5 + 2
    assert longest[0] < 1.6, f"a reader waited {longest[0]:.2f} s"
    assert reads[0] > 20


@pytest.mark.mysql
def test_where_the_server_tells_who_holds_a_table_the_statement_does_not_even_wait(
    session_server: Any, database_factory: Create
) -> None:
    """MySQL's metadata locks: no reader waits behind us, and a transaction on another table does not count."""
    database = database_factory(session_server(Flavour.MYSQL, "target"))
    database.execute("CREATE TABLE t (id INT PRIMARY KEY)", "CREATE TABLE other (id INT PRIMARY KEY)")
    table = TableName(database.schema, "t")
    with database.connect() as holder, working_alone(endpoint_of(database), database.schema) as session:
        holder.begin()
        holder.cursor().execute("SELECT * FROM other")
        time.sleep(1.1)
        assert read_holders(session, _version(database), [table], at_least_seconds=1).transactions == ()
        holder.cursor().execute("SELECT * FROM t")
        held = read_holders(session, _version(database), [table], at_least_seconds=1)
        assert held.is_exact
        assert [one.connection_id for one in held.transactions] == [holder.thread_id()]
        with StallMeter(endpoint_of(database), [table]) as meter, pytest.raises(TransientError):
            Patient(
                session, _version(database), Patience(1, 3, 0.1), time.sleep, pool=SessionPool(endpoint_of(database))
            ).execute("ALTER TABLE t ADD COLUMN c INT", [table], doing="adding")
    assert meter.longest_seconds is not None
    assert meter.longest_seconds < 0.5


def test_the_meter_sees_what_a_writer_would_have_waited(database: Database) -> None:
    table = TableName(database.schema, "t")
    with StallMeter(endpoint_of(database), [table]) as meter, database.connect() as connection:
        connection.cursor().execute("LOCK TABLES t READ")
        time.sleep(0.4)
    assert meter.longest_seconds is not None
    assert 0.35 < meter.longest_seconds < 2.0


def test_a_table_that_is_not_there_gives_no_measurement(database: Database) -> None:
    with StallMeter(endpoint_of(database), [TableName(database.schema, "nothing")]) as meter:
        pass
    assert meter.longest_seconds is None


def test_a_second_runner_is_told_who_the_first_is(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alone, "LOCK_WAIT_SECONDS", 1)
    endpoint = endpoint_of(database)
    with working_alone(endpoint, database.schema) as first:
        with pytest.raises(RefusedError) as raised, working_alone(endpoint, database.schema):
            pass
        assert f"connection {first.connection_id} of" in raised.value.cause
    with working_alone(endpoint, database.schema):
        pass


def test_a_statement_that_ends_in_a_comment_still_gets_its_options() -> None:
    version = ServerVersion.parse("10.11.6-MariaDB")
    ways = build_ways(parse_statement("CREATE INDEX i ON t (a) -- why", "shop"), version)
    assert ways[1].sql.splitlines() == ["CREATE INDEX i ON t (a) -- why", "ALGORITHM=NOCOPY LOCK=NONE"]
