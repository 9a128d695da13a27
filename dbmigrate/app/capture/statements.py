"""Which rows one INSERT, UPDATE or DELETE of SQLAlchemy writes.

ORM flushes and bulk operations come as the same constructs as Core ones, so this is the one place that has to know
them. Where the WHERE names the whole key, nothing is asked; otherwise the keys are selected with the same WHERE before
the statement runs, under a lock, so that the set cannot change in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql import operators
from sqlalchemy.sql.dml import Delete, Insert, Update, UpdateBase
from sqlalchemy.sql.elements import BinaryExpression, BindParameter, BooleanClauseList, ClauseElement, Grouping

from dbmigrate.app.capture.touched import KeyValues, Touched, as_key
from dbmigrate.mysql.mirror_plan import MirrorPlan

_ONE_STATEMENT_CHARACTERS = 400_000
"""Drivers turn an executemany into one multi-row INSERT up to about a million bytes; beyond, ids cannot be told."""


class UncapturedError(Exception):
    """The rows of a statement cannot be known; its text says why."""


@dataclass(frozen=True, slots=True)
class Target:
    """The table that a statement writes, with the columns of the moved table's key, in the key's order."""

    table: sa.Table
    plan: MirrorPlan
    columns: tuple[sa.Column[Any], ...]

    def touch(self, keys: Iterable[KeyValues]) -> Touched:
        """Rows of this table, with columns that are free of the application's metadata."""
        return Touched(self.plan, _free(self.columns), tuple(keys))


@lru_cache(maxsize=1000)
def _free(columns: tuple[sa.Column[Any], ...]) -> tuple[sa.ColumnClause[Any], ...]:
    """The same columns each time, so that statements built of them are found again."""
    return tuple(sa.column(column.name, column.type) for column in columns)


def find_table(statement: UpdateBase) -> sa.Table:
    """The one table that the statement writes."""
    table: Any = statement.table
    if not isinstance(table, sa.Table):
        table = getattr(table, "element", None)  # an alias
    if not isinstance(table, sa.Table):
        raise UncapturedError("it writes something that is no table")
    return table


def find_target(table: sa.Table, plan: MirrorPlan) -> Target:
    """How the application maps the key.

    Raises:
        UncapturedError: its model lacks columns of the key.
    """
    by_name = {column.name.casefold(): column for column in table.columns}
    try:
        return Target(table, plan, tuple(by_name[name.casefold()] for name in plan.key_columns))
    except KeyError as missing:
        raise UncapturedError(f"the model of {table.name} lacks the key column {missing.args[0]}") from None


# --- UPDATE and DELETE --------------------------------------------------------------------------------------------


def find_changed(
    statement: Update | Delete, target: Target, rows: Sequence[Mapping[str, Any]], connection: sa.Connection
) -> list[KeyValues]:
    """Keys of the rows that the statement is about to write, their new keys included. Asks the server where it must."""
    _require_plain(statement, target)
    moved = _find_moved(statement, target)
    keys: list[KeyValues] = []
    for given in rows or [{}]:
        pinned = _find_pinned(statement, target, given)
        if pinned is None or any(isinstance(value, ClauseElement) for value in moved.values()):
            keys += _select(statement, target, moved, given, connection)
        else:
            keys.append(pinned)
            new = _move(pinned, target, moved, given)
            if new != pinned:
                keys.append(new)
    return keys


def _require_plain(statement: Update | Delete, target: Target) -> None:
    options = statement.dialect_options["mysql"]
    if options.get("limit") is not None or statement.dialect_options["mariadb"].get("limit") is not None:
        raise UncapturedError("it has a LIMIT")
    if statement._independent_ctes:
        raise UncapturedError("it has common table expressions")
    if isinstance(statement, Update):
        for column in _values(statement):
            if getattr(getattr(column, "table", None), "name", target.table.name) != target.table.name:
                raise UncapturedError("it writes several tables")


def _values(statement: Update) -> dict[Any, Any]:
    ordered = getattr(statement, "_ordered_values", None)
    return dict(ordered or ()) | dict(statement._values or {})


def _find_moved(statement: Update | Delete, target: Target) -> dict[str, Any]:
    """New values of key columns that the statement itself gives, by column name."""
    if isinstance(statement, Delete):
        return {}
    names = {column.key: column.name for column in target.columns} | {c.name: c.name for c in target.columns}
    moved = {}
    for column, value in _values(statement).items():
        name = names.get(getattr(column, "key", column))
        if name is not None:
            moved[name] = value.value if isinstance(value, BindParameter) and value.value is not None else value
    return moved


def _move(key: KeyValues, target: Target, moved: Mapping[str, Any], given: Mapping[str, Any]) -> KeyValues:
    """The key after the statement; an ORM flush gives new values as parameters named like the columns."""
    return as_key(
        moved.get(column.name, given.get(column.key, old)) for column, old in zip(target.columns, key, strict=True)
    )


def _find_pinned(statement: Update | Delete, target: Target, given: Mapping[str, Any]) -> KeyValues | None:
    found: dict[str, Any] = {}
    for part in _conjunction(statement._where_criteria):
        pinned = _pin(part, target, given)
        if pinned is not None:
            found.setdefault(*pinned)
    if len(found) < len(target.columns):
        return None
    return as_key(found[column.name] for column in target.columns)


