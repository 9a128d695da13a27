"""Whole lanes on real servers: what stands in the database, in Alembic's table and in the journal afterwards."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from databases import Database, endpoint_of
from lanes_project import Project, build_runner
from store_setup import open_engine

from dbmigrate.domain.errors import AmbiguousError, RefusedError, TransientError
from dbmigrate.domain.flavours import Flavour
from dbmigrate.domain.lanes import Lane
from dbmigrate.domain.mappings import InstanceMapping
from dbmigrate.lanes import alone
from dbmigrate.store.models import Base as StoreBase

Create = Callable[..., Database]
BACKFILL = (
    "backfill = Backfill('customer', set={'first_name': \"SUBSTRING_INDEX(name, ' ', 1)\"}, "
    "where='first_name IS NULL', batch_rows=7)"
)


class _StoppedError(Exception):
    """The process ends here."""


@pytest.fixture(params=["mariadb", pytest.param("mysql", marks=pytest.mark.mysql)])
def database(request: pytest.FixtureRequest, session_server: Any, database_factory: Create) -> Database:
    """Customers with a name in one column, on each flavour."""
    found = database_factory(session_server(Flavour[request.param.upper()], "target"))
    found.execute(
        "CREATE TABLE customer (id INT PRIMARY KEY, name VARCHAR(100) NULL)",
        "CREATE TABLE orders (id INT PRIMARY KEY, customer_id INT NOT NULL, KEY ic (customer_id))",
        "INSERT INTO customer SELECT seq, CONCAT('Ada', seq, ' Lovelace') FROM (WITH RECURSIVE n (seq) AS "
        "(SELECT 1 UNION ALL SELECT seq + 1 FROM n WHERE seq < 50) SELECT seq FROM n) AS numbers",
        "INSERT INTO orders VALUES (1, 1), (2, 50)",
    )
    return found


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A split of the name, in three lanes."""
    made = Project(tmp_path / "migrations")
    made.revision(
        "expand", "e1",
        ["ALTER TABLE customer ADD COLUMN first_name VARCHAR(100)", "CREATE INDEX ifn ON customer (first_name)"],
        ["DROP INDEX ifn ON customer", "ALTER TABLE customer DROP COLUMN first_name"], extra=BACKFILL,
    )  # fmt: skip
    made.revision(
        "tighten", "t1",
        ["ALTER TABLE customer MODIFY COLUMN first_name VARCHAR(100) NOT NULL",
         "ALTER TABLE orders ADD CONSTRAINT fk_customer FOREIGN KEY (customer_id) REFERENCES customer (id)"],
        ["ALTER TABLE orders DROP FOREIGN KEY fk_customer",
         "ALTER TABLE customer MODIFY COLUMN first_name VARCHAR(100) NULL"],
        depends_on=["e1"],
    )  # fmt: skip
    made.revision(
        "contract", "c1", ["ALTER TABLE customer DROP COLUMN name"],
        ["ALTER TABLE customer ADD COLUMN name VARCHAR(100)"], depends_on=["t1"],
    )  # fmt: skip
    return made


def _columns(database: Database, table: str = "customer") -> list[str]:
    return [row[0] for row in database.execute(f"SHOW COLUMNS FROM {table}")]


def _versions(database: Database) -> set[str]:
    return {row[0] for row in database.execute("SELECT version_num FROM alembic_version")}


def test_all_three_lanes_one_after_the_other(database: Database, project: Project) -> None:
    """Rows, definitions, Alembic's rows, and a measurement for every statement."""
    endpoint = endpoint_of(database)
    for lane, revision in ((Lane.EXPAND, "e1"), (Lane.TIGHTEN, "t1"), (Lane.CONTRACT, "c1")):
        assert build_runner(project, endpoint).run(lane).revisions == [revision]
        assert build_runner(project, endpoint).run(lane).revisions == []
    assert _columns(database) == ["id", "first_name"]
    assert database.execute("SELECT COUNT(*) FROM customer WHERE first_name <> CONCAT('Ada', id)") == ((0,),)
    assert _versions(database) == {"c1"}
    journal = database.execute(
        "SELECT revision, number, kind, state, rung, seconds, longest_stall_seconds, migration_id, row_count "
        f"FROM _dbmigrate.lane_step WHERE table_schema = '{database.schema}' ORDER BY begun_at, number"
    )
    assert [(row[0], row[1], row[2]) for row in journal] == [
        ("e1", 1, "statement"), ("e1", 2, "statement"), ("e1", 3, "backfill"), ("t1", 1, "statement"),
        ("t1", 2, "statement"), ("c1", 1, "hide"), ("c1", 2, "statement"),
    ]  # fmt: skip
    assert {row[3] for row in journal} == {"applied"}
    for row in journal:
        if row[2] == "statement":
            assert row[4] in ("instant", "nocopy", "inplace")
            assert 0 <= row[6] <= row[5] + 0.1 < 10
        assert row[7] == "move"


