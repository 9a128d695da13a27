"""AUTO_INCREMENT and sequence values: what the next id would be, and carrying it over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.domain.schema import TableName
from dbmigrate.mysql.identifiers import quote_string, quote_table
from dbmigrate.mysql.sessions import Session


def read_auto_increments(session: Session, version: ServerVersion, schema: str) -> dict[TableName, int]:
    """The next AUTO_INCREMENT value of every table of a schema that has one, as of now."""
    if not version.is_mariadb:
        session.execute("SET SESSION information_schema_stats_expiry = 0")
    rows = session.execute(
        "SELECT table_name, auto_increment FROM information_schema.tables "
        f"WHERE table_schema = {quote_string(schema)} AND auto_increment IS NOT NULL",
        doing="reading AUTO_INCREMENT values",
    ).rows
    return {TableName(schema, (name or b"").decode()): int(value or 0) for name, value in rows}


def build_auto_increment(table: TableName, value: int) -> str:
    """Set a table's next value; servers never lower it below the highest id present."""
    return f"ALTER TABLE {quote_table(table)} AUTO_INCREMENT = {value}"


def find_behind(wanted: Mapping[TableName, int], present: Mapping[TableName, int]) -> dict[TableName, int]:
    """The tables whose next value is lower than it should be."""
    return {table: value for table, value in wanted.items() if present.get(table, 0) < value}


def read_sequences(session: Session, names: Sequence[TableName]) -> dict[TableName, int]:
    """The next value that each sequence (MariaDB) has not yet handed to any cache."""
    found = {}
    for name in names:
        value = session.fetch_value(
            f"SELECT next_not_cached_value FROM {quote_table(name)}", doing="reading a sequence"
        )
        found[name] = int(value or 0)
    return found


def build_sequence_set(name: TableName, value: int) -> str:
    """Make ``value`` the next one of a sequence; a lower value than its own has no effect."""
    return f"SELECT SETVAL({quote_table(name)}, {value}, 0)"
