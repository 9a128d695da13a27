"""Writing rows by LOAD DATA LOCAL: the same rows as literals in an INSERT, without the server's SQL parser.

Parsing literals is half of what an INSERT of many rows costs a server (measured: 240,000 rows of ten columns, CPU of
the target, 1.25 s by INSERT and 0.70 s so on MariaDB 10.11). The text of a row is almost the literal one,
``('it\\'s',NULL,'5')``: fields are quoted as QUOTE does it, the bare word NULL is NULL, and a row ends with ``),``, which
no field holds outside its quotes.

Apart from ``transfer``, which moves the text, because what a type needs to survive this way is a decision for each.
"""

from __future__ import annotations

from dataclasses import dataclass

from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.domain.routes import CarriedColumn, Route
from dbmigrate.domain.schema import Column
from dbmigrate.mysql.identifiers import quote_identifier, quote_table
from dbmigrate.mysql.literals import LiteralForm, find_literal_form, is_text, join_row, literal_expression
from dbmigrate.mysql.sessions import Session
from dbmigrate.mysql.statements import type_of_value

_SENT_AS_STORED = frozenset({"utf8mb4", "utf8mb3", "utf8", "binary"})
"""Charsets whose stored bytes are those of the text in utf8mb4."""
_NEVER_BYTES = frozenset({"uuid", "inet4", "inet6"})
"""MariaDB would take the bytes for the value's own 16 or 4."""


@dataclass(frozen=True, slots=True)
class LoadSettings:
    """What a server says about loads. ``locks_auto_increment``: one load at a time into a table with such a column."""

    is_allowed: bool
    locks_auto_increment: bool


def read_load_settings(session: Session) -> LoadSettings:
    """``local_infile`` is off by default on MySQL; ``innodb_autoinc_lock_mode`` is 1 by default on MariaDB."""
    ((local, mode),) = session.execute(
        "SELECT @@GLOBAL.local_infile, @@GLOBAL.innodb_autoinc_lock_mode", doing="reading the settings of loads"
    ).rows
    return LoadSettings((local or b"").decode().upper() in ("1", "ON"), mode != b"2")


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """How a route's rows are loaded.

    ``row`` is SQL over the origin that yields one row's text; ``statement`` reads such texts, each ended by ``),``, and
    replaces rows that are in the way.
    """

    row: str
    statement: str


def plan_load(route: Route, *, origin: ServerVersion, destination: ServerVersion) -> LoadPlan | None:
    """How to load this route's rows from and to servers of these versions; None where only literals carry them exactly.

    The text is bytes (``CHARACTER SET binary``): servers quote them in half of the time, and binary values need no
    hexadecimal. What would take bytes for something else goes through a variable that makes text or a number of them.
    """
    typed = [type_of_value(carried) for carried in route.columns]
    forms = [find_literal_form(column) for column, _ in typed]
    if any(form in (LiteralForm.INTRODUCED, LiteralForm.GEOMETRY) for form in forms):
        return None
    texts, targets, settings = [], [], []
    for number, ((column, value), form, carried) in enumerate(zip(typed, forms, route.columns, strict=True)):
        texts.append(_quote(carried, column, value, form, origin))
        name, variable = quote_identifier(carried.destination.name), f"@f{number}"
        made_of = _find_conversion(carried.destination, form, destination)
        targets.append(variable if made_of else name)
        settings += [f"{name} = {made_of.format(variable)}"] if made_of else []
    statement = (
        f"LOAD DATA LOCAL INFILE 'dbmigrate' REPLACE INTO TABLE {quote_table(route.destination.name)} "
        "CHARACTER SET binary FIELDS TERMINATED BY ',' ENCLOSED BY '\\'' ESCAPED BY '\\\\' "
        f"LINES STARTING BY '(' TERMINATED BY '),' ({', '.join(targets)})"
    )
    return LoadPlan(join_row(texts), statement + (f" SET {', '.join(settings)}" if settings else ""))


def _find_conversion(column: Column, form: LiteralForm, version: ServerVersion) -> str | None:
    """What makes a value of a field's bytes; None where the column does it."""
    if form is LiteralForm.BARE:  # digits as a string would mean something else
        return "CAST({} AS UNSIGNED)"
    if column.data_type in _NEVER_BYTES or (column.data_type == "json" and not version.is_mariadb):
        return "CONVERT({} USING utf8mb4)"
    return None if column.charset is None or column.charset in _SENT_AS_STORED else "CONVERT({} USING utf8mb4)"


def _quote(carried: CarriedColumn, column: Column, value: str, form: LiteralForm, origin: ServerVersion) -> str:
    """A field's text, as bytes wherever it may hold others than ASCII: one part in a collation would make servers
    convert the whole row to it."""
    if form is LiteralForm.BYTES or _is_stored_as_sent(carried):
        if origin.is_mariadb:
            return f"QUOTE(CONVERT({value} USING binary))"
        return f"CAST(QUOTE(CONVERT(CAST({value} AS BINARY) USING latin1)) AS BINARY)"  # it quotes text only (3854)
    text = literal_expression(column, value)
    return text if column.charset is None and column.data_type != "json" else f"CAST({text} AS BINARY)"


def _is_stored_as_sent(carried: CarriedColumn) -> bool:
    origin = carried.origin
    if carried.expression is not None or origin is None:
        return False
    return is_text(origin) and origin.charset in _SENT_AS_STORED
