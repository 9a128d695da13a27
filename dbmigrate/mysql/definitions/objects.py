"""Views, routines, triggers, events and sequences on the target.

Each is created under the session settings it was made with, because they are part of what its text means.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pymysql.connections import Connection
from pymysql.err import MySQLError

from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.domain.schema import ObjectKind, StoredObject, TableName
from dbmigrate.mysql.definitions.collations import UntranslatableError, translate_collation, translate_collations
from dbmigrate.mysql.definitions.tokens import drop_introducers, rewrite_code, rewrite_keywords
from dbmigrate.mysql.faults import translate_fault
from dbmigrate.mysql.identifiers import quote_identifier, quote_string, quote_table

_MARIADB_MODES = frozenset(
    [
        "NO_AUTO_CREATE_USER",
        "TIME_ROUND_FRACTIONAL",
        "SIMULTANEOUS_ASSIGNMENT",
        "IGNORE_BAD_TABLE_OPTIONS",
        "NO_FIELD_OPTIONS",
        "NO_KEY_OPTIONS",
        "NO_TABLE_OPTIONS",
    ]
)
"""Modes that MySQL does not have and that change no meaning of a stored text."""
_MARIADB_DIALECTS = frozenset(["ORACLE", "EMPTY_STRING_IS_NULL"])
_MYSQL_MODES = frozenset(["TIME_TRUNCATE_FRACTIONAL"])
ALREADY_EXISTS = frozenset({1050, 1304, 1359, 1537})
_EVENT_STATE = re.compile(r"\b(ON COMPLETION (?:NOT )?PRESERVE) (?:ENABLE|DISABLE(?: ON (?:SLAVE|REPLICA))?)\b")


def translate_object(
    stored: StoredObject, *, source: ServerVersion, target: ServerVersion, source_schema: str, target_schema: str
) -> tuple[str, ...]:
    """The statements that create an object: its session settings, then its definition with its definer kept.

    To be run in order, in the target's database, on one session that is given its own settings back afterwards: the first
    statement sets sql_mode, character_set_client and collation_connection. (An event's time zone is set and put back by
    the statements themselves.) References to the source's database by name follow it. An event is created disabled; see
    ``enable_event``.

    Raises:
        UntranslatableError: it has no counterpart there.
    """
    if stored.kind is ObjectKind.SEQUENCE and not target.has_sequences:
        raise UntranslatableError(
            f"{target} has no sequences", place=str(stored.name), hint="use AUTO_INCREMENT, or exclude what uses it"
        )
    if stored.kind is ObjectKind.PACKAGE and not target.is_mariadb:
        raise UntranslatableError(f"{target} has no packages", place=str(stored.name), hint="rewrite it as routines")
    text = translate_collations(stored.create_statement, source=source, target=target)
    text = rewrite_schema(text, source_schema, target_schema, place=str(stored.name))
    if stored.kind is ObjectKind.VIEW and target.is_mariadb and not source.is_mariadb:
        text = drop_introducers(text)
    if stored.kind is ObjectKind.EVENT:
        text = rewrite_keywords(text, lambda code: _EVENT_STATE.sub(r"\1 DISABLE", code))
    if stored.time_zone:
        zone = f"SET @dbmigrate_time_zone = @@SESSION.time_zone, time_zone = {quote_string(stored.time_zone)}"
        return (_build_session(stored, source, target), zone, text, "SET time_zone = @dbmigrate_time_zone")
    return (_build_session(stored, source, target), text)


def enable_event(stored: StoredObject, target_schema: str) -> str:
    """The statement that starts an event created by ``translate_object``, or leaves it off where it was off."""
    name = quote_table(TableName(target_schema, stored.name.name))
    return f"ALTER EVENT {name} {'ENABLE' if stored.is_enabled else 'DISABLE'}"


def rewrite_schema(text: str, source_schema: str, target_schema: str, *, place: str) -> str:
    """``text`` with ``source.x`` as ``target.x``, quoted or not, strings and comments left alone.

    Raises:
        UntranslatableError: the source's name also names something else in the text, such as a table or an alias.
    """
    if source_schema == target_schema:
        return text
    plain = rf"(?<![\w$.`@]){re.escape(source_schema)}(?![\w$`])"
    quoted = rf"(?<!\.){re.escape(quote_identifier(source_schema))}"
    qualifier = re.compile(rf"(?:{quoted}|{plain})\s*\.(?=\s*[`\w])")
    code: list[str] = []
    rewrite_code(text, lambda part: code.append(part) or part)  # type: ignore[func-returns-value]
    used = qualifier.search(" ".join(code))
    if used and re.search(rf"(?:{quoted})(?!\s*\.)", " ".join(code)):
        raise UntranslatableError(
            f"it is not clear where {source_schema} means the database", place=place,
            hint=f"create it on the target by hand, or keep the database's name {source_schema}",
        )  # fmt: skip
    return rewrite_code(text, lambda part: qualifier.sub(lambda _: f"{quote_identifier(target_schema)}.", part))


def _build_session(stored: StoredObject, source: ServerVersion, target: ServerVersion) -> str:
    settings = [f"sql_mode = {quote_string(_translate_sql_mode(stored, target))}"]
    # We send the text as utf8mb4; only where it is plain ASCII may it be declared to be anything else.
    charset = stored.charset if stored.charset and stored.create_statement.isascii() else "utf8mb4"
    settings.append(f"character_set_client = {charset}")
    if stored.collation:
        settings.append(f"collation_connection = {translate_collation(stored.collation, source=source, target=target)}")
    return "SET SESSION " + ", ".join(settings)


def _translate_sql_mode(stored: StoredObject, target: ServerVersion) -> str:
    modes = [mode for mode in stored.sql_mode.split(",") if mode]
    if not target.is_mariadb:
        if dialect := _MARIADB_DIALECTS.intersection(modes):
            raise UntranslatableError(
                f"{target} has no sql_mode {', '.join(dialect)}", place=str(stored.name), hint="rewrite the routine"
            )
        return ",".join(mode for mode in modes if mode not in _MARIADB_MODES)
    return ",".join(mode for mode in modes if mode not in _MYSQL_MODES)


def create_objects(
    connection: Connection[Any], objects: Sequence[StoredObject], *, source: ServerVersion, target: ServerVersion,
    source_schema: str, target_schema: str,
) -> None:  # fmt: skip
    """Create objects that may need each other, in as many rounds as it takes; those that exist are kept.

    ``connection`` has the target's database selected; its session settings are changed.

    Raises:
        DbmigrateError: what could not be created, with the server's reason.
    """
    waiting = list(objects)
    while waiting:
        failures: dict[StoredObject, MySQLError] = {}
        for stored in waiting:
            statements = translate_object(
                stored, source=source, target=target, source_schema=source_schema, target_schema=target_schema
            )
            failure = _create(connection, statements)
            if failure is not None:
                failures[stored] = failure
        if len(failures) == len(waiting):
            stored, failure = next(iter(failures.items()))
            raise translate_fault(failure, place=str(stored.name), doing=f"creating the {stored.kind.value}")
        waiting = list(failures)


def _create(connection: Connection[Any], statements: Sequence[str]) -> MySQLError | None:
    try:
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
    except MySQLError as failure:
        return None if failure.args and failure.args[0] in ALREADY_EXISTS else failure
    return None