def test_a_lane_needs_what_its_revisions_depend_on(database: Database, project: Project) -> None:
    with pytest.raises(RefusedError, match="needs e1 first"):
        build_runner(project, endpoint_of(database)).run(Lane.TIGHTEN)
    assert _columns(database) == ["id", "name"]


def test_rows_that_an_old_version_writes_after_the_backfill_are_filled_before_the_rule(
    database: Database, project: Project
) -> None:
    build_runner(project, endpoint_of(database)).run(Lane.EXPAND)
    database.execute("INSERT INTO customer (id, name) VALUES (1000, 'Grace Hopper')")
    build_runner(project, endpoint_of(database)).run(Lane.TIGHTEN)
    assert database.execute("SELECT first_name FROM customer WHERE id = 1000") == (("Grace",),)


def test_a_backfill_that_cannot_be_complete_stops_the_rule(database: Database, project: Project) -> None:
    database.execute("INSERT INTO customer (id, name) VALUES (1000, NULL)")
    build_runner(project, endpoint_of(database)).run(Lane.EXPAND)
    with pytest.raises(RefusedError, match="not complete: at least 1 rows"):
        build_runner(project, endpoint_of(database)).run(Lane.TIGHTEN)
    assert "NULL" in database.execute("SHOW CREATE TABLE customer")[0][1].split("first_name`")[1][:30]
    database.execute("UPDATE customer SET name = 'Alan Turing' WHERE id = 1000")
    build_runner(project, endpoint_of(database)).run(Lane.TIGHTEN)


def test_orphans_take_the_foreign_key_back(database: Database, project: Project) -> None:
    """The key is made without looking at the rows, so they are looked at afterwards."""
    database.execute("INSERT INTO orders VALUES (3, 777)")
    build_runner(project, endpoint_of(database)).run(Lane.EXPAND)
    with pytest.raises(RefusedError, match="1 rows reference a row that does not exist"):
        build_runner(project, endpoint_of(database)).run(Lane.TIGHTEN)
    assert "FOREIGN KEY" not in database.execute("SHOW CREATE TABLE orders")[0][1]
    database.execute("DELETE FROM orders WHERE id = 3")
    build_runner(project, endpoint_of(database)).run(Lane.TIGHTEN)
    assert "FOREIGN KEY" in database.execute("SHOW CREATE TABLE orders")[0][1]


def test_a_table_in_use_stops_the_lane_and_the_next_run_goes_on(database: Database, project: Project) -> None:
    with database.connect() as holder:
        holder.begin()
        holder.cursor().execute("SELECT * FROM customer")
        with pytest.raises(TransientError, match="in use at each of 3 attempts"):
            build_runner(project, endpoint_of(database)).run(Lane.EXPAND)
        assert _columns(database) == ["id", "name"]
    assert build_runner(project, endpoint_of(database)).run(Lane.EXPAND).revisions == ["e1"]


def test_a_change_that_would_copy_is_refused_until_asked_for(database: Database, tmp_path: Path) -> None:
    made = Project(tmp_path / "copying")
    made.revision("expand", "e1", ["ALTER TABLE orders MODIFY COLUMN customer_id BIGINT NOT NULL"])
    with pytest.raises(RefusedError, match="the table is copied"):
        build_runner(made, endpoint_of(database)).run(Lane.EXPAND)
    build_runner(made, endpoint_of(database), may_copy=frozenset({"orders"})).run(Lane.EXPAND)
    assert "bigint" in database.execute("SHOW CREATE TABLE orders")[0][1]


