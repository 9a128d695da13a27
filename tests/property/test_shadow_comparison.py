"""The comparison of shadow reads, and the classes of differences, on values and schedules that nobody has picked."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dbmigrate.app.shadow.classes import Suspicion
from dbmigrate.app.shadow.comparison import Comparison, Fact, FactKind, Facts, Verdict
from dbmigrate.app.shadow.reads import Reading, ResultColumn
from dbmigrate.app.shadow.settings import ShadowSettings
from dbmigrate.app.shadow.statements import plan_statement
from dbmigrate.app.shadow.tables import TableFacts
from dbmigrate.app.shadow.values import STORED_TOLERANCE, Kind, Snapper, canonical
from dbmigrate.domain.evidence import MismatchKind

LONG, DOUBLE, DATETIME, TIME, JSON, DECIMAL, BLOB, TEXT = 3, 5, 12, 11, 245, 246, 252, 253

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
VALUES = {
    LONG: st.integers(-(2**63), 2**64 - 1),
    DOUBLE: st.floats(allow_nan=False, allow_infinity=False),
    DATETIME: st.datetimes(min_value=datetime(1000, 1, 1)),
    TIME: st.timedeltas(timedelta(hours=-838), timedelta(hours=838)),
    JSON: json_values.map(json.dumps),
    DECIMAL: st.decimals(-(10**15), 10**15, places=4),
    BLOB: st.binary(max_size=8),
    TEXT: st.text(max_size=8),
}
CODES = (LONG, *VALUES)
COLUMNS = tuple(ResultColumn("id" if place == 0 else f"c{place}", code) for place, code in enumerate(CODES))
NAMES = tuple(column.name for column in COLUMNS)

rows_by_key = st.dictionaries(
    st.integers(0, 10**6), st.tuples(*(st.none() | VALUES[code] for code in CODES[1:])), max_size=8
)

WIDE_ROWS = settings(suppress_health_check=[HealthCheck.too_slow])  # rows of every type take long to draw


def print_differently(code: int, value: Any) -> Any:
    """The same value as another server or driver might give it."""
    if value is None:
        return None
    if code == DOUBLE:
        return value * (1 + 2e-16)
    if code == DATETIME:
        return str(value) if value.microsecond else f"{value}.000000"
    if code == JSON:
        return json.dumps(json.loads(value), separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    if code == DECIMAL:
        return value.quantize(Decimal("0.000001"))
    return value.encode("utf-8") if code == TEXT else value


def compare(sql: str, control: list[tuple[Any, ...]], candidate: list[tuple[Any, ...]]) -> Verdict:
    """The verdict on two answers."""
    plan = plan_statement(sql, lambda _: TableFacts(NAMES, (("id",),)))
    comparison = Comparison(plan, COLUMNS, COLUMNS, ShadowSettings())
    return comparison.compare(Reading(COLUMNS, control), Reading(COLUMNS, candidate)).verdict


@WIDE_ROWS
@given(rows_by_key, st.randoms())
def test_equal_rows_match_however_they_are_printed_and_sorted(rows: dict[int, tuple[Any, ...]], random: Any) -> None:
    """Unless the statement promises an order."""
    control = [(key, *values) for key, values in rows.items()]
    candidate = [tuple(map(print_differently, CODES, row)) for row in control]
    assert compare("SELECT * FROM t ORDER BY id", control, candidate) is Verdict.MATCH
    random.shuffle(candidate)
    assert compare("SELECT * FROM t", control, candidate) is Verdict.MATCH


@WIDE_ROWS
@given(rows_by_key.filter(bool), st.data())
def test_any_other_value_is_a_difference(rows: dict[int, tuple[Any, ...]], data: st.DataObject) -> None:
    """One cell of one row."""
    control = [(key, *values) for key, values in rows.items()]
    place, column = data.draw(st.integers(0, len(control) - 1)), data.draw(st.integers(1, len(CODES) - 1))
    kind = {DOUBLE: Kind.DOUBLE, JSON: Kind.JSON, DATETIME: Kind.TEMPORAL, TIME: Kind.TEMPORAL}.get(CODES[column], Kind.PLAIN)
    before = control[place][column]
    other = data.draw(st.none() | VALUES[CODES[column]])
    snapper = Snapper(2 * STORED_TOLERANCE)
    forms = [canonical(kind, value) for value in (before, other)]
    forms = [snapper.snap(form) if kind is Kind.DOUBLE and isinstance(form, float) else form for form in forms]
    candidate = list(control)
    candidate[place] = (*control[place][:column], other, *control[place][column + 1 :])
    expected = Verdict.MATCH if forms[0] == forms[1] else Verdict.DIFFERENT
    assert compare("SELECT * FROM t", control, candidate) is expected


@WIDE_ROWS
@given(rows_by_key.filter(bool), st.data())
def test_a_missing_or_doubled_row_is_a_difference(rows: dict[int, tuple[Any, ...]], data: st.DataObject) -> None:
    """On either side."""
    control = [(key, *values) for key, values in rows.items()]
    place = data.draw(st.integers(0, len(control) - 1))
    for candidate in (control[:place] + control[place + 1 :], [*control, control[place]]):
        assert compare("SELECT * FROM t", control, candidate) is Verdict.DIFFERENT
        assert compare("SELECT * FROM t", candidate, control) is Verdict.DIFFERENT


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=30))
def test_snapped_doubles_stay_within_the_tolerance(numbers: list[float]) -> None:
    """And the same number always becomes the same."""
    snapper = Snapper(STORED_TOLERANCE)
    first = [snapper.snap(number) for number in numbers]
    assert all(abs(a - b) <= STORED_TOLERANCE * max(abs(a), abs(b)) for a, b in zip(first, numbers, strict=True))
    assert [snapper.snap(number) for number in first] == first


ROWS = ("a", "b", "c")


def facts_of(state: dict[str, int]) -> Facts:
    """An answer with these rows."""
    found: Facts = Counter()
    for key, value in state.items():
        found[Fact(FactKind.ROW, (key,))] = 1
        found[Fact(FactKind.CELL, (key,), 1, value)] = 1
    return found


writes = st.lists(st.tuples(st.sampled_from(ROWS), st.booleans()), max_size=4)


class Schedule:
    """A control whose rows change, and a candidate that follows in order, by as much as is drawn."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data
        self.history = [dict.fromkeys(ROWS, 0)]
        self._version = 0
        self.followed = 0

    def write(self) -> None:
        """Some rows change, go, or come; nothing that was true before, and no longer is, ever becomes true again."""
        for key, is_kept in self._data.draw(writes):
            self._version += 1
            state = dict(self.history[-1])
            if key not in state:
                state[f"new{self._version}"] = self._version
            elif is_kept:
                state[key] = self._version
            else:
                del state[key]
            self.history.append(state)

    def follow(self, *, at_least: int) -> dict[str, int]:
        """What the candidate holds once it has followed at least so far."""
        self.followed = self._data.draw(st.integers(max(at_least, self.followed), len(self.history) - 1))
        return self.history[self.followed]


