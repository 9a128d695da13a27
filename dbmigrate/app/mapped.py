"""Which tables and columns the application's models map: what an instance says before anything is dropped.

Models are found in SQLAlchemy's registries, and in the metadata that ``Options`` names for tables that no class maps.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import sqlalchemy as sa
from sqlalchemy.orm import mapperlib

from dbmigrate.domain.mappings import list_columns


class MappedColumns:
    """The columns as of the last look; looks again only where a class was mapped since."""

    def __init__(self, metadata: Iterable[sa.MetaData]) -> None:
        self._metadata = tuple(metadata)
        self._seen = -1
        self._columns: tuple[str, ...] = ()

    def read(self) -> tuple[str, ...]:
        """``table.column``, sorted, of every mapped table and every table of the metadata that was named."""
        with contextlib.suppress(RuntimeError):  # a class is being mapped at this moment: the next look sees it
            self._look()
        return self._columns

    def _look(self) -> None:
        mappers = [mapper for registry in mapperlib._all_registries() for mapper in registry.mappers]
        count = len(mappers) + sum(len(metadata.tables) for metadata in self._metadata)
        if count != self._seen:
            tables = [table for mapper in mappers for table in mapper.tables if isinstance(table, sa.Table)]
            named = [table for metadata in self._metadata for table in metadata.tables.values()]
            self._columns = list_columns(dict(_by_name([*tables, *named])))
            self._seen = count


def _by_name(tables: Iterable[sa.Table]) -> Iterator[tuple[str, list[str]]]:
    """Tables of one name in several schemas or registries count together."""
    names: dict[str, list[str]] = {}
    for table in tables:
        names.setdefault(table.name, []).extend(column.name for column in table.columns)
    yield from ((name, sorted(set(columns))) for name, columns in names.items())
