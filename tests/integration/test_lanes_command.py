"""`dbmigrate lanes run` and `status` as a user calls them: what they print, how they exit, where they may run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from click.testing import CliRunner, Result
from databases import Database
from lanes_project import Project

from dbmigrate.cli import main


@pytest.fixture
def database(mariadb_server: Any, database_factory: Any, monkeypatch: pytest.MonkeyPatch) -> Database:
    """Customers, and the address of their database in the environment."""
    found: Database = database_factory(mariadb_server)
    found.execute("CREATE TABLE customer (id INT PRIMARY KEY, name VARCHAR(100))", "INSERT INTO customer VALUES (1, 'Ada')")
    server = found.server
    url = f"mysql+pymysql://{server.user}:{quote(server.password)}@{server.host}:{server.port}/{found.schema}"
    monkeypatch.setenv("DATABASE_URL", url)
    return found


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """One column to add, one change that would copy."""
    made = Project(tmp_path / "migrations")
    made.revision(
        "expand", "e1", ["ALTER TABLE customer ADD COLUMN nick VARCHAR(50)"], ["ALTER TABLE customer DROP COLUMN nick"]
    )
    return made


def _call(project: Project, *arguments: str, expect: int = 0) -> Result:
    options = ["--url-env", "DATABASE_URL", "--directory", str(project.directory)]
    result = CliRunner().invoke(main, ["lanes", *arguments, *options])
    assert result.exit_code == expect, result.output
    return result


def test_a_lane_runs_and_is_taken_back_without_a_configuration(database: Database, project: Project) -> None:
    assert "expand: e1" in _call(project, "status").stdout
    assert _call(project, "run", "expand").stdout == "expand: ran e1\n"
    assert _call(project, "run", "expand").stdout == "expand: nothing to run\n"
    shown = _call(project, "status").stdout
    assert "expand: nothing to run" in shown
    assert "e1 1 applied: instant in " in shown
    assert "longest stall" in shown
    status = json.loads(_call(project, "status", "--json").stdout)
    assert status["lanes"]["expand"] == {"pending": [], "waits_for": ""}
    assert status["steps"][0]["longest_stall_seconds"] >= 0
    assert json.loads(_call(project, "run", "expand", "--undo", "--json").stdout)["revisions"] == ["e1"]
    assert [row[0] for row in database.execute("SHOW COLUMNS FROM customer")] == ["id", "name"]


def test_what_would_copy_is_refused_and_done_when_asked_for(database: Database, project: Project) -> None:
    project.revision("expand", "e2", ["ALTER TABLE customer MODIFY COLUMN id BIGINT NOT NULL"])
    refused = _call(project, "run", "expand", expect=3)
    assert "type-wider" in refused.stderr
    assert "`id` int" in database.execute("SHOW CREATE TABLE customer")[0][1]
    skipped = _call(project, "run", "expand", "--skip-lint", expect=3)
    assert "--allow-copy customer" in skipped.stderr
    _call(project, "run", "expand", "--allow-copy", "customer")
    assert "`id` bigint" in database.execute("SHOW CREATE TABLE customer")[0][1]


def test_a_move_under_way_on_that_server_is_seen_without_its_configuration(
    database: Database, project: Project
) -> None:
    database.server.execute(
        "CREATE DATABASE _dbmigrate",
        "CREATE TABLE _dbmigrate.migration (id VARCHAR(64) PRIMARY KEY, phase VARCHAR(64))",
        "INSERT INTO _dbmigrate.migration VALUES ('shop', 'soak')",
    )
    assert "phase soak" in _call(project, "run", "expand", expect=3).stderr
    assert "only after soak has passed" in _call(project, "run", "contract", expect=3).stderr
    database.server.execute("UPDATE _dbmigrate.migration SET phase = 'done'")
    _call(project, "run", "expand")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["run", "sideways", "--url-env", "DATABASE_URL"], "is not one of"),
        (["run", "expand", "--url-env", "NOWHERE"], "NOWHERE is not set"),
        (["run", "expand", "-c", "nothing.toml"], "cannot be read"),
        (["run", "expand", "--url-env", "DATABASE_URL", "--directory", "nowhere"], "there is no alembic.ini"),
    ],
)
def test_wrong_options_touch_nothing(database: Database, arguments: list[str], complaint: str) -> None:
    result = CliRunner().invoke(main, ["lanes", *arguments])
    assert result.exit_code == 2
    assert complaint in result.output
    assert database.server.password not in result.output
    assert database.execute("SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = '_dbmigrate'") == ((0,),)


def test_a_server_that_refuses_a_statement_says_so(database: Database, project: Project) -> None:
    """The cause is the server's; the step can be corrected and run again."""
    path = project.revision("expand", "e2", ["ALTER TABLE customer ADD COLUMN nick VARCHAR(50)"])
    failed = _call(project, "run", "expand", "--skip-lint", expect=4)
    assert "Duplicate column name" in failed.stderr
    path.write_text(path.read_text().replace("ADD COLUMN nick VARCHAR(50)", "ADD COLUMN pet VARCHAR(50)"))
    _call(project, "run", "expand")
    assert [row[0] for row in database.execute("SHOW COLUMNS FROM customer")] == ["id", "name", "nick", "pet"]
