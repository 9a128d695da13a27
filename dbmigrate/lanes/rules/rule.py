"""What a rule is: one kind of change, the class it gets, the reason, and what to write instead.

Apart from the families of rules so that verdicts, messages and the table in docs/lanes.md are made from the same words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.domain.lanes import Lane, Placed, Refused, Stage, Step, Undecided, Verdict
from dbmigrate.lanes.changes import Change, ColumnShape, ColumnType, TableShape

Sequence = tuple[tuple[Stage, str], ...]
"""Stages with their texts; names stand in them as ``{table}``."""

EXAMPLE: Mapping[str, str] = {
    "table": "orders", "column": "total", "new": "total_new", "name": "uq_orders_number", "columns": '["number"]',
    "type": "mysql.BIGINT()", "parent": "customer", "new_table": "orders_new", "server_default": "0", "lost": "a comment",
    "restated": 'existing_comment="..."', "kind": "FULLTEXT INDEX", "program": "VIEW", "parts": "number, placed_at", "action": "CONVERT TO CHARACTER SET utf8mb4", "label": "expand", "lanes": "contract",
}  # fmt: skip
"""The names in the documentation."""


@dataclass(frozen=True, slots=True)
class Rule:
    """``operation`` says when it counts; ``why`` what a lane has to mind, or what would lock or break. ``lane`` is None
    where the change is refused."""

    name: str
    operation: str
    lane: Lane | None
    why: str
    instead: Sequence = ()

    def verdict(self, **names: str) -> Verdict:
        """The rule's answer for an operation on these names."""
        if self.lane is not None:
            return Placed(self.name, self.lane, self.why)
        known = {**EXAMPLE, **names}
        return Refused(self.name, fill(self.why, known), tuple(Step(s, fill(t, known)) for s, t in self.instead))

    def undecided(self, question: str) -> Undecided:
        """For when only the table as it is could tell."""
        return Undecided(self.name, question)


def fill(text: str, names: Mapping[str, str]) -> str:
    """``text`` with ``{name}`` replaced for the names that are known; other braces stay."""
    for name, value in names.items():
        text = text.replace("{" + name + "}", value)
    return text


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a rule may know besides the change: the server's version, and tables as they are when the change comes."""

    version: ServerVersion
    find_table: Callable[[str], TableShape | None]

    def find_column(self, table: str, column: str) -> ColumnShape | None:
        """The column as it is; None where table or column are not known."""
        shape = self.find_table(table)
        return shape.columns.get(column.casefold()) if shape else None


Judge = Callable[[Change, Surroundings], Verdict]


def short_name(table: str) -> str:
    """A table's name without its schema, as Alembic's operations take it."""
    return table.rpartition(".")[2]


def format_type(kind: ColumnType) -> str:
    """The type as Python for a revision."""
    arguments = [*map(str, kind.arguments), *map(repr, kind.members)]
    if kind.base in ("datetime", "timestamp", "time") and arguments:
        arguments = [f"fsp={arguments[0]}"]
    if kind.is_unsigned:
        arguments.append("unsigned=True")
    name = "INTEGER" if kind.base == "int" else kind.base.upper()
    return f"mysql.{name}({', '.join(arguments)})"
