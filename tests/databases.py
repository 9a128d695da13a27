"""What the server fixtures hand out. Apart from conftest.py because a module of that name cannot be imported by name
once a folder below has one too.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pymysql.connections import Connection

from dbmigrate.config import ServerSection
from dbmigrate.mysql.sessions import Endpoint
from dbmigrate.throwaway.local_servers import LocalServer


class Connected(NamedTuple):
    """A connection as SHOW PROCESSLIST shows it; ``statement`` is None for one that is idle."""

    id: int
    user: str
    host: str
    schema: str | None
    command: str
    seconds: int
    state: str | None
    statement: str | None


def list_connections(server: LocalServer) -> list[Connected]:
    """All of a server. (MySQL's information_schema.processlist fails while any of them runs a statement with emoji.)"""
    return [Connected(*row[:8]) for row in server.execute("SHOW FULL PROCESSLIST")]


@dataclass(frozen=True)
class Database:
    """One schema on one server; empty when a test gets it."""

    server: LocalServer
    schema: str

    @property
    def url(self) -> str:
        """The address as the configuration file spells it; the password is ``server.password``."""
        return self.server.url(self.schema)

    def connect(self, **overrides: Any) -> Connection[Any]:
        """An administrative connection into the schema, in autocommit."""
        return self.server.connect(**{"database": self.schema} | overrides)

    def execute(self, *statements: str) -> tuple[tuple[Any, ...], ...]:
        """Run statements in one connection; returns the rows of the last."""
        with self.connect() as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return tuple(cursor.fetchall())


def endpoint_of(database: Database, *, user: str = "", secret: str = "") -> Endpoint:
    """Where a test's database is, for the program; by the administrator's account unless another is given."""
    password = database.server.directory / f"password-{user or 'own'}"
    password.write_text(secret or database.server.password)
    password.chmod(0o600)
    url = database.url.replace(f"//{database.server.user}@", f"//{user}@") if user else database.url
    return Endpoint("target", ServerSection(url=url, password_file=password))


@dataclass(frozen=True)
class Pair:
    """Where a move starts and where it ends; both schemas have the same name."""

    source: Database
    target: Database


def encrypting(folder: Path) -> dict[str, str]:
    """Options with which MariaDB encrypts its binlog, by a key in this folder."""
    keys = folder / "keys.txt"
    keys.write_text("1;770A8A65DA156D24EE2A093277530142\n")
    plugins = os.environ.get("DBMIGRATE_MARIADB_PLUGINS")  # .ci/mariadb-plugins; without it, where the server looks
    return {
        **({"plugin_dir": plugins} if plugins else {}), "plugin_load_add": "file_key_management",
        "loose_file_key_management_filename": str(keys), "encrypt_binlog": "ON",
    }  # fmt: skip
