"""What a lint or a plan asks a server: its version, its tables, and which revisions it has.

Apart from both because they must see the same database, and because only this module decides which one is meant.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit, urlunsplit

from pydantic import ValidationError

from dbmigrate.config import ServerSection
from dbmigrate.domain.errors import ConfigurationError
from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.lanes.tables import Tables, build_tables
from dbmigrate.mysql.introspection import read_schema, read_server_version
from dbmigrate.mysql.revisions import read_revisions
from dbmigrate.mysql.sessions import Endpoint

_DRIVERS = frozenset({"mysql", "mariadb"})


@dataclass(frozen=True)
class Database:
    """One database as it was when it was asked. ``heads`` are the last revisions that it has of each branch."""

    place: str
    version: ServerVersion
    tables: Tables
    heads: tuple[str, ...]


class VariableServer(ServerSection):
    """A server whose whole URL, password included, is in an environment variable."""

    variable: str

    def _find_password(self) -> str:
        return unquote(urlsplit(os.environ.get(self.variable, "")).password or "")


def read_database(endpoint: Endpoint) -> Database:
    """The database of the endpoint. Nothing is locked or changed.

    Raises:
        DbmigrateError: the server cannot be reached, or refuses.
    """
    schema = endpoint.section.schema
    with endpoint.connect() as connection:
        version = read_server_version(connection)
        tables = build_tables(read_schema(connection, version, schema))
        heads = read_revisions(connection, schema, place=endpoint.place)
    return Database(endpoint.place, version, tables, heads)


def read_target(target: Endpoint, source: Endpoint) -> Database:
    """The database in which a move runs its revisions: the target, and before ``expand`` what it will have.

    An empty target gets the source's tables, so those are taken; the version is the target's in any case.
    """
    there = read_database(target)
    if not there.tables.is_empty:
        return there
    coming = read_database(source)
    return Database(f"{target.place} (empty; tables of {source.place})", there.version, coming.tables, coming.heads)


def server_in_variable(name: str) -> ServerSection:
    """The server whose URL is in the environment variable ``name``.

    Raises:
        ConfigurationError: it is not set, or is no URL of a database. Its value is not repeated.
    """
    url = os.environ.get(name)
    if not url:
        raise ConfigurationError(
            f"the environment variable {name} is not set", place="--url-env",
            hint=f"export {name}=mysql+pymysql://user:password@host:3306/database",
        )  # fmt: skip
    return _build(_without_secret(url), place=f"--url-env {name}", variable=name)


def server_at(url: str) -> ServerSection:
    """The server at ``url``, which holds no password.

    Raises:
        ConfigurationError: it is no such URL.
    """
    return _build(url, place="--url")


def _without_secret(url: str) -> str:
    """The part that says where: without password, driver and options."""
    try:
        parts = urlsplit(url)
        address = f"{parts.username or ''}@{parts.netloc.rpartition('@')[2]}"
    except ValueError:
        return ""
    scheme = parts.scheme.split("+")[0]
    return urlunsplit((scheme if scheme in _DRIVERS else parts.scheme, address, parts.path, "", ""))


def _build(url: str, *, place: str, variable: str = "") -> ServerSection:
    try:
        return VariableServer(url=url, variable=variable) if variable else ServerSection(url=url)
    except ValidationError as fault:
        reasons = "; ".join(error["msg"].removeprefix("Value error, ") for error in fault.errors(include_input=False))
        raise ConfigurationError(
            f"the URL {reasons}", place=place, hint="as in mysql://user@host:3306/database"
        ) from None
