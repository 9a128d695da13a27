"""Reading what a database consists of, in a few queries whatever the number of tables.

Everything comes from information_schema, definitions from the server's own SHOW CREATE.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from pymysql.connections import Connection

from dbmigrate.domain.errors import FatalError
from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.domain.schema import (
    Column,
    ForeignKey,
    Generation,
    Index,
    IndexKind,
    ObjectKind,
    ReferentialAction,
    Schema,
    StoredObject,
    Table,
    TableName,
)
from dbmigrate.mysql.identifiers import quote_identifier, quote_string, quote_table
from dbmigrate.mysql.literals import refuse_reason_as_key

Row = Sequence[Any]


def _fetch(connection: Connection[Any], sql: str, parameters: Iterable[object] = ()) -> list[Row]:
    with connection.cursor() as cursor:
        cursor.execute(sql, tuple(parameters) or None)
        return list(cursor.fetchall())


def read_server_version(connection: Connection[Any]) -> ServerVersion:
    """Flavour and release of the server at the other end."""
    version, comment = _fetch(connection, "SELECT @@version, @@version_comment")[0]
    return ServerVersion.parse(str(version), str(comment))


_PLAIN_OUTPUT = {"sql_mode": "''", "sql_quote_show_create": "1", "time_zone": "'+00:00'"}
_PLAIN_OUTPUT_MYSQL = {
    "information_schema_stats_expiry": "0",  # table sizes of now, not of yesterday
    "show_create_table_skip_secondary_engine": "0",
    "show_create_table_verbosity": "0",
    "show_gipk_in_create_table_and_information_schema": "1",  # from 8.0.30: keys that the server made
}


@contextmanager
def _plain_output(connection: Connection[Any], version: ServerVersion) -> Iterator[None]:
    """Session settings under which definitions are printed in one way; the caller's are put back."""
    wanted = _PLAIN_OUTPUT | ({} if version.is_mariadb else _PLAIN_OUTPUT_MYSQL)
    known = {
        row[0]: row[1] for row in _fetch(connection, f"SHOW SESSION VARIABLES WHERE variable_name IN {tuple(wanted)}")
    }
    before = {name: "1" if text == "ON" else "0" if text == "OFF" else text for name, text in known.items()}
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION " + ", ".join(f"{name} = {wanted[name]}" for name in known))
        try:
            yield
        finally:
            for name, value in before.items():
                number = value.isdigit() and name != "sql_mode"
                cursor.execute(f"SET SESSION {name} = {value if number else quote_string(value)}")


def read_schema(connection: Connection[Any], version: ServerVersion, name: str) -> Schema:
    """Everything in one database; an absent database is an empty schema. The session's settings stay what they were."""
    with _plain_output(connection, version):
        return _read_schema(connection, version, name)


def _read_schema(connection: Connection[Any], version: ServerVersion, name: str) -> Schema:
    found = _fetch(
        connection,
        "SELECT default_character_set_name, default_collation_name FROM information_schema.schemata "
        "WHERE schema_name = %s",
        (name,),
    )
    if not found:
        return Schema(name, "utf8mb4", "", (), ())
    return Schema(
        name, found[0][0], found[0][1], _read_tables(connection, version, name),
        tuple(_read_objects(connection, version, name)),
    )  # fmt: skip


def read_table(connection: Connection[Any], version: ServerVersion, name: TableName) -> Table:
    """One base table.

    Raises:
        FatalError: there is none of that name.
    """
    with _plain_output(connection, version):
        found = _read_tables(connection, version, name.schema, name.name)
    if found:
        return found[0]
    raise FatalError("the table does not exist", place=str(name))


def read_foreign_keys_from_outside(connection: Connection[Any], schema: str) -> tuple[ForeignKey, ...]:
    """Foreign keys of other databases' tables that reference this one."""
    return tuple(
        _read_foreign_keys(
            connection, "r.unique_constraint_schema = %s AND r.constraint_schema <> %s", (schema, schema)
        )
    )


# --- tables -------------------------------------------------------------------------------------------------------


