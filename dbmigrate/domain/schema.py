"""What a database consists of, as plain values read from a server once.

``mysql.introspection`` fills these in; every other module reads them. Names are as the server spells them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True, order=True)
class TableName:
    """A table (or view, or sequence) by database and name."""

    schema: str
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


class Generation(Enum):
    """How a generated column gets its value."""

    VIRTUAL = "virtual"
    STORED = "stored"


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    ``position`` is its 0-based index in the table, as binlog row images count it. ``data_type`` is the bare
    lower-case type (``int``, ``varchar``, ``geometry``...; MariaDB's JSON is ``longtext``, see ``is_json``);
    ``column_type`` is the full declaration (``int(10) unsigned``). ``fraction_digits`` is that of TIME,
    DATETIME and TIMESTAMP; ``precision``/``scale`` those of DECIMAL and BIT.
    """

    name: str
    position: int
    data_type: str
    column_type: str
    is_nullable: bool
    charset: str | None = None
    collation: str | None = None
    character_length: int | None = None
    octet_length: int | None = None
    precision: int | None = None
    scale: int | None = None
    fraction_digits: int = 0
    is_unsigned: bool = False
    members: tuple[str, ...] = ()
    generation: Generation | None = None
    is_invisible: bool = False
    is_auto_increment: bool = False
    is_json: bool = False
    has_default: bool = False


class IndexKind(Enum):
    """The structure behind an index."""

    BTREE = "btree"
    FULLTEXT = "fulltext"
    SPATIAL = "spatial"
    VECTOR = "vector"


@dataclass(frozen=True, slots=True)
class Index:
    """One index. ``columns`` are in index order; an expression part is the empty string.

    ``prefix_lengths`` has one entry a column: None where the whole column is indexed.
    """

    name: str
    columns: tuple[str, ...]
    is_unique: bool
    is_primary: bool = False
    kind: IndexKind = IndexKind.BTREE
    prefix_lengths: tuple[int | None, ...] = ()


class ReferentialAction(Enum):
    """What a foreign key does to children when their parent goes or its key changes."""

    RESTRICT = "RESTRICT"
    NO_ACTION = "NO ACTION"
    CASCADE = "CASCADE"
    SET_NULL = "SET NULL"
    SET_DEFAULT = "SET DEFAULT"


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A foreign key of ``table``; ``columns`` reference ``referenced_columns`` pairwise."""

    name: str
    table: TableName
    columns: tuple[str, ...]
    referenced_table: TableName
    referenced_columns: tuple[str, ...]
    on_delete: ReferentialAction
    on_update: ReferentialAction

    @property
    def is_cascading(self) -> bool:
        """Whether the engine itself may change rows of ``table`` when the parent changes."""
        changing = {ReferentialAction.CASCADE, ReferentialAction.SET_NULL, ReferentialAction.SET_DEFAULT}
        return bool({self.on_delete, self.on_update} & changing)

    @property
    def changes_columns(self) -> bool:
        """Whether the engine itself may change ``columns``; deleting the whole row is something else."""
        return self.is_cascading and (self.on_delete, self.on_update) not in {
            (ReferentialAction.CASCADE, ReferentialAction.RESTRICT),
            (ReferentialAction.CASCADE, ReferentialAction.NO_ACTION),
        }


@dataclass(frozen=True, slots=True)
class Table:
    """One base table.

    ``key`` is the primary key, else the narrowest unique key over NOT NULL whole columns of types that compare
    exactly, else None (and the table is refused). ``create_statement`` is the server's own SHOW CREATE TABLE.
    ``estimated_rows``, ``data_bytes`` and ``index_bytes`` are the server's estimates. ``referenced_columns`` are the
    column lists that foreign keys of any table reference here; an index must serve each.
    """

    name: TableName
    engine: str
    columns: tuple[Column, ...]
    indexes: tuple[Index, ...]
    foreign_keys: tuple[ForeignKey, ...]
    key: Index | None
    create_statement: str
    charset: str = ""
    collation: str = ""
    auto_increment: int | None = None
    estimated_rows: int = 0
    data_bytes: int = 0
    index_bytes: int = 0
    is_partitioned: bool = False
    is_system_versioned: bool = False
    referenced_columns: tuple[tuple[str, ...], ...] = ()

    def column(self, name: str) -> Column:
        """The column called ``name`` (column names ignore case). Raises KeyError."""
        folded = name.casefold()
        for column in self.columns:
            if column.name.casefold() == folded:
                return column
        raise KeyError(name)

    @property
    def key_columns(self) -> tuple[Column, ...]:
        """The key's columns in key order; empty where the table has no usable key."""
        return tuple(self.column(name) for name in self.key.columns) if self.key else ()

    @property
    def stored_columns(self) -> tuple[Column, ...]:
        """The columns a writer gives values for: all but generated ones, invisible ones included."""
        return tuple(column for column in self.columns if column.generation is None)

    @property
    def secondary_unique_indexes(self) -> tuple[Index, ...]:
        """Unique indexes other than ``key``."""
        return tuple(i for i in self.indexes if i.is_unique and (self.key is None or i.name != self.key.name))


class ObjectKind(Enum):
    """A stored object that is not a base table."""

    VIEW = "view"
    TRIGGER = "trigger"
    PROCEDURE = "procedure"
    FUNCTION = "function"
    PACKAGE = "package"
    EVENT = "event"
    SEQUENCE = "sequence"


@dataclass(frozen=True, slots=True)
class StoredObject:
    """A view, trigger, routine, event or sequence, with the server's own definition.

    ``definer`` is ``user@host`` or empty. ``sql_mode``, ``charset``, ``collation`` are the session settings it
    was created under and must be created under again (empty where the kind has none). ``table`` is a trigger's
    table. ``is_enabled`` is an event's state, ``time_zone`` what its schedule is written in.
    """

    kind: ObjectKind
    name: TableName
    create_statement: str
    definer: str = ""
    sql_mode: str = ""
    charset: str = ""
    collation: str = ""
    table: TableName | None = None
    is_enabled: bool = True
    time_zone: str = ""


@dataclass(frozen=True, slots=True)
class Schema:
    """Everything in one database that a move has to carry."""

    name: str
    charset: str
    collation: str
    tables: tuple[Table, ...]
    objects: tuple[StoredObject, ...]

    def of_kind(self, *kinds: ObjectKind) -> tuple[StoredObject, ...]:
        """The stored objects of these kinds, in creation order."""
        return tuple(o for o in self.objects if o.kind in kinds)
