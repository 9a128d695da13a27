"""Who owns the data, from two fence rows."""

from __future__ import annotations

import pytest

from dbmigrate.domain.errors import AmbiguousError
from dbmigrate.domain.ownership import (
    NO_APPLICATION,
    ApplicationSettings,
    FenceRow,
    decide_owner,
    mirrors_back,
    row_for,
)
from dbmigrate.domain.phases import MEANINGS, Phase
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


EVERYTHING = ApplicationSettings(mirror=True, mirror_in_soak=True, shadow_share=10)


def test_rows_of_one_owner_are_told_apart_by_their_epoch_alone() -> None:
    """A step of the ramp that came to one side only is true."""
    step = FenceRow(9, Side.SOURCE, Phase.RAMP_READS, mirror=True, read_share=5.0)
    assert decide_owner(step, FenceRow(8, Side.SOURCE, Phase.RAMP_READS, mirror=True)) == step


def test_mirrors_and_shadow_reads_follow_from_the_phase() -> None:
    """On where the phase says so, off everywhere else, and no phase begins with reads on the target."""
    rows = {phase: row_for(phase, 5, EVERYTHING) for phase in Phase}
    assert rows[Phase.HELD] is None
    known = {phase: row for phase, row in rows.items() if row is not None}
    assert all((row.epoch, row.phase, row.owner) == (5, p, MEANINGS[p].owner) for p, row in known.items())
    before = {Phase.DUAL_WRITE, Phase.SHADOW_READ, Phase.VERIFY, Phase.RAMP_READS, Phase.CUTOVER}
    assert {phase for phase, row in known.items() if row.mirror} == before
    shadowed = {Phase.SHADOW_READ, Phase.VERIFY, Phase.RAMP_READS}
    assert {phase for phase, row in known.items() if row.shadow_share == 10} == shadowed
    assert {row.shadow_share for phase, row in known.items() if phase not in shadowed} == {0}
    assert {row.read_share for row in known.values()} == {0}


def test_without_an_application_nothing_is_mirrored_or_shadowed() -> None:
    """The rows of former versions."""
    for phase in Phase:
        row = row_for(phase, 5, NO_APPLICATION)
        assert row is None or row == FenceRow(5, row.owner, phase)


def test_mirrors_go_back_to_the_source_only_in_soak_and_only_where_configured() -> None:
    """After the switch has settled: its row itself says no."""
    assert [phase for phase in Phase if mirrors_back(phase, EVERYTHING)] == [Phase.SOAK]
    assert not any(mirrors_back(phase, ApplicationSettings(mirror=True)) for phase in Phase)
    assert not any(mirrors_back(phase, ApplicationSettings(mirror_in_soak=True)) for phase in Phase)