def test_a_second_runner_is_refused(
    database: Database, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of a step of the first one, which goes on undisturbed."""
    monkeypatch.setattr(alone, "LOCK_WAIT_SECONDS", 1)
    refused: list[str] = []

    def try_too(name: str) -> None:
        if name == "lanes.step.executed" and not refused:
            with pytest.raises(RefusedError) as raised:
                build_runner(project, endpoint_of(database)).run(Lane.EXPAND)
            refused.append(str(raised.value))

    assert build_runner(project, endpoint_of(database), on_step=try_too).run(Lane.EXPAND).revisions == ["e1"]
    assert "another runner works on the lanes" in refused[0]
    assert "connection " in refused[0]


def test_the_runbooks_grants_are_enough(database: Database, project: Project) -> None:
    """All three lanes, the probe, the journal and the searches, by an account with no more than these."""
    database.server.create_user(
        "lanes_only", "secret", "PROCESS ON *.*",
        "SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, INDEX, REFERENCES, CREATE VIEW, SHOW VIEW, CREATE ROUTINE, "
        f"ALTER ROUTINE, EXECUTE, TRIGGER, EVENT, LOCK TABLES ON `{database.schema}`.*",
        "SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, INDEX ON `_dbmigrate`.*",
    )  # fmt: skip
    endpoint = endpoint_of(database, user="lanes_only", secret="secret")
    for lane in Lane:
        build_runner(project, endpoint).run(lane)
    assert _columns(database) == ["id", "first_name"]
    measured = database.execute(
        "SELECT COUNT(*) FROM _dbmigrate.lane_step WHERE kind = 'statement' AND longest_stall_seconds IS NULL"
    )
    assert measured == ((0,),)


# --- undo ---------------------------------------------------------------------------------------------------------


def test_undo_takes_the_last_revision_back(database: Database, project: Project) -> None:
    before = database.execute("SHOW CREATE TABLE customer")
    build_runner(project, endpoint_of(database)).run(Lane.EXPAND)
    assert build_runner(project, endpoint_of(database)).undo(Lane.EXPAND).revisions == ["e1"]
    assert database.execute("SHOW CREATE TABLE customer") == before
    assert _versions(database) == set()
    assert build_runner(project, endpoint_of(database)).run(Lane.EXPAND).revisions == ["e1"]


def test_undo_of_a_drop_brings_the_definition_back_and_alembics_rows(database: Database, project: Project) -> None:
    """A revision stands in Alembic's table for those that it depends on; without it they stand there themselves."""
    for lane in Lane:
        build_runner(project, endpoint_of(database)).run(lane)
    assert _versions(database) == {"c1"}
    assert build_runner(project, endpoint_of(database)).undo(Lane.CONTRACT).revisions == ["c1"]
    assert _versions(database) == {"t1"}
    assert _columns(database) == ["id", "name", "first_name"]
    assert database.execute("SELECT COUNT(*) FROM customer WHERE name IS NOT NULL") == ((0,),)


def test_the_revisions_of_the_sample_store_run_lane_by_lane(database: Database) -> None:
    """Alembic's own operations, a branch for each lane: one row for each in its table, and Alembic finds nothing to do."""
    migrations = Project.of(Path(__file__).parents[2] / "migrations")
    database.execute("DROP TABLE orders, customer")
    assert build_runner(migrations, endpoint_of(database)).run(Lane.EXPAND).revisions == ["0001", "0002"]
    for lane in (Lane.TIGHTEN, Lane.CONTRACT):
        build_runner(migrations, endpoint_of(database)).run(lane)
    assert _versions(database) == {"0002", "tighten0", "contract0"}
    with open_engine(database) as engine, engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), StoreBase.metadata) == []


def test_a_table_that_somebody_else_changed_meanwhile_needs_a_person(database: Database, project: Project) -> None:
    def stop(name: str) -> None:
        if name == "lanes.step.begun":
            raise _StoppedError

    with pytest.raises(_StoppedError):
        build_runner(project, endpoint_of(database), on_step=stop).run(Lane.EXPAND)
    database.execute("ALTER TABLE customer ADD COLUMN other INT")
    with pytest.raises(AmbiguousError, match="not by this step alone"):
        build_runner(project, endpoint_of(database)).run(Lane.EXPAND)
    database.execute("ALTER TABLE customer DROP COLUMN other")
    assert build_runner(project, endpoint_of(database)).run(Lane.EXPAND).revisions == ["e1"]


def test_undo_is_refused_below_a_revision_that_builds_on_it(database: Database, project: Project) -> None:
    for lane in (Lane.EXPAND, Lane.TIGHTEN):
        build_runner(project, endpoint_of(database)).run(lane)
    with pytest.raises(RefusedError, match="t1 builds on"):
        build_runner(project, endpoint_of(database)).undo(Lane.EXPAND)


def test_a_changed_revision_is_not_continued(database: Database, project: Project) -> None:
    """What has not begun may be corrected."""

    def stop(name: str) -> None:
        if name == "lanes.step.done":
            raise _StoppedError

    with pytest.raises(_StoppedError):
        build_runner(project, endpoint_of(database), on_step=stop).run(Lane.EXPAND)
    path = project.directory / "versions" / "expand" / "e1.py"
    path.write_text(path.read_text().replace("ADD COLUMN first_name VARCHAR(100)", "ADD COLUMN first_name VARCHAR(99)"))
    with pytest.raises(RefusedError, match="changed after it had begun"):
        build_runner(project, endpoint_of(database)).run(Lane.EXPAND)


