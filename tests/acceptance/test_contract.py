"""The end of the way back: what `dbmigrate contract` refuses, removes and leaves, and the lanes around a move."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lanes_project import Project
from moves import Move

from dbmigrate.domain.flavours import Flavour

Factory = Callable[..., Move]
AUTO = '[cutover]\napproval = "auto"\n'
GUARDED = '[cutover]\napproval = "auto"\nfence = "lock_tables"\n'


@pytest.fixture(params=["mariadb", pytest.param("mysql", marks=pytest.mark.mysql)])
def shop(request: pytest.FixtureRequest, pair_factory: Any) -> Any:
    """A pair whose source holds customers."""
    flavour = Flavour[request.param.upper()]
    pair = pair_factory(flavour, flavour)
    pair.source.execute(
        "CREATE TABLE customer (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(100), KEY i (name))",
        "INSERT INTO customer (name) WITH RECURSIVE n (seq) AS (SELECT 1 UNION ALL SELECT seq + 1 FROM n WHERE seq < 500) "
        "SELECT CONCAT('Ada', seq, ' Lovelace') FROM n",
    )
    return pair


def _control_tables(database: Any) -> set[str]:
    rows = database.server.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = '_dbmigrate'")
    return {row[0] for row in rows}


def _guards(database: Any) -> int:
    rows = database.server.execute("SELECT COUNT(*) FROM information_schema.triggers WHERE trigger_name LIKE 'dbmigrate%'")
    return int(rows[0][0])


def test_contract_ends_the_move(shop: Any, move_factory: Factory) -> None:
    """Only with a yes; the old side keeps nothing, the new one its audit."""
    move = move_factory(shop, GUARDED)
    move.run("run", "--until", "cutover")
    assert _guards(shop.source) > 0
    asked = move.run("contract", expect=3)
    assert "ends the way back" in asked.stderr
    assert "--yes" in asked.stderr
    assert move.read_phase() == "soak"
    move.run("contract", "--yes")
    assert move.read_phase() == "done"
    assert _guards(shop.source) + _guards(shop.target) == 0
    assert _control_tables(shop.source) == set()
    assert shop.target.server.execute("SELECT COUNT(*) FROM _dbmigrate.fence") == ((0,),)
    assert shop.target.server.execute("SELECT COUNT(*) > 5 FROM _dbmigrate.transition") == ((1,),)


@pytest.mark.slow
def test_contract_removes_what_served_the_move_and_keeps_the_audit(shop: Any, move_factory: Factory) -> None:
    """Guards, fence and control tables go, from a live runner's hands or its own; the phase is done for good."""
    journal = "CREATE TABLE _dbmigrate.lane_step (revision INT)"  # of lanes that ran there before the move
    shop.source.server.execute("CREATE DATABASE _dbmigrate", journal, "INSERT INTO _dbmigrate.lane_step VALUES (1)")
    move = move_factory(shop, GUARDED)
    move.run("run", "--until", "cutover")
    move.run("revert")
    move.run("run", "--until", "cutover")
    assert _guards(shop.source) > 0
    assert _guards(shop.target) > 0
    move.run("contract", "--yes")
    assert _guards(shop.source) + _guards(shop.target) == 0
    assert _control_tables(shop.source) == {"lane_step"}
    for table in ("fence", "heartbeat", "runner", "checkpoint", "stripe", "instance"):
        assert shop.target.server.execute(f"SELECT COUNT(*) FROM _dbmigrate.{table}") == ((0,),), table
    history = [t["to"] for t in move.status()["transitions"]]
    assert history[-3:] == ["soak", "contract", "done"]
    move.run("run")
    assert _control_tables(shop.source) == {"lane_step"}
    assert "not possible in phase done" in move.run("revert", expect=3).stderr
    assert "not possible in phase done" in move.run("contract", "--yes", expect=3).stderr
    shop.target.execute("INSERT INTO customer (name) VALUES ('new')")
    shop.source.execute("INSERT INTO customer (name) VALUES ('nobody guards the old side')")


@pytest.mark.slow
def test_contract_is_refused_before_the_switch_and_before_the_soak_has_passed(shop: Any, move_factory: Factory) -> None:
    move = move_factory(shop, AUTO + "[gates]\nmin_soak_seconds = 3600.0\n")
    assert "has not been started" in move.run("status", expect=3).stderr
    move.run("run", "--until", "verify")
    assert "contract is not possible in phase cutover" in move.run("contract", "--yes", expect=3).stderr
    move.run("run", "--until", "cutover")
    refused = move.run("contract", "--yes", expect=3)
    assert "soaking for" in refused.stderr
    assert move.read_phase() == "soak"
    move.write(AUTO)
    move.run("contract", "--yes")
    assert move.read_phase() == "done"


