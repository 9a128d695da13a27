"""Following foreign keys from parents that moved to the rows that the engine changed without events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from model.servers import CHILD, GRANDCHILD, PARENT, SHAPES

from dbmigrate.domain.keys import Key, MovedKey
from dbmigrate.domain.schema import ForeignKey
from dbmigrate.streaming.cascades import Cascades

REFERENCES = {(CHILD, b"1"): {b"10"}, (GRANDCHILD, b"10"): {b"100"}}


class FixedCascades(Cascades):
    """Both sides hold the same rows: parent 1, its child 10, its grandchild 100."""

    def _look_up_side(
        self, pool: Any, foreign_key: ForeignKey, keys: Sequence[Key], *, on_destination: bool
    ) -> set[Key]:
        return set().union(*(REFERENCES.get((foreign_key.table, key), set()) for key in keys))


def follow(keys: dict[Any, dict[Key, None]], moved: dict[Any, list[Key]]) -> dict[Any, dict[Key, None]]:
    """What becomes pending."""
    generations = next(shape for shape in SHAPES if shape.name == "generations")
    nowhere: Any = None
    FixedCascades(generations.routes()).add_children(keys, moved, origin=nowhere, destination=nowhere)
    return keys


def test_all_generations_below_a_moved_parent_become_pending() -> None:
    """The engine may have changed each of them."""
    assert follow({PARENT: {b"1": None}}, {PARENT: [MovedKey(b"1")]}) == {
        PARENT: {b"1": None}, CHILD: {b"10": None}, GRANDCHILD: {b"100": None},
    }  # fmt: skip


def test_a_child_that_was_pending_already_is_followed_to_its_children() -> None:
    """It changed by itself, then its parent was deleted."""
    keys = follow({PARENT: {b"1": None}, CHILD: {b"10": None}}, {PARENT: [MovedKey(b"1")]})
    assert keys[GRANDCHILD] == {b"100": None}


def test_children_of_a_parent_that_stayed_are_left_alone() -> None:
    """An engine touches them only when the parent's key goes or changes."""
    assert follow({PARENT: {b"1": None}}, {}) == {PARENT: {b"1": None}}
