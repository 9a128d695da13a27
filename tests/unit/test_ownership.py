"""Who owns the data, from two fence rows."""

from __future__ import annotations

import pytest

from dbmigrate.domain.errors import AmbiguousError
from dbmigrate.domain.ownership import FenceRow, decide_owner
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Side

BEFORE = FenceRow(7, Side.SOURCE, Phase.CUTOVER)
AFTER = FenceRow(8, Side.TARGET, Phase.SOAK)


def test_equal_rows_are_believed() -> None:
    """The normal case."""
    assert decide_owner(BEFORE, BEFORE) == BEFORE


def test_a_switch_that_died_between_its_two_commits_has_happened() -> None:
    """The source's row is committed first, and is ahead."""
    assert decide_owner(AFTER, BEFORE) == AFTER


def test_a_switch_back_that_died_between_its_two_commits_has_happened() -> None:
    """The target gives up first, and is ahead."""
    back = FenceRow(9, Side.SOURCE, Phase.CATCH_UP)
    assert decide_owner(AFTER, back) == back


def test_one_missing_row_leaves_the_other() -> None:
    """At the very beginning only one side may have its row."""
    assert decide_owner(BEFORE, None) == BEFORE
    assert decide_owner(None, None) is None


def test_rows_of_one_epoch_with_two_owners_are_for_a_person() -> None:
    """The protocol cannot produce them, so nothing is guessed."""
    with pytest.raises(AmbiguousError, match="contradict"):
        decide_owner(FenceRow(8, Side.SOURCE, Phase.CUTOVER), AFTER)
