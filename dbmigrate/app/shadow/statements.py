"""What a statement lets one compare: whether its rows come in one order only, which columns name a row, where each
column comes from, and why it cannot be compared at all.

Apart from the comparison, because only this module knows SQL. It uses a real parser, and where that does not
understand, or a column cannot be placed, it says the weaker thing: rows come in any order, nothing names them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import sqlglot
from sqlglot import exp

from dbmigrate.app.shadow import texts
from dbmigrate.app.shadow.tables import TableFacts, TableId
from dbmigrate.app.shadow.values import STORED_TOLERANCE, SUMMED_TOLERANCE


class ColumnId(NamedTuple):
    """A column of one of the statement's tables, by the table's alias. In small letters."""

    alias: str
    name: str


Node = Any
"""A node of the parser's tree; the name of their common class differs between its versions."""

FindTable = Callable[[TableId], TableFacts]
Columns = frozenset[ColumnId]


@dataclass(frozen=True, slots=True)
class Plan:
    """How to compare the answers to one statement.

    ``refusal`` says why they cannot be compared; empty where they can. ``is_ordered``: every correct server returns the
    rows in the same order. ``is_limited``: which rows are returned is left to the server if it has as many as the limit.
    ``key`` are the places of the columns that name a row; None where none do, and no places at all if there is never more
    than one row. ``origins`` are the tables and columns that each column is made of. ``is_folded``: text that is equal for a collation may be returned in either form.
    """

    digest: str
    statement: str
    tables: tuple[str, ...] = ()
    refusal: str = ""
    is_ordered: bool = False
    is_limited: bool = False
    is_folded: bool = False
    has_star: bool = False
    tolerance: float = STORED_TOLERANCE
    key: tuple[int, ...] | None = None
    columns: tuple[str, ...] = ()
    origins: tuple[tuple[tuple[str, str], ...], ...] = ()


_SYSTEM_SCHEMAS = frozenset({"information_schema", "performance_schema", "mysql", "sys", "_dbmigrate"})
_AGGREGATES = re.compile(r"\b(?:SUM|AVG|STD|STDDEV\w*|VAR\w*)\s*\(", re.IGNORECASE)
_FOLDS = re.compile(r"\b(?:GROUP\s+BY|DISTINCT|DISTINCTROW|UNION|INTERSECT|EXCEPT)\b|\b(?:MIN|MAX)\s*\(", re.IGNORECASE)
_ANY_ORDER = re.compile(r"\bJSON_ARRAYAGG\s*\(", re.IGNORECASE)
_RANKS = re.compile(r"\b(?:RANK|DENSE_RANK|PERCENT_RANK|CUME_DIST)\s*\(\s*\)\s*OVER\b", re.IGNORECASE)


def plan_statement(sql: str, find_table: FindTable, *, tables: Sequence[str] = ()) -> Plan:
    """How to compare the answers to this statement. ``tables`` are the caller's word, if it cannot be parsed."""
    statement = texts.normalised(sql)
    bare = texts.without_names(texts.strip(sql))
    plan = Plan(
        texts.digest_of(statement), statement, tables=tuple(tables), is_folded=_FOLDS.search(bare) is not None,
        tolerance=SUMMED_TOLERANCE if _AGGREGATES.search(bare) else STORED_TOLERANCE,
    )  # fmt: skip
    if not texts.may_be_repeated(sql):
        return replace(plan, refusal="it locks, writes or waits")
    if variation := texts.find_variation(sql):
        return replace(plan, refusal=f"{variation} varies from run to run")
    try:
        tree = sqlglot.parse_one(texts.for_parser(sql), dialect="mysql")
    except (sqlglot.errors.SqlglotError, RecursionError):
        tree = None
    if not isinstance(tree, exp.Query):
        refusal = "a LIMIT in a statement that was not understood" if re.search(r"\bLIMIT\b", bare, re.I) else ""
        return replace(plan, refusal=refusal)
    return _plan_tree(plan, tree, bare, find_table)


def _plan_tree(plan: Plan, tree: exp.Query, bare: str, find_table: FindTable) -> Plan:
    while isinstance(tree, exp.Subquery) and isinstance(tree.this, exp.Query) and not _has_tail(tree):
        tree = tree.this
    tables = _base_tables(tree)
    plan = replace(plan, tables=tuple(dict.fromkeys(table.name for table in tables)))
    if not tables:
        return replace(plan, refusal="it reads no table")
    if schemas := sorted({table.schema for table in tables} & _SYSTEM_SCHEMAS):
        return replace(plan, refusal=f"{schemas[0]} is the server's own")
    if refusal := _find_refusal(tree, bare):
        return replace(plan, refusal=refusal)
    if not isinstance(tree, exp.Select):
        return replace(plan, is_limited=tree.args.get("limit") is not None)
    return _Analysis(tree, find_table).complete(plan)


