"""Rows that foreign keys change without events.

Most versions log nothing for the child rows that ON DELETE/UPDATE CASCADE and SET NULL change. Before a parent is
flushed, the children that reference it are looked up on both sides and become pending too, and their children.

A row that a cascade removed leaves no trace of its own, so what it took along can be found only through it. Where such a
row turns out to be gone, or was gone before it was copied, the destination's own orphans are looked up; where another
row has taken its key since, that row's insert is in the binlog, and inserts into tables in the middle of a chain count as
moves. (Its updates do not: looking up children at each of them made a flush of 100 keys one of 30,000.)
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from dbmigrate.domain.keys import Key
from dbmigrate.domain.routes import Route
from dbmigrate.domain.schema import ForeignKey, Table, TableName
from dbmigrate.mysql.foreign_key_lookups import build_children_lookup, build_orphans_lookup
from dbmigrate.mysql.literals import refuse_reason_as_key
from dbmigrate.mysql.sessions import SessionPool

LOOKUP_KEYS = 1_000
ORPHANS_AT_ONCE = 10_000

Keys = dict[TableName, dict[Key, None]]


class Cascades:
    """The cascading foreign keys among the routed tables, and the lookups along them."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = {route.name: route for route in routes}
        self._by_parent: dict[TableName, list[ForeignKey]] = {}
        for route in routes:
            for foreign_key in route.origin.foreign_keys:
                if foreign_key.is_cascading and foreign_key.referenced_table in self._routes:
                    self._by_parent.setdefault(foreign_key.referenced_table, []).append(foreign_key)
        self._beside_key = frozenset(
            parent for parent, found in self._by_parent.items() if any(not self._is_on_key(fk) for fk in found)
        )
        children = {foreign_key.table for found in self._by_parent.values() for foreign_key in found}
        self.in_the_middle = frozenset(self._by_parent.keys() & children)

    def _is_on_key(self, foreign_key: ForeignKey) -> bool:
        parent = self._routes[foreign_key.referenced_table].origin
        key = {column.name.casefold() for column in parent.key_columns}
        return key == {name.casefold() for name in foreign_key.referenced_columns}

    def add_looked_up(self, tables: set[TableName]) -> set[TableName]:
        """These tables, and what can be looked up from those whose children are always looked up."""
        return tables | self.find_descendants(dict.fromkeys(tables & self._beside_key))

    def may_vanish(self, table: TableName) -> bool:
        """Whether a cascade can remove rows of this table and, through them, rows of others."""
        return table in self.in_the_middle

    def find_descendants(self, tables: Mapping[TableName, object]) -> set[TableName]:
        """These tables and every table that a change in them can cascade to."""
        found: set[TableName] = set()
        open_tables = list(tables)
        while open_tables:
            table = open_tables.pop()
            if table not in found:
                found.add(table)
                open_tables += [fk.table for fk in self._by_parent.get(table, ())]
        return found

    def add_children(
        self, keys: Keys, moved: Mapping[TableName, Collection[Key]], *, origin: SessionPool, destination: SessionPool
    ) -> int:
        """Add to ``keys`` the children, on either side, of every parent that moved, down to the last generation.

        A parent whose key stayed is looked at only where something references other columns than its key: whether
        those changed cannot be seen. Returns the number of keys added.
        """
        added = 0
        fresh: Keys = {}
        for table in self._by_parent.keys() & keys.keys():
            looked_at = keys[table] if table in self._beside_key else moved.get(table, ())
            if looked_at:
                fresh[table] = dict.fromkeys(looked_at)
        followed = {table: dict(found) for table, found in fresh.items()}
        while fresh:
            following: Keys = {}
            for parent, parent_keys in fresh.items():
                for foreign_key in self._by_parent.get(parent, ()):
                    for child_key in self._look_up(foreign_key, list(parent_keys), origin, destination):
                        if child_key not in keys.setdefault(foreign_key.table, {}):
                            keys[foreign_key.table][child_key] = None
                            added += 1
                        # A child that is pending for a change of its own has children of its own all the same.
                        if child_key not in followed.setdefault(foreign_key.table, {}):
                            followed[foreign_key.table][child_key] = None
                            following.setdefault(foreign_key.table, {})[child_key] = None
            fresh = {table: found for table, found in following.items() if table in self._by_parent}
        for table in [table for table, found in keys.items() if not found]:
            del keys[table]
        return added

    def find_orphans_of(self, gone: Mapping[TableName, Sequence[Key]], destination: SessionPool) -> Keys:
        """The destination's rows that reference these rows of tables in the middle, which are there no more."""
        found: Keys = {}
        for parent, keys in gone.items():
            for foreign_key in filter(self._is_on_key, self._by_parent.get(parent, ())):
                for start in range(0, len(keys), LOOKUP_KEYS):
                    for orphans in self._page_orphans(foreign_key, destination, keys[start : start + LOOKUP_KEYS]):
                        found.setdefault(foreign_key.table, {}).update(dict.fromkeys(orphans))
        return found

    def find_orphans(self, destination: SessionPool) -> Iterator[Keys]:
        """The destination's rows without the parent through which a cascade would have been followed, in portions.

        After a copy: a cascade that passed through a row that was not copied yet could not be followed beyond it.
        """
        for parent in self._beside_key | self.in_the_middle:
            for foreign_key in self._by_parent[parent]:
                for orphans in self._page_orphans(foreign_key, destination, ()):
                    yield {foreign_key.table: dict.fromkeys(orphans)}

    def _page_orphans(
        self, foreign_key: ForeignKey, destination: SessionPool, parent_keys: Sequence[Key]
    ) -> Iterator[list[Key]]:
        child, parent = self._routes[foreign_key.table], self._routes[foreign_key.referenced_table]
        seen = replace(
            _renamed(foreign_key, child, parent, on_destination=True), referenced_table=parent.destination.name
        )
        if parent_keys:
            seen = _in_key_order(seen, parent.destination_key)
        after: Key | None = None
        while True:
            statement = build_orphans_lookup(
                child.destination, seen, after=after, most=ORPHANS_AT_ONCE, parent_keys=parent_keys
            )
            with destination.borrow() as session:
                rows = session.execute(statement, doing=f"looking up orphans in {child.name}").rows
            orphans = [row[0] for row in rows if row[0] is not None]
            if orphans:
                yield orphans
            if len(rows) < ORPHANS_AT_ONCE:
                return
            after = orphans[-1]

    def _look_up(
        self, foreign_key: ForeignKey, parent_keys: list[Key], origin: SessionPool, destination: SessionPool
    ) -> set[Key]:
        found: set[Key] = set()
        for start in range(0, len(parent_keys), LOOKUP_KEYS):
            some = parent_keys[start : start + LOOKUP_KEYS]
            found |= self._look_up_side(origin, foreign_key, some, on_destination=False)
            found |= self._look_up_side(destination, foreign_key, some, on_destination=True)
        return found

    def _look_up_side(
        self, pool: SessionPool, foreign_key: ForeignKey, keys: Sequence[Key], *, on_destination: bool
    ) -> set[Key]:
        child, parent = self._routes[foreign_key.table], self._routes[foreign_key.referenced_table]
        statement = build_children_lookup(
            _as_seen(child, on_destination), _renamed(foreign_key, child, parent, on_destination),
            _as_seen(parent, on_destination), keys,
        )  # fmt: skip
        with pool.borrow() as session:
            rows = session.execute(statement, doing=f"looking up children in {child.name}").rows
        return {row[0] for row in rows if row[0] is not None}


