"""What a statement in the binlog means for the followed tables.

Row events carry the data; statements matter when they begin or end a transaction, empty or alter a followed
table, or change rows without row events. The rule for what is not recognised: a statement is passed over only
if it is known to leave every followed table alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto

from dbmigrate.domain.schema import TableName
from dbmigrate.mysql.binlog.events import Query
from dbmigrate.mysql.statement_tokens import Token, split_statement

# The control schema: only its heartbeat table is followed, the program writes the others itself.
CONTROL_SCHEMA = "_dbmigrate"


class Meaning(Enum):
    """What a statement does, seen from the followed tables."""

    IGNORED = auto()
    BEGIN = auto()
    COMMIT = auto()  # and ROLLBACK of a whole transaction: either way it has ended
    XA_START = auto()
    XA_COMMIT = auto()
    XA_ROLLBACK = auto()
    TRUNCATED = auto()
    SCHEMA_CHANGED = auto()
    ROWS_AS_STATEMENT = auto()


@dataclass(frozen=True, slots=True)
class Verdict:
    """A statement's meaning, with the followed tables it touches or the XA transaction it ends.

    SCHEMA_CHANGED without tables: a statement that cannot be told to leave followed tables alone.
    """

    meaning: Meaning
    tables: tuple[TableName, ...] = ()
    xid: str = ""


_IGNORED = Verdict(Meaning.IGNORED)
_UNKNOWN = Verdict(Meaning.SCHEMA_CHANGED)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_HARMLESS_FIRST_WORDS = _words(
    "ANALYZE OPTIMIZE REPAIR CHECK FLUSH GRANT REVOKE SET SAVEPOINT RELEASE INSTALL UNINSTALL LOCK UNLOCK "
    "CHANGE RESET PURGE SHUTDOWN CACHE HELP USE EXPLAIN"
)
_ROW_CHANGING_FIRST_WORDS = _words("INSERT UPDATE DELETE REPLACE LOAD SELECT CALL DO WITH MERGE EXECUTE")
# The kind of object behind CREATE, ALTER, DROP and RENAME, past any modifiers. Kinds without tables are
# harmless.
_TABLE_KINDS = frozenset({"TABLE", "TABLES"})
_SCHEMA_KINDS = frozenset({"DATABASE", "SCHEMA"})
_HARMLESS_KINDS = _words(
    "VIEW TRIGGER PROCEDURE FUNCTION EVENT PACKAGE SEQUENCE SERVER USER ROLE LOGFILE TABLESPACE INSTANCE "
    "RESOURCE REFERENCE LIBRARY CATALOG PREPARE"
)
_KINDS = _TABLE_KINDS | _SCHEMA_KINDS | _HARMLESS_KINDS | {"INDEX"}
_MODIFIERS_AT_MOST = 24  # tokens between CREATE and the kind: OR REPLACE, ALGORITHM = x, DEFINER = a@b, ...


class _Reader:
    """Walks over tokens."""

    def __init__(self, tokens: list[Token], default_schema: str) -> None:
        self._tokens = tokens
        self._schema = default_schema
        self.place = 0

    @property
    def keyword(self) -> str:
        return self._tokens[self.place].keyword if self.place < len(self._tokens) else ""

    def accept(self, *words: str) -> bool:
        """Step over these words if they come next."""
        found = [token.keyword for token in self._tokens[self.place : self.place + len(words)]]
        if found != list(words):
            return False
        self.place += len(words)
        return True

    def skip_to(self, words: Iterable[str], *, at_most: int | None = None) -> str:
        """Step behind the first of these words; returns it, or nothing if there is none."""
        wanted = frozenset(words)
        end = len(self._tokens) if at_most is None else min(len(self._tokens), self.place + at_most)
        for place in range(self.place, end):
            if self._tokens[place].keyword in wanted and not self._is_qualified(place):
                self.place = place + 1
                return self._tokens[place].keyword
        return ""

    def _is_qualified(self, place: int) -> bool:
        return place > 0 and self._tokens[place - 1].text == "." and not self._tokens[place - 1].is_quoted

    def read_name(self) -> TableName | None:
        """A table's name, completed by the default database; None if none comes next."""
        first = self._read_part()
        if first is None:
            return None
        if self.accept("."):
            second = self._read_part()
            return None if second is None else TableName(first, second)
        return TableName(self._schema, first)

    def _read_part(self) -> str | None:
        if self.place >= len(self._tokens):
            return None
        token = self._tokens[self.place]
        if not token.is_quoted and not re.fullmatch(r"[\w$@\x80-\U0010ffff]+", token.text):
            return None
        self.place += 1
        return token.text

    def read_names(self) -> list[TableName | None]:
        """Names separated by commas."""
        names = [self.read_name()]
        while self.accept(","):
            names.append(self.read_name())
        return names


