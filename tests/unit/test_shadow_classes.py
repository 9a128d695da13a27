"""Lag, motion and real differences, told apart by reads of both sides in turns; on schedules written out."""

from __future__ import annotations

from collections import Counter

import pytest

from dbmigrate.app.shadow.classes import Suspicion
from dbmigrate.app.shadow.comparison import Fact, FactKind, Facts
from dbmigrate.domain.evidence import MismatchKind


def facts(**rows: int) -> Facts:
    """An answer whose rows hold these values, each under its key."""
    found: Facts = Counter()
    for key, value in rows.items():
        found[Fact(FactKind.ROW, (key,))] = 1
        found[Fact(FactKind.CELL, (key,), 1, value)] = 1
    return found


A1, A2, A3, NOTHING = facts(a=1), facts(a=2), facts(a=3), facts()
LAG, MOVED, REAL = MismatchKind.LAG, MismatchKind.MOVED, MismatchKind.REAL


@pytest.mark.parametrize(
    ("first", "rounds", "kind"),
    [
        ((A2, A1), [(A2, A2, A2)], LAG),
        ((A1, A2), [(A2, A2, A2)], LAG),
        ((A1, A2), [(A2, A3, A1)], LAG),
        ((facts(a=1, b=1), A1), [(facts(a=1, b=1), facts(a=1, b=1), facts(a=1, b=1))], LAG),
        ((A2, A1), [(A3, facts(a=4), facts(a=5))], MOVED),
        ((facts(a=1, b=9), facts(a=1, b=8)), [(facts(a=2, b=9), facts(a=3, b=9), facts(a=4, b=9))], MOVED),
        ((A2, A1), [(A2, A1, A2)] * 3, REAL),
        ((facts(a=1, b=1), A1), [(facts(a=1, b=1), A1, facts(a=1, b=1))] * 3, REAL),
        ((A1, facts(a=1, b=1)), [(A1, facts(a=1, b=1), A1)] * 3, REAL),
        ((A1, NOTHING), [(A1, NOTHING, A1)] * 3, REAL),
        ((A2, A1), [(A2, A1, A2)] * 2 + [(A2, A2, A2)], LAG),
        ((A2, A1), [(A2, A1, A2)] * 2 + [(A1, A1, A2)], LAG),
    ],
)
def test_class_follows_from_the_reads(
    first: tuple[Facts, Facts], rounds: list[tuple[Facts, Facts, Facts]], kind: MismatchKind
) -> None:
    """One read that says otherwise is enough to refute; what all say is real."""
    suspicion = Suspicion(*first)
    for before, candidate, after in rounds:
        suspicion.add(before, candidate, after)
    assert suspicion.kind is kind


@pytest.mark.parametrize("side", ["watch_control", "watch_candidate"])
def test_watching_either_side_can_only_refute(side: str) -> None:
    """A value that returns is given more chances to show itself; a fault that lasts has none."""
    suspicion = Suspicion(A2, A1)
    suspicion.add(A2, A1, A2)
    getattr(suspicion, side)(A2 if side == "watch_control" else A1)
    assert suspicion.kind is REAL
    getattr(suspicion, side)(A1 if side == "watch_control" else A2)
    assert suspicion.kind is not REAL


def test_wrong_row_becomes_real_beside_rows_that_never_rest() -> None:
    """No two reads of the control agree, and still only what is wrong remains."""
    suspicion = Suspicion(facts(hot=0, wrong=1), facts(hot=0, wrong=2))
    for step in range(5):
        suspicion.add(*(facts(hot=10 * step + n, wrong=wrong) for n, wrong in ((1, 1), (5, 2), (9, 1))))
    assert suspicion.kind is MismatchKind.REAL
    assert {fact.row for fact in [*suspicion.missing, *suspicion.extra]} == {("wrong",)}


def test_wrong_column_becomes_real_beside_a_column_that_never_rests() -> None:
    """In the same row, because its key names it."""

    def row(hot: int, wrong: int) -> Facts:
        return facts(a=hot) + Counter({Fact(FactKind.CELL, ("a",), 2, wrong): 1})

    suspicion = Suspicion(row(1, 7), row(1, 8))
    for step in range(2, 12, 3):
        suspicion.add(row(step, 7), row(step + 1, 8), row(step + 2, 7))
    assert suspicion.kind is MismatchKind.REAL
    assert {fact.column for fact in suspicion.missing} == {2}


def test_refuted_stays_refuted() -> None:
    """What was once seen equal is not suspected again: it moves."""
    suspicion = Suspicion(A2, A1)
    suspicion.add(A2, A2, A2)
    suspicion.add(A2, A1, A2)
    assert suspicion.is_refuted