# --- dropping -----------------------------------------------------------------------------------------------------


def _expand_and_tighten(database: Database, project: Project) -> None:
    for lane in (Lane.EXPAND, Lane.TIGHTEN):
        build_runner(project, endpoint_of(database)).run(lane)


def test_an_instance_that_maps_the_column_blocks_its_drop(database: Database, project: Project) -> None:
    _expand_and_tighten(database, project)
    mapping = InstanceMapping("web-1", "host", 7, frozenset({"customer.name"}))
    silent = InstanceMapping("web-2", "host", 8, None)
    for one in (mapping, silent):
        with pytest.raises(RefusedError, match=f"instance {one.instance_id}"):
            build_runner(project, endpoint_of(database), instances=[one]).run(Lane.CONTRACT)
    assert "INVISIBLE" not in database.execute("SHOW CREATE TABLE customer")[0][1]
    gone = InstanceMapping("web-1", "host", 7, frozenset({"customer.first_name", "orders.name"}))
    assert build_runner(project, endpoint_of(database), instances=[gone]).run(Lane.CONTRACT).revisions == ["c1"]


@pytest.mark.parametrize(
    ("make", "drop", "name"),
    [
        ("CREATE VIEW named AS SELECT c.id, c.name AS n FROM customer c", "DROP VIEW named", "view"),
        (
            "CREATE TRIGGER named BEFORE INSERT ON customer FOR EACH ROW SET NEW.name = 'x'",
            "DROP TRIGGER named", "trigger",
        ),
        (
            "CREATE PROCEDURE named() SELECT MAX(name) FROM customer", "DROP PROCEDURE named", "routine",
        ),
        (
            "CREATE EVENT named ON SCHEDULE EVERY 1 DAY DISABLE DO DELETE FROM customer WHERE name = ''",
            "DROP EVENT named", "event",
        ),
        (
            "ALTER TABLE customer ADD COLUMN named VARCHAR(100) AS (UPPER(name)) VIRTUAL",
            "ALTER TABLE customer DROP COLUMN named", "generated column",
        ),
    ],
)  # fmt: skip
def test_stored_objects_that_name_the_column_block_its_drop(
    database: Database, project: Project, make: str, drop: str, name: str
) -> None:
    _expand_and_tighten(database, project)
    database.execute(make)
    with pytest.raises(RefusedError, match=f"{name} .*named uses"):
        build_runner(project, endpoint_of(database)).run(Lane.CONTRACT)
    database.execute(drop)
    build_runner(project, endpoint_of(database)).run(Lane.CONTRACT)


def test_a_foreign_key_to_the_table_blocks_its_drop(database: Database, tmp_path: Path) -> None:
    """Unless the same revision drops the key before."""
    database.execute("ALTER TABLE orders ADD CONSTRAINT fk_c FOREIGN KEY (customer_id) REFERENCES customer (id)")
    made = Project(tmp_path / "one")
    made.revision("contract", "c1", ["DROP TABLE customer"])
    with pytest.raises(RefusedError, match="foreign key fk_c of"):
        build_runner(made, endpoint_of(database)).run(Lane.CONTRACT)
    both = Project(tmp_path / "both")
    both.revision("contract", "c1", ["ALTER TABLE orders DROP FOREIGN KEY fk_c", "DROP TABLE customer"])
    build_runner(both, endpoint_of(database)).run(Lane.CONTRACT)
    assert [row[0] for row in database.execute("SHOW TABLES")] == ["alembic_version", "orders"]


def test_the_dwell_hides_first_and_undo_shows_everything_again(database: Database, project: Project) -> None:
    _expand_and_tighten(database, project)
    before = database.execute("SHOW CREATE TABLE customer"), database.execute("SELECT name FROM customer ORDER BY id")
    with pytest.raises(RefusedError, match="hidden, not dropped yet") as refused:
        build_runner(project, endpoint_of(database), dwell_seconds=3600.0).run(Lane.CONTRACT)
    assert "run it again in 3" in refused.value.hint
    assert len(database.execute("SELECT * FROM customer WHERE id = 1")[0]) == 2
    build_runner(project, endpoint_of(database)).undo(Lane.CONTRACT)
    after = database.execute("SHOW CREATE TABLE customer"), database.execute("SELECT name FROM customer ORDER BY id")
    assert after == before


