"""Connections with the settings of the data path, for tests of the SQL that it evaluates."""

from __future__ import annotations

from typing import Any

from databases import Database, endpoint_of

from dbmigrate.mysql.sessions import DATA_SESSION, Session, SessionPool


def open_data_session(database: Database) -> Session:
    """A session as the data path opens them, inside the schema."""
    session = SessionPool(endpoint_of(database)).open()
    session.execute(f"USE `{database.schema}`")
    return session


def open_session(database: Database) -> Any:
    """A connection with the settings of the data path."""
    connection = database.connect()
    with connection.cursor() as cursor:
        for statement in DATA_SESSION:
            cursor.execute(statement)
    return connection


def fetch(connection: Any, sql: str) -> tuple[tuple[Any, ...], ...]:
    """All rows, and no warning."""
    with connection.cursor() as cursor:
        cursor.execute(sql)
        rows = tuple(cursor.fetchall())
        cursor.execute("SHOW WARNINGS")
        assert not [w for w in cursor.fetchall() if w[1] not in (1287, 1681, 3719, 1235)], sql[:200]
        return rows
