"""Writing rows from their bytes: as parameters, by LOAD DATA LOCAL, which spares the server its SQL parser, too, or by REPLACE.

Parsing literals is half of what an INSERT of many rows costs a server (measured: 240,000 rows of ten columns, CPU of
the target, 1.25 s by INSERT and 0.70 s so on MariaDB 10.11). The text of a row is almost the literal one,
``('it\\'s',NULL,'5')``: fields are quoted as QUOTE does it, the bare word NULL is NULL, and a row ends with ``),``, which
no field holds outside its quotes.

LOAD DATA looks at each byte by itself, though, which costs more than parsing where fields are long: there the same text
is the list of values of a REPLACE in a session that speaks bytes (record 21 of the decisions).

MariaDB takes the rows of a prepared REPLACE as parameters, many at once: each value is its length and its bytes, so
neither side quotes, looks for ends or parses, and no lock of AUTO_INCREMENT is taken (record 22).

Apart from ``transfer``, which moves the text, because what a type needs to survive this way is a decision for each.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.domain.routes import CarriedColumn, Route
from dbmigrate.domain.schema import Column
from dbmigrate.mysql.identifiers import quote_identifier, quote_table
from dbmigrate.mysql.literals import (
    INEXACT,
    TEXTS,
    LiteralForm,
    find_literal_form,
    is_binary,
    is_text,
    join_row,
    literal_expression,
    text_expression,
)
from dbmigrate.mysql.sessions import Session
from dbmigrate.mysql.statements import build_replace_prefix, type_of_value

_SENT_AS_STORED = frozenset({"utf8mb4", "utf8mb3", "utf8", "binary"})
"""Charsets whose stored bytes are those of the text in utf8mb4."""
_MOST_SHORT = 16_383  # characters, of four bytes at most
_LONGEST_DOUBLE = 32
_NEVER_PLANNED = frozenset({LiteralForm.INTRODUCED, LiteralForm.GEOMETRY})
_LONG = frozenset({"mediumtext", "longtext", "json", "mediumblob", "longblob"})
_NEVER_BYTES = frozenset({"uuid", "inet4", "inet6"})
"""MariaDB would take the bytes for the value's own 16 or 4."""


@dataclass(frozen=True, slots=True)
class LoadSettings:
    """What a server says about loads. ``locks_auto_increment``: one load at a time into a table with such a column.

    ``takes_parameters``: of many rows at once, which MariaDB does unless a proxy in between does not.

    ``logs_statements``: this session's statements are written to the binlog beside their rows.
    """

    is_allowed: bool
    locks_auto_increment: bool
    logs_statements: bool
    takes_parameters: bool


def read_load_settings(session: Session, version: ServerVersion) -> LoadSettings:
    """``local_infile`` is off by default on MySQL; ``innodb_autoinc_lock_mode`` is 1 by default on MariaDB."""
    logs = "@@SESSION.binlog_annotate_row_events" if version.is_mariadb else "@@SESSION.binlog_rows_query_log_events"
    ((local, mode, logged),) = session.execute(
        f"SELECT @@GLOBAL.local_infile, @@GLOBAL.innodb_autoinc_lock_mode, @@GLOBAL.log_bin AND {logs}",
        doing="reading the settings of loads",
    ).rows
    return LoadSettings((local or b"").decode().upper() in ("1", "ON"), mode != b"2", logged != b"0", session.takes_bulk)


class Way(Enum):
    """How a server takes the text of rows."""

    PARAMETERS = "parameters"
    LOAD_DATA = "LOAD DATA"
    REPLACE = "REPLACE"


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """How a route's rows are written from their bytes.

    ``row`` is SQL over the origin that yields one row's text, ``separator`` stands between two of them. ``statement``
    replaces rows that are in the way: a load reads such texts, each ended by ``),``; a REPLACE is followed by them; they are
    the parameters of a prepared one, of which a row has ``parameters``.
    """

    row: str
    statement: str
    way: Way = Way.LOAD_DATA
    separator: str = ","
    parameters: int = 0


def plan_load(route: Route, *, origin: ServerVersion, destination: ServerVersion) -> LoadPlan | None:
    """How to load this route's rows from and to servers of these versions; None where only literals carry them exactly.

    The text is bytes (``CHARACTER SET binary``): servers quote them in half of the time, and binary values need no
    hexadecimal. What would take bytes for something else goes through a variable that makes text or a number of them.
    """
    fields = _plan_fields(route, origin=origin, destination=destination)
    if fields is None:
        return None
    targets, settings = [], []
    for number, field in enumerate(fields):
        name, variable = quote_identifier(field.name), f"@f{number}"
        targets.append(variable if field.made_of else name)
        settings += [f"{name} = {field.made_of.format(variable)}"] if field.made_of else []
    statement = (
        f"LOAD DATA LOCAL INFILE 'dbmigrate' REPLACE INTO TABLE {quote_table(route.destination.name)} "
        "CHARACTER SET binary FIELDS TERMINATED BY ',' ENCLOSED BY '\\'' ESCAPED BY '\\\\' "
        f"LINES STARTING BY '(' TERMINATED BY '),' ({', '.join(targets)})"
    )
    row = join_row([field.text for field in fields])
    return LoadPlan(row, statement + (f" SET {', '.join(settings)}" if settings else ""))