def _read_tables(
    connection: Connection[Any], version: ServerVersion, schema: str, only: str | None = None
) -> tuple[Table, ...]:
    condition, parameters = "table_schema = %s", [schema]
    if only is not None:
        condition, parameters = condition + " AND table_name = %s", [schema, only]
    kinds = "('BASE TABLE', 'SYSTEM VERSIONED')"
    rows = _fetch(
        connection,
        "SELECT table_name, engine, table_rows, data_length, index_length, auto_increment, table_collation, "
        f"create_options, table_type FROM information_schema.tables WHERE {condition} AND table_type IN {kinds} "
        "ORDER BY table_name",
        parameters,
    )
    columns = _read_columns(connection, version, condition, parameters)
    indexes = _read_indexes(connection, version, condition, parameters)
    # The table's database is named twice: with a constant the servers look it up instead of reading every database.
    foreign_keys = _read_foreign_keys(connection, "r.constraint_schema = %s AND k.table_schema = %s", (schema, schema))
    outside = read_foreign_keys_from_outside(connection, schema)
    own: defaultdict[str, list[ForeignKey]] = defaultdict(list)
    for foreign_key in foreign_keys:
        own[foreign_key.table.name].append(foreign_key)
    referenced = _gather_referenced_columns([*foreign_keys, *outside])
    definitions = _read_definitions(connection, [TableName(schema, row[0]) for row in rows])
    return tuple(
        replace(
            _build_table(definitions[row[0]], schema, row, columns[row[0]], indexes[row[0]]),
            foreign_keys=tuple(own[row[0]]),
            referenced_columns=tuple(sorted(referenced[TableName(schema, row[0])])),
        )
        for row in rows
    )


def _gather_referenced_columns(foreign_keys: Iterable[ForeignKey]) -> defaultdict[TableName, set[tuple[str, ...]]]:
    found: defaultdict[TableName, set[tuple[str, ...]]] = defaultdict(set)
    for foreign_key in foreign_keys:
        found[foreign_key.referenced_table].add(foreign_key.referenced_columns)
    return found


def _build_table(
    definition: str, schema: str, row: Row, columns: list[Column], indexes: list[Index]
) -> Table:
    name, engine, estimated, data, index, auto_increment, collation, options, kind = row
    return Table(
        name=TableName(schema, name), engine=engine or "", columns=tuple(columns), indexes=tuple(indexes),
        foreign_keys=(), key=choose_key(columns, indexes), create_statement=definition,
        charset=(collation or "").split("_")[0], collation=collation or "", auto_increment=auto_increment,
        estimated_rows=estimated or 0, data_bytes=data or 0, index_bytes=index or 0,
        is_partitioned="partitioned" in (options or ""), is_system_versioned=kind == "SYSTEM VERSIONED",
    )  # fmt: skip


_STRING = re.compile(rb"'(?:[^'\\]|''|\\.)*'", re.DOTALL)
_ESCAPED = {ord("0"): b"\0", ord("n"): b"\n", ord("r"): b"\r", ord("t"): b"\t", ord("Z"): b"\x1a"}


def _read_definitions(connection: Connection[Any], tables: Sequence[TableName]) -> dict[str, str]:
    """What the server prints for each table. MariaDB prints the default of a binary column as the bytes that it is, which
    need not be text in any charset: those are written as hexadecimal, which means the same."""
    _fetch(connection, "SET character_set_results = binary")
    try:
        printed = {table.name: _fetch(connection, f"SHOW CREATE TABLE {quote_table(table)}")[0][1] for table in tables}
    finally:
        _fetch(connection, "SET character_set_results = utf8mb4")
    return {name: _STRING.sub(_as_text, definition).decode("utf-8") for name, definition in printed.items()}


def _as_text(found: re.Match[bytes]) -> bytes:
    try:
        found[0].decode("utf-8")
    except UnicodeDecodeError:
        value = re.sub(rb"''|\\(.)", lambda pair: _ESCAPED.get(pair[1][0], pair[1]) if pair[1] else b"'", found[0][1:-1], flags=re.DOTALL)
        return b"x'" + value.hex().encode() + b"'"
    return found[0]


def choose_key(columns: Sequence[Column], indexes: Sequence[Index]) -> Index | None:
    """The primary key; else the narrowest unique index over whole NOT NULL columns; None where neither serves.

    A column serves unless ``literals.refuse_reason_as_key`` says why not. A primary key over prefixes serves, too: rows are
    found by their whole values, and those differ where prefixes do.
    """
    by_name = {column.name.casefold(): column for column in columns}

    def serves(index: Index) -> bool:
        parts = [by_name.get(name.casefold()) for name in index.columns]
        return all(p is not None and not p.is_nullable and refuse_reason_as_key(p) is None for p in parts)

    def width(index: Index) -> tuple[int, int]:
        octets = sum(by_name[name.casefold()].octet_length or 8 for name in index.columns)
        return len(index.columns), octets

    primary = next((index for index in indexes if index.is_primary), None)
    if primary is not None and serves(primary):
        return primary
    whole = [i for i in indexes if i.is_unique and not i.is_primary and not any(i.prefix_lengths) and serves(i)]
    return min(whole, key=width, default=None)