def _conjunction(criteria: Sequence[Any]) -> Iterator[Any]:
    for part in criteria:
        if isinstance(part, Grouping):
            yield from _conjunction([part.element])
        elif isinstance(part, BooleanClauseList) and part.operator is operators.and_:
            yield from _conjunction(list(part.clauses))
        else:
            yield part


def _pin(part: Any, target: Target, given: Mapping[str, Any]) -> tuple[str, Any] | None:
    """The key column that this comparison sets equal to a value, with the value."""
    if not isinstance(part, BinaryExpression) or part.operator is not operators.eq:
        return None
    column, value = part.left, part.right
    if not isinstance(value, BindParameter) or getattr(column, "table", None) is None:
        return None
    names = {one.name for one in target.columns}
    if column.name not in names or getattr(column.table, "name", None) != target.table.name:
        return None
    if value.key in given:
        return column.name, given[value.key]
    if value.required:
        return None
    return column.name, value.effective_value


def _select(
    statement: Update | Delete,
    target: Target,
    moved: Mapping[str, Any],
    given: Mapping[str, Any],
    connection: sa.Connection,
) -> list[KeyValues]:
    new = [moved.get(column.name, given.get(column.key, column)) for column in target.columns]
    query = sa.select(
        *target.columns, *(_as_expression(value, c) for value, c in zip(new, target.columns, strict=True))
    )
    query = query.where(*statement._where_criteria).with_for_update()
    size = len(target.columns)
    keys: dict[KeyValues, None] = {}
    for row in connection.execute(query, dict(given)):
        keys[as_key(row[:size])] = None
        keys[as_key(row[size:])] = None
    return list(keys)


def _as_expression(value: Any, column: sa.Column[Any]) -> Any:
    return value if isinstance(value, ClauseElement) else sa.literal(value, column.type)


# --- INSERT -------------------------------------------------------------------------------------------------------


def require_insert(statement: Insert, target: Target) -> None:
    """An INSERT whose keys can be told once it has run.

    Raises:
        UncapturedError: it cannot.
    """
    if statement.select is not None:
        raise UncapturedError("its rows come from a SELECT")
    if statement._post_values_clause is not None and target.plan.has_other_uniques:
        raise UncapturedError("ON DUPLICATE KEY UPDATE may change a row with another key")
    if any("REPLACE" in str(prefix).upper() for prefix, _ in statement._prefixes):
        raise UncapturedError("it replaces rows")


def find_inserted(statement: Insert, target: Target, result: sa.CursorResult[Any]) -> list[KeyValues]:
    """Keys of the rows that an INSERT has written.

    Raises:
        UncapturedError: the server made keys that it does not tell.
    """
    context: Any = result.context
    rows = _inserted_rows(statement, context.compiled_parameters)
    given = [tuple(row.get(column.key) for column in target.columns) for row in rows]
    if all(None not in key for key in given):
        return [as_key(key) for key in given]
    if len(rows) == 1 or context.compiled.effective_returning:
        made = _made_keys(target, result, len(rows))
        if made is not None:
            return made
    return _count_up(statement, target, result, given)


def _inserted_rows(statement: Insert, parameters: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """One mapping of column keys to values a row, however the rows were given."""
    if not statement._multi_values:
        return list(parameters)
    count = sum(len(values) for values in statement._multi_values)
    rows: list[Mapping[str, Any]] = []
    for number in range(count):
        ending = f"_m{number}"
        rows.append({name.removesuffix(ending): v for name, v in parameters[0].items() if name.endswith(ending)})
    return rows


def _made_keys(target: Target, result: sa.CursorResult[Any], count: int) -> list[KeyValues] | None:
    try:
        rows = result.inserted_primary_key_rows
    except sa.exc.InvalidRequestError:
        return None
    if rows is None or len(rows) != count:
        return None
    primary = [column.name for column in target.table.primary_key.columns]
    if not {column.name for column in target.columns} <= set(primary):
        return None
    keys = [as_key(tuple(row or ())[primary.index(column.name)] for column in target.columns) for row in rows]
    return keys if all(value is not None for key in keys for value in key) else None


def _count_up(
    statement: Insert, target: Target, result: sa.CursorResult[Any], given: Sequence[tuple[Any, ...]]
) -> list[KeyValues]:
    """Ids of a multi-row INSERT: its server makes them one after the other, in steps of auto_increment_increment."""
    missing = [position for position, column in enumerate(target.columns) if column.name == target.plan.auto_increment]
    if len(missing) != 1 or statement._prefixes or statement._post_values_clause is not None:
        raise UncapturedError("the server made keys that it does not tell")
    (place,) = missing
    if any(key[place] is not None or None in (*key[:place], *key[place + 1 :]) for key in given):
        raise UncapturedError("some of its rows bring their id, others do not")
    context: Any = result.context
    if (
        sum(len(str(value)) + 8 for row in context.compiled_parameters for value in row.values())
        > _ONE_STATEMENT_CHARACTERS
    ):
        raise UncapturedError("it is so large that the driver sends it in parts")
    first = context.get_lastrowid()
    if not first:
        raise UncapturedError("the server made keys that it does not tell")
    step = result.connection.exec_driver_sql("SELECT @@SESSION.auto_increment_increment").scalar_one()
    return [as_key((*key[:place], first + number * step, *key[place + 1 :])) for number, key in enumerate(given)]