def _has_tail(tree: Node) -> bool:
    return any(tree.args.get(part) is not None for part in ("limit", "offset", "order", "with_", "with"))


def _base_tables(tree: Node) -> list[TableId]:
    names = {cte.alias_or_name.casefold() for cte in tree.find_all(exp.CTE)}
    found = [_table_id(table) for table in tree.find_all(exp.Table)]
    return [table for table in found if table.name and (table.schema or table.name not in names)]


def _table_id(table: exp.Table) -> TableId:
    return TableId(table.db.casefold(), table.name.casefold())


def _find_refusal(tree: exp.Query, bare: str) -> str:
    """What leaves the answer to the server's choice and lies too deep for the rows to show it."""
    for limit in tree.find_all(exp.Limit, exp.Fetch, exp.Offset):
        if limit.parent is not tree:
            return "a LIMIT inside of the statement"
    if len(list(tree.find_all(exp.Window))) > len(_RANKS.findall(bare)):
        return "a window function"
    for concat in tree.find_all(exp.GroupConcat):
        if concat.find(exp.Order) is None:
            return "GROUP_CONCAT without an order"
    return "JSON_ARRAYAGG has no order" if _ANY_ORDER.search(bare) else ""


class _Analysis:
    """One SELECT at the top, with the tables of its FROM clause in sight."""

    def __init__(self, select: exp.Select, find_table: FindTable) -> None:
        self._select = select
        self._sources = _sources_of(select)
        self._facts = {alias: find_table(table) for alias, table in self._sources.items() if table is not None}
        self._is_grouped = select.args.get("group") is not None
        self._has_aggregate = not self._is_grouped and any(map(self._is_own_aggregate, select.find_all(exp.AggFunc)))
        self._projections = list(self._expand())

    def complete(self, plan: Plan) -> Plan:
        """The plan with all that the SELECT tells."""
        if self._is_grouped and not self._is_group_definite():
            return replace(plan, refusal="columns outside of GROUP BY are any row's")
        determined, constants = self._determined(self._order()), self._determined(self._constants())
        has_one_row = self._has_aggregate or (not self._is_grouped and self._covers(constants))
        is_total = has_one_row or self._is_total(determined)
        return replace(
            plan,
            is_ordered=is_total and not has_one_row,
            is_limited=not is_total and self._select.args.get("limit") is not None,
            has_star=any(each.is_star for each in self._select.expressions),
            key=() if has_one_row and not self._key() else self._key(),
            columns=tuple(each.alias_or_name for each in self._projections),
            origins=tuple(tuple(self._origins(each)) for each in self._projections),
        )

    def _is_own_aggregate(self, aggregate: Node) -> bool:
        """Whether it makes one row of all: not inside of a subquery, and not of a window."""
        return aggregate.find_ancestor(exp.Query, exp.Window) is self._select

    # --- names ---

    def _expand(self) -> Iterator[Node]:
        """The result's columns, with ``*`` written out. Where that cannot be done, nothing is known of any column."""
        found: list[Node] = []
        for each in self._select.expressions:
            if not each.is_star or isinstance(each.unalias(), exp.AggFunc):
                found.append(each)
                continue
            aliases = [each.table.casefold()] if isinstance(each, exp.Column) and each.table else list(self._sources)
            joined = any(join.args.get("using") or join.method for join in self._select.args.get("joins") or ())
            if joined or any(not self._facts.get(alias, TableFacts()).columns for alias in aliases):
                return
            for alias in aliases:
                found += [exp.column(name, table=alias) for name in self._facts[alias].columns]
        yield from found

    def _place(self, expression: Node) -> ColumnId | None:
        """The table's column that an expression is, and nothing else."""
        expression = expression.unalias() if expression is not None else None
        while isinstance(expression, exp.Paren):
            expression = expression.this
        if not isinstance(expression, exp.Column):
            return None
        name, alias = expression.name.casefold(), expression.table.casefold()
        if alias:
            return ColumnId(alias, name) if alias in self._facts else None
        owners = [alias for alias, facts in self._facts.items() if name in _folded(facts.columns)]
        return ColumnId(owners[0], name) if len(owners) == 1 and len(self._facts) == len(self._sources) else None

    def _origins(self, projection: Node) -> Iterator[tuple[str, str]]:
        """Table and column of all that a column of the result is made of; the table is empty where unknown."""
        for column in projection.find_all(exp.Column):
            place = self._place(column)
            table = self._sources.get(place.alias) if place is not None else None
            yield (table.name if table is not None else "", column.name.casefold())

    # --- what determines what ---

    def _order(self) -> set[ColumnId]:
        """The columns that the rows are sorted by."""
        order = self._select.args.get("order")
        by_alias = {each.alias.casefold(): each for each in self._projections if each.alias}
        found = set()
        for ordered in order.expressions if order is not None else ():
            term = ordered.this
            if isinstance(term, exp.Literal) and term.is_int and 0 < int(term.name) <= len(self._projections):
                term = self._projections[int(term.name) - 1]
            elif isinstance(term, exp.Column) and not term.table:
                term = by_alias.get(term.name.casefold(), term)
            place = self._place(term)
            if place is not None:
                found.add(place)
        return found

    def _constants(self) -> set[ColumnId]:
        """The columns that WHERE equates with a value."""
        where = self._select.args.get("where")
        found = set()
        for equal in _conjuncts(where.this if where is not None else None):
            for column, value in ((equal.this, equal.expression), (equal.expression, equal.this)):
                place = self._place(column)
                if place is not None and isinstance(value, (exp.Literal, exp.Placeholder)):
                    found.add(place)
        return found

    def _determined(self, given: set[ColumnId]) -> Columns:
        """All columns that have one value only for each value of the given ones and of the constants."""
        known = given | self._constants()
        pairs = list(self._joined())
        while True:
            more = {b for a, b in pairs if a in known} | self._columns_of_keyed(known)
            if more <= known:
                return frozenset(known)
            known |= more

    def _joined(self) -> Iterator[tuple[ColumnId, ColumnId]]:
        """Columns that a join makes equal: of an outer join only from the side that keeps its rows."""
        for join in self._select.args.get("joins") or ():
            inner = join.this.alias_or_name.casefold()
            for equal in _conjuncts(join.args.get("on")):
                left, right = self._place(equal.this), self._place(equal.expression)
                if left is None or right is None:
                    continue
                for a, b in ((left, right), (right, left)):
                    if not join.side or (join.side.upper() == "LEFT" and b.alias == inner):
                        yield a, b

    def _columns_of_keyed(self, known: set[ColumnId]) -> set[ColumnId]:
        found = set()
        for alias, facts in self._facts.items():
            if any(_ids(alias, key) <= known for key in facts.keys):
                found |= _ids(alias, facts.columns)
        return found

    def _covers(self, determined: Columns) -> bool:
        """Whether at most one row has given values of these columns."""
        return len(self._facts) == len(self._sources) and all(
            any(_ids(alias, key) <= determined for key in facts.keys) for alias, facts in self._facts.items()
        )

    def _is_total(self, determined: Columns) -> bool:
        places = [self._place(each) for each in self._projections]
        if self._is_grouped:
            group = self._group()
            return None not in group and set(group) <= determined
        if self._select.args.get("distinct") is not None:
            return bool(places) and None not in places and set(places) <= determined
        return self._covers(determined)

    def _group(self) -> list[ColumnId | None]:
        group = self._select.args["group"]
        if any(group.args.get(part) for part in ("rollup", "cube", "grouping_sets", "all")):
            return [None]
        by_alias = {each.alias.casefold(): each for each in self._projections if each.alias}
        found = []
        for term in group.expressions:
            if isinstance(term, exp.Literal) and term.is_int and 0 < int(term.name) <= len(self._projections):
                term = self._projections[int(term.name) - 1]
            elif isinstance(term, exp.Column) and not term.table and self._place(term) is None:
                term = by_alias.get(term.name.casefold(), term)
            found.append(self._place(term))
        return found

    def _is_group_definite(self) -> bool:
        """Whether each group has one value only of what is selected without an aggregate."""
        group = self._select.args["group"]
        texts_of_group = {term.sql(dialect="mysql").casefold() for term in group.expressions}
        texts_of_group |= {
            self._projections[int(term.name) - 1].unalias().sql(dialect="mysql").casefold()
            for term in group.expressions
            if isinstance(term, exp.Literal) and term.is_int and 0 < int(term.name) <= len(self._projections)
        }
        known = self._determined({place for place in self._group() if place is not None})
        for each in self._projections:
            bare = each.unalias()
            if {bare.sql(dialect="mysql").casefold(), each.alias.casefold() or "?"} & texts_of_group:
                continue
            if not all(self._is_definite(column, texts_of_group, known) for column in bare.find_all(exp.Column)):
                return False
        return bool(self._projections)

    def _is_definite(self, column: exp.Column, group: set[str], known: Columns) -> bool:
        around = column.find_ancestor(exp.AggFunc, exp.Query)
        if isinstance(around, exp.AggFunc):
            return True
        if around is not None and around is not self._select:  # None: written out from a star
            return False  # of a subquery, which may look at the group's rows
        return column.sql(dialect="mysql").casefold() in group or self._place(column) in known

    def _key(self) -> tuple[int, ...] | None:
        """The places of the columns that name a row of the result; None where duplicates are possible."""
        places = {place: number for number, each in reversed(list(enumerate(self._projections)))
                  if (place := self._place(each)) is not None}  # fmt: skip
        if self._is_grouped:
            group = self._group()
            return tuple(places[each] for each in group if each is not None) if set(group) <= set(places) else None
        if self._select.args.get("distinct") is not None or len(self._facts) != len(self._sources):
            return None
        chosen: set[ColumnId] = set()
        for alias, facts in self._facts.items():
            if any(_ids(alias, key) <= self._determined(chosen) for key in facts.keys):
                continue
            key = next((ids for key in facts.keys if (ids := _ids(alias, key)) <= set(places)), None)
            if key is None:
                return None
            chosen |= key
        chosen = chosen or self._constants() & set(places)
        return tuple(sorted(places[each] for each in chosen if each in places))


