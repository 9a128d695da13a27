"""kill -9 of a run of the lanes, at every step point: the next run finishes the revision, or takes it back.

Checked on the definitions, the rows and Alembic's table.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from databases import Database, endpoint_of, list_connections
from lanes_project import Project, build_runner

from dbmigrate.domain.flavours import Flavour
from dbmigrate.domain.lanes import Lane

ROWS = 20
STEPS = (
    ("expand", "lanes.step.begun", 1), ("expand", "lanes.step.begun", 3), ("expand", "lanes.step.executed", 2),
    ("expand", "lanes.backfill.written", 2), ("expand", "lanes.backfill.batch", 2), ("expand", "lanes.revision.done", 1),
    ("expand", "lanes.revision.saved", 1), ("contract", "lanes.step.executed", 1), ("contract", "lanes.step.executed", 2),
)  # fmt: skip
EVERYDAY = {("expand", "lanes.step.executed", 2), ("expand", "lanes.backfill.written", 2)}
MOST_POINTS = 80


@pytest.fixture(params=["mariadb", pytest.param("mysql", marks=pytest.mark.mysql)])
def fresh(
    request: pytest.FixtureRequest, session_server: Any, database_factory: Callable[..., Database]
) -> Callable[[], Database]:
    """New databases with a few rows, on each flavour."""

    def create() -> Database:
        database = database_factory(session_server(Flavour[request.param.upper()], "target"))
        values = ", ".join(f"({n}, 'Ada{n} Lovelace', 1)" for n in range(1, ROWS + 1))
        database.execute(
            "CREATE TABLE customer (id INT PRIMARY KEY, name VARCHAR(100), visits INT NOT NULL DEFAULT 0)",
            f"INSERT INTO customer VALUES {values}",
        )
        return database

    return create


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Columns, an index, a statement over rows that must run exactly once (which the lint would refuse), a backfill; then a
    rule, then a drop."""
    made = Project(tmp_path / "migrations")
    made.revision(
        "expand", "e1",
        ["ALTER TABLE customer ADD COLUMN first_name VARCHAR(100)", "UPDATE customer SET visits = visits + 1",
         "CREATE INDEX ifn ON customer (first_name)"],
        ["DROP INDEX ifn ON customer", "UPDATE customer SET visits = visits - 1",
         "ALTER TABLE customer DROP COLUMN first_name"],
        extra="backfill = Backfill('customer', set={'first_name': \"SUBSTRING_INDEX(name, ' ', 1)\"}, "
        "where='first_name IS NULL', batch_rows=7)",
    )  # fmt: skip
    made.revision(
        "tighten", "t1", ["ALTER TABLE customer MODIFY COLUMN first_name VARCHAR(100) NOT NULL"],
        ["ALTER TABLE customer MODIFY COLUMN first_name VARCHAR(100) NULL"], depends_on=["e1"],
    )  # fmt: skip
    made.revision(
        "contract", "c1", ["ALTER TABLE customer DROP COLUMN name"],
        ["ALTER TABLE customer ADD COLUMN name VARCHAR(100)"], depends_on=["t1"],
    )  # fmt: skip
    return made


