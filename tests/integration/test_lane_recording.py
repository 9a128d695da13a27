"""What is recorded is what Alembic sends: the same revisions, once written down and once run on a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from databases import Database
from pymysql.connections import Connection
from store_setup import store_url

from dbmigrate.domain.flavours import Flavour
from dbmigrate.lanes.authoring import create_environment
from dbmigrate.lanes.environment import load_environment
from dbmigrate.lanes.recording import record_downgrade, record_upgrade
from dbmigrate.mysql.introspection import read_server_version
from dbmigrate.throwaway.local_servers import LocalServer

BOTH_FLAVOURS = (Flavour.MARIADB, pytest.param(Flavour.MYSQL, marks=pytest.mark.mysql))
STORE = Path(__file__).parents[2] / "migrations"

REVISION = """
import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision, down_revision = "e1", "expand0"


def upgrade():
    op.create_table(
        "p", sa.Column("id", sa.Integer, primary_key=True), sa.Column("flag", sa.Boolean, server_default=sa.true()),
        sa.Column("kind", sa.Enum("a", "b%"), comment="100% \\t 'quoted'"), mysql_engine="InnoDB", comment="it's 5%",
    )
    op.create_table(
        "t", sa.Column("id", sa.Integer, primary_key=True), sa.Column("a", sa.String(20), nullable=False, index=True),
        sa.Column("p_id", sa.Integer, sa.ForeignKey("p.id", name="fk_p", onupdate="RESTRICT")), sa.Column("j", sa.JSON),
        sa.Column("twice", sa.Integer, sa.Computed("p_id * 2", persisted=False)), sa.UniqueConstraint("a", name="uq_a"),
        sa.CheckConstraint("`select` > 0", name="positive"), sa.Column("select", sa.Numeric(10, 2)),
    )
    op.add_column("t", sa.Column("b", mysql.VARCHAR(9, charset="ascii"), server_default="x%"))
    op.alter_column("t", "b", existing_type=sa.String(9), nullable=False, server_default=sa.text("'%'"), comment="c:d")
    op.alter_column("t", "b", server_default=None)
    op.create_index("ix_b", "t", ["b", "a"], mysql_length={"a": 5})
    with op.batch_alter_table("t") as batch:
        batch.add_column(sa.Column("c", sa.DateTime, server_default=sa.func.now()))
        batch.drop_constraint("positive", type_="check")
        batch.alter_column("c", new_column_name="d", existing_type=sa.DateTime)
    op.execute("INSERT INTO p (id, kind) VALUES (1, 'b%'), (2, 'a')  -- 100%;")
    op.execute("UPDATE p SET flag = 0 WHERE kind LIKE 'b\\\\%'")
    op.create_table_comment("t", "new", existing_comment=None)
    op.drop_index("ix_b", "t")
    op.rename_table("t", "u")


def downgrade():
    op.drop_constraint("fk_p", "u", type_="foreignkey")
    op.drop_table("u")
    op.drop_table("p")
"""


@pytest.fixture(params=BOTH_FLAVOURS, ids=lambda flavour: flavour.value)
def database(
    request: pytest.FixtureRequest, session_server: Callable[..., LocalServer], database_factory: Callable[..., Database]
) -> Database:
    return database_factory(session_server(request.param, "source"))


NOT_OF_REVISIONS = ("SELECT", "SHOW", "DESCRIBE", "SET ", "COMMIT", "ROLLBACK")


@contextmanager
def sent_statements() -> Iterator[list[str]]:
    """Everything that the driver sends meanwhile but questions and Alembic's own table, on one line."""
    sent: list[str] = []
    query = Connection.query

    def listen(connection: Any, sql: Any, *rest: Any) -> Any:
        line = flatten(sql.decode() if isinstance(sql, bytes) else sql)
        if not line.upper().startswith(NOT_OF_REVISIONS) and "alembic_version" not in line:
            sent.append(line)
        return query(connection, sql, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Connection, "query", listen)
        yield sent


def flatten(statement: str) -> str:
    return " ".join(statement.strip().rstrip(";").split())


def compare(settings: Path, database: Database) -> int:
    environment = load_environment(settings)
    with database.connect() as connection:
        version = read_server_version(connection)
    scripts = environment.walk()
    up = [flatten(s) for script in scripts for one in record_upgrade(script, version) for s in one.statements]
    down = [
        flatten(s) for script in reversed(scripts) for one in record_downgrade(script, version) for s in one.statements
    ]
    with sent_statements() as sent:
        command.upgrade(Config(environment.settings), "heads")
    assert sent == up
    with sent_statements() as sent:
        command.downgrade(Config(environment.settings), "base")
    assert sent == down
    return len(up) + len(down)


def test_revision_with_every_operation(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", store_url(database))
    create_environment(tmp_path / "migrations")
    (tmp_path / "migrations" / "versions" / "expand" / "e1.py").write_text(REVISION)
    assert compare(tmp_path / "migrations", database) > 15


def test_store(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE_DATABASE_URL", store_url(database))
    assert compare(STORE, database) > 15
