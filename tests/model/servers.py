"""Two database servers, as far as the protocol can tell them apart from real ones. See ``protocol``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from dbmigrate.domain.keys import Key, MovedKey
from dbmigrate.domain.ownership import FenceRow
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Route, Side
from dbmigrate.domain.schema import Column, ForeignKey, Index, ReferentialAction, Table, TableName

Steps = Iterator["str | Callable[[], bool]"]
"""What an actor yields: the name of the step it stands before, or the condition it waits for."""

CASCADE, SET_NULL = ReferentialAction.CASCADE, ReferentialAction.SET_NULL
PARENT, CHILD, GRANDCHILD, ITEM = (TableName("shop", name) for name in ("parent", "child", "grandchild", "item"))
KEYS: tuple[Key, ...] = tuple(b"%d" % number for number in range(5))


class Row(NamedTuple):
    """A row without its key: the parent it references, the value of a secondary unique key, and a unique remark."""

    parent: Key | None
    code: int | None
    remark: int


Rows = dict[TableName, dict[Key, Row]]


@dataclass(frozen=True)
class Shape:
    """Which tables exist. ``references`` maps child to (parent, ON DELETE); ON UPDATE is always CASCADE."""

    name: str
    tables: tuple[TableName, ...]
    unique: frozenset[TableName]
    references: dict[TableName, tuple[TableName, ReferentialAction]]

    def children_of(self, table: TableName) -> Iterable[tuple[TableName, ReferentialAction]]:
        """The tables that reference this one."""
        return [(child, action) for child, (parent, action) in self.references.items() if parent == table]

    def is_in_the_middle(self, table: TableName) -> bool:
        """Whether a cascade can come to this table and go on from it."""
        return table in self.references and bool(self.children_of(table))

    def routes(self) -> tuple[Route, ...]:
        """The same tables as the product describes them."""
        return tuple(Route(table, table, (), ("id",)) for table in map(self._table, self.tables))

    def _table(self, name: TableName) -> Table:
        columns = tuple(Column(c, i, "bigint", "bigint(20)", True) for i, c in enumerate(("id", "parent", "code")))
        primary = Index("PRIMARY", ("id",), is_unique=True, is_primary=True, prefix_lengths=(None,))
        code = Index("code", ("code",), is_unique=True, prefix_lengths=(None,))
        foreign_keys = ()
        if name in self.references:
            parent, on_delete = self.references[name]
            foreign_keys = (ForeignKey("fk", name, ("parent",), parent, ("id",), on_delete, CASCADE),)
        indexes = (primary, code) if name in self.unique else (primary,)
        return Table(name, "InnoDB", columns, indexes, foreign_keys, primary, "")


SHAPES = (
    Shape("unique", (ITEM,), frozenset({ITEM}), {}),
    Shape("cascade", (PARENT, CHILD), frozenset(), {CHILD: (PARENT, CASCADE)}),
    Shape("set null", (PARENT, CHILD), frozenset({CHILD}), {CHILD: (PARENT, SET_NULL)}),
    Shape(
        "generations", (PARENT, CHILD, GRANDCHILD), frozenset({CHILD}),
        {CHILD: (PARENT, CASCADE), GRANDCHILD: (CHILD, SET_NULL)},
    ),
)  # fmt: skip


@dataclass
class Commit:
    """One transaction in a server's binlog. ``keys`` are its row events, ``changes`` what it did, cascades included."""

    keys: dict[TableName, list[Key]] = field(default_factory=dict)
    changes: list[tuple[TableName, Key, Row | None]] = field(default_factory=list)
    beat: int | None = None
    fence: FenceRow | None = None
    on_visible: list[Callable[[], None]] = field(default_factory=list)


class RejectedError(Exception):
    """A constraint or a fence refused the statement."""


