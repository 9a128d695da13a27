"""What in a server still names a table or a column: stored objects, foreign keys, generated columns, statements seen.

Texts are searched for the names as tokens, so a name in a comment does not count, and a name of something else that is
called alike does: whoever is about to drop wants to be asked once too often.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dbmigrate.domain.errors import DbmigrateError, TransientError
from dbmigrate.domain.schema import TableName
from dbmigrate.mysql.identifiers import quote_string
from dbmigrate.mysql.processlist import hide_values
from dbmigrate.mysql.sessions import Session
from dbmigrate.mysql.statement_tokens import split_statement

_NOT_SYSTEM = "NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema', '_dbmigrate')"
_TEXTS = {
    "view": "SELECT CONCAT(table_schema, '.', table_name), '', view_definition FROM information_schema.views "
    f"WHERE table_schema {_NOT_SYSTEM}",
    "routine": "SELECT CONCAT(routine_schema, '.', routine_name), '', routine_definition FROM information_schema.routines "
    f"WHERE routine_schema {_NOT_SYSTEM}",
    "trigger": "SELECT CONCAT(trigger_schema, '.', trigger_name), CONCAT(event_object_schema, '.', event_object_table), "
    f"action_statement FROM information_schema.triggers WHERE trigger_schema {_NOT_SYSTEM}",
    "event": "SELECT CONCAT(event_schema, '.', event_name), '', event_definition FROM information_schema.events "
    f"WHERE event_schema {_NOT_SYSTEM}",
    "generated column": "SELECT CONCAT(table_schema, '.', table_name, '.', column_name), "
    "CONCAT(table_schema, '.', table_name), generation_expression FROM information_schema.columns "
    f"WHERE generation_expression <> '' AND table_schema {_NOT_SYSTEM}",
}
_FOREIGN_KEYS = (
    "SELECT constraint_name, CONCAT(table_schema, '.', table_name) FROM information_schema.key_column_usage "
    "WHERE referenced_table_name IS NOT NULL AND "
    "((referenced_table_schema = {schema} AND referenced_table_name = {table} AND {there}) "
    "OR (table_schema = {schema} AND table_name = {table} AND {here}))"
)
_STATEMENTS = (
    "SELECT digest_text FROM performance_schema.events_statements_summary_by_digest "
    "WHERE (schema_name = {schema} OR schema_name IS NULL) AND digest_text LIKE {pattern} ESCAPE '|' "
    "AND last_seen >= NOW(6) - INTERVAL {microseconds} MICROSECOND"
)
_USING = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "WITH", "CALL", "TABLE"})
MOST_SHOWN = 5

OWN_MARK = "dbmigrate_lane"
"""A name that the lanes' own statements hold: summaries keep names, but neither comments nor values."""


def mark_query(query: str) -> str:
    """The same query, known again in a summary of statements."""
    return f"SELECT * FROM ({query}) AS {OWN_MARK}"


@dataclass(frozen=True, slots=True)
class Uses:
    """What uses a name, and which searches could not be made, with the reason."""

    found: tuple[str, ...]
    not_searched: tuple[str, ...]


def find_stored_uses(session: Session, table: TableName, column: str) -> Uses:
    """Views, routines, triggers, events, generated columns and foreign keys that name a column (or a whole table)."""
    found, unseen = [], []
    for kind, query in _TEXTS.items():
        for name, on, text in _fetch(session, query):
            is_itself = name.casefold() == f"{table}.{column}".casefold()
            is_hidden = not text and kind == "routine"
            if is_hidden:
                unseen.append(f"{kind} {name}: the account may not read its definition")
            elif not is_itself and _names(text, table, column, is_on=on.casefold() == str(table).casefold()):
                found.append(f"{kind} {name}")
    return Uses((*found, *_find_foreign_keys(session, table, column)), tuple(unseen))


def _names(text: str, table: TableName, column: str, *, is_on: bool) -> bool:
    words = [token.text.casefold() for token in split_statement(text)]
    if is_on:
        return bool(column) and column.casefold() in words
    return _names_table(words, table) and (not column or column.casefold() in words)


def _names_table(words: list[str], table: TableName) -> bool:
    """Whether the table is named without a schema, or with its own."""
    schema, name = table.schema.casefold(), table.name.casefold()
    places = [place for place, word in enumerate(words) if word == name]
    return any(place < 2 or words[place - 1] != "." or words[place - 2] == schema for place in places)


def _find_foreign_keys(session: Session, table: TableName, column: str) -> Iterator[str]:
    by_name = quote_string(column)
    condition = _FOREIGN_KEYS.format(
        schema=quote_string(table.schema), table=quote_string(table.name),
        there=f"referenced_column_name = {by_name}" if column else f"table_name <> {quote_string(table.name)}",
        here=f"column_name = {by_name}" if column else "FALSE",
    )  # fmt: skip
    for name, where in _fetch(session, condition):
        yield f"foreign key {name} of {where}"


def find_statements(session: Session, table: TableName, column: str, *, seen_within_seconds: float) -> Uses:
    """Statements that named it not longer ago than that, as the server's summary of statements has them."""
    try:
        if session.fetch_value("SELECT @@performance_schema", doing="reading a setting") != b"1":
            return Uses((), ("statements: performance_schema is off",))
        rows = _fetch(session, _STATEMENTS.format(
            schema=quote_string(table.schema), pattern=quote_string(f"%{_escape(column or table.name)}%"),
            microseconds=int(seen_within_seconds * 1e6),
        ))  # fmt: skip
    except TransientError:
        raise
    except DbmigrateError as refused:
        return Uses((), (f"statements: {refused.cause or refused.message}",))
    texts = [text for (text,) in rows if _is_use(text) and _names(text, table, column, is_on=False)]
    return Uses(tuple(f"statement {hide_values(text)}" for text in texts[:MOST_SHOWN]), ())


def _is_use(text: str) -> bool:
    tokens = split_statement(text)
    return bool(tokens) and tokens[0].keyword in _USING and not any(token.text.casefold() == OWN_MARK for token in tokens)


def _escape(text: str) -> str:
    return text.replace("|", "||").replace("%", "|%").replace("_", "|_")


def _fetch(session: Session, query: str) -> list[tuple[str, ...]]:
    rows = session.execute(query, doing="looking for what uses a name").rows
    return [tuple((value or b"").decode("utf-8", "replace") for value in row) for row in rows]