@settings(max_examples=500)
@given(st.data(), st.integers(1, 5))
def test_a_candidate_that_only_lags_is_never_real(data: st.DataObject, rechecks: int) -> None:
    """Whatever is written between the reads, as long as nothing returns to what it was."""
    schedule = Schedule(data)
    schedule.write()
    control = schedule.history[-1]
    schedule.write()
    suspicion = Suspicion(facts_of(control), facts_of(schedule.follow(at_least=0)))
    for _ in range(rechecks):
        schedule.write()
        before, passed = schedule.history[-1], len(schedule.history) - 1  # the wait begins
        schedule.write()
        candidate = schedule.follow(at_least=passed)
        schedule.write()
        suspicion.add(facts_of(before), facts_of(candidate), facts_of(schedule.history[-1]))
    assert suspicion.kind is not MismatchKind.REAL


@given(st.data(), st.integers(1, 5), st.sampled_from(["other value", "missing", "extra"]))
def test_a_row_that_stays_wrong_is_real_beside_any_motion(data: st.DataObject, rechecks: int, fault: str) -> None:
    """After so many rounds, and nothing else is named."""
    schedule = Schedule(data)

    def read(*, of_candidate: bool) -> Facts:
        state = dict(schedule.follow(at_least=0) if of_candidate else schedule.history[-1])
        wrong = {"other value": (1, 2), "missing": (1, None), "extra": (None, 2)}[fault][of_candidate]
        return facts_of(state | ({} if wrong is None else {"wrong": wrong}))

    schedule.write()
    suspicion = Suspicion(read(of_candidate=False), read(of_candidate=True))
    for _ in range(rechecks):
        schedule.write()
        before, schedule.followed = read(of_candidate=False), len(schedule.history) - 1
        schedule.write()
        candidate = read(of_candidate=True)
        schedule.write()
        suspicion.add(before, candidate, read(of_candidate=False))
    assert suspicion.kind is MismatchKind.REAL
    assert {fact.row for fact in [*suspicion.missing, *suspicion.extra]} == {("wrong",)}
