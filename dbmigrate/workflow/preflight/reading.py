"""Reading settings and tables of a server as text, for the checks."""

from __future__ import annotations

from collections.abc import Iterable

from dbmigrate.mysql.identifiers import quote_string
from dbmigrate.mysql.sessions import Session


def as_text(value: bytes | None) -> str:
    """A value as text; NULL is empty."""
    return (value or b"").decode("utf-8", "replace")


def read_rows(session: Session, sql: str) -> list[tuple[str, ...]]:
    """All rows of a query as text."""
    return [tuple(as_text(value) for value in row) for row in session.execute(sql, doing="preflight").rows]


def read_variables(session: Session, names: Iterable[str]) -> dict[str, str]:
    """Global variables by name, upper-cased values for switches; those the server does not know are left out."""
    listed = ", ".join(quote_string(name) for name in names)
    return dict(read_rows(session, f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({listed})"))  # type: ignore[arg-type]


def is_on(value: str) -> bool:
    """Whether a switch variable is on, however the server spells it."""
    return value.upper() in ("ON", "1", "TRUE", "YES")
