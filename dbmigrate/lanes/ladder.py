"""The ladder: a change goes the cheapest way that the server takes, and no way that copies a table or holds writers back.

INSTANT touches no row, NOCOPY (MariaDB) builds no more than an index, INPLACE with LOCK=NONE may rebuild the table while
others read and write. A way that a server does not have for a change is refused before it waits for anything or
touches a row, so trying costs a round trip. Below the last rung the table would be copied while writers wait: not without
being asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from dbmigrate.domain.errors import RefusedError
from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.lanes.statements import Statement, StatementKind, shorten
from dbmigrate.mysql.faults import ServerRefusedError
from dbmigrate.mysql.identifiers import quote_identifier, quote_table


class Rung(Enum):
    """A way to change a table."""

    INSTANT = "instant"
    NOCOPY = "nocopy"
    INPLACE = "inplace"
    COPY = "copy"
    PLAIN = "plain"
    """No table is changed in place: the statement runs as it is."""


NOT_THIS_WAY = frozenset({1800, 1845, 1846, 4092})
"""Unknown ALGORITHM, not supported (with and without a reason), no more instant changes before a rebuild."""

_OPTIONS = {
    Rung.INSTANT: ("ALGORITHM=INSTANT",),
    Rung.NOCOPY: ("ALGORITHM=NOCOPY", "LOCK=NONE"),
    Rung.INPLACE: ("ALGORITHM=INPLACE", "LOCK=NONE"),
}


@dataclass(frozen=True, slots=True)
class Way:
    """A statement as it is sent on one rung."""

    rung: Rung
    sql: str


def build_ways(statement: Statement, version: ServerVersion) -> tuple[Way, ...]:
    """The ways that hold nobody back, the cheapest first."""
    if statement.kind in (StatementKind.DEFINITION, StatementKind.ROWS):
        return (Way(Rung.PLAIN, statement.text),)
    rungs = [rung for rung in _OPTIONS if version.is_mariadb or rung is not Rung.NOCOPY]
    return tuple(Way(rung, _with_options(statement, _OPTIONS[rung])) for rung in rungs)


def build_copying_way(statement: Statement) -> Way:
    """The way that copies the table while writers wait."""
    return Way(Rung.COPY, statement.text)


def _with_options(statement: Statement, options: tuple[str, ...]) -> str:
    if statement.kind is StatementKind.CREATE_INDEX:
        return f"{statement.text}\n{' '.join(options)}"  # on a line of its own: the text may end in a comment
    text = statement.text
    if statement.kind is StatementKind.DROP_INDEX:  # MariaDB's DROP INDEX takes no ALGORITHM
        text = f"ALTER TABLE {quote_table(statement.tables[0])} DROP INDEX {quote_identifier(statement.index)}"
    return f"{text}\n, {', '.join(options)}"


def climb(
    statement: Statement, version: ServerVersion, execute: Callable[[str], object], *, may_copy: bool = False
) -> Rung:
    """Run ``statement`` through ``execute`` on the first rung that the server takes.

    Raises:
        RefusedError: it takes none, and copying was not asked for. Nothing was changed.
    """
    reasons = []
    for way in build_ways(statement, version):
        try:
            execute(way.sql)
        except ServerRefusedError as refused:
            if refused.number not in NOT_THIS_WAY or way.rung is Rung.PLAIN:
                raise
            reasons.append(f"{way.rung.name}: {refused.cause}")
            continue
        return way.rung
    if not may_copy:
        raise _refuse(statement, reasons)
    execute(build_copying_way(statement).sql)
    return Rung.COPY


def _refuse(statement: Statement, reasons: list[str]) -> RefusedError:
    table = statement.tables[0].name if statement.tables else ""
    return RefusedError(
        "this change would copy the table while writers wait", place=shorten(statement.text), cause="; ".join(reasons),
        hint="add a new column, backfill it and drop the old one later (docs/lanes.md); or, where writers may wait for as "
        f"long as the copy takes: --allow-copy {table}",
    )  # fmt: skip