class Classifier:
    """Judges statements for one set of followed tables. Names are compared without regard to case."""

    def __init__(self, followed: Iterable[TableName]) -> None:
        self._tables = {_folded(name): name for name in followed}
        self._schemas = {name.schema.casefold() for name in self._tables.values()}

    def judge(self, query: Query) -> Verdict:
        """What this statement means for the followed tables."""
        tokens = split_statement(query.statement)
        if not tokens:
            return _IGNORED
        reader = _Reader(tokens, query.schema)
        first = tokens[0].keyword
        reader.place = 1
        control = self._judge_control(first, reader, query.statement)
        if control is not None:
            return control
        if first in _HARMLESS_FIRST_WORDS:
            return _IGNORED
        if first == "TRUNCATE":
            reader.accept("TABLE")
            return self._touched([reader.read_name()], Meaning.TRUNCATED)
        if first in _ROW_CHANGING_FIRST_WORDS:
            return self._judge_rows(tokens, query.schema)
        if first in ("CREATE", "ALTER", "DROP", "RENAME"):
            return self._judge_ddl(first, reader)
        return _UNKNOWN

    @staticmethod
    def _judge_control(first: str, reader: _Reader, statement: str) -> Verdict | None:
        if first == "BEGIN" or (first == "START" and reader.keyword == "TRANSACTION"):
            return Verdict(Meaning.BEGIN)
        if first == "COMMIT":
            return Verdict(Meaning.COMMIT)
        if first == "ROLLBACK":
            is_partial = reader.keyword == "TO" or reader.accept("WORK", "TO")
            return _IGNORED if is_partial else Verdict(Meaning.COMMIT)
        if first != "XA":
            return None
        verb = reader.keyword
        meaning = {
            "START": Meaning.XA_START, "BEGIN": Meaning.XA_START, "COMMIT": Meaning.XA_COMMIT,
            "ROLLBACK": Meaning.XA_ROLLBACK,
        }.get(verb)  # fmt: skip
        if meaning is None:
            return _IGNORED  # XA END, XA PREPARE
        return Verdict(meaning, xid=normalise_xid(statement.split(None, 2)[2]))

    def _judge_ddl(self, verb: str, reader: _Reader) -> Verdict:
        start = reader.place
        kind = reader.skip_to(_KINDS, at_most=_MODIFIERS_AT_MOST)
        if kind in _HARMLESS_KINDS:
            return _IGNORED
        if kind in _SCHEMA_KINDS:
            return self._judge_schema(verb, reader)
        if kind == "INDEX":
            reader.skip_to({"ON"})
            return self._touched([reader.read_name()], Meaning.SCHEMA_CHANGED)
        if kind not in _TABLE_KINDS:
            return _UNKNOWN
        between, reader.place = reader.place, start
        if reader.skip_to({"TEMPORARY"}, at_most=between - start):
            return _IGNORED
        reader.place = between
        if reader.accept("IF", "NOT", "EXISTS") and verb == "CREATE":
            # MySQL logs it although a followed table is there (a DROP before it would have stopped us): no
            # effect.
            return _IGNORED
        reader.accept("IF", "EXISTS")
        return self._touched(self._named_tables(verb, reader), Meaning.SCHEMA_CHANGED)

    @staticmethod
    def _named_tables(verb: str, reader: _Reader) -> list[TableName | None]:
        if verb == "CREATE":
            return [reader.read_name()]
        if verb == "DROP":
            return reader.read_names()
        names = [reader.read_name()]
        if verb == "RENAME":
            while reader.skip_to({"TO", ","}):
                names.append(reader.read_name())
            return names
        while word := reader.skip_to({"RENAME", "TABLE"}):  # RENAME TO x, EXCHANGE PARTITION p WITH TABLE x
            if word == "RENAME" and reader.keyword in ("COLUMN", "INDEX", "KEY"):
                continue
            if word == "RENAME" and not reader.accept("TO"):
                reader.accept("AS")
            names.append(reader.read_name())
        return names

    def _judge_schema(self, verb: str, reader: _Reader) -> Verdict:
        if verb != "DROP":
            return _IGNORED  # the defaults of a database change no table
        reader.accept("IF", "EXISTS")
        name = reader.read_name()
        if name is None:
            return _UNKNOWN
        tables = tuple(t for t in self._tables.values() if t.schema.casefold() == name.name.casefold())
        return Verdict(Meaning.SCHEMA_CHANGED, tables) if tables else _IGNORED

    def _touched(self, names: list[TableName | None], meaning: Meaning) -> Verdict:
        """The verdict for a statement on these tables; a name that could not be read may be any table."""
        if any(name is None or "\ufffd" in name.name for name in names):
            return _UNKNOWN
        found = [self._tables[_folded(n)] for n in names if n is not None and _folded(n) in self._tables]
        return Verdict(meaning, tuple(dict.fromkeys(found))) if found else _IGNORED

    def _judge_rows(self, tokens: list[Token], default_schema: str) -> Verdict:
        """Rows changed by a statement: refused wherever a followed schema may be meant."""
        here = default_schema.casefold()
        if here in self._schemas - {CONTROL_SCHEMA}:
            return Verdict(Meaning.ROWS_AS_STATEMENT)
        for place, token in enumerate(tokens):
            name, following = token.text.casefold(), tokens[place + 1 : place + 3]
            if len(following) == 2 and following[0].keyword == "." and name in self._schemas:
                table = TableName(name, following[1].text.casefold())
                if name != CONTROL_SCHEMA or table in self._tables:
                    return Verdict(Meaning.ROWS_AS_STATEMENT)
            if here == CONTROL_SCHEMA and TableName(here, name) in self._tables:
                return Verdict(Meaning.ROWS_AS_STATEMENT)
        return _IGNORED


def normalise_xid(text: str) -> str:
    """An XA transaction's name as ``events.format_xid`` writes it, from the tail of an XA statement."""
    parts = re.findall(r"X'([0-9A-Fa-f]*)'", text)
    number = re.search(r",\s*(-?\d+)\s*(?:ONE PHASE\s*)?$", text.strip(), re.IGNORECASE)
    gtrid, bqual = [*parts, "", ""][:2]
    return f"X'{gtrid.lower()}',X'{bqual.lower()}',{number.group(1) if number else 1}"


def _folded(name: TableName) -> TableName:
    return TableName(name.schema.casefold(), name.name.casefold())
