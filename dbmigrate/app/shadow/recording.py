"""What is written down of a difference: which statement, rows and columns, and nothing of what they hold unless allowed.

Apart from the reader, so that the rule about personal data is in one place, and can be tested without a server.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from dbmigrate.app.shadow.classes import Suspicion
from dbmigrate.app.shadow.comparison import Comparison, Fact, FactKind, Facts
from dbmigrate.app.shadow.statements import Plan
from dbmigrate.domain.evidence import Mismatch, MismatchKind

_MOST_KEYS = 20
_MOST_PAIRED = 20
_LONGEST_VALUE = 80

_SALT = secrets.token_bytes(16)
"""Of this process: the same value has the same hash in all its mismatches, and nobody can look the value up."""


def describe(plan: Plan, comparison: Comparison, kind: MismatchKind, first: tuple[Facts, Facts], suspicion: Suspicion, *,
             may_store_values: bool, found_at: datetime, instance_id: str) -> Mismatch:  # fmt: skip
    """The mismatch: of a real one what is still suspicious, of others the first difference."""
    is_real = kind is MismatchKind.REAL
    missing, extra = (suspicion.missing, suspicion.extra) if is_real else (first[0] - first[1], first[1] - first[0])
    show = _show if may_store_values else _hash
    rows = list(dict.fromkeys(fact.row for fact in [*missing, *extra] if fact.kind not in (FactKind.SHAPE, FactKind.MORE)))
    names = comparison.columns
    places = _differing_places(missing, extra, has_key=comparison.key is not None)
    return Mismatch(
        kind=kind, statement_digest=plan.digest, statement=plan.statement, tables=plan.tables,
        key_columns=tuple(names[place] for place in comparison.key or ()),
        columns=tuple(names[place] for place in places if place < len(names)),
        keys=tuple(", ".join(show(value) for value in row) for row in rows[:_MOST_KEYS]),
        detail=_detail(missing, extra, names, len(rows), show), found_at=found_at, instance_id=instance_id,
    )  # fmt: skip


def _differing_places(missing: Facts, extra: Facts, *, has_key: bool) -> list[int]:
    """The columns that differ. Rows without a key are paired with the one that is most like them."""
    if has_key:
        there = {fact.row for fact in [*missing, *extra] if fact.kind is FactKind.ROW}
        found = {fact.column for fact in [*missing, *extra] if fact.kind is FactKind.CELL and fact.row not in there}
        return sorted(found)
    gone, new = ([fact.row for fact in facts.elements() if fact.kind is FactKind.ROW] for facts in (missing, extra))
    if len(gone) != len(new) or len(gone) > _MOST_PAIRED:
        return []
    places: set[int] = set()
    for row in gone:
        closest = min((_places_between(row, other) for other in new), key=len)
        places |= closest
    return sorted(places)


def _places_between(row: Sequence[Any], other: Sequence[Any]) -> set[int]:
    return {place for place, (a, b) in enumerate(zip(row, other, strict=False)) if a != b}


def _detail(missing: Facts, extra: Facts, names: Sequence[str], rows: int, show: Callable[[Any], str]) -> str:
    """One sentence or two: how many rows differ and how, and one example."""
    parts = [f"{rows} row{'s' if rows != 1 else ''} differ{'s' if rows == 1 else ''}"]
    for facts, what in ((missing, "only on the owner"), (extra, "only on the candidate")):
        if count := sum(n for fact, n in facts.items() if fact.kind is FactKind.ROW):
            parts.append(f"{count} {what}")
    kinds = {fact.kind for fact in [*missing, *extra]}
    if FactKind.SHAPE in kinds:
        parts.append("the columns are not the same")
    if FactKind.MORE in kinds:
        parts.append("the candidate has more rows than are compared")
    if kinds == {FactKind.NEXT}:
        parts.append("the rows come in another order")
    example = _example(missing, extra, names, show)
    return ", ".join(parts) + (f"; {example}" if example else "")


def _example(missing: Iterable[Fact], extra: Facts, names: Sequence[str], show: Callable[[Any], str]) -> str:
    there = {(fact.row, fact.column): fact.value for fact in extra if fact.kind is FactKind.CELL}
    for fact in missing:
        if fact.kind is FactKind.CELL and (fact.row, fact.column) in there:
            other = there[fact.row, fact.column]
            return f"{names[fact.column]} is {show(fact.value)} on the owner, {show(other)} on the candidate"
    return ""


def _show(value: Any) -> str:
    text = "NULL" if value is None else str(value)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"


def _hash(value: Any) -> str:
    return "#" + hashlib.blake2b(repr(value).encode("utf-8", "surrogatepass"), key=_SALT, digest_size=6).hexdigest()