def _sources_of(select: exp.Select) -> Mapping[str, TableId | None]:
    """What is in the FROM clause by its alias; None for what is no table."""
    clause = select.args.get("from_") or select.args.get("from")
    names = {cte.alias_or_name.casefold() for cte in select.find_all(exp.CTE)}
    found: dict[str, TableId | None] = {}
    for source in [clause.this if clause is not None else None, *(j.this for j in select.args.get("joins") or ())]:
        if source is None:
            continue
        is_table = isinstance(source, exp.Table) and bool(source.name) and not source.args.get("joins")
        table = _table_id(source) if is_table else None
        if table is not None and not table.schema and table.name in names:
            table = None
        found[source.alias_or_name.casefold()] = table
    return found


def _conjuncts(condition: Any) -> Iterator[exp.EQ]:
    """The equalities that all rows fulfil."""
    if isinstance(condition, exp.Paren):
        yield from _conjuncts(condition.this)
    elif isinstance(condition, exp.And):
        yield from _conjuncts(condition.this)
        yield from _conjuncts(condition.expression)
    elif isinstance(condition, exp.EQ):
        yield condition


def _ids(alias: str, columns: Sequence[str]) -> set[ColumnId]:
    return {ColumnId(alias, column.casefold()) for column in columns}


def _folded(names: Sequence[str]) -> set[str]:
    return {name.casefold() for name in names}


