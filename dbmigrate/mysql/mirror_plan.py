"""What an application needs to mirror a table: SQL text, written down by the runner.

The library in the application knows neither the configuration nor the servers' definitions, and must not guess them: the
runner has read both, so it leaves the finished statements in the control tables. What the application relays is then
exactly what the stream would have written, renames and expressions of the configuration included.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Self

import sqlalchemy as sa

from dbmigrate.domain.routes import Direction, Route
from dbmigrate.domain.schema import Table, TableName
from dbmigrate.mysql.control_tables import ASCII, TEXT, declare_table
from dbmigrate.mysql.literals import key_expression
from dbmigrate.mysql.statements import build_replace_prefix, build_row_literal

MIRROR_PLAN = declare_table(
    "mirror_plan",
    sa.Column("migration_id", ASCII, primary_key=True),
    sa.Column("direction", ASCII, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("plan", TEXT, nullable=False),
)


@dataclass(frozen=True, slots=True)
class MirrorPlan:
    """One table's way from the owner to the other side.

    ``row_literal`` is SQL over the origin that yields a row of the destination as a literal, ``replace`` what stands before
    such literals, ``where`` the rows that move (empty: all). ``depends_on_session``: times in it are printed in the
    session's zone, or SQL of the configuration reads its sql_mode. ``spells_keys_out``: servers do not find several
    composite keys with an ENUM or SET by ``(a, b) IN (...)``.
    ``has_other_uniques``: an INSERT ... ON DUPLICATE KEY UPDATE may find a row by another key. ``has_side_effects``: a write of a row may change others without the application naming them (triggers, foreign keys
    that cascade).
    """

    origin: TableName
    destination: TableName
    columns: tuple[str, ...]
    key_columns: tuple[str, ...]
    key_index: str
    destination_key: tuple[str, ...]
    key_literal: str
    row_literal: str
    where: str
    replace: str
    auto_increment: str | None
    depends_on_session: bool
    spells_keys_out: bool
    has_other_uniques: bool
    has_side_effects: bool

    def to_json(self) -> str:
        """As the control table keeps it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of ``to_json``."""
        given: dict[str, Any] = json.loads(text)
        for name in ("origin", "destination"):
            given[name] = TableName(**given[name])
        for name in ("columns", "key_columns", "destination_key"):
            given[name] = tuple(given[name])
        return cls(**given)


def build_mirror_plan(route: Route, *, children: Iterable[Table], has_triggers: bool) -> MirrorPlan:
    """The plan of one table. ``children`` are tables of the origin whose foreign keys may lead to it."""
    table = route.origin
    cascades = any(
        foreign_key.is_cascading and foreign_key.referenced_table == table.name
        for child in children
        for foreign_key in child.foreign_keys
    )
    return MirrorPlan(
        origin=table.name,
        destination=route.destination.name,
        columns=tuple(column.name for column in table.columns),
        key_columns=tuple(column.name for column in table.key_columns),
        key_index=table.key.name if table.key is not None else "PRIMARY",
        destination_key=route.destination_key,
        key_literal=key_expression(table.key_columns),
        row_literal=build_row_literal(route),
        where=route.where or "",
        replace=build_replace_prefix(route).decode(),
        auto_increment=next((column.name for column in table.columns if column.is_auto_increment), None),
        depends_on_session=bool(route.where)
        or any(carried.expression is not None for carried in route.columns)
        or any(column.data_type == "timestamp" for column in table.columns),
        spells_keys_out=any(column.data_type in ("enum", "set") for column in table.key_columns),
        has_other_uniques=bool(table.secondary_unique_indexes),
        has_side_effects=cascades or has_triggers,
    )


def save_plans(connection: sa.Connection, migration_id: str, direction: Direction, plans: Iterable[MirrorPlan]) -> None:
    """Replace the plans of one direction, in the caller's transaction."""
    mine = (MIRROR_PLAN.c.migration_id == migration_id) & (MIRROR_PLAN.c.direction == direction.value)
    connection.execute(sa.delete(MIRROR_PLAN).where(mine))
    rows = [
        {"migration_id": migration_id, "direction": direction.value, "number": number, "plan": plan.to_json()}
        for number, plan in enumerate(plans)
    ]
    if rows:
        connection.execute(sa.insert(MIRROR_PLAN), rows)


def load_plans(connection: sa.Connection, migration_id: str, direction: Direction) -> tuple[MirrorPlan, ...]:
    """The plans of one direction; none before the runner has written them."""
    mine = (MIRROR_PLAN.c.migration_id == migration_id) & (MIRROR_PLAN.c.direction == direction.value)
    texts = connection.execute(sa.select(MIRROR_PLAN.c.plan).where(mine).order_by(MIRROR_PLAN.c.number)).scalars()
    return tuple(MirrorPlan.from_json(text) for text in texts)
