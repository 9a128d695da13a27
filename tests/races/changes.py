"""What happens to ``item`` at a step, by name.

While its second chunk is copied, that chunk holds the keys 102 to 200: 2 to 100 are copied, 202 to 400 are not. Odd keys
are free. Before a flush, ``FIRST`` has changed some of these rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def swap(one: int, other: int) -> tuple[str, ...]:
    """Two rows exchange their unique values."""
    return (
        f"UPDATE item SET code = 'aside' WHERE id = {one}",
        f"UPDATE item SET code = 'c{one}' WHERE id = {other}",
        f"UPDATE item SET code = 'c{other}' WHERE id = {one}",
    )


def cross(steps: Iterable[str | int], changes: Iterable[str], *, everyday: int) -> list[Any]:
    """Every change at every step. The first ``everyday`` pairs of a diagonal, on which steps take turns, are not slow."""
    steps, changes = list(steps), list(changes)
    quick = {(steps[n % len(steps)], change) for n, change in enumerate(changes[:everyday])}
    return [
        pytest.param(step, change, id=f"{step}-{change}", marks=() if (step, change) in quick else pytest.mark.slow)
        for change in changes
        for step in steps
    ]


def diagonal(steps: Iterable[str], changes: Iterable[str], *, everyday: int, times: int = 1) -> list[Any]:
    """Every change at ``times`` steps, on which steps take turns; all but the first ``everyday`` are slow."""
    steps, changes = list(steps), list(changes)
    shift = max(1, len(steps) // max(1, times))
    pairs = [(steps[(n + turn * shift) % len(steps)], c) for turn in range(times) for n, c in enumerate(changes)]
    return [
        pytest.param(step, change, id=f"{step}-{change}", marks=() if n < everyday else pytest.mark.slow)
        for n, (step, change) in enumerate(pairs)
    ]


FIRST = (
    "UPDATE item SET note = 'first' WHERE id IN (10, 12, 150, 152, 300)",
    "DELETE FROM item WHERE id IN (20, 160)",
    "INSERT INTO item VALUES (21, 'n21', 'first'), (161, 'n161', 'first')",
)

CHANGES: dict[str, tuple[str, ...]] = {
    "updated": ("UPDATE item SET note = 'changed' WHERE id IN (10, 102, 150, 200, 202, 300, 400)",),
    "deleted": ("DELETE FROM item WHERE id IN (10, 102, 150, 200, 202, 300, 400)",),
    "inserted": (
        "INSERT INTO item VALUES (1, 'n1', 'new'), (11, 'n11', 'new'), (101, 'n101', 'new'), (151, 'n151', 'new'), "
        "(201, 'n201', 'new'), (301, 'n301', 'new'), (401, 'n401', 'new')",
    ),
    "deleted-and-inserted-again": (
        "DELETE FROM item WHERE id IN (10, 150, 300)",
        "INSERT INTO item VALUES (10, 'c150', 'again'), (150, 'c300', 'again'), (300, 'c10', 'again')",
    ),
    "key-moved-in-place": ("UPDATE item SET id = id + 1 WHERE id IN (10, 150, 300)",),
    "key-moved-from-the-rows-to-come-behind-the-cursor": (
        "UPDATE item SET id = 11 WHERE id = 150",
        "UPDATE item SET id = 13 WHERE id = 300",
    ),
    "key-moved-from-behind-the-cursor-to-the-rows-to-come": (
        "UPDATE item SET id = 151 WHERE id = 10",
        "UPDATE item SET id = 301 WHERE id = 12",
        "UPDATE item SET id = 303 WHERE id = 150",
        "UPDATE item SET id = 501 WHERE id = 152",
    ),
    "keys-swapped": (
        "UPDATE item SET id = 999 WHERE id = 10",
        "UPDATE item SET id = 10 WHERE id = 300",
        "UPDATE item SET id = 300 WHERE id = 150",
        "UPDATE item SET id = 150 WHERE id = 999",
    ),
    "unique-value-swapped-between-copied-and-in-hand": swap(10, 150),
    "unique-value-swapped-between-copied-and-to-come": swap(12, 300),
    "unique-value-swapped-between-in-hand-and-to-come": swap(152, 302),
    "unique-value-swapped-inside-the-chunk": swap(150, 152),
    "unique-value-taken-from-a-deleted-row": (
        "DELETE FROM item WHERE id IN (10, 150, 300)",
        "UPDATE item SET code = 'c10' WHERE id = 302",
        "UPDATE item SET code = 'c150' WHERE id = 12",
        "UPDATE item SET code = 'c300' WHERE id = 152",
    ),
    "changed-and-rolled-back-to-a-savepoint": (
        "UPDATE item SET note = 'kept' WHERE id IN (10, 300)",
        "SAVEPOINT s",
        "UPDATE item SET note = 'not kept', id = id + 1 WHERE id IN (12, 150, 302)",
        "DELETE FROM item WHERE id IN (10, 152)",
        "ROLLBACK TO SAVEPOINT s",
        "UPDATE item SET note = 'kept, too' WHERE id = 150",
    ),
    "changed-and-rolled-back": (
        "UPDATE item SET note = 'not kept' WHERE id IN (10, 150, 300)",
        "DELETE FROM item WHERE id IN (12, 152, 302)",
        "ROLLBACK",
    ),
    "truncated": ("TRUNCATE TABLE item",),
    "truncated-between-changes": (
        "UPDATE item SET note = 'moot' WHERE id IN (10, 150, 300)",
        "TRUNCATE TABLE item",
        "INSERT INTO item VALUES (10, 'c300', 'anew'), (151, 'c151', 'anew'), (300, 'c10', 'anew')",
        "UPDATE item SET note = 'anew, too' WHERE id = 10",
    ),
    "truncated-twice": (
        "TRUNCATE TABLE item",
        "INSERT INTO item VALUES (10, 'c300', 'anew'), (150, 'c10', 'anew')",
        "COMMIT",
        "TRUNCATE TABLE item",
        "INSERT INTO item VALUES (150, 'c300', 'last')",
    ),
}