_MEMBER = re.compile(r"'((?:[^']|'')*)'")


def _read_columns(
    connection: Connection[Any], version: ServerVersion, condition: str, parameters: list[str]
) -> defaultdict[str, list[Column]]:
    checked_as_json = _read_json_checks(connection, condition, parameters) if version.is_mariadb else set()
    found: defaultdict[str, list[Column]] = defaultdict(list)
    rows = _fetch(
        connection,
        "SELECT table_name, column_name, data_type, column_type, is_nullable, character_set_name, collation_name, "
        "character_maximum_length, character_octet_length, numeric_precision, numeric_scale, datetime_precision, "
        "extra, generation_expression, column_default FROM information_schema.columns "
        f"WHERE {condition} ORDER BY table_name, ordinal_position",
        parameters,
    )
    for row in rows:
        is_json = row[2] == "json" or (row[2] == "longtext" and (row[0], row[1]) in checked_as_json)
        found[row[0]].append(_build_column(row, len(found[row[0]]), is_json))
    return found


def _build_column(row: Row, position: int, is_json: bool) -> Column:
    extra, kind = (row[12] or "").lower(), row[2].lower()
    generation = None
    if row[13]:
        generation = Generation.VIRTUAL if "virtual" in extra else Generation.STORED
    members = tuple(map(_unescape, _MEMBER.findall(row[3]))) if kind in ("enum", "set") else ()
    is_auto_increment = "auto_increment" in extra
    return Column(
        name=row[1], position=position, data_type=kind, column_type=row[3], is_nullable=row[4] == "YES",
        charset=row[5], collation=row[6], character_length=row[7], octet_length=row[8], precision=row[9],
        scale=row[10], fraction_digits=row[11] or 0, is_unsigned="unsigned" in row[3].lower(), members=members,
        generation=generation, is_invisible="invisible" in extra, is_auto_increment=is_auto_increment,
        is_json=is_json, has_default=row[14] is not None or "default_generated" in extra,
    )  # fmt: skip


def _unescape(member: str) -> str:
    """A member's name as printed in a column's type: quotes doubled, other specials behind a backslash."""
    return member.replace("''", "'").replace("\\\\", "\\")


def _read_json_checks(connection: Connection[Any], condition: str, parameters: list[str]) -> set[tuple[str, str]]:
    """MariaDB's JSON columns: longtext with a json_valid check of the column's own."""
    rows = _fetch(
        connection,
        "SELECT table_name, constraint_name, check_clause FROM information_schema.check_constraints "
        f"WHERE {condition.replace('table_schema', 'constraint_schema')} AND check_clause LIKE 'json_valid(%%'",
        parameters,
    )
    return {(r[0], r[1]) for r in rows if r[2] == f"json_valid({quote_identifier(r[1])})"}


def _read_indexes(
    connection: Connection[Any], version: ServerVersion, condition: str, parameters: list[str]
) -> defaultdict[str, list[Index]]:
    rows = _fetch(
        connection,
        "SELECT table_name, index_name, non_unique, column_name, sub_part, index_type "
        f"FROM information_schema.statistics WHERE {condition} ORDER BY table_name, index_name, seq_in_index",
        parameters,
    )
    parts: defaultdict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        parts[row[0], row[1]].append(row)
    found: defaultdict[str, list[Index]] = defaultdict(list)
    for (table, name), members in parts.items():
        kind = members[0][5].upper()
        found[table].append(
            Index(
                name=name,
                columns=tuple(m[3] or "" for m in members),
                is_unique=not int(members[0][2]),
                is_primary=name == "PRIMARY",
                prefix_lengths=tuple(m[4] for m in members),
                kind=IndexKind(kind.lower()) if kind.lower() in {k.value for k in IndexKind} else IndexKind.BTREE,
            )
        )
    return found


def _read_foreign_keys(connection: Connection[Any], condition: str, parameters: Sequence[str]) -> list[ForeignKey]:
    rows = _fetch(
        connection,
        "SELECT k.table_name, k.constraint_name, k.column_name, k.referenced_table_schema, k.referenced_table_name, "
        "k.referenced_column_name, r.delete_rule, r.update_rule, k.table_schema "
        "FROM information_schema.referential_constraints r JOIN information_schema.key_column_usage k "
        "ON k.constraint_schema = r.constraint_schema AND k.constraint_name = r.constraint_name "
        f"AND k.table_name = r.table_name WHERE {condition} "
        "ORDER BY k.table_schema, k.table_name, k.constraint_name, k.ordinal_position",
        parameters,
    )
    parts: defaultdict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        parts[row[8], row[0], row[1]].append(row)
    return [_build_foreign_key(members) for members in parts.values()]