def test_a_hidden_table_is_dropped_after_the_dwell_and_its_definition_can_be_restored(
    database: Database, tmp_path: Path
) -> None:
    made = Project(tmp_path / "drop")
    made.revision("contract", "c1", ["DROP TABLE orders"], ["CREATE TABLE orders (id INT)"])
    before = database.execute("SHOW CREATE TABLE orders")
    with pytest.raises(RefusedError, match="hidden, not dropped yet"):
        build_runner(made, endpoint_of(database), dwell_seconds=1.0).run(Lane.CONTRACT)
    assert {row[0] for row in database.execute("SHOW TABLES")} == {"customer", "orders_gone_c1"}
    time.sleep(1.1)
    build_runner(made, endpoint_of(database), dwell_seconds=1.0).run(Lane.CONTRACT)
    assert {row[0] for row in database.execute("SHOW TABLES")} == {"alembic_version", "customer"}
    build_runner(made, endpoint_of(database)).undo(Lane.CONTRACT)
    assert database.execute("SHOW CREATE TABLE orders") == before
    assert database.execute("SELECT COUNT(*) FROM orders") == ((0,),)


def test_a_column_that_nobody_could_leave_out_is_not_hidden(database: Database, tmp_path: Path) -> None:
    made = Project(tmp_path / "drop")
    made.revision("contract", "c1", ["ALTER TABLE orders DROP COLUMN customer_id"])
    with pytest.raises(RefusedError, match="NOT NULL without a default"):
        build_runner(made, endpoint_of(database)).run(Lane.CONTRACT)


@pytest.mark.mysql
def test_statements_seen_in_the_dwell_block_the_drop(
    session_server: Any, database_factory: Create, tmp_path: Path
) -> None:
    """MySQL keeps a summary of statements; a person can accept one that is none of the application's."""
    database = database_factory(session_server(Flavour.MYSQL, "target"))
    database.execute("CREATE TABLE customer (id INT PRIMARY KEY, name VARCHAR(100))")
    made = Project(tmp_path / "drop")
    made.revision("contract", "c1", ["ALTER TABLE customer DROP COLUMN name"])
    made.revision("expand", "e1", ["ALTER TABLE customer ADD COLUMN first_name VARCHAR(100)"], extra=BACKFILL)
    database.execute("INSERT INTO customer VALUES (5, 'Ada Lovelace')")
    time.sleep(1.1)
    build_runner(made, endpoint_of(database)).run(Lane.EXPAND)  # what we ask ourselves does not count
    strict = {"accepted": (), "dwell_seconds": 1.0}
    with pytest.raises(RefusedError, match="hidden, not dropped yet"):
        build_runner(made, endpoint_of(database), quiet_seconds=1.0, **strict).run(Lane.CONTRACT)
    database.execute("SELECT name FROM customer WHERE id = 5")
    time.sleep(1.1)
    with pytest.raises(RefusedError, match=r"(?i)statement SELECT `?name`? FROM `customer`"):
        build_runner(made, endpoint_of(database), **strict).run(Lane.CONTRACT)
    build_runner(made, endpoint_of(database), dwell_seconds=1.0).run(Lane.CONTRACT)
    assert _columns(database) == ["id", "first_name"]


def test_what_could_not_be_searched_is_said(mariadb_server: Any, database_factory: Create, tmp_path: Path) -> None:
    database = database_factory(mariadb_server)
    database.execute("CREATE TABLE customer (id INT PRIMARY KEY, name VARCHAR(100))")
    made = Project(tmp_path / "drop")
    made.revision("contract", "c1", ["ALTER TABLE customer DROP COLUMN name"])
    report = build_runner(made, endpoint_of(database)).run(Lane.CONTRACT)
    assert report.not_searched == ["statements: performance_schema is off"]


def test_writers_go_on_while_a_lane_runs(database: Database, project: Project) -> None:
    """The journal's longest stall is what a concurrent writer measures, within the noise of a busy machine."""
    stop, longest = threading.Event(), [0.0]

    def write() -> None:
        number = 10_000
        with database.connect() as connection, connection.cursor() as cursor:
            while not stop.is_set():
                began_at = time.monotonic()
                cursor.execute("INSERT INTO customer (id, name) VALUES (%s, 'Some Body')", (number,))
                longest[0] = max(longest[0], time.monotonic() - began_at)
                number += 1
                time.sleep(0.005)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        build_runner(project, endpoint_of(database)).run(Lane.EXPAND)
    finally:
        stop.set()
        writer.join()
    assert longest[0] < 1.5
