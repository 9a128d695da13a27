"""The one place where names and texts become SQL.

Apart from the statements that use them so that nothing else in the program decides how to quote: every identifier
and every string of a statement passes through here.
"""

from __future__ import annotations

from collections.abc import Iterable

from dbmigrate.domain.schema import TableName

_PLAIN = frozenset(chr(code) for code in range(0x20, 0x7F)) - {"'", "\\", "\x00"}


def quote_identifier(name: str) -> str:
    """``name`` in backticks, which quote under every sql_mode.

    Raises:
        ValueError: the name is empty or holds NUL, which no server accepts in a name.
    """
    if not name or "\0" in name:
        raise ValueError(f"not a name of a database object: {name!r}")
    return "`" + name.replace("`", "``") + "`"


def quote_table(table: TableName) -> str:
    """A table by schema and name."""
    return f"{quote_identifier(table.schema)}.{quote_identifier(table.name)}"


def quote_columns(names: Iterable[str]) -> str:
    """Names separated by commas."""
    return ", ".join(map(quote_identifier, names))


def quote_string(text: str) -> str:
    """A string literal that means ``text`` under every sql_mode and connection charset.

    Printable ASCII without quote and backslash stands in single quotes; everything else goes as hexadecimal utf8mb4,
    because NO_BACKSLASH_ESCAPES changes what a backslash means and the session's charset what a byte means.
    """
    if _PLAIN.issuperset(text):
        return f"'{text}'"
    return f"_utf8mb4 X'{text.encode().hex().upper()}'"