def _build_foreign_key(members: Sequence[Row]) -> ForeignKey:
    first = members[0]
    return ForeignKey(
        name=first[1],
        table=TableName(first[8], first[0]),
        columns=tuple(m[2] for m in members),
        referenced_table=TableName(first[3], first[4]),
        referenced_columns=tuple(m[5] for m in members),
        on_delete=ReferentialAction(first[6]),
        on_update=ReferentialAction(first[7]),
    )


# --- stored objects -----------------------------------------------------------------------------------------------


def _read_objects(connection: Connection[Any], version: ServerVersion, schema: str) -> Iterable[StoredObject]:
    """In creation order: sequences, functions, procedures, views, triggers, events."""
    if version.has_sequences:
        yield from _read_sequences(connection, schema)
    yield from _read_routines(connection, schema)
    yield from _read_views(connection, schema)
    yield from _read_triggers(connection, schema)
    yield from _read_events(connection, schema)


def _show(connection: Connection[Any], kind: str, name: TableName, position: int) -> str:
    text = _fetch(connection, f"SHOW CREATE {kind} {quote_table(name)}")[0][position]
    if text is None:
        raise FatalError(
            f"the definition of {kind.lower()} {name} cannot be read", place=str(name),
            hint="`dbmigrate check` names the privilege that is missing",
        )  # fmt: skip
    return str(text)


def _read_sequences(connection: Connection[Any], schema: str) -> Iterable[StoredObject]:
    rows = _fetch(
        connection,
        "SELECT table_name FROM information_schema.tables WHERE table_schema = %s AND table_type = 'SEQUENCE'",
        (schema,),
    )
    for (name,) in rows:
        full = TableName(schema, name)
        yield StoredObject(ObjectKind.SEQUENCE, full, _show(connection, "SEQUENCE", full, 1))


def _read_routines(connection: Connection[Any], schema: str) -> Iterable[StoredObject]:
    rows = _fetch(
        connection,
        "SELECT routine_name, routine_type, definer, sql_mode, character_set_client, collation_connection "
        "FROM information_schema.routines WHERE routine_schema = %s ORDER BY routine_type, routine_name",
        (schema,),
    )
    for name, kind, definer, sql_mode, charset, collation in rows:
        full = TableName(schema, name)
        family = ObjectKind.PACKAGE if kind.startswith("PACKAGE") else ObjectKind(kind.lower())
        yield StoredObject(family, full, _show(connection, kind, full, 2), definer, sql_mode, charset, collation)


def _read_views(connection: Connection[Any], schema: str) -> Iterable[StoredObject]:
    rows = _fetch(
        connection,
        "SELECT table_name, definer, character_set_client, collation_connection FROM information_schema.views "
        "WHERE table_schema = %s ORDER BY table_name",
        (schema,),
    )
    for name, definer, charset, collation in rows:
        full = TableName(schema, name)
        text = _show(connection, "VIEW", full, 1)
        yield StoredObject(ObjectKind.VIEW, full, text, definer, "", charset, collation)


def _read_triggers(connection: Connection[Any], schema: str) -> Iterable[StoredObject]:
    rows = _fetch(
        connection,
        "SELECT trigger_name, event_object_table, definer, sql_mode, character_set_client, collation_connection "
        "FROM information_schema.triggers WHERE trigger_schema = %s "
        "ORDER BY event_object_table, event_manipulation, action_timing, action_order",
        (schema,),
    )
    for name, table, definer, sql_mode, charset, collation in rows:
        full = TableName(schema, name)
        yield StoredObject(
            ObjectKind.TRIGGER, full, _show(connection, "TRIGGER", full, 2), definer, sql_mode, charset, collation,
            table=TableName(schema, table),
        )  # fmt: skip


def _read_events(connection: Connection[Any], schema: str) -> Iterable[StoredObject]:
    rows = _fetch(
        connection,
        "SELECT event_name, definer, sql_mode, character_set_client, collation_connection, status, time_zone "
        "FROM information_schema.events WHERE event_schema = %s ORDER BY event_name",
        (schema,),
    )
    for name, definer, sql_mode, charset, collation, status, time_zone in rows:
        full = TableName(schema, name)
        yield StoredObject(
            ObjectKind.EVENT, full, _show(connection, "EVENT", full, 3), definer, sql_mode, charset, collation,
            is_enabled=status == "ENABLED", time_zone=time_zone,
        )  # fmt: skip
