"""What the configured servers are: releases, definitions, sizes. Read once, never written.

Apart from what is made of it, because a rehearsal may do with less: an SQL file and two images need no real server.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dbmigrate.config import Config, ServerSection
from dbmigrate.domain.errors import DbmigrateError, FatalError
from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.domain.routes import Side
from dbmigrate.domain.schema import Schema
from dbmigrate.mysql.introspection import read_schema, read_server_version
from dbmigrate.mysql.sessions import Endpoint, Session, SessionPool

SNAPSHOT = (
    "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
)


@dataclass(frozen=True)
class RealServer:
    """One configured server: how to reach it, what it runs and what the database on it consists of."""

    section: ServerSection
    version: ServerVersion
    schema: Schema


def read_real_server(config: Config, side: Side) -> RealServer:
    """Ask a configured server.

    Raises:
        DbmigrateError: it cannot be reached, or the account may not look.
    """
    section = config.source if side is Side.SOURCE else config.target
    with contextlib.closing(Endpoint(side.value, section).connect()) as connection:
        version = read_server_version(connection)
        return RealServer(section, version, read_schema(connection, version, section.schema))


def read_real_source(config: Config) -> RealServer:
    """The configured source, whose database must be there.

    Raises:
        DbmigrateError: see above; FatalError where the database has no tables that move.
    """
    real = read_real_server(config, Side.SOURCE)
    if not any(config.tables.selects(table.name.name) for table in real.schema.tables):
        raise FatalError(
            "the source has no tables that would move", place=real.section.schema, hint="check [source] url and [tables]"
        )
    return real


def find_real_server(config: Config, side: Side) -> tuple[RealServer | None, str]:
    """The configured server, or why it could not be asked."""
    try:
        return read_real_server(config, side), ""
    except DbmigrateError as fault:
        return None, f"{fault.message} ({fault.cause})" if fault.cause else fault.message


@contextmanager
def source_snapshot(section: ServerSection) -> Iterator[Session]:
    """A session on the real source that sees one moment and cannot write."""
    session = SessionPool(Endpoint("source", section)).open()
    try:
        for statement in SNAPSHOT:
            session.execute(statement, doing="opening a snapshot")
        yield session
    finally:
        session.close()
