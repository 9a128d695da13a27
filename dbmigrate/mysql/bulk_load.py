"""Writing rows from their bytes: as parameters or values of placeholders, by LOAD DATA LOCAL, which spares the server its SQL
parser, too, or by REPLACE.

Parsing literals is half of what an INSERT of many rows costs a server (measured: 240,000 rows of ten columns, CPU of
the target, 1.25 s by INSERT and 0.70 s so on MariaDB 10.11). The text of a row is almost the literal one,
``('it\\'s',NULL,5)``: fields are quoted as QUOTE does it, or not at all where they are numbers and times, the bare word NULL is
NULL, and a row ends with ``),``, which no field holds outside its quotes.

LOAD DATA looks at each byte by itself, though, which costs more than parsing where fields are long: there the same text
is the list of values of a REPLACE in a session that speaks bytes (record 21 of the decisions).

MariaDB takes the rows of a prepared REPLACE as parameters, many at once: each value is its length and its bytes, so
neither side quotes, looks for ends or parses, and no lock of AUTO_INCREMENT is taken (record 22). Other servers take such
values where the statement has a placeholder for each, which pays where they are long (record 24).

Apart from ``transfer``, which moves the text, because what a type needs to survive this way is a decision for each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.domain.routes import CarriedColumn, Route
from dbmigrate.domain.schema import Column
from dbmigrate.mysql.identifiers import quote_identifier, quote_table
from dbmigrate.mysql.literals import (
    EXACT_NUMBERS,
    INEXACT,
    TEMPORALS,
    LiteralForm,
    find_literal_form,
    is_text,
    join_row,
    literal_expression,
    text_expression,
)
from dbmigrate.mysql.sessions import Session
from dbmigrate.mysql.statements import build_replace_prefix, type_of_value

_SENT_AS_STORED = frozenset({"utf8mb4", "utf8mb3", "utf8", "binary"})
"""Charsets whose stored bytes are those of the text in utf8mb4."""
_MOST_IN_TWO, _MOST_IN_THREE = 0xFFFF // 4, 0xFFFFFF // 4
"""Characters, of four bytes at most, whose length fits two and three bytes."""
_LONGEST_DOUBLE = 32
_MOST_PLACEHOLDERS = 65_535
"""Of a prepared statement: they are counted in two bytes."""
_BARE_IN_LOADS = EXACT_NUMBERS | INEXACT | TEMPORALS
"""MariaDB's other short types are not: it would make one of them of the word NULL beside their value."""
_SHORT = _BARE_IN_LOADS | {"bit", "year", "uuid", "inet4", "inet6"}
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
    PLACEHOLDERS = "placeholders"
    LOAD_DATA = "LOAD DATA"
    REPLACE = "REPLACE"


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """How a route's rows are written from their bytes.

    ``row`` is SQL over the origin that yields one row's text, ``separator`` stands between two of them. ``statement``
    replaces rows that are in the way: a load reads such texts, each ended by ``),``; a REPLACE is followed by them; they are
    the parameters of a prepared one, of which a row has ``parameters``, and where that names every row, ``marks`` stand for one.
    """

    row: str
    statement: str
    way: Way = Way.LOAD_DATA
    separator: str = ","
    parameters: int = 0
    marks: str = ""

    @property
    def most_rows(self) -> int | None:
        """A piece may have so many, None where it may have any number."""
        return _MOST_PLACEHOLDERS // self.parameters if self.way is Way.PLACEHOLDERS else None


def plan_load(route: Route, *, origin: ServerVersion, destination: ServerVersion) -> LoadPlan | None:
    """How to load this route's rows from and to servers of these versions; None where only literals carry them exactly.

    The text is bytes (``CHARACTER SET binary``): servers quote them in half of the time, and binary values need no
    hexadecimal. What would take bytes for something else goes through a variable that makes text or a number of them.
    """
    fields = _plan_fields(route, _enclose, origin=origin, destination=destination)
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
    fields = _plan_fields(route, _quote, origin=origin, destination=destination)
    if fields is None or any(field.made_of for field in fields):
        return None
    return LoadPlan(join_row([field.text for field in fields]), build_replace_prefix(route).decode(), Way.REPLACE)


