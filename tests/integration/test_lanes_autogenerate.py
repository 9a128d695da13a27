"""What `--autogenerate` finds is split into the lanes, through the scaffolded environment, by either command."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from databases import Database
from store_setup import store_url

from dbmigrate.cli import main
from dbmigrate.domain.flavours import Flavour, ServerVersion
from dbmigrate.domain.lanes import Lane
from dbmigrate.lanes.environment import load_environment
from dbmigrate.lanes.recording import record_downgrade, record_upgrade
from dbmigrate.mysql.introspection import read_server_version
from dbmigrate.throwaway.local_servers import LocalServer

BOTH_FLAVOURS = (Flavour.MARIADB, pytest.param(Flavour.MYSQL, marks=pytest.mark.mysql))

BEFORE = """
CREATE TABLE parent (id INT PRIMARY KEY);
CREATE TABLE t (id INT PRIMARY KEY, a INT NULL, gone INT, note VARCHAR(50) NOT NULL DEFAULT 'x' COMMENT 'c', parent_id INT,
  pair INT NULL DEFAULT 1)
"""

MODELS = """
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class Parent(Base):
    __tablename__ = "parent"
    id: Mapped[int] = mapped_column(primary_key=True)


class T(Base):
    __tablename__ = "t"
    __table_args__ = (sa.UniqueConstraint("a", name="uq_a"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    a: Mapped[int] = mapped_column()
    note: Mapped[str] = mapped_column(sa.String({length}), server_default="x", comment="c")
    parent_id: Mapped[int | None] = mapped_column(sa.ForeignKey("parent.id", name="fk_parent"), index=True)
    pair: Mapped[int] = mapped_column(server_default="2", comment="now required")
    required: Mapped[int] = mapped_column()


class Fresh(Base):
    __tablename__ = "fresh"
    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(sa.String(9))
    __table_args__ = (sa.UniqueConstraint("code", name="uq_code"),)
"""


class Project:
    """A scaffolded environment whose models differ from a database, and the two commands."""

    def __init__(self, directory: Path, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory, self.database = directory / "migrations", database
        monkeypatch.setenv("DATABASE_URL", store_url(database))
        monkeypatch.chdir(directory)
        assert self.dbmigrate("init", "migrations").exit_code == 0
        self.write_models(length=60)
        settings = self.directory / "env.py"
        text = settings.read_text().replace("target_metadata = sa.MetaData()", "target_metadata = Base.metadata")
        head = f"import sys\nsys.path.insert(0, {str(directory)!r})\nfrom models import Base\n"
        settings.write_text(text.replace("import os\n", f"import os\n{head}", 1))
        sys.modules.pop("models", None)
        for statement in BEFORE.strip().split(";"):
            database.execute(statement)

    def write_models(self, *, length: int) -> None:
        (self.directory.parent / "models.py").write_text(MODELS.replace("{length}", str(length)))

    def dbmigrate(self, *arguments: str) -> Result:
        return CliRunner().invoke(main, ["lanes", *arguments])

    def alembic(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "alembic", "-c", "migrations/alembic.ini", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": "."})

    def version(self) -> ServerVersion:
        with self.database.connect() as connection:
            return read_server_version(connection)

    def written(self) -> dict[Lane, list[str]]:
        """The statements of each lane, on one line."""
        environment = load_environment(self.directory)
        return {
            lane: [
                " ".join(statement.replace("(11)", "").split())  # MariaDB's display width
                for script in environment.walk(lane)
                for operation in record_upgrade(script, self.version())
                for statement in operation.statements
            ]
            for lane in Lane
        }


@pytest.fixture(params=BOTH_FLAVOURS, ids=lambda flavour: flavour.value)
def project(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    session_server: Callable[..., LocalServer], database_factory: Callable[..., Database],
) -> Project:  # fmt: skip
    return Project(tmp_path, database_factory(session_server(request.param, "source")), monkeypatch)


def check_split(project: Project) -> None:
    written = project.written()
    assert written[Lane.EXPAND] == [
        "CREATE TABLE fresh ( id INTEGER NOT NULL AUTO_INCREMENT, code VARCHAR(9) NOT NULL, PRIMARY KEY (id), "
        "CONSTRAINT uq_code UNIQUE (code) )",
        "ALTER TABLE t ADD COLUMN required INTEGER",
        "ALTER TABLE t MODIFY note VARCHAR(60) NOT NULL DEFAULT 'x' COMMENT 'c'",
        "ALTER TABLE t MODIFY pair INTEGER NULL DEFAULT '2' COMMENT 'now required'",
        "CREATE INDEX ix_t_parent_id ON t (parent_id)",
    ]
    assert written[Lane.TIGHTEN] == [
        "ALTER TABLE t MODIFY required INTEGER NOT NULL",
        "ALTER TABLE t MODIFY a INTEGER NOT NULL",
        "ALTER TABLE t MODIFY pair INTEGER NOT NULL DEFAULT '2' COMMENT 'now required'",
        "ALTER TABLE t ADD CONSTRAINT uq_a UNIQUE (a)",
        "ALTER TABLE t ADD CONSTRAINT fk_parent FOREIGN KEY(parent_id) REFERENCES parent (id)",
    ]
    assert written[Lane.CONTRACT] == ["ALTER TABLE t DROP COLUMN gone"]


def test_differences_are_split_by_dbmigrate(project: Project) -> None:
    """One revision a lane, each after the one before; they lint clean, run, and leave nothing different."""
    assert project.alembic("upgrade", "heads").returncode == 0
    result = project.dbmigrate("new", "--autogenerate", "-m", "all at once")
    assert result.exit_code == 0, result.output
    assert [Path(line).parent.name for line in result.stdout.split()] == ["expand", "tighten", "contract"]
    check_split(project)
    environment = load_environment(project.directory)
    _, expand, _, tighten, _, contract = environment.walk()
    assert (tighten.dependencies, contract.dependencies) == (expand.revision, tighten.revision)
    linted = project.dbmigrate("lint", "--url-env", "DATABASE_URL")
    assert linted.exit_code == 0, linted.output
    assert project.alembic("upgrade", "heads").returncode == 0
    again = project.dbmigrate("new", "--autogenerate", "-m", "nothing")
    assert (again.exit_code, again.stdout) == (0, ""), again.output
    assert all(record_downgrade(script, project.version()) for script in (expand, tighten, contract))
    assert project.alembic("downgrade", "base").returncode == 0
    tables = {name for (name,) in project.database.execute("SHOW TABLES")}
    assert tables == {"alembic_version", "parent", "t"}
    assert [row[0] for row in project.database.execute("SHOW COLUMNS FROM t")] == ["id", "a", "note", "parent_id", "pair", "gone"]


def test_differences_are_split_by_alembic(project: Project) -> None:
    """`alembic revision --autogenerate` writes the same, because env.py splits."""
    assert project.alembic("upgrade", "heads").returncode == 0
    result = project.alembic("revision", "--autogenerate", "-m", "all at once")
    assert result.returncode == 0, result.stderr
    check_split(project)


def test_refused_difference_writes_nothing(project: Project) -> None:
    """A type that copies the table: the reason and the sequence, no file, by either command; `check` sees it all the same."""
    assert project.alembic("upgrade", "heads").returncode == 0
    project.write_models(length=70)
    sys.modules.pop("models", None)
    before = sorted(project.directory.rglob("versions/*/*.py"))
    result = project.dbmigrate("new", "--autogenerate", "-m", "longer")
    assert result.exit_code == 3
    assert "refused (type-wider)" in result.stderr
    assert 'op.add_column("t", sa.Column("note_new", mysql.VARCHAR(70), nullable=True))' in result.stderr
    by_alembic = project.alembic("revision", "--autogenerate", "-m", "longer")
    assert by_alembic.returncode != 0
    assert "refused (type-wider)" in by_alembic.stderr + by_alembic.stdout
    assert "Traceback" not in by_alembic.stderr
    assert sorted(project.directory.rglob("versions/*/*.py")) == before
    check = project.alembic("check")
    assert "New upgrade operations detected" in check.stderr + check.stdout


def test_database_that_lacks_revisions_is_told(project: Project) -> None:
    result = project.dbmigrate("new", "--autogenerate", "-m", "too early")
    assert result.exit_code == 3
    assert "not up to date" in result.stderr
    assert "alembic upgrade heads" in result.stderr