def _as_seen(route: Route, on_destination: bool) -> Table:
    return route.destination if on_destination else route.origin


def _renamed(foreign_key: ForeignKey, child: Route, parent: Route, on_destination: bool) -> ForeignKey:
    """The foreign key in the destination's own column names, where columns were renamed on the way."""
    if not on_destination:
        return foreign_key
    return replace(
        foreign_key,
        columns=tuple(child.destination_name(name) for name in foreign_key.columns),
        referenced_columns=tuple(parent.destination_name(name) for name in foreign_key.referenced_columns),
    )


def _in_key_order(foreign_key: ForeignKey, key_columns: Sequence[str]) -> ForeignKey:
    """The same foreign key with its columns in the order of the parent's key, which it references."""
    own = dict(
        zip((name.casefold() for name in foreign_key.referenced_columns), foreign_key.columns, strict=True)
    )
    return replace(
        foreign_key,
        columns=tuple(own[name.casefold()] for name in key_columns),
        referenced_columns=tuple(key_columns),
    )


def find_silent_uniques(route: Route) -> list[tuple[str, ...]]:
    """The destination's unique indexes, as its column names, whose values foreign keys may change without events.

    Only those whose values can be looked up exactly.
    """
    silent = {
        route.destination_name(name).casefold()
        for foreign_key in route.origin.foreign_keys
        if foreign_key.changes_columns
        for name in foreign_key.columns
    }
    carried = {one.destination.name.casefold() for one in route.columns if one.origin is not None}
    return [
        index.columns
        for index in route.destination.secondary_unique_indexes
        if silent & {name.casefold() for name in index.columns}
        and carried >= {name.casefold() for name in index.columns}
        and not any(index.prefix_lengths)
        and not any(refuse_reason_as_key(route.destination.column(name)) for name in index.columns)
    ]