def plan_parameters(route: Route, *, origin: ServerVersion, destination: ServerVersion) -> LoadPlan | None:
    """Like ``plan_load``, by a prepared REPLACE whose parameters are many rows at once."""
    fields = _plan_fields(route, _frame, origin=origin, destination=destination)
    if fields is None:
        return None
    marks = ", ".join((field.made_of or "{}").format("?") for field in fields)
    row = f"CONCAT({', '.join(field.text for field in fields)})"
    return LoadPlan(row, f"{build_replace_prefix(route).decode()}({marks})", Way.PARAMETERS, "", len(fields))


def plan_placeholders(route: Route, *, origin: ServerVersion, destination: ServerVersion) -> LoadPlan | None:
    """Like ``plan_load``, by a prepared REPLACE with a placeholder for every value of all rows, which any server takes.

    Whether a value is NULL would have to be known before the first of them is sent, so a column that may hold NULL has another
    placeholder in front that says so.
    """
    fields = _plan_fields(route, _frame_marked, origin=origin, destination=destination)
    if fields is None:
        return None
    row = f"CONCAT({', '.join(field.text for field in fields)})"
    parameters = sum(1 + field.may_be_null for field in fields)
    return LoadPlan(row, build_replace_prefix(route).decode(), Way.PLACEHOLDERS, "", parameters, f"({', '.join(map(_mark, fields))})")


def _mark(field: _Field) -> str:
    """What stands for a field in the statement: ELT gives bytes as they are, and would make a string of a number."""
    if not field.may_be_null:
        return (field.made_of or "{}").format("?")
    return f"IF(?, {field.made_of.format('?')}, NULL)" if field.made_of else "ELT(?, ?)"


@dataclass(frozen=True, slots=True)
class _Field:
    """A destination's column, SQL over the origin that gives its text, and what must be made of that text, if anything."""

    name: str
    text: str
    made_of: str | None
    may_be_null: bool


@dataclass(frozen=True, slots=True)
class _Value:
    """What a field is made of on the origin: its SQL, the column whose type decides how it is written, and in which form."""

    carried: CarriedColumn
    column: Column
    sql: str
    form: LiteralForm

    @property
    def is_plain(self) -> bool:
        """Bytes of no character set, or text whose stored bytes are those that are sent."""
        origin = self.carried.origin
        if self.form is LiteralForm.BYTES or origin is None or self.carried.expression is not None:
            return self.form is LiteralForm.BYTES
        return is_text(origin) and origin.charset in _SENT_AS_STORED

    @property
    def is_ascii(self) -> bool:
        return self.column.charset is None and self.column.data_type != "json"

    @property
    def may_be_null(self) -> bool:
        origin = self.carried.origin
        return origin is None or self.carried.expression is not None or origin.is_nullable


def _plan_fields(
    route: Route, write: Callable[[_Value, ServerVersion], str], *, origin: ServerVersion, destination: ServerVersion
) -> list[_Field] | None:
    typed = [(carried, *type_of_value(carried)) for carried in route.columns]
    values = [_Value(carried, column, sql, find_literal_form(column)) for carried, column, sql in typed]
    if any(value.form in (LiteralForm.INTRODUCED, LiteralForm.GEOMETRY) for value in values):
        return None
    return [
        _Field(
            value.carried.destination.name, write(value, origin),
            _find_conversion(value.carried.destination, value.form, destination), value.may_be_null,
        )
        for value in values
    ]  # fmt: skip


def _find_conversion(column: Column, form: LiteralForm, version: ServerVersion) -> str | None:
    """What makes a value of a field's bytes; None where the column does it."""
    if form is LiteralForm.BARE:  # digits as a string would mean something else; as bytes MySQL takes no more than 2^63 - 1
        return "CAST(CONVERT({} USING utf8mb4) AS UNSIGNED)"
    if column.data_type in _NEVER_BYTES or (column.data_type == "json" and not version.is_mariadb):
        return "CONVERT({} USING utf8mb4)"
    return None if column.charset is None or column.charset in _SENT_AS_STORED else "CONVERT({} USING utf8mb4)"


