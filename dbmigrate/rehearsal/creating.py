"""The real database's definitions on a throwaway server: tables first, everything that could fire after the rows."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Sequence

from dbmigrate.domain.errors import DbmigrateError
from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.domain.schema import ObjectKind, Schema, StoredObject, Table, TableName
from dbmigrate.mysql.definitions import create_objects, enable_event, translate_table
from dbmigrate.mysql.identifiers import quote_identifier, quote_string
from dbmigrate.mysql.introspection import read_schema
from dbmigrate.rehearsal.servers import StandIn
from dbmigrate.rehearsal.shape import RealServer

_BEFORE_ROWS = (ObjectKind.SEQUENCE,)
_AFTER_ROWS = (
    ObjectKind.FUNCTION, ObjectKind.PROCEDURE, ObjectKind.PACKAGE, ObjectKind.VIEW, ObjectKind.TRIGGER, ObjectKind.EVENT,
)  # fmt: skip


def create_database(stand_in: StandIn, schema: Schema | None = None) -> None:
    """An empty database of the real one's charset and collation."""
    charset = schema.charset if schema else "utf8mb4"
    collation = f" COLLATE {schema.collation}" if schema and schema.collation else ""
    sql = f"CREATE DATABASE IF NOT EXISTS {quote_identifier(stand_in.schema)} CHARACTER SET {charset}"
    with stand_in.session() as session:
        try:
            session.execute(sql + collation, doing="creating the database")
        except DbmigrateError:  # a collation of another release
            session.execute(sql, doing="creating the database")


def create_tables(stand_in: StandIn, real: RealServer, tables: Sequence[Table]) -> None:
    """The tables, without rows, whatever flavour the throwaway server is of.

    Raises:
        DbmigrateError: one cannot exist there.
    """
    version = stand_in.read_version()
    _create_kinds(stand_in, real, version, _BEFORE_ROWS)
    with stand_in.session() as session:
        session.execute(f"USE {quote_identifier(stand_in.schema)}", doing="creating tables")
        for table in tables:
            name = TableName(stand_in.schema, table.name.name)
            definition = translate_table(table, source=real.version, target=version, target_name=name)
            session.execute(definition.create, doing=f"creating {name}")


def create_programs(stand_in: StandIn, real: RealServer) -> None:
    """Views, routines, triggers and events, with accounts of their definers' names to run as."""
    version = stand_in.read_version()
    _create_kinds(stand_in, real, version, _AFTER_ROWS)
    with stand_in.session() as session:
        for event in real.schema.of_kind(ObjectKind.EVENT):
            session.execute(enable_event(event, stand_in.schema), doing="enabling an event")


def create_definers(stand_ins: Sequence[StandIn], objects: Sequence[StoredObject]) -> None:
    """Accounts that stored objects run as, with a password that nobody knows, on both sides."""
    for definer in sorted({stored.definer for stored in objects if stored.definer}):
        user, _, host = definer.rpartition("@")
        if user in ("mysql.sys", "mariadb.sys"):
            continue
        who = f"{quote_string(user)}@{quote_string(host)}"
        for stand_in in stand_ins:
            with stand_in.session(is_exact=False) as session:
                password = quote_string(secrets.token_urlsafe(16))
                session.execute(f"CREATE USER IF NOT EXISTS {who} IDENTIFIED BY {password}", doing="a definer")
                session.execute(f"GRANT ALL PRIVILEGES ON {quote_identifier(stand_in.schema)}.* TO {who}", doing="a definer")


def _create_kinds(stand_in: StandIn, real: RealServer, version: ServerVersion, kinds: Sequence[ObjectKind]) -> None:
    objects = real.schema.of_kind(*kinds)
    if not objects:
        return
    with contextlib.closing(stand_in.connect(database=stand_in.schema)) as connection:
        create_objects(
            connection, objects, source=real.version, target=version, source_schema=real.schema.name,
            target_schema=stand_in.schema,
        )  # fmt: skip


def read_created_schema(stand_in: StandIn) -> Schema:
    """What is on the throwaway server now."""
    with contextlib.closing(stand_in.connect()) as connection:
        return read_schema(connection, stand_in.read_version(), stand_in.schema)