class Server:
    """One side. ``rows`` is what locks and writes see, ``visible`` what plain reads see."""

    def __init__(self, side: Side, shape: Shape) -> None:
        self.side, self.shape = side, shape
        self.rows: Rows = {table: {} for table in shape.tables}
        self.visible: Rows = {table: {} for table in shape.tables}
        self.log: list[Commit] = []
        self.shown = 0
        self.fence = self.visible_fence = FenceRow(1, Side.SOURCE, Phase.COPY)
        self.fence_holder: Any = None
        self.fence_readers: set[Any] = set()
        self.is_read_only = self.is_guarded = False
        self.writers_committing = 0
        self.generation = 0
        self.tenure_holders: set[Any] = set()
        self.beat = 0

    # --- commits ---

    def log_commit(self, commit: Commit) -> int:
        """First half of a commit: logged, delivered to binlog readers, seen by writes and locks."""
        for table, key, row in commit.changes:
            if row is None:
                self.rows[table].pop(key, None)
            else:
                self.rows[table][key] = row
        if commit.fence is not None:
            self.fence = commit.fence
        self.log.append(commit)
        return len(self.log)

    def show_next(self) -> None:
        """Second half of the oldest half-done commit: plain reads see it, its locks are free, it returns."""
        commit = self.log[self.shown]
        for table, key, row in commit.changes:
            if row is None:
                self.visible[table].pop(key, None)
            else:
                self.visible[table][key] = row
        if commit.fence is not None:
            self.visible_fence = commit.fence
        self.shown += 1
        for free in commit.on_visible:
            free()

    def commit(self, commit: Commit) -> Steps:
        """Log, then wait until the server answers."""
        seq = self.log_commit(commit)
        yield lambda: self.shown >= seq

    def pass_barrier(self) -> Steps:
        """Commit a heartbeat; afterwards everything delivered before is visible."""
        self.beat += 1
        yield from self.commit(Commit(beat=self.beat))

    # --- transactions ---

    def begin(self) -> Transaction:
        """A transaction that sees and locks the newest rows."""
        return Transaction(self)

    def read_rows(self, table: TableName, keys: Iterable[Key]) -> dict[Key, Row]:
        """A plain read by key."""
        found = self.visible[table]
        return {key: found[key] for key in keys if key in found}

    # --- fence ---

    def is_fence_free(self) -> bool:
        """Whether the exclusive lock of the fence row is to be had."""
        return self.fence_holder is None and not self.fence_readers

    def save_fence(self, row: FenceRow) -> Steps:
        """Make the fence row say this, unless it says something later already, in a transaction of its own."""
        yield self.is_fence_free
        yield from self.commit(self.build_fence_commit(row, holder=object()))

    def build_fence_commit(self, row: FenceRow, *, holder: Any) -> Commit:
        """The transaction that changes the row; its exclusive lock is free when it is visible."""
        self.fence_holder = holder
        newer = row if self.fence.epoch <= row.epoch else self.fence
        return Commit(fence=newer, on_visible=[lambda: self.free_fence(holder)])

    def free_fence(self, holder: Any) -> None:
        """The holder's transaction has ended."""
        if self.fence_holder is holder:
            self.fence_holder = None


class Transaction:
    """Row changes of one transaction, with constraints and cascades; nothing happens before ``build``."""

    def __init__(self, server: Server) -> None:
        self._shape = server.shape
        self._rows = server.rows
        self._new: dict[tuple[TableName, Key], Row | None] = {}
        self._keys: dict[TableName, list[Key]] = {}

    def get(self, table: TableName, key: Key) -> Row | None:
        """The row as this transaction sees it."""
        place = (table, key)
        return self._new[place] if place in self._new else self._rows[table].get(key)

    def scan(self, table: TableName) -> dict[Key, Row]:
        """All rows of a table as this transaction sees them."""
        found = dict(self._rows[table])
        for (changed, key), row in self._new.items():
            if changed == table:
                if row is None:
                    found.pop(key, None)
                else:
                    found[key] = row
        return found

    def _log(self, table: TableName, *keys: Key) -> None:
        self._keys.setdefault(table, []).extend(keys)

    # --- statements of an application: constraints hold, cascades are not logged ---

    def save(self, table: TableName, key: Key, row: Row) -> None:
        """INSERT, or UPDATE that keeps the key."""
        if row.parent is not None and self.get(self._shape.references[table][0], row.parent) is None:
            raise RejectedError
        if row.code is not None and any(other.code == row.code and at != key for at, other in self.scan(table).items()):
            raise RejectedError
        is_marked = self.get(table, key) is None and self._shape.is_in_the_middle(table)
        self._new[table, key] = row
        self._log(table, MovedKey(key) if is_marked else key)

    def delete(self, table: TableName, key: Key) -> None:
        """DELETE, with what foreign keys do."""
        if self.get(table, key) is None:
            raise RejectedError
        self._new[table, key] = None
        self._log(table, MovedKey(key))
        self._cascade(table, key, None)

    def move(self, table: TableName, key: Key, to: Key) -> None:
        """UPDATE of the primary key, with what foreign keys do."""
        row = self.get(table, key)
        if row is None or self.get(table, to) is not None:
            raise RejectedError
        self._new[table, key], self._new[table, to] = None, row
        self._log(table, MovedKey(key), MovedKey(to))
        self._cascade(table, key, to)

    def _cascade(self, table: TableName, key: Key, to: Key | None) -> None:
        for child, on_delete in self._shape.children_of(table):
            for at, row in self.scan(child).items():
                if row.parent == key:
                    if to is not None or on_delete is SET_NULL:
                        self._new[child, at] = row._replace(parent=to)
                    else:
                        self._new[child, at] = None
                        self._cascade(child, at, None)

    # --- statements of the data path: foreign_key_checks=0 ---

    def replace(self, table: TableName, key: Key, row: Row) -> None:
        """REPLACE: the row as it is, and whoever holds its unique value goes."""
        if row.code is not None and table in self._shape.unique:
            for at, other in self.scan(table).items():
                if other.code == row.code and at != key:
                    self._new[table, at] = None
                    self._log(table, MovedKey(at))
        self._new[table, key] = row
        self._log(table, key)

    def discard(self, table: TableName, key: Key) -> None:
        """DELETE of a row that may be gone."""
        if self.get(table, key) is not None:
            self._new[table, key] = None
            self._log(table, MovedKey(key))

    def build(self) -> Commit:
        """What the binlog gets."""
        return Commit(self._keys, [(table, key, row) for (table, key), row in self._new.items()])
