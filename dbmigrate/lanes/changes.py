"""The changes that a revision may ask for, as plain values: what the rules look at.

Apart from their reading because an operation of Alembic and a statement written by hand must meet the same rules. Names
are as they were written; tables carry their schema in front where one was given.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from dbmigrate.domain.schema import Generation


@dataclass(frozen=True, slots=True)
class ColumnType:
    """A type without what the server's display adds: ``int(10) unsigned`` is ``int``, unsigned.

    ``base`` is the server's own lower-case name (``boolean`` is ``tinyint``, ``numeric`` is ``decimal``).
    """

    base: str
    arguments: tuple[int, ...] = ()
    members: tuple[str, ...] = ()
    is_unsigned: bool = False

    def __str__(self) -> str:
        inner = ", ".join([*map(str, self.arguments), *(f"'{member}'" for member in self.members)])
        return self.base + (f"({inner})" if inner else "") + (" unsigned" if self.is_unsigned else "")


@dataclass(frozen=True, slots=True)
class ColumnShape:
    """Everything that a MODIFY has to say again, or the server forgets it.

    ``default`` and ``on_update`` are SQL in one spelling (see ``reading.columns``); None where there is none. ``charset``
    and ``collation`` are None where the table's count, and where a type has none. ``computes_default``: the default is an
    expression, for MySQL already one in parentheses; the moment (CURRENT_TIMESTAMP) is none.
    """

    name: str
    type: ColumnType
    is_nullable: bool = True
    default: str | None = None
    computes_default: bool = False
    on_update: str | None = None
    charset: str | None = None
    collation: str | None = None
    comment: str = ""
    is_auto_increment: bool = False
    is_invisible: bool = False
    generation: Generation | None = None
    expression: str = ""


class Attribute(Enum):
    """What a MODIFY can change, by its name in ``ColumnShape`` and in Alembic's ``existing_...`` arguments."""

    TYPE = "type"
    NULLABLE = "nullable"
    DEFAULT = "server_default"
    ON_UPDATE = "on update"
    CHARSET = "charset"
    COMMENT = "comment"
    AUTO_INCREMENT = "autoincrement"
    INVISIBLE = "invisible"
    GENERATED = "generated"


class Inline(Enum):
    """What a column definition brings along besides the column."""

    UNIQUE = "unique key"
    PRIMARY = "primary key"
    REFERENCE = "foreign key"
    CHECK = "check"


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one object; ``subject`` is the table, or the name of what is no table."""

    subject: str


@dataclass(frozen=True, slots=True)
class AddColumn(Change):
    """``is_placed``: it names a position (FIRST, AFTER)."""

    column: ColumnShape
    is_placed: bool = False
    inline: frozenset[Inline] = frozenset()


@dataclass(frozen=True, slots=True)
class ModifyColumn(Change):
    """MODIFY and CHANGE: ``column`` is all that it says, ``asked`` what was asked for, the rest is only restated."""

    name: str
    column: ColumnShape
    asked: frozenset[Attribute]
    is_placed: bool = False
    inline: frozenset[Inline] = frozenset()


@dataclass(frozen=True, slots=True)
class SetDefault(Change):
    """ALTER COLUMN SET DEFAULT, or DROP DEFAULT where ``default`` is None."""

    name: str
    default: str | None


@dataclass(frozen=True, slots=True)
class SetColumnVisibility(Change):
    """ALTER COLUMN SET VISIBLE or INVISIBLE."""

    name: str
    is_visible: bool


@dataclass(frozen=True, slots=True)
class RenameColumn(Change):
    """RENAME COLUMN, and CHANGE with another name."""

    name: str
    new_name: str


@dataclass(frozen=True, slots=True)
class DropColumn(Change):
    """DROP COLUMN."""

    name: str


class KeyKind(Enum):
    """Indexes and the constraints that have one."""

    PLAIN = "index"
    UNIQUE = "unique key"
    PRIMARY = "primary key"
    FULLTEXT = "fulltext index"
    SPATIAL = "spatial index"
    FOREIGN = "foreign key"
    CHECK = "check"
    UNKNOWN = "constraint"
    """DROP CONSTRAINT does not say what it drops."""


@dataclass(frozen=True, slots=True)
class AddKey(Change):
    """An index or constraint; ``name`` is empty where none was given.

    ``reference`` is the parent of a foreign key, ``referenced`` its columns there.
    """

    kind: KeyKind
    name: str
    columns: tuple[str, ...] = ()
    reference: str = ""
    referenced: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DropKey(Change):
    """An index or constraint that goes."""

    kind: KeyKind
    name: str


@dataclass(frozen=True, slots=True)
class RenameIndex(Change):
    """RENAME INDEX."""

    name: str
    new_name: str


@dataclass(frozen=True, slots=True)
class SetIndexVisibility(Change):
    """ALTER INDEX VISIBLE or INVISIBLE."""

    name: str
    is_visible: bool


@dataclass(frozen=True, slots=True)
class CreateTable(Change):
    """A table that is there afterwards. ``copies_rows``: CREATE TABLE ... SELECT."""

    columns: tuple[ColumnShape, ...] = ()
    keys: tuple[AddKey, ...] = ()
    collation: str | None = None
    copies_rows: bool = False
    is_complete: bool = True
    """Whether ``columns`` are all of it: false for CREATE TABLE ... LIKE."""


@dataclass(frozen=True, slots=True)
class DropTable(Change):
    """DROP TABLE."""


@dataclass(frozen=True, slots=True)
class RenameTable(Change):
    """RENAME TABLE and ALTER TABLE ... RENAME."""

    new_name: str


@dataclass(frozen=True, slots=True)
class TruncateTable(Change):
    """TRUNCATE."""


@dataclass(frozen=True, slots=True)
class ConvertCharset(Change):
    """CONVERT TO CHARACTER SET: every text column of the table."""


class TableOption(Enum):
    """Options of a table that ALTER TABLE can set."""

    COMMENT = "comment"
    DEFAULT_CHARSET = "default charset"
    AUTO_INCREMENT = "auto_increment"
    REBUILD = "engine, row format or order"
    ALGORITHM = "algorithm or lock"


@dataclass(frozen=True, slots=True)
class SetOption(Change):
    """One option."""

    option: TableOption


class RowVerb(Enum):
    """Statements that change rows."""

    INSERT = "insert"
    COPY = "insert from a select"
    UPDATE = "update"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class ChangeRows(Change):
    """Rows written by the revision itself."""

    verb: RowVerb


class ProgramVerb(Enum):
    """What is done to a view, trigger, routine, event or sequence."""

    CREATE = "create"
    REPLACE = "replace"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class ChangeProgram(Change):
    """``kind`` is the keyword, in lower case."""

    kind: str
    verb: ProgramVerb


@dataclass(frozen=True, slots=True)
class Unread(Change):
    """What the rules do not know: ``cause`` says why. ``subject`` is the beginning of the text."""

    cause: str


@dataclass(frozen=True, slots=True)
class TableShape:
    """A table as it is when a change comes to it. Columns are by casefolded name; None: there, but not understood."""

    name: str
    columns: dict[str, ColumnShape | None] = field(default_factory=dict)
    keys: dict[str, AddKey] = field(default_factory=dict)
    collation: str | None = None
    charset: str | None = None
