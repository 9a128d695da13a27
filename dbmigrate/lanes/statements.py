"""What a statement of a revision is, as far as running it needs to know: its kind, its tables, what it drops.

Apart from the ladder, which rewrites it, and from the rules of the lint, which ask what it breaks. Read by
tokens, so that names in strings and comments are not taken for tables; what is not recognised is not run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from dbmigrate.domain.errors import RefusedError
from dbmigrate.domain.schema import TableName
from dbmigrate.mysql.statement_tokens import Token, split_statement


class StatementKind(Enum):
    """How a statement is run."""

    ALTER_TABLE = "alter table"
    CREATE_INDEX = "create index"
    DROP_INDEX = "drop index"
    DEFINITION = "definition"
    """DDL without a choice of algorithm: tables made, dropped or renamed, views, triggers, routines."""
    ROWS = "rows"


@dataclass(frozen=True, slots=True)
class Dropped:
    """A column that a statement drops, or a whole table where ``column`` is empty."""

    table: TableName
    column: str = ""

    def __str__(self) -> str:
        return f"{self.table}.{self.column}" if self.column else str(self.table)


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement. ``tables`` are those that it locks, the altered one first; ``index`` is what DROP INDEX names,
    ``added`` are the columns that ALTER TABLE adds."""

    text: str
    kind: StatementKind
    tables: tuple[TableName, ...]
    index: str = ""
    dropped: tuple[Dropped, ...] = ()
    added: tuple[str, ...] = ()
    adds_foreign_key: bool = False


_ROW_VERBS = frozenset({"INSERT", "UPDATE", "DELETE", "REPLACE", "WITH"})
_DEFINITION_VERBS = frozenset({"CREATE", "DROP", "ALTER", "RENAME", "TRUNCATE"})
_ALGORITHMS = frozenset({"=", "DEFAULT", "INSTANT", "NOCOPY", "INPLACE", "COPY"})
_LOCKS = frozenset({"=", "DEFAULT", "NONE", "SHARED", "EXCLUSIVE"})
_BEFORE_COLUMN = ("COLUMN", "IF", "NOT", "EXISTS")
_NOT_COLUMNS = frozenset({"PRIMARY", "INDEX", "KEY", "FOREIGN", "CONSTRAINT", "CHECK", "PARTITION", "SYSTEM", "PERIOD", "UNIQUE", "FULLTEXT", "SPATIAL"})


class _Words:
    """The tokens of a statement: ``keywords`` in upper case, empty for names in backticks and strings."""

    def __init__(self, tokens: Sequence[Token], schema: str) -> None:
        self._tokens, self._schema = tokens, schema
        self.keywords = [token.keyword for token in tokens]

    def skip(self, place: int, words: Sequence[str]) -> int:
        """Behind these words, where they are there."""
        for word in words:
            place += place < len(self.keywords) and self.keywords[place] == word
        return place

    def name(self, place: int) -> str:
        """The name at ``place``; empty behind the end."""
        return self._tokens[place].text if place < len(self._tokens) else ""

    def table(self, place: int) -> tuple[TableName | None, int]:
        """The table named at ``place`` and the place behind it."""
        if not self.name(place):
            return None, place
        if self.name(place + 1) == "." and self.name(place + 2):
            return TableName(self.name(place), self.name(place + 2)), place + 3
        return TableName(self._schema, self.name(place)), place + 1

    def tables(self, place: int, separators: Sequence[str] = (",",)) -> list[TableName]:
        """A list of tables."""
        found: list[TableName] = []
        while True:
            table, place = self.table(place)
            if table is None:
                return found
            found.append(table)
            if place >= len(self.keywords) or self.keywords[place] not in separators:
                return found
            place += 1

    def behind(self, word: str) -> list[TableName]:
        """The tables named right behind each ``word``."""
        found = [self.table(place + 1)[0] for place, keyword in enumerate(self.keywords) if keyword == word]
        return [table for table in found if table is not None]


def parse_statement(text: str, schema: str) -> Statement:
    """What ``text`` is; tables without a schema are in ``schema``.

    Raises:
        RefusedError: it is no single statement of a kind that can be run and undone, or it chooses an algorithm.
    """
    text = text.strip().rstrip(";").rstrip()
    words = _Words(split_statement(text), schema)
    verb = words.keywords[0] if words.keywords else ""
    if ";" in words.keywords and not _has_body(words.keywords):
        raise _refuse(text, "it is more than one statement", "call op.execute() once for each")
    if verb in _ROW_VERBS:
        return Statement(text, StatementKind.ROWS, ())
    if verb not in _DEFINITION_VERBS:
        raise _refuse(text, f"{verb or 'nothing'} is no change of a schema or of rows", "leave it out of the revision")
    return _parse_definition(text, words)


