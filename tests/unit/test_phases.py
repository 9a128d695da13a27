"""The table of phases: what may follow what, and what it means."""

from __future__ import annotations

import itertools

import pytest

from dbmigrate.domain.phases import (
    MEANINGS,
    TRANSITIONS,
    Phase,
    draw_diagram,
    following_phase,
    may_follow,
    path_to,
)
from dbmigrate.domain.routes import Side


def test_every_phase_has_a_meaning_and_a_row_in_the_table() -> None:
    """Nothing is undefined."""
    assert set(MEANINGS) == set(Phase) == set(TRANSITIONS)


def test_without_an_application_its_phases_are_skipped() -> None:
    """catch_up leads straight to verify, verify straight to cutover."""
    path = path_to(Phase.SOAK, has_application=False)
    assert [p.value for p in path] == ["plan", "expand", "copy", "catch_up", "verify", "cutover", "soak"]


def test_with_an_application_every_phase_is_passed() -> None:
    """The order of DESIGN section 4."""
    path = [p.value for p in path_to(Phase.DONE, has_application=True)]
    assert path == [
        "plan", "expand", "copy", "catch_up", "dual_write", "shadow_read", "verify", "ramp_reads", "cutover", "soak",
        "contract", "done",
    ]  # fmt: skip


@pytest.mark.parametrize("has_application", [True, False])
def test_every_step_of_a_path_is_allowed_by_the_table(has_application: bool) -> None:
    """Skipping phases never leaves the table."""
    path = path_to(Phase.DONE, has_application=has_application)
    assert all(may_follow(a, b) for a, b in itertools.pairwise(path))


def test_abort_leads_from_every_phase_before_the_switch_and_from_none_after() -> None:
    """After the switch only revert leads back."""
    for phase, meaning in MEANINGS.items():
        before = meaning.owner is Side.SOURCE and not meaning.is_final
        assert may_follow(phase, Phase.ABORTED) == before, phase


def test_only_a_switch_changes_the_owner() -> None:
    """Ownership changes between cutover and soak, between reverting and catch_up, and where a person decides."""
    changes = {
        (a, b)
        for a, following in TRANSITIONS.items()
        for b in following
        if MEANINGS[a].owner is not MEANINGS[b].owner and Phase.HELD not in (a, b)
    }
    assert changes == {(Phase.CUTOVER, Phase.SOAK), (Phase.REVERTING, Phase.CATCH_UP)}


def test_final_phases_lead_nowhere() -> None:
    """done and aborted end the migration."""
    assert not TRANSITIONS[Phase.DONE]
    assert not TRANSITIONS[Phase.ABORTED]
    assert following_phase(Phase.DONE, has_application=False) is None


def test_the_diagram_shows_exactly_the_table() -> None:
    """One arrow for each allowed transition."""
    arrows = {tuple(line.strip().split(" --> ")) for line in draw_diagram().splitlines()[1:]}
    expected = {(a.value, b.value) for a, following in TRANSITIONS.items() for b in following}
    assert {a for a in arrows if "[*]" not in a} == expected
