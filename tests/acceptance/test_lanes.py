"""`dbmigrate lanes` as a user runs it: what it prints, how it exits, and what it says about bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from databases import Database, Pair
from store_setup import store_url

from dbmigrate.cli import main

REVISION = """
import sqlalchemy as sa
from alembic import op

revision = {revision!r}
down_revision = {after!r}


def upgrade():
    {upgrade}
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["lanes", *arguments])


class Project:
    """A scaffolded environment in the working directory, and revisions as they are added."""

    def __init__(self) -> None:
        assert run("init", "migrations").exit_code == 0

    def add(self, lane: str, revision: str, upgrade: str, after: str = "") -> None:
        text = REVISION.format(revision=revision, after=after or f"{lane}0", upgrade=upgrade)
        Path("migrations", "versions", lane, f"{revision}.py").write_text(text)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    return Project()


@pytest.fixture
def shop(mariadb_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> Database:
    """A database with a table, its URL in SHOP_URL."""
    mariadb_pair.source.execute("CREATE TABLE t (id INT PRIMARY KEY, a INT, kept INT NOT NULL DEFAULT 7)")
    monkeypatch.setenv("SHOP_URL", store_url(mariadb_pair.source))
    return mariadb_pair.source


NOT_NULL = 'op.alter_column("t", "a", existing_type=sa.Integer, nullable=False)'


def test_server_decides_what_a_history_cannot(project: Project, shop: Database) -> None:
    """Without one the operation is not decided, and not allowed; with one it is placed."""
    project.add("tighten", "t1", NOT_NULL)
    without = run("lint", "--server", "mariadb-10.11")
    assert without.exit_code == 3
    assert "not decided" in without.stdout
    assert "needs a server" in without.stdout
    assert run("lint", "--url-env", "SHOP_URL").exit_code == 0


def test_attribute_that_would_be_lost_is_named(project: Project, shop: Database) -> None:
    project.add("expand", "e1", 'op.alter_column("t", "kept", existing_type=sa.Integer, comment="x")')
    result = run("lint", "--url-env", "SHOP_URL")
    assert result.exit_code == 3
    assert "kept would lose NOT NULL, DEFAULT 7" in result.stdout
    assert "existing_server_default=sa.text('7')" in result.stdout


def test_json_has_every_operation_with_its_class(project: Project, shop: Database) -> None:
    project.add("expand", "e1", 'op.add_column("t", sa.Column("b", sa.Integer))')
    project.add("contract", "c1", 'op.rename_table("t", "u")')
    result = run("lint", "--url-env", "SHOP_URL", "--json")
    assert result.exit_code == 3
    content = json.loads(result.stdout)
    assert content["refused"] is True
    assert content["server"].startswith("MariaDB")
    by_id = {revision["revision"]: revision for revision in content["revisions"]}
    (added,) = by_id["e1"]["operations"]
    assert (added["class"], added["rule"], added["statements"]) == (
        "expand", "add-column", ["ALTER TABLE t ADD COLUMN b INTEGER"],
    )  # fmt: skip
    (renamed,) = by_id["c1"]["operations"]
    assert renamed["class"] == "refused"
    assert renamed["instead"][0]["stage"] == "expand revision"
    assert shop.execute("SHOW TABLES") == (("t",),), "nothing was run"


def test_plan_leaves_out_what_the_database_has(project: Project, shop: Database) -> None:
    """By the table that Alembic keeps, with what the named revisions depend on."""
    project.add("expand", "e1", 'op.add_column("t", sa.Column("b", sa.Integer))')
    project.add("expand", "e2", 'op.create_index("ix", "t", ["b"])', after="e1")
    shop.execute(
        "CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)", "INSERT INTO alembic_version VALUES ('e1')",
        "ALTER TABLE t ADD b INT",
    )  # fmt: skip
    result = run("plan", "--url-env", "SHOP_URL", "--json")
    assert result.exit_code == 0, result.output
    lanes = json.loads(result.stdout)["lanes"]
    assert [revision["revision"] for revision in lanes["expand"]] == ["e2"]
    assert lanes["expand"][0]["rungs"] == [[["instant", "nocopy", "inplace"]]]
    assert [revision["revision"] for revision in lanes["contract"]] == ["contract0"]
    shown = run("plan", "--url-env", "SHOP_URL").stdout
    assert "CREATE INDEX ix ON t (b)  [instant > nocopy > inplace]" in shown
    assert "e1" not in shown


def test_revision_that_is_not_here_is_told(project: Project, shop: Database) -> None:
    shop.execute("CREATE TABLE alembic_version (version_num VARCHAR(32))", "INSERT INTO alembic_version VALUES ('xyz')")
    result = run("lint", "--url-env", "SHOP_URL")
    assert result.exit_code == 2
    assert "xyz" in result.stderr


def write_config(directory: Path, pair: Pair, extra: str) -> str:
    directory.mkdir()
    path = directory / "dbmigrate.toml"
    path.write_text(
        f'[migration]\nid = "m"\n[source]\nurl = "{pair.source.url}"\npassword_env = "PW1"\n'
        f'[target]\nurl = "{pair.target.url}"\npassword_env = "PW2"\n{extra}'
    )
    return str(path)


def test_configuration_means_the_target_and_before_expand_the_source(
    project: Project, shop: Database, mariadb_pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory counts from the file."""
    monkeypatch.setenv("PW1", mariadb_pair.source.server.password)
    monkeypatch.setenv("PW2", mariadb_pair.target.server.password)
    config = write_config(tmp_path / "deploy", mariadb_pair, '[lanes]\ndirectory = "../migrations"\n')
    project.add("tighten", "t1", NOT_NULL)
    before = run("lint", "-c", config, "--json")
    assert before.exit_code == 0, before.output
    assert "tables of source" in json.loads(before.stdout)["place"]
    mariadb_pair.target.execute("CREATE TABLE t (id INT PRIMARY KEY, a INT DEFAULT 3)")
    after = run("lint", "-c", config, "--json")
    assert after.exit_code == 3
    assert "DEFAULT 3" in after.stdout


def test_unknown_key_of_the_section_is_told(mariadb_pair: Pair, tmp_path: Path) -> None:
    config = write_config(tmp_path / "deploy", mariadb_pair, '[lanes]\ndirektory = "m"\n')
    result = run("lint", "-c", config)
    assert result.exit_code == 2
    assert "did you mean directory?" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "not known for which server"),
        (("--url", "mysql://a@h/d", "--server", "mysql-8.4"), "one of"),
        (("--server", "oracle-23"), "oracle-23"),
        (("--url", "mysql://u:hunter2@h/d"), "password"),
        (("--url", "nonsense"), "mysql://"),
        (("--url-env", "NOT_SET_ANYWHERE"), "not set"),
        (("--server", "mysql-8.4", "--directory", "nowhere"), "alembic.ini"),
        (("-c", "nowhere.toml"), "cannot be read"),
    ],
)
def test_bad_options_exit_2_and_say_what_is_wrong(project: Project, arguments: tuple[str, ...], told: str) -> None:
    result = run("lint", *arguments)
    assert result.exit_code == 2, result.output
    assert told in result.stderr
    assert "hunter2" not in result.output


@pytest.mark.parametrize("value", ["sqlite:///x", "mysql+pymysql://u:hunter2@/", "hunter2", "mysql://u:hunter2@[::1/d"])
def test_secret_in_a_bad_variable_is_not_repeated(project: Project, monkeypatch: Any, value: str) -> None:
    monkeypatch.setenv("SHOP_URL", value)
    result = run("lint", "--url-env", "SHOP_URL")
    assert result.exit_code == 2, result.output
    assert "hunter2" not in result.output


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE USER u IDENTIFIED BY 'hunter2'", "ALTER USER u IDENTIFIED WITH caching_sha2_password BY 'hunter2'",
        "SET PASSWORD FOR u = PASSWORD('hunter2')", "ALTER USER u IDENTIFIED VIA ed25519 USING PASSWORD('hunter2')",
        "CREATE SERVER s FOREIGN DATA WRAPPER mysql OPTIONS (USER 'u', PASSWORD 'hunter2')",
        "CHANGE MASTER TO MASTER_PASSWORD='hunter2'",
    ],
)  # fmt: skip
def test_passwords_in_statements_are_not_repeated(project: Project, sql: str) -> None:
    project.add("expand", "e1", f"op.execute({sql!r})")
    for arguments in (("lint",), ("lint", "--json"), ("plan",)):
        result = run(*arguments, "--server", "mysql-8.4")
        assert result.exit_code == 3
        assert "hunter2" not in result.output, result.output


def test_directory_that_is_not_there_is_not_looked_for_beside(project: Project) -> None:
    Path("alembic.ini").write_text("[alembic]\nscript_location = migrations\n")
    assert run("lint", "--server", "mysql-8.4", "--directory", "migration").exit_code == 2


def test_wrong_password_is_not_repeated(project: Project, shop: Database, monkeypatch: Any) -> None:
    url = store_url(shop).replace(shop.server.password, "hunter2") if shop.server.password else "mysql://x:hunter2@127.0.0.1/x"
    monkeypatch.setenv("SHOP_URL", url)
    result = run("lint", "--url-env", "SHOP_URL")
    assert result.exit_code in (2, 4)
    assert "hunter2" not in result.output


@pytest.mark.parametrize("text", ["revision = 'x'\ndown_revision = 'nowhere'", "import no_such_module", "x ="])
def test_broken_revision_is_told(project: Project, text: str) -> None:
    Path("migrations/versions/expand/broken.py").write_text(text)
    result = run("lint", "--server", "mysql-8.4")
    assert result.exit_code == 2, result.output
    assert "cannot be read" in result.stderr


def test_init_replaces_nothing(project: Project) -> None:
    Path("migrations/env.py").write_text("mine")
    result = run("init", "migrations")
    assert result.exit_code == 2
    assert Path("migrations/env.py").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("expand",), "--message"),
        (("sideways", "-m", "x"), "sideways"),
        (("-m", "x"), "LANE"),
        (("expand", "-m", "x", "--autogenerate"), "LANE"),
    ],
)
def test_new_says_what_is_missing(project: Project, arguments: tuple[str, ...], told: str) -> None:
    result = run("new", *arguments)
    assert result.exit_code == 2
    assert told in result.stderr


def test_new_follows_its_lane(project: Project) -> None:
    """In the lane's folder, after its last revision, with nothing but the file's name on stdout."""
    first, second = run("new", "tighten", "-m", "one"), run("new", "tighten", "-m", "two")
    for result in (first, second):
        assert result.exit_code == 0, result.output
        assert Path(result.stdout.strip()).parent.name == "tighten"
    assert first.stdout.strip().rsplit("/", 1)[1].split("_")[0] in Path(second.stdout.strip()).read_text()


def test_env_that_gives_up_is_told(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    result = run("new", "-m", "x", "--autogenerate")
    assert result.exit_code == 2
    assert "DATABASE_URL" in result.stderr


def test_unreachable_database_is_told_without_its_password(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "mysql+pymysql://u:hunter2@127.0.0.1:1/d")
    result = run("new", "-m", "x", "--autogenerate")
    assert result.exit_code == 4
    assert "cannot be compared" in result.stderr
    assert "hunter2" not in result.output


def test_lane_without_a_first_revision_is_told(project: Project, database_factory: Callable[..., Database]) -> None:
    Path("migrations/versions/contract/contract0_lane.py").unlink()
    result = run("new", "contract", "-m", "x")
    assert result.exit_code == 2
    assert 'branch_labels = ("contract",)' in result.stderr
