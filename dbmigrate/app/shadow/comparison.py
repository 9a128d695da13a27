"""Whether two answers to one statement say the same, and if not, in what they differ.

Pure. An answer is taken apart into *facts*, counted: that a row is there, what one of its columns holds, which row
follows it. Apart from the classes of differences (``classes``), which compare many answers over time in the same facts.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from dbmigrate.app.shadow.reads import Reading, ResultColumn, Row
from dbmigrate.app.shadow.settings import ShadowSettings
from dbmigrate.app.shadow.statements import Plan
from dbmigrate.app.shadow.values import Kind, Snapper, canonical, kind_of


class FactKind(Enum):
    """What a fact says."""

    ROW = "row"
    CELL = "cell"
    NEXT = "next"
    SHAPE = "shape"
    MORE = "more"


class Fact(NamedTuple):
    """One thing that an answer says. ``row`` is the row's key, or all of it where it has none; ``column`` a place;
    ``value`` what the column holds, or the row that follows."""

    kind: FactKind
    row: tuple[Any, ...] = ()
    column: int = -1
    value: Any = None


Facts = Counter[Fact]


class Verdict(Enum):
    """What comparing two answers tells."""

    MATCH = "match"
    IGNORED = "ignored"
    DIFFERENT = "different"


@dataclass(frozen=True, slots=True)
class Compared:
    """A verdict, why an answer was ignored, and the facts of both sides if they differ."""

    verdict: Verdict
    reason: str = ""
    control: Facts | None = None
    candidate: Facts | None = None


class Comparison:
    """Compares answers to one statement, those of the first reads and of all that follow, by the same measure.

    Doubles that are nearly equal are the same double for the whole of its life, so one is needed for each read.
    """

    def __init__(self, plan: Plan, control: Sequence[ResultColumn], candidate: Sequence[ResultColumn],
                 settings: ShadowSettings, *, limit: int | None = None) -> None:  # fmt: skip
        self._plan, self._limit = plan, limit
        self.columns = tuple(column.name for column in control)
        self._order = _match_columns(control, candidate) if plan.has_star else None
        arranged = self._arrange_columns(candidate)
        codes = [column.type_code for column in arranged] + [None] * len(control)
        self._kinds = [kind_of(column.type_code, codes[place]) for place, column in enumerate(control)]
        self._snappers = {
            place: Snapper(plan.tolerance) for place, kind in enumerate(self._kinds) if kind is Kind.DOUBLE
        }
        is_placed = len(plan.columns) == len(control)
        self.key = plan.key if is_placed or not plan.key else None
        self._masked = _find_masked(plan, self.columns, settings, is_placed=is_placed)

    def compare(self, control: Reading, candidate: Reading) -> Compared:
        """Whether two answers are the same.

        Text that is equal for a collation only, where the statement leaves the choice to the server, and differences
        that a rule ignores, are neither a match nor a difference.
        """
        if self.is_cut(control, candidate):
            return Compared(Verdict.IGNORED, "the LIMIT leaves it to the server which rows are returned")
        if self._are_identical(control, candidate):
            return Compared(Verdict.MATCH)
        sides = [self.facts(reading, is_candidate=reading is candidate, exact=True) for reading in (control, candidate)]
        if sides[0] == sides[1]:
            return Compared(Verdict.MATCH)
        sides = [self.facts(reading, is_candidate=reading is candidate) for reading in (control, candidate)]
        if sides[0] == sides[1]:
            why = "the columns that differ are ignored" if self._masked else "text that is equal for a collation"
            return Compared(Verdict.IGNORED, why)
        return Compared(Verdict.DIFFERENT, "", *sides)

    def is_cut(self, *readings: Reading) -> bool:
        """Whether a LIMIT has chosen among rows that have no order."""
        if not self._plan.is_limited:
            return False
        return self._limit is None or any(len(reading.rows) >= self._limit for reading in readings)

    def _are_identical(self, control: Reading, candidate: Reading) -> bool:
        """The short way for nearly all: the drivers gave equal values."""
        if self._order is not None or candidate.is_truncated or len(control.columns) != len(candidate.columns):
            return False
        if self._plan.has_star and not _are_same_names(candidate.columns, self.columns):
            return False
        if list(control.rows) == list(candidate.rows):
            return True
        if self._plan.is_ordered or len(control.rows) != len(candidate.rows):
            return False
        try:
            return Counter(control.rows) == Counter(candidate.rows)
        except TypeError:
            return False

    def facts(self, reading: Reading, *, is_candidate: bool, exact: bool = False) -> Facts:
        """What an answer says. Unless ``exact``, ignored columns say nothing, and text is folded where it has to be."""
        arrange = self._order if is_candidate and self._order is not None else None
        columns = self._arrange_columns(reading.columns) if is_candidate else tuple(reading.columns)
        facts: Facts = Counter()
        if len(columns) != len(self.columns) or (self._plan.has_star and not _are_same_names(columns, self.columns)):
            facts[Fact(FactKind.SHAPE, tuple(column.name for column in columns))] = 1
            return facts
        fold = self._plan.is_folded and not exact
        masked = frozenset() if exact else self._masked
        rows = [self._canonical_row(row, arrange, fold) for row in reading.rows]
        names = [self._name_of(row, masked) for row in rows]
        facts.update(self._facts_of_rows(rows, names, masked))
        if self._plan.is_ordered:
            facts.update(Fact(FactKind.NEXT, a, value=b) for a, b in itertools.pairwise(names))
        if reading.is_truncated:
            facts[Fact(FactKind.MORE)] = 1
        return facts

    def _facts_of_rows(
        self, rows: Sequence[tuple[Any, ...]], names: Sequence[tuple[Any, ...]], masked: frozenset[int]
    ) -> Iterable[Fact]:
        key = self.key
        for row, name in zip(rows, names, strict=True):
            yield Fact(FactKind.ROW, name)
            if key is not None:
                for place, value in enumerate(row):
                    if place not in key and place not in masked:
                        yield Fact(FactKind.CELL, name, place, value)

    def _name_of(self, row: tuple[Any, ...], masked: frozenset[int]) -> tuple[Any, ...]:
        if self.key is not None:
            return tuple(row[place] for place in self.key)
        return tuple(None if place in masked else value for place, value in enumerate(row))

    def _canonical_row(self, row: Row, arrange: Sequence[int] | None, fold: bool) -> tuple[Any, ...]:
        values = [row[place] for place in arrange] if arrange is not None else row
        found = []
        for place, value in enumerate(values):
            form: Any = canonical(self._kinds[place], value, fold=fold)
            snapper = self._snappers.get(place)
            found.append(snapper.snap(form) if snapper is not None and isinstance(form, float) else form)
        return tuple(found)

    def _arrange_columns(self, columns: Sequence[ResultColumn]) -> tuple[ResultColumn, ...]:
        return tuple(columns[place] for place in self._order) if self._order is not None else tuple(columns)


def _match_columns(control: Sequence[ResultColumn], candidate: Sequence[ResultColumn]) -> tuple[int, ...] | None:
    """``*`` gives a table's columns in its own order, which may differ; they are the same columns by name."""
    ours, theirs = ([column.name.casefold() for column in columns] for columns in (control, candidate))
    if ours == theirs or sorted(ours) != sorted(theirs) or len(set(ours)) != len(ours):
        return None
    return tuple(theirs.index(name) for name in ours)


def _are_same_names(columns: Sequence[ResultColumn], names: Sequence[str]) -> bool:
    return [column.name.casefold() for column in columns] == [name.casefold() for name in names]


def _find_masked(
    plan: Plan, columns: Sequence[str], settings: ShadowSettings, *, is_placed: bool
) -> frozenset[int]:
    """The places of the columns that a rule ignores. Of a column whose origin is unknown, its name decides."""
    if not settings.ignore_columns:
        return frozenset()
    if any(settings.ignores_table(table) for table in plan.tables):
        return frozenset(range(len(columns)))
    found = set()
    for place, name in enumerate(columns):
        origins = plan.origins[place] if is_placed and place < len(plan.origins) else ((("", name.casefold())),)
        for table, column in origins:
            tables = (table,) if table else plan.tables
            if any(settings.ignores_column(each, column) for each in tables):
                found.add(place)
    return frozenset(found)


def ignores_all(plan: Plan, settings: ShadowSettings) -> str:
    """Why a rule ignores whatever this statement returns; empty if none does."""
    if any(settings.ignores_table(table) for table in plan.tables):
        return "a table that is ignored"
    return "a statement that is ignored" if settings.ignores_statement(plan.digest, plan.statement) else ""
