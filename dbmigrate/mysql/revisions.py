"""Which revisions a database has, as Alembic wrote them down in it.

Apart from introspection because the table belongs to Alembic, and is no part of what moves by definition.
"""

from __future__ import annotations

from typing import Any

import pymysql
from pymysql.connections import Connection

from dbmigrate.domain.schema import TableName
from dbmigrate.mysql.faults import translate_fault
from dbmigrate.mysql.identifiers import quote_table

VERSION_TABLE = "alembic_version"


def read_revisions(connection: Connection[Any], schema: str, *, place: str) -> tuple[str, ...]:
    """The heads that the database ``schema`` has; none where Alembic has never been there.

    Raises:
        DbmigrateError: the server refuses, or the connection is lost.
    """
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = %s AND table_name = %s",
                (schema, VERSION_TABLE),
            )
            if not (cursor.fetchone() or (0,))[0]:
                return ()
            cursor.execute(f"SELECT version_num FROM {quote_table(TableName(schema, VERSION_TABLE))} ORDER BY 1")
            return tuple(str(row[0]) for row in cursor.fetchall())
    except pymysql.err.MySQLError as fault:
        raise translate_fault(fault, place=place, doing="reading which revisions ran") from fault