def _enclose(value: _Value, origin: ServerVersion) -> str:
    """A field's text for a load: as it is where none of its characters means anything to one, else quoted."""
    if value.column.data_type not in _BARE_IN_LOADS:
        return _quote(value, origin)
    text = text_expression(value.column, value.sql)
    return f"IFNULL({text}, 'NULL')" if value.may_be_null else text


def _quote(value: _Value, origin: ServerVersion) -> str:
    """A field's text, as bytes wherever it may hold others than ASCII: one part in a collation would make servers
    convert the whole row to it."""
    if value.is_plain:
        if origin.is_mariadb:
            return f"QUOTE(CONVERT({value.sql} USING binary))"
        return f"CAST(QUOTE(CONVERT(CAST({value.sql} AS BINARY) USING latin1)) AS BINARY)"  # it quotes text only (3854)
    text = literal_expression(value.column, value.sql)
    return text if value.is_ascii else f"CAST({text} AS BINARY)"


def _frame(value: _Value, origin: ServerVersion) -> str:
    """A field as a parameter of many rows' at once: 0, the length of its bytes and they themselves; or 1 for NULL."""
    length, content = _measure(value, origin)
    framed = f"CHAR(0, {length}), {content}"
    return f"IFNULL(CONCAT({framed}), X'01')" if value.may_be_null else framed


def _frame_marked(value: _Value, origin: ServerVersion) -> str:
    """A field as a placeholder's value, the length of its bytes and they themselves. If it may be NULL, after another one, of
    one byte: the digit 1, or the digit 0 and nothing in the second."""
    length, content = _measure(value, origin)
    if value.may_be_null:
        return f"IFNULL(CONCAT(CHAR(1, 49, {length}), {content}), X'013000')"
    return f"CHAR({length}), {content}"


def _measure(value: _Value, origin: ServerVersion) -> tuple[str, str]:
    """The numbers of the bytes that say how long a field is, as CHAR takes them, and SQL of what follows them."""
    carried = value.carried
    if value.is_plain:
        content = f"CONVERT({value.sql} USING binary)" if origin.is_mariadb else f"CAST({value.sql} AS BINARY)"
        length = f"LENGTH({value.sql})"
    else:
        text = text_expression(value.column, value.sql)
        content = text if value.is_ascii else f"CAST({text} AS BINARY)"
        length = f"LENGTH({text})"
    if carried.origin is not None and {carried.origin.data_type, carried.destination.data_type} <= INEXACT:
        # Blanks before a number mean nothing, and printing it twice would cost more.
        content, length = f"LPAD({content}, {_LONGEST_DOUBLE}, ' ')", str(_LONGEST_DOUBLE)
    if value.column.data_type == "json" and not origin.is_mariadb:  # which prints it wherever it is named
        return "254", f"REVERSE(UNHEX(LPAD(HEX({length}), 16, '0'))), {content}"
    return _write_length(carried, length), content


def _write_length(carried: CarriedColumn, length: str) -> str:
    """The numbers of a length's bytes: up to 250 by one byte, else by a mark and the 2, 3 or 8 bytes that it announces.

    A text has at least two, so that a column which is made longer while rows are read does not outgrow them. So has a number
    that becomes something else: some are printed in 255 digits (``INT(255) ZEROFILL``).
    """
    column, longest = carried.origin, None
    if column is not None and carried.expression is None:
        if column.data_type in _SHORT and column.data_type == carried.destination.data_type:
            return length
        longest = _MOST_IN_TWO if column.data_type in _SHORT else column.character_length or column.octet_length
    if longest and longest <= _MOST_IN_TWO:
        return f"252, {length} & 255, {length} >> 8"
    if longest and longest <= _MOST_IN_THREE:
        return f"253, {length} & 255, {length} >> 8 & 255, {length} >> 16"
    return f"254, {length} & 255, {length} >> 8 & 255, {length} >> 16 & 255, {length} >> 24, 0, 0, 0, 0"