@pytest.mark.slow
def test_a_live_runner_carries_contract_out(shop: Any, move_factory: Factory) -> None:
    move = move_factory(shop, AUTO)
    process = move.start("run")
    move.await_phase("soak", process=process)
    time.sleep(0.5)
    move.run("contract", "--yes")
    assert process.wait(timeout=60) == 0
    assert move.read_phase() == "done"
    assert shop.source.execute("SELECT @@GLOBAL.read_only")[0][0] == 1


def _project(path: Path) -> Project:
    made = Project(path)
    made.revision("expand", "e0", ["CREATE TABLE nothing (id INT)"])
    made.revision(
        "expand", "e1", ["ALTER TABLE customer ADD COLUMN first_name VARCHAR(100)",
                         "CREATE TABLE note (id INT PRIMARY KEY, line VARCHAR(50))"],
        ["DROP TABLE note", "ALTER TABLE customer DROP COLUMN first_name"],
        extra="backfill = Backfill('customer', set={'first_name': \"SUBSTRING_INDEX(name, ' ', 1)\"}, "
        "where='first_name IS NULL')",
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


def _columns(database: Any) -> list[str]:
    return [row[0] for row in database.execute("SHOW COLUMNS FROM customer")]


def _versions(database: Any) -> set[str]:
    return {row[0] for row in database.execute("SELECT version_num FROM alembic_version")}


@pytest.mark.slow
def test_the_lanes_of_a_move(shop: Any, move_factory: Factory, tmp_path: Path) -> None:
    """Expand before the copy; no lane while rows move; tighten and contract at the end, after the dwell."""
    _project(tmp_path / "migrations")
    lanes = '[lanes]\ndirectory = "migrations"\ndwell_seconds = {}\nquiet_seconds = 0.0\n'
    move = move_factory(shop, AUTO + lanes.format("3600.0"))
    unstamped = move.run("run", expect=3)
    assert "does not say which revisions it has" in unstamped.stderr
    shop.source.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)")
    shop.source.execute("INSERT INTO alembic_version VALUES ('e0')")
    move.run("run", "--until", "cutover")
    assert _columns(shop.target) == ["id", "name", "first_name"]
    assert _columns(shop.source) == ["id", "name"]
    assert (_versions(shop.source), _versions(shop.target)) == ({"e0"}, {"e1"})
    shop.target.execute("INSERT INTO customer (name, first_name) VALUES ('Alan Turing', 'Alan')")
    for lane in ("expand", "tighten", "contract"):
        refused = move.run("lanes", "run", lane, expect=3)
        assert "does not run now" in refused.stderr
    assert "only after soak has passed" in refused.stderr
    move.run("run", "--until", "soak")
    assert shop.source.execute("SELECT COUNT(*) FROM customer WHERE name = 'Alan Turing'") == ((1,),)
    waiting = move.run("contract", "--yes", expect=3)
    assert "hidden, not dropped yet" in waiting.stderr
    assert move.read_phase() == "contract"
    assert _versions(shop.target) == {"t1"}
    assert shop.target.execute("SELECT COUNT(*) FROM customer WHERE first_name IS NULL") == ((0,),)
    status = json.loads(move.run("lanes", "status", "--json").stdout)
    assert status["lanes"]["contract"]["pending"] == ["c1"]
    assert [step["kind"] for step in status["steps"]] == ["statement", "statement", "backfill", "statement", "hide"]
    move.write(AUTO + lanes.format("0.0"))
    move.run("contract", "--yes")
    assert move.read_phase() == "done"
    assert _columns(shop.target) == ["id", "first_name"]
    assert _columns(shop.source) == ["id", "name"]
    assert move.run("lanes", "run", "contract").stdout == "contract: nothing to run\n"


@pytest.mark.slow
def test_abort_takes_the_expand_lane_back(shop: Any, move_factory: Factory, tmp_path: Path) -> None:
    """What the lane made on the target goes with the rest, and the next attempt runs it again."""
    _project(tmp_path / "migrations")
    shop.source.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)")
    shop.source.execute("INSERT INTO alembic_version VALUES ('e0')")
    move = move_factory(shop, AUTO + '[lanes]\ndirectory = "migrations"\n')
    move.run("run", "--until", "copy")
    assert {row[0] for row in shop.target.execute("SHOW TABLES")} == {"alembic_version", "customer", "note"}
    move.run("abort")
    assert shop.target.execute("SHOW TABLES") == ()
    move.run("run", "--until", "copy")
    assert _columns(shop.target) == ["id", "name", "first_name"]
