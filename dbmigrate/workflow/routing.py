"""From configuration and schemas to routes: which tables move, and how each column gets there.

Apart from the domain because it reads the configuration; pure, so that every refusal has a test without a server.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dbmigrate.config import TableOptions, TablesSection
from dbmigrate.domain.routes import CarriedColumn, Direction, Route
from dbmigrate.domain.schema import Column, Schema, Table, TableName


@dataclass(frozen=True, slots=True)
class RoutingProblem:
    """Why a table cannot travel as configured. ``direction`` REVERSE means: it can go, but not come back."""

    table: TableName
    direction: Direction
    message: str
    remedy: str


def select_tables(tables: TablesSection, schema: Schema) -> tuple[Table, ...]:
    """The source's tables that the configuration includes."""
    return tuple(table for table in schema.tables if tables.selects(table.name.name))


def target_name(tables: TablesSection, source: TableName, target_schema: str) -> TableName:
    """Where a source table goes."""
    return TableName(target_schema, tables.options_for(source.name).rename or source.name)


def build_forward_routes(
    tables: TablesSection, source: Schema, target: Schema
) -> tuple[tuple[Route, ...], tuple[RoutingProblem, ...]]:
    """Routes from source to target for every selected table that exists on both sides, and what stands in the way."""
    by_name = {table.name: table for table in target.tables}
    routes: list[Route] = []
    problems: list[RoutingProblem] = []
    for table in select_tables(tables, source):
        destination = by_name.get(target_name(tables, table.name, target.name))
        if destination is None:
            continue
        options = tables.options_for(table.name.name)
        outcome = _build_route(table, destination, _Forward(options))
        if isinstance(outcome, Route):
            routes.append(outcome)
        else:
            problems.append(outcome)
    return tuple(routes), tuple(problems)


def build_reverse_routes(
    tables: TablesSection, source: Schema, target: Schema
) -> tuple[tuple[Route, ...], tuple[RoutingProblem, ...]]:
    """Routes from target back to source; a problem means that this migration cannot be reverted."""
    by_name = {table.name: table for table in target.tables}
    routes: list[Route] = []
    problems: list[RoutingProblem] = []
    for table in select_tables(tables, source):
        origin = by_name.get(target_name(tables, table.name, target.name))
        if origin is None:
            continue
        options = tables.options_for(table.name.name)
        outcome = _build_route(origin, table, _Reverse(options, table))
        if isinstance(outcome, Route):
            routes.append(outcome)
        else:
            problems.append(outcome)
    return tuple(routes), tuple(problems)


class _Forward:
    direction = Direction.FORWARD

    def __init__(self, options: TableOptions) -> None:
        self.where = options.where
        self._options = options

    def expression(self, destination: Column) -> str | None:
        return _find(self._options.columns, destination.name)

    def may_be_left_out(self, destination: Column) -> bool:
        return destination.is_nullable or destination.has_default or destination.is_auto_increment

    def unused(self, origin: Table, used: set[str]) -> list[str]:
        """Origin columns that nothing carries and nobody said to omit."""
        omitted = {name.casefold() for name in self._options.omit}
        mentioned = " ".join(self._options.columns.values()).casefold()
        return [
            c.name
            for c in origin.stored_columns
            if c.name.casefold() not in used | omitted and c.name.casefold() not in mentioned
        ]


class _Reverse:
    direction = Direction.REVERSE
    where = None

    def __init__(self, options: TableOptions, source: Table) -> None:
        self._options = options
        self._omitted = {name.casefold() for name in options.omit}
        self._source = source

    def expression(self, destination: Column) -> str | None:
        given = _find(self._options.reverse_columns, destination.name)
        if given is not None:
            return given
        # A plain rename (target = "source") goes back by itself.
        for target, expression in self._options.columns.items():
            if expression.strip().strip("`").casefold() == destination.name.casefold():
                return f"`{target}`"
        return None

    def may_be_left_out(self, destination: Column) -> bool:
        # REPLACE would reset an omitted column of an existing row to its default: what was there would be lost.
        return False

    def unused(self, origin: Table, used: set[str]) -> list[str]:
        return []


def _find(expressions: object, name: str) -> str | None:
    assert hasattr(expressions, "items")  # noqa: S101  # narrows the mapping for the type checker
    return next((sql for key, sql in expressions.items() if key.casefold() == name.casefold()), None)


def _bare_column(origin: Table, expression: str) -> Column | None:
    """The origin's column that an expression merely names, or None."""
    try:
        return origin.column(expression.strip().strip("`"))
    except KeyError:
        return None


def _build_route(origin: Table, destination: Table, way: _Forward | _Reverse) -> Route | RoutingProblem:
    carried: list[CarriedColumn] = []
    for column in destination.stored_columns:
        expression = way.expression(column)
        source_column = _bare_column(origin, expression if expression is not None else column.name)
        if source_column is not None and source_column.generation is not None and expression is None:
            source_column = None
        if source_column is not None:
            carried.append(CarriedColumn(column, source_column))
        elif expression is not None:
            carried.append(CarriedColumn(column, None, expression))
        elif not way.may_be_left_out(column):
            return _missing(origin, destination, column, way)
    used = {c.origin.name.casefold() for c in carried if c.origin is not None}
    if forgotten := way.unused(origin, used):
        return RoutingProblem(
            origin.name, way.direction, f"nothing carries the column(s) {', '.join(forgotten)}",
            f"add them to {destination.name}, map them in [tables.{origin.name.name}] columns, or list them in omit",
        )  # fmt: skip
    return _add_key(origin, destination, tuple(carried), way)


def _missing(origin: Table, destination: Table, column: Column, way: _Forward | _Reverse) -> RoutingProblem:
    section = "columns" if way.direction is Direction.FORWARD else "reverse_columns"
    return RoutingProblem(
        origin.name, way.direction, f"no value for the column {column.name} of {destination.name}",
        f"give {column.name} an expression in [tables.…] {section}",
    )  # fmt: skip


def _add_key(
    origin: Table, destination: Table, carried: tuple[CarriedColumn, ...], way: _Forward | _Reverse
) -> Route | RoutingProblem:
    if origin.key is None:
        return RoutingProblem(
            origin.name, way.direction, "the table has no primary key and no unique key over NOT NULL columns",
            f"ALTER TABLE {origin.name} ADD PRIMARY KEY (...)",
        )  # fmt: skip
    names: list[str] = []
    for key_column in origin.key_columns:
        holder = next((c for c in carried if c.origin is not None and c.origin.name == key_column.name), None)
        if holder is None:
            return RoutingProblem(
                origin.name, way.direction, f"the key column {key_column.name} is not carried unchanged",
                "keys may be renamed but not computed or omitted",
            )  # fmt: skip
        names.append(holder.destination.name)
    if not _is_unique(destination, names):
        return RoutingProblem(
            origin.name, way.direction, f"{', '.join(names)} is not a key of {destination.name}",
            f"ALTER TABLE {destination.name} ADD UNIQUE KEY ({', '.join(names)})",
        )  # fmt: skip
    return Route(origin, destination, carried, tuple(names), way.where)


def _is_unique(table: Table, names: Sequence[str]) -> bool:
    wanted = {name.casefold() for name in names}
    return any(i.is_unique and {c.casefold() for c in i.columns} == wanted for i in table.indexes)