def plan_replace(route: Route, *, origin: ServerVersion, destination: ServerVersion) -> LoadPlan | None:
    """Like ``plan_load``, by REPLACE; None also where a column cannot make its value of the bytes by itself."""
    fields = _plan_fields(route, origin=origin, destination=destination)
    if fields is None or any(field.made_of for field in fields):
        return None
    return LoadPlan(join_row([field.text for field in fields]), build_replace_prefix(route).decode(), Way.REPLACE)


def plan_parameters(route: Route, *, origin: ServerVersion, destination: ServerVersion) -> LoadPlan | None:
    """Like ``plan_load``, by a prepared REPLACE whose parameters are many rows at once."""
    if any(find_literal_form(column) in _NEVER_PLANNED for column, _ in map(type_of_value, route.columns)):
        return None
    texts, marks = [], []
    for carried in route.columns:
        column, value = type_of_value(carried)
        form = find_literal_form(column)
        texts.append(_frame(carried, _bytes_of(carried, column, value, form, origin)))
        marks.append((_find_conversion(carried.destination, form, destination) or "{}").format("?"))
    statement = f"{build_replace_prefix(route).decode()}({', '.join(marks)})"
    return LoadPlan(f"CONCAT({', '.join(texts)})", statement, Way.PARAMETERS, "", len(marks))


def _frame(carried: CarriedColumn, value: str) -> str:
    """SQL of a parameter as the protocol has it: 0, the length of the value's bytes and they themselves; or 1 for NULL."""
    column = carried.origin
    if column is not None and {column.data_type, carried.destination.data_type} <= INEXACT:
        # Blanks before a number mean nothing, and printing it twice would cost more.
        value, length = f"LPAD({value}, {_LONGEST_DOUBLE}, ' ')", str(_LONGEST_DOUBLE)
    else:
        length = f"LENGTH({value})"
    framed = f"CHAR(0, {_write_length(carried, length)}), {value}"
    if column is None or carried.expression is not None or column.is_nullable:
        return f"IFNULL(CONCAT({framed}), X'01')"
    return framed


def _write_length(carried: CarriedColumn, length: str) -> str:
    """The numbers of a length's bytes: up to 250 by one byte, else by a mark and the 2, 3 or 8 bytes that it announces.

    A text has at least two, so that a column which is made longer while rows are read does not outgrow them.
    """
    column = carried.origin
    if column is None or carried.expression is not None or column.data_type in _LONG:
        return f"254, {length} & 255, {length} >> 8 & 255, {length} >> 16 & 255, {length} >> 24, 0, 0, 0, 0"
    if not (column.data_type in TEXTS or is_binary(column) or column.members):
        return length
    if (column.character_length or column.octet_length or _MOST_SHORT + 1) <= _MOST_SHORT:
        return f"252, {length} & 255, {length} >> 8"
    return f"253, {length} & 255, {length} >> 8 & 255, {length} >> 16"


@dataclass(frozen=True, slots=True)
class _Field:
    """A destination's column, SQL over the origin that gives its text, and what must be made of that text, if anything."""

    name: str
    text: str
    made_of: str | None


def _plan_fields(route: Route, *, origin: ServerVersion, destination: ServerVersion) -> list[_Field] | None:
    typed = [type_of_value(carried) for carried in route.columns]
    forms = [find_literal_form(column) for column, _ in typed]
    if any(form in _NEVER_PLANNED for form in forms):
        return None
    return [
        _Field(
            carried.destination.name, _quote(carried, column, value, form, origin),
            _find_conversion(carried.destination, form, destination),
        )
        for (column, value), form, carried in zip(typed, forms, route.columns, strict=True)
    ]  # fmt: skip


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


def _bytes_of(carried: CarriedColumn, column: Column, value: str, form: LiteralForm, origin: ServerVersion) -> str:
    """The bytes of a field's value."""
    if form is LiteralForm.BYTES or _is_stored_as_sent(carried):
        return f"CONVERT({value} USING binary)" if origin.is_mariadb else f"CAST({value} AS BINARY)"
    text = text_expression(column, value)
    return text if column.charset is None and column.data_type != "json" else f"CAST({text} AS BINARY)"


def _is_stored_as_sent(carried: CarriedColumn) -> bool:
    origin = carried.origin
    if carried.expression is not None or origin is None:
        return False
    return is_text(origin) and origin.charset in _SENT_AS_STORED
