"""What is known of a table. Apart from the analysis of statements, so that who looks tables up needs no parser of SQL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class TableId(NamedTuple):
    """A table as a statement names it; the schema is empty where it says none. In small letters."""

    schema: str
    name: str


@dataclass(frozen=True, slots=True)
class TableFacts:
    """The visible columns of a table in order, and its unique keys without NULLs, the primary key first."""

    columns: tuple[str, ...] = ()
    keys: tuple[tuple[str, ...], ...] = ()
