"""Out of sight before out of existence: a column is made invisible, a table renamed, and how that is taken back.

``SELECT *`` and INSERT without a list of columns no longer meet an invisible column; whoever names it still does, and
is found meanwhile. A renamed table is missed at once, and comes back with its rows by one statement. Both are undone
without loss; what a drop itself loses, no undo restores.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from dbmigrate.domain.errors import RefusedError
from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.domain.schema import TableName
from dbmigrate.lanes.statements import Dropped
from dbmigrate.mysql.definition_prints import read_definition
from dbmigrate.mysql.definitions.tokens import set_strings_aside
from dbmigrate.mysql.identifiers import quote_identifier, quote_table
from dbmigrate.mysql.sessions import Session

_INVISIBLE = re.compile(r"\bINVISIBLE\b|/\*!80023 INVISIBLE \*/")
_CHECK = re.compile(r" CHECK \(")


@dataclass(frozen=True, slots=True)
class Hiding:
    """The statements that hide and show again; both empty where it is hidden already."""

    hide: str
    show: str


def hidden_name(table: TableName, revision: str) -> TableName:
    """What a table is called between being hidden and being dropped."""
    return TableName(table.schema, f"{table.name[:40]}_gone_{revision[:16]}")


def build_hiding(session: Session, version: ServerVersion, dropped: Dropped, revision: str) -> Hiding:
    """How to hide what will be dropped, from its definition now.

    Raises:
        RefusedError: it is not there, or nobody could insert a row once it is hidden.
    """
    if not dropped.column:
        there, gone = quote_table(dropped.table), quote_table(hidden_name(dropped.table, revision))
        return Hiding(f"RENAME TABLE {there} TO {gone}", f"RENAME TABLE {gone} TO {there}")
    line, _ = read_column_line(session, dropped)
    if _INVISIBLE.search(set_strings_aside(line).text):
        return Hiding("", "")
    _require_default(line, dropped)
    table = quote_table(dropped.table)
    if not version.is_mariadb:
        change = f"ALTER TABLE {table} ALTER COLUMN {quote_identifier(dropped.column)} SET"
        return Hiding(f"{change} INVISIBLE", f"{change} VISIBLE")
    return Hiding(f"ALTER TABLE {table} MODIFY COLUMN {make_invisible(line)}", f"ALTER TABLE {table} MODIFY COLUMN {line}")


def read_column_line(session: Session, dropped: Dropped) -> tuple[str, str]:
    """A column as the table's definition has it, and the column before it (empty for the first).

    Raises:
        RefusedError: there is no such table or column.
    """
    definition, before = read_definition(session, dropped.table) or "", ""
    for line in definition.splitlines()[1:]:
        found = re.match(r"\s*(`(?:[^`]|``)*`) ", line)
        if not found:
            break
        name = found[1][1:-1].replace("``", "`")
        if name.casefold() == dropped.column.casefold():
            return line.strip().rstrip(","), before
        before = name
    raise RefusedError(
        "what the revision drops is not there", place=str(dropped),
        hint="correct the revision; or, if it was dropped by hand, stamp it with Alembic",
    )  # fmt: skip


def make_invisible(line: str) -> str:
    """The column's definition with INVISIBLE where MariaDB takes it: before a CHECK, which must be last."""
    aside = set_strings_aside(line)
    check = _CHECK.search(aside.text)
    place = check.start() if check else len(aside.text)
    return aside.restore(f"{aside.text[:place]} INVISIBLE{aside.text[place:]}")


def _require_default(line: str, dropped: Dropped) -> None:
    text = set_strings_aside(line).text.upper()
    if " NOT NULL" in text and not any(word in text for word in (" DEFAULT ", " AUTO_INCREMENT", " GENERATED ")):
        raise RefusedError(
            "the column is NOT NULL without a default: nobody can insert a row without naming it", place=str(dropped),
            cause="an application that does not know it any more would fail",
            hint="make it nullable (or give it a default) in a revision before, when no version relies on the rule any more",
        )  # fmt: skip


def build_restoring(session: Session, dropped: Dropped) -> str:
    """The statement that brings the definition of what is about to be dropped back; its values it does not."""
    if not dropped.column:
        return read_definition(session, dropped.table) or ""
    line, before = read_column_line(session, dropped)
    place = f"AFTER {quote_identifier(before)}" if before else "FIRST"
    return f"ALTER TABLE {quote_table(dropped.table)} ADD COLUMN {line} {place}"