def _has_body(keywords: Sequence[str]) -> bool:
    """Whether semicolons belong to a routine, trigger or event."""
    return bool({"TRIGGER", "PROCEDURE", "FUNCTION", "EVENT"} & set(keywords[:12]))


def _refuse(text: str, cause: str, hint: str) -> RefusedError:
    return RefusedError("this statement is not run", place=shorten(text), cause=cause, hint=hint)


def shorten(text: str, most: int = 120) -> str:
    """A statement on one line, as messages name it."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[:most]}..."


def _parse_definition(text: str, words: _Words) -> Statement:
    keywords = words.keywords
    if keywords[:2] == ["ALTER", "TABLE"] or keywords[:3] == ["ALTER", "IGNORE", "TABLE"]:
        return _parse_alter(text, words)
    index = next((place for place, word in enumerate(keywords[:4]) if word == "INDEX"), None)
    if keywords[0] in ("CREATE", "DROP") and index is not None:
        _require_free_choice(text, keywords)
        on = words.behind("ON")[:1]
        if keywords[0] == "CREATE":
            return Statement(text, StatementKind.CREATE_INDEX, tuple(on))
        name = words.name(words.skip(index + 1, ("IF", "EXISTS")))
        return Statement(text, StatementKind.DROP_INDEX, tuple(on), index=name)
    return _parse_whole(text, words)


def _parse_whole(text: str, words: _Words) -> Statement:
    """Tables made, dropped, renamed or emptied, and everything that is no table."""
    keywords, kind = words.keywords, StatementKind.DEFINITION
    if keywords[0] == "DROP" and "TABLE" in keywords[1:3]:
        gone = words.tables(words.skip(keywords.index("TABLE") + 1, ("IF", "EXISTS")))
        return Statement(text, kind, tuple(gone), dropped=tuple(map(Dropped, gone)))
    if keywords[0] in ("RENAME", "TRUNCATE"):
        return Statement(text, kind, tuple(words.tables(words.skip(1, ("TABLE", "TABLES")), (",", "TO"))))
    if keywords[0] == "CREATE" and "TABLE" in keywords[:4]:
        place = words.skip(keywords.index("TABLE") + 1, ("IF", "NOT", "EXISTS"))
        made, _ = words.table(place)
        return Statement(text, kind, tuple(filter(None, [made, *words.behind("REFERENCES")])))
    return Statement(text, kind, ())


def _parse_alter(text: str, words: _Words) -> Statement:
    keywords = words.keywords
    _require_free_choice(text, keywords)
    table, behind = words.table(words.skip(keywords.index("TABLE") + 1, ("IF", "EXISTS")))
    if table is None:
        raise _refuse(text, "it names no table", "correct the statement")
    clauses = _split_clauses(keywords, behind)
    dropped = [name for start in clauses if (name := _column_of(words, start, "DROP"))]
    added = [name for start in clauses if (name := _column_of(words, start, "ADD"))]
    referenced = words.behind("REFERENCES")
    return Statement(
        text, StatementKind.ALTER_TABLE, (table, *referenced),
        dropped=tuple(Dropped(table, name) for name in dropped), added=tuple(added), adds_foreign_key=bool(referenced),
    )  # fmt: skip


def _split_clauses(keywords: Sequence[str], start: int) -> list[int]:
    """Where each clause of an ALTER TABLE begins."""
    places, depth = [start], 0
    for place in range(start, len(keywords)):
        depth += (keywords[place] == "(") - (keywords[place] == ")")
        if keywords[place] == "," and depth == 0:
            places.append(place + 1)
    return places


def _column_of(words: _Words, start: int, verb: str) -> str:
    """The column that the clause at ``start`` drops or adds; empty where it does something else."""
    following = [*words.keywords[start : start + 3], "", "", ""]
    if following[0] != verb or following[1] in _NOT_COLUMNS:
        return ""
    place = words.skip(start + 1, _BEFORE_COLUMN)
    return "" if words.name(place) == "(" else words.name(place)


def _require_free_choice(text: str, keywords: Sequence[str]) -> None:
    pairs = list(zip(keywords, [*keywords[1:], ""], strict=True))
    if any((a == "ALGORITHM" and b in _ALGORITHMS) or (a == "LOCK" and b in _LOCKS) for a, b in pairs):
        raise _refuse(
            text, "it chooses an ALGORITHM or LOCK itself", "leave both out: the cheapest that the server takes is chosen"
        )