def _die_at(project: Project, database: Database, lane: str, step: str, count: int) -> int:
    """A run that kills itself; its exit code."""
    endpoint = endpoint_of(database)
    arguments = [str(project.directory), endpoint.section.url, str(endpoint.section.password_file), lane, step, str(count)]
    process = subprocess.run(
        [sys.executable, "-m", "tests.chaos.dying_lanes", *arguments], capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    assert process.returncode in (-signal.SIGKILL, 0), process.stderr
    return process.returncode


def _require_expanded(database: Database) -> None:
    assert database.execute(
        "SELECT COUNT(*), SUM(visits), SUM(first_name = CONCAT('Ada', id)) FROM customer"
    ) == ((ROWS, 2 * ROWS, ROWS),)
    assert "KEY `ifn`" in database.execute("SHOW CREATE TABLE customer")[0][1]
    assert database.execute("SELECT version_num FROM alembic_version") == (("e1",),)


def _require_contracted(database: Database) -> None:
    assert [row[0] for row in database.execute("SHOW COLUMNS FROM customer")] == ["id", "visits", "first_name"]
    assert database.execute("SELECT version_num FROM alembic_version") == (("c1",),)


@pytest.mark.parametrize(
    ("lane", "step", "count"),
    [pytest.param(*point, marks=() if point in EVERYDAY else pytest.mark.slow) for point in STEPS],
)
def test_killed_and_resumed(
    fresh: Callable[[], Database], project: Project, lane: str, step: str, count: int
) -> None:
    database = fresh()
    if lane == "contract":
        for before in (Lane.EXPAND, Lane.TIGHTEN):
            build_runner(project, endpoint_of(database), lints=False).run(before)
    assert _die_at(project, database, lane, step, count) == -signal.SIGKILL
    build_runner(project, endpoint_of(database), lints=False).run(Lane(lane))
    _require_expanded(database) if lane == "expand" else _require_contracted(database)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_every_point_there_is(fresh: Callable[[], Database], project: Project) -> None:
    """Each point of each lane, one after the other, in databases of their own."""
    for lane, require in (("expand", _require_expanded), ("contract", _require_contracted)):
        for count in range(1, MOST_POINTS):
            database = fresh()
            if lane == "contract":
                for before in (Lane.EXPAND, Lane.TIGHTEN):
                    build_runner(project, endpoint_of(database), lints=False).run(before)
            code = _die_at(project, database, lane, "any", count)
            build_runner(project, endpoint_of(database), lints=False).run(Lane(lane))
            require(database)
            if code == 0:
                assert count > 5
                break
        else:
            pytest.fail(f"{lane} has more than {MOST_POINTS} points")


@pytest.mark.slow
def test_killed_half_way_and_taken_back(fresh: Callable[[], Database], project: Project) -> None:
    """The undo may be killed, too."""
    for count in range(2, 15, 3):
        database = fresh()
        before = database.execute("SHOW CREATE TABLE customer"), database.execute("SELECT * FROM customer ORDER BY id")
        _die_at(project, database, "expand", "any", count)
        build_runner(project, endpoint_of(database), lints=False).undo(Lane.EXPAND)
        after = database.execute("SHOW CREATE TABLE customer"), database.execute("SELECT * FROM customer ORDER BY id")
        assert after == before


@pytest.mark.slow
def test_a_statement_that_outlives_its_client_is_found_done(fresh: Callable[[], Database], project: Project) -> None:
    """Killed while the ALTER waits for the table: the server goes on with it alone, and the next run waits for that."""
    database = fresh()
    endpoint = endpoint_of(database)
    with database.connect() as holder:
        holder.begin()
        holder.cursor().execute("SELECT * FROM customer")
        script = (
            "import sys; from pathlib import Path; from lanes_project import *; from dbmigrate.domain.lanes import Lane; "
            "from dbmigrate.config import ServerSection; from dbmigrate.lanes.patience import Patience; "
            "e = Endpoint('target', ServerSection(url=sys.argv[2], password_file=Path(sys.argv[3]))); "
            "build_runner(Project(Path(sys.argv[1])), e, patience=Patience(60, 1, 0.1), lints=False).run(Lane.EXPAND)"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(project.directory), endpoint.section.url, str(endpoint.section.password_file)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )  # fmt: skip
        _await_waiting(database)
        process.kill()
        process.wait()
        holder.rollback()
    build_runner(project, endpoint_of(database), lints=False).run(Lane.EXPAND)
    _require_expanded(database)


def _await_waiting(database: Database) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        for one in list_connections(database.server):
            is_altering = one.schema == database.schema and (one.statement or "").startswith("ALTER")
            if is_altering and one.state == "Waiting for table metadata lock":
                return
        time.sleep(0.02)
    raise AssertionError("the statement never waited")
