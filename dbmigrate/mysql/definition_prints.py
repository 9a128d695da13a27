"""Prints of definitions: short texts that change exactly when a table, view, trigger or routine is defined anew.

DDL of both flavours either takes effect or does not, but who was killed meanwhile cannot know which. Comparing the
print from before with the one now tells.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from dbmigrate.domain.schema import TableName
from dbmigrate.mysql.faults import ServerRefusedError
from dbmigrate.mysql.identifiers import quote_string, quote_table
from dbmigrate.mysql.sessions import Session

_NO_SUCH_TABLE = 1146
_COUNTER = re.compile(r" AUTO_INCREMENT=\d+")
_PROGRAMS = (
    "SELECT table_name, view_definition FROM information_schema.views WHERE table_schema = {0} ORDER BY 1",
    "SELECT trigger_name, event_object_table, action_timing, event_manipulation, action_statement "
    "FROM information_schema.triggers WHERE trigger_schema = {0} ORDER BY 1",
    "SELECT routine_name, routine_type, dtd_identifier, routine_definition, last_altered "
    "FROM information_schema.routines WHERE routine_schema = {0} ORDER BY 1, 2",
    "SELECT event_name, status, last_altered, event_definition FROM information_schema.events "
    "WHERE event_schema = {0} ORDER BY 1",
)


def read_definition(session: Session, table: TableName) -> str | None:
    """The server's own definition of a table or view, without its counter; None where there is none."""
    try:
        rows = session.execute(f"SHOW CREATE TABLE {quote_table(table)}", doing="reading a definition").rows
    except ServerRefusedError as refused:
        if refused.number != _NO_SUCH_TABLE:
            raise
        return None
    return _COUNTER.sub("", (rows[0][1] or b"").decode("utf-8", "replace"))


def read_print(session: Session, schema: str, tables: Sequence[TableName]) -> str:
    """The print of these tables; without any, of the schema's views, triggers, routines and events."""
    if tables:
        parts = [f"{table}: {read_definition(session, table)}" for table in tables]
    else:
        parts = [
            repr(session.execute(query.format(quote_string(schema)), doing="reading definitions").rows)
            for query in _PROGRAMS
        ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