_TAIL = re.compile(r"\bLIMIT\s+(\?|\d+)(?:\s*(,|OFFSET\b)\s*(\?|\d+))?\s*\)?\s*$", re.IGNORECASE)


def limit_of(sql: str, parameters: Any) -> int | None:
    """How many rows the statement asks for at most, by the LIMIT at its end; None if that cannot be told.

    None, too, if rows are skipped: which ones are left to the server even if all the rest were returned.
    """
    found = _TAIL.search(texts.strip(sql, keep_numbers=True))
    if found is None:
        return None
    marks = _marks(sql, parameters)
    asked: list[Any] = []
    for text in (found[3], found[1]):  # from the end, as parameters are taken from theirs
        if text is not None:
            asked.append(marks.pop() if text == "?" and marks else text)
    limit, offset = (asked[0], asked[1]) if found[2] == "," else (asked[-1], asked[0] if found[2] else 0)
    try:
        return int(limit) if int(offset) == 0 else None
    except (TypeError, ValueError):
        return None


def _marks(sql: str, parameters: Any) -> list[Any]:
    """The parameters in the order in which the statement uses them."""
    if isinstance(parameters, Mapping):
        return [parameters.get(name) for name in re.findall(r"%\((\w+)\)s", sql)]
    return list(parameters or ())
