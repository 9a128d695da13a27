"""The control tables of the application's instances, used with the few privileges that the runbook grants."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pymysql
import pytest
import sqlalchemy as sa
from app_protocol import ACCOUNT, PASSWORD, grant_control
from databases import Database, Pair
from sqlalchemy.pool import NullPool

from dbmigrate.config.loading import parse_config
from dbmigrate.domain.evidence import InstanceReport, LatencyHistogram, Mismatch, MismatchKind, ShadowCounts
from dbmigrate.domain.ownership import FenceRow
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Side
from dbmigrate.domain.schema import TableName
from dbmigrate.mysql.control import ControlStore
from dbmigrate.mysql.evidence import (
    load_expired_reports,
    load_mismatches,
    load_reports,
    register_instance,
    remove_instance,
    save_mismatch,
    save_report,
)
from dbmigrate.mysql.fence import build_fence_save, build_guards, create_fence_tables, load_fence_row
from dbmigrate.mysql.sessions import Session
from dbmigrate.workflow.requests import open_store

REPORT = InstanceReport("till-1", "web-1", 41, "1.0", 5, Phase.SHADOW_READ)
MISMATCH = Mismatch(
    MismatchKind.REAL, "ab12", "SELECT total FROM orders WHERE id = ?", ("orders",), ("id",), ("total",), ("5f3a",),
    "1 row differs in total", datetime(2026, 11, 1, 12, tzinfo=UTC), "till-1",
)  # fmt: skip


@contextmanager
def _store(pair: Pair, directory: Path) -> Iterator[ControlStore]:
    (directory / "password").write_text(pair.target.server.password)
    sections = "".join(
        f'[{name}]\nurl = "{database.url}"\npassword_file = "password"\n'
        for name, database in (("source", pair.source), ("target", pair.target))
    )
    config = parse_config(f'[migration]\nid = "move"\n{sections}', place="the test", directory=directory)
    store = open_store(config)
    try:
        yield store
    finally:
        store.close()


@contextmanager
def _session(database: Database, **options: Any) -> Iterator[Session]:
    with database.connect(use_unicode=False, conv={}, **options) as connection:
        yield Session(connection, "here")


@pytest.fixture
def controlled_pair(request: pytest.FixtureRequest, tmp_path: Path) -> Pair:
    """Two databases with control tables, and an application account that may do what the runbook says."""
    pair: Pair = request.getfixturevalue(request.param)
    with _store(pair, tmp_path) as store:
        store.create_tables()
    for database in (pair.source, pair.target):
        with _session(database) as session:
            create_fence_tables(session)
        database.server.create_user(ACCOUNT, PASSWORD, f"SELECT, INSERT, UPDATE, DELETE ON `{database.schema}`.*")
    grant_control(pair)
    return pair


both_flavours = pytest.mark.parametrize(
    "controlled_pair",
    ["mariadb_pair", pytest.param("mysql_pair", marks=pytest.mark.mysql)],
    indirect=True,
)


@contextmanager
def _as_application(pair: Pair) -> Iterator[sa.Connection]:
    engine = sa.create_engine(
        "mysql+pymysql://", poolclass=NullPool,
        creator=lambda: pair.target.server.connect(user=ACCOUNT, password=PASSWORD),
    )  # fmt: skip
    with engine.connect() as connection:
        yield connection


@both_flavours
def test_an_instance_lives_as_long_as_the_server_has_seen_it(controlled_pair: Pair) -> None:
    """What the instance thinks of the time does not matter; registering again begins a new life."""
    pair = controlled_pair
    with _as_application(pair) as connection:
        register_instance(connection, "move", replace(REPORT, seen_at=datetime(1999, 1, 1, tzinfo=UTC)))
        register_instance(connection, "other", replace(REPORT, instance_id="elsewhere"))
        connection.commit()
        (live,) = load_reports(connection, "move", 60)
        assert load_expired_reports(connection, "move", 60) == ()
        assert live.seen_at is not None
        (now,) = connection.execute(sa.text("SELECT UTC_TIMESTAMP(6)")).one()
        assert abs(now.replace(tzinfo=UTC) - live.seen_at) < timedelta(seconds=5)
        assert replace(live, seen_at=None) == REPORT
        connection.rollback()
        pair.target.server.execute("UPDATE _dbmigrate.instance SET seen_at = seen_at - INTERVAL 61 SECOND")
        assert load_reports(connection, "move", 60) == ()
        assert [report.instance_id for report in load_expired_reports(connection, "move", 60)] == ["till-1"]
        connection.rollback()
        counted = replace(REPORT, epoch=6, shadow=ShadowCounts(samples=2, control=LatencyHistogram().with_sample(0.1)))
        save_report(connection, "move", counted)
        connection.commit()
        (live,) = load_reports(connection, "move", 60)
        assert replace(live, seen_at=None) == counted
        connection.rollback()
    rows = pair.target.server.execute("SELECT instance_id, epoch, phase, host, pid FROM _dbmigrate.instance ORDER BY 1")
    assert rows == (("elsewhere", 5, "shadow_read", "web-1", 41), ("till-1", 6, "shadow_read", "web-1", 41))


@both_flavours
def test_a_removed_instance_that_lives_after_all_is_known_again(controlled_pair: Pair) -> None:
    """The runner forgets those that expired; only the one that is meant."""
    with _as_application(controlled_pair) as connection:
        for name in ("till-1", "till-2"):
            register_instance(connection, "move", replace(REPORT, instance_id=name))
        remove_instance(connection, "move", "till-1")
        connection.commit()
        assert [report.instance_id for report in load_reports(connection, "move", 60)] == ["till-2"]
        save_report(connection, "move", REPORT)
        assert len(load_reports(connection, "move", 60)) == 2
        connection.rollback()


@both_flavours
def test_mismatches_come_back_newest_first_and_by_kind(controlled_pair: Pair) -> None:
    """Whole, with times in UTC whatever zone they were given in."""
    with _as_application(controlled_pair) as connection:
        save_mismatch(connection, "move", MISMATCH)
        save_mismatch(connection, "move", replace(MISMATCH, kind=MismatchKind.LAG))
        later = replace(MISMATCH, detail="later")
        save_mismatch(connection, "move", later)
        save_mismatch(connection, "other", MISMATCH)
        connection.commit()
        assert load_mismatches(connection, "move", kinds=[MismatchKind.REAL]) == (later, MISMATCH)
        assert len(load_mismatches(connection, "move")) == 3
        assert len(load_mismatches(connection, "move", most=1)) == 1


def test_tables_of_the_former_format_are_replaced(mariadb_pair: Pair, tmp_path: Path) -> None:
    """Another, older migration left them there; nothing had ever been written to that one."""
    with _store(mariadb_pair, tmp_path) as store:
        store.create_tables()
        mariadb_pair.target.server.execute("DROP TABLE _dbmigrate.instance, _dbmigrate.mismatch")
        mariadb_pair.target.server.execute(
            "CREATE TABLE _dbmigrate.instance (migration_id VARCHAR(64), instance_id VARCHAR(64), epoch BIGINT, "
            "seen_at DATETIME(6), description LONGTEXT, PRIMARY KEY (migration_id, instance_id))"
        )
        store.create_tables()
        store.call(lambda connection: save_report(connection, "move", REPORT))
        store.call(lambda connection: save_mismatch(connection, "move", MISMATCH))
        store.create_tables()
        assert len(store.call(lambda connection: load_reports(connection, "move", 60))) == 1


@both_flavours
def test_a_fence_row_says_what_was_saved_and_never_goes_back(controlled_pair: Pair) -> None:
    """Mirror and shares included; an older row does not replace a later one, part by part neither."""
    newer = FenceRow(8, Side.SOURCE, Phase.RAMP_READS, mirror=True, read_share=25.0, shadow_share=12.5)
    older = FenceRow(7, Side.TARGET, Phase.SOAK, read_share=99.0)
    with _session(controlled_pair.source) as session:
        for row in (older, newer, older):
            session.execute(build_fence_save("move", row))
        assert load_fence_row(session, "move") == newer


@both_flavours
def test_guards_let_pass_who_follows_the_row_and_nobody_else(controlled_pair: Pair) -> None:
    """The owner's writers, ours, and mirrored writes of this epoch, or of one that the owner's row has said first."""
    target = controlled_pair.target
    target.execute("CREATE TABLE orders (id INT PRIMARY KEY)")
    row = FenceRow(8, Side.SOURCE, Phase.CUTOVER, mirror=True)
    with _session(target) as session:
        session.execute(build_fence_save("move", row))
        for statement in build_guards(
            TableName(target.schema, "orders"), "move", closed_when_owner=Side.SOURCE, account="root"
        ):
            session.execute(statement)
    passed, refusals = [], []
    with target.connect(user=ACCOUNT, password=PASSWORD) as writer, writer.cursor() as cursor:

        def write(number: int, epoch: object) -> None:
            cursor.execute("SET @dbmigrate_epoch = %s", (epoch,))
            try:
                cursor.execute("INSERT INTO orders VALUES (%s)", (number,))
                passed.append(number)
            except pymysql.err.OperationalError as refused:
                refusals.append(str(refused))

        for number, epoch in enumerate((None, 7, 8, 9, "8", 0)):
            write(number, epoch)
        target.execute("INSERT INTO orders VALUES (100)")
        with _session(target) as session:
            session.execute(build_fence_save("move", FenceRow(9, Side.TARGET, Phase.SOAK)))
        write(10, None)
        write(11, 8)
    assert passed == [2, 3, 4, 10, 11]
    assert len(refusals) == 3
    assert all("this database has moved" in refusal for refusal in refusals)
    assert target.execute("SELECT id FROM orders ORDER BY id") == ((2,), (3,), (4,), (10,), (11,), (100,))
