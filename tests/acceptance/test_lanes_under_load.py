"""A whole change of the schema while the store sells: expand, backfill, tighten, deploy, contract.

A column is split, another gets a type that no server changes in place, and a foreign key is added. At every step two
versions of the application run at the same time. No request may fail, nothing may be lost, and how long a writer would
have waited is recorded for every statement.

The application reads with READ COMMITTED: an older snapshot may not read a table that was changed since (error 1412). MySQL
cannot be told not to wait for a table, and rolls back who comes in between (error 1213): there the application repeats
such transactions, as it must for deadlocks of any kind. On MariaDB nothing is repeated.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from databases import Database, endpoint_of
from lanes_project import Project, build_runner
from store_front import StoreFront
from store_setup import build_store, open_engine, store_url

from dbmigrate.domain.errors import RefusedError
from dbmigrate.domain.flavours import Flavour
from dbmigrate.domain.lanes import Lane
from dbmigrate.lanes.patience import Patience
from dbmigrate.store.child_server import ChildServer
from dbmigrate.store.load import Load

log = logging.getLogger(__name__)

READ_COMMITTED = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"
SETTLE_SECONDS = 2.0
LONGEST_STALL_SECONDS = 2.5
"""One wait for a table's lock, and what this machine adds."""

FIRST, REST = "SUBSTRING_INDEX(name, ' ', 1)", "SUBSTRING(name, CHAR_LENGTH(SUBSTRING_INDEX(name, ' ', 1)) + 2)"
BACKFILLS = f"""backfills = [
    Backfill(
        "customer", set={{"first_name": {FIRST!r}, "last_name": {REST!r}}}, batch_rows=50,
        where={f"NOT (first_name <=> {FIRST} AND last_name <=> {REST})"!r},
    ),
    Backfill(
        "order_line", set={{"unit_cents": "ROUND(unit_price * 100)"}}, batch_rows=200,
        where="NOT (unit_cents <=> ROUND(unit_price * 100))",
    ),
]"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """The change, lane by lane. What the versions that know the old columns rely on is loosened only after them."""
    made = Project(tmp_path / "migrations")
    made.revision(
        "expand", "e1",
        ["ALTER TABLE customer ADD COLUMN first_name VARCHAR(120) NULL, ADD COLUMN last_name VARCHAR(120) NULL",
         "ALTER TABLE order_line ADD COLUMN unit_cents BIGINT NULL"],
        extra=BACKFILLS,
    )  # fmt: skip
    made.revision(
        "tighten", "t1",
        ["ALTER TABLE customer MODIFY COLUMN first_name VARCHAR(120) NOT NULL",
         "ALTER TABLE customer MODIFY COLUMN last_name VARCHAR(120) NOT NULL",
         "ALTER TABLE order_line MODIFY COLUMN unit_cents BIGINT NOT NULL",
         "ALTER TABLE payment ADD CONSTRAINT fk_payment_order_id FOREIGN KEY (order_id) REFERENCES orders (id)"],
        depends_on=["e1"],
    )  # fmt: skip
    made.revision(
        "contract", "c1",
        ["ALTER TABLE customer DROP COLUMN name", "ALTER TABLE order_line DROP COLUMN unit_price"],
        depends_on=["t1"],
    )  # fmt: skip
    return made


@pytest.fixture(params=["mariadb", pytest.param("mysql", marks=pytest.mark.mysql)])
def database(
    request: pytest.FixtureRequest, session_server: Any, database_factory: Callable[..., Database]
) -> Database:
    """The store, without one of its foreign keys."""
    found = database_factory(session_server(Flavour[request.param.upper()], "target"))
    build_store(found, customers=200, products=30)
    found.execute("ALTER TABLE payment DROP FOREIGN KEY fk_payment_order_id")
    return found


class Deployment:
    """Instances behind a front; a new version comes beside the one before, which then goes."""

    def __init__(self, database: Database, directory: Path, stack: ExitStack) -> None:
        self._database, self._directory, self._stack = database, directory, stack
        self.front = stack.enter_context(StoreFront())
        self._running: ChildServer | None = None

    @contextmanager
    def deploy(self, version: int) -> Iterator[None]:
        """Both versions run during the block."""
        instance = ChildServer(
            f"{store_url(self._database)}&init_command={quote(READ_COMMITTED)}", log=self._directory / f"store-{version}.log", module="store_versions",
            environment={
                "STORE_VERSION": str(version), "PYTHONPATH": str(Path(__file__).parents[1]),
                "STORE_REPEATS": "1" if self._database.server.flavour is Flavour.MYSQL else "",
            },
        )  # fmt: skip
        self._stack.enter_context(instance)
        self.front.add(instance)
        before, self._running = self._running, instance
        yield
        if before is not None:
            self.front.retire(before)


def _run(project: Project, database: Database, lane: Lane, **settings: Any) -> None:
    build_runner(project, endpoint_of(database), patience=Patience(1, 10, 0.3, 30.0), **settings).run(lane)


def _loosen(project: Project) -> None:
    """The next version inserts without the old columns."""
    project.revision(
        "expand", "e2",
        ["ALTER TABLE customer ALTER COLUMN name SET DEFAULT ''",
         "ALTER TABLE order_line ALTER COLUMN unit_price SET DEFAULT 0"],
        depends_on=["t1"],
    )  # fmt: skip


def _require_changed(database: Database) -> None:
    """The old columns are gone, the new ones are NOT NULL, the key is there."""
    customer, line, payment = (
        database.execute(f"SHOW CREATE TABLE {table}")[0][1] for table in ("customer", "order_line", "payment")
    )
    assert "`name`" not in customer
    assert "`unit_price`" not in line
    assert all(" NOT NULL" in _line(customer, column) for column in ("first_name", "last_name"))
    assert " NOT NULL" in _line(line, "unit_cents")
    assert "fk_payment_order_id" in payment


def _line(definition: str, column: str) -> str:
    return next(line for line in definition.splitlines() if line.strip().startswith(f"`{column}`"))


def _judge(database: Database, load: Load) -> None:
    """What customers were promised is there. The old columns come back as expressions, for the store's own audit."""
    database.execute(
        "ALTER TABLE customer ADD COLUMN name VARCHAR(250) AS (CONCAT_WS(' ', first_name, NULLIF(last_name, ''))) VIRTUAL",
        "ALTER TABLE order_line ADD COLUMN unit_price DECIMAL(12, 2) AS (unit_cents / 100) VIRTUAL",
    )
    with open_engine(database) as engine, engine.connect() as connection:
        result = load.check(connection)
    assert result.failed_requests == 0, result.errors
    assert result.is_clean, result.to_json()
    assert result.orders > 100
    assert result.renames > 10
    steps = database.execute(
        "SELECT revision, statement, rung, seconds, longest_stall_seconds, attempts FROM _dbmigrate.lane_step "
        f"WHERE table_schema = '{database.schema}' AND statement LIKE 'ALTER%' ORDER BY begun_at, number"
    )
    assert len(steps) == 10
    for revision, statement, rung, seconds, stall, attempts in steps:
        took = f"{seconds * 1000:.0f} ms, {attempts} attempts, longest stall {stall * 1000:.0f} ms"
        log.info("%s %s: %s: %s", revision, rung, took, statement)
        assert stall < LONGEST_STALL_SECONDS
    log.info("%d requests, %s", result.requests, result.write_gap_ms)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_schema_changes_while_two_versions_sell(database: Database, project: Project, tmp_path: Path) -> None:
    with ExitStack() as stack:
        deployment = Deployment(database, tmp_path, stack)
        with deployment.deploy(1):
            pass
        load = stack.enter_context(Load(deployment.front.base_url, workers=6, rate=60.0))
        time.sleep(SETTLE_SECONDS)
        _run(project, database, Lane.EXPAND)
        with deployment.deploy(2):
            time.sleep(SETTLE_SECONDS)
        _run(project, database, Lane.TIGHTEN)
        with deployment.deploy(3):
            time.sleep(SETTLE_SECONDS)
        _loosen(project)
        _run(project, database, Lane.EXPAND)
        with deployment.deploy(4):
            time.sleep(SETTLE_SECONDS)
        with pytest.raises(RefusedError, match="hidden, not dropped yet"):
            _run(project, database, Lane.CONTRACT, dwell_seconds=1.0)
        time.sleep(SETTLE_SECONDS)
        _run(project, database, Lane.CONTRACT, dwell_seconds=1.0)
        time.sleep(SETTLE_SECONDS)
        load.stop()
    _require_changed(database)
    _judge(database, load)
