"""Random schedules: the program loses nothing; each of its rules, left out, loses something."""

from __future__ import annotations

import pytest
from model.protocol import NOT_IN_THE_PROGRAM, PROGRAM, mutate
from model.servers import SHAPES, Shape
from model.simulation import (
    COPYING,
    DYING_FOR_GOOD,
    HELD_CHUNKS,
    HELD_COMMITS,
    PROFILES,
    SWITCHING,
    WHOLE,
    Profile,
    simulate_many,
)

TWO_GENERATIONS = SHAPES[:3]
GENERATIONS = SHAPES[3:]

ALL = {p.name: p for p in (*PROFILES, HELD_CHUNKS, HELD_COMMITS)}


@pytest.mark.parametrize("profile", ALL.values(), ids=ALL.keys())
def test_nothing_is_lost(profile: Profile) -> None:
    """Converged, every write accepted where all earlier ones are, the owner never ambiguous."""
    assert simulate_many(range(300), profile, shapes=TWO_GENERATIONS).violations == ()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("profile", ALL.values(), ids=ALL.keys())
def test_nothing_is_lost_in_many_runs(profile: Profile) -> None:
    """The same, for as long as a night allows."""
    outcome = simulate_many(range(1_000_000, 1_020_000), profile, shapes=TWO_GENERATIONS)
    print(profile.name, outcome.runs, "runs", outcome.steps, "steps", outcome.switches, "switches")  # noqa: T201
    assert outcome.violations == ()


FOUND = (
    ("flush_passes_barrier", WHOLE, 700),
    ("flush_waits_for_chunks", HELD_CHUNKS, 1500),
    ("rounds_do_not_overlap", WHOLE, 300),
    ("cascades_are_looked_up", WHOLE, 300),
    ("cascades_are_looked_up_on_destination", WHOLE, 300),
    ("checkpoint_follows_flush", WHOLE, 300),
    ("cursor_is_saved_with_rows", WHOLE, 1000),
    ("drain_waits_for_flush", WHOLE, 700),
    ("way_back_precedes_switch", SWITCHING, 700),
    ("writers_lock_fence_row", SWITCHING, 1500),
)
# Not here: tenure_guards_switch and checkpoint_checks_lease. 20,000 runs of SWITCHING did not find the first; the
# second was found only by an earlier form of the scheduler. Both stay in the protocol, on argument.
RARE = (
    ("chunk_passes_barrier", HELD_COMMITS, 20_000),
    ("flush_waits_for_child_chunks", HELD_CHUNKS, 20_000),
    ("fence_waits_for_writers", SWITCHING, 10_000),
    ("giving_side_commits_first", SWITCHING, 10_000),
    ("tenure_guards_writes", SWITCHING, 10_000),
    ("tenure_guards_read_only", SWITCHING, 20_000),
    ("recovery_reads_with_lock", SWITCHING, 10_000),
    ("phase_checks_lease", SWITCHING, 10_000),
)


@pytest.mark.parametrize(
    ("switch", "profile", "runs"),
    [*FOUND, *(pytest.param(*rare, marks=[pytest.mark.slow, pytest.mark.timeout(1800)]) for rare in RARE)],
    ids=[one[0] for one in (*FOUND, *RARE)],
)
def test_without_this_rule_something_is_lost(switch: str, profile: Profile, runs: int) -> None:
    """Found within a fixed number of seeded runs; the program passes the runs that broke the mutant."""
    found = simulate_many(range(runs), profile, protocol=mutate(switch), shapes=TWO_GENERATIONS, most_violations=1)
    print(switch, "after", found.runs, "runs:", found.violations)  # noqa: T201
    assert found.violations
    seed = found.violations[0][0]
    around = range(max(0, seed - 20), seed + 1)
    assert simulate_many(around, profile, protocol=PROGRAM, shapes=TWO_GENERATIONS).violations == ()


@pytest.mark.parametrize("runs", [300, pytest.param(20_000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_the_program_as_it_is_loses_nothing_while_no_runner_freezes(runs: int) -> None:
    """Runners die, budgets end, connections of the fence are lost, a COMMIT arrives late."""
    program = mutate(*NOT_IN_THE_PROGRAM)
    assert simulate_many(range(runs), DYING_FOR_GOOD, protocol=program, shapes=TWO_GENERATIONS).violations == ()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_program_as_it_is_loses_nothing_when_a_runner_wakes_up_late() -> None:
    """Frozen longer than its lease, taken over, and going on without knowing."""
    program = mutate(*NOT_IN_THE_PROGRAM)
    runs = range(5000)
    assert simulate_many(runs, SWITCHING, protocol=program, shapes=TWO_GENERATIONS, most_violations=1).violations == ()


@pytest.mark.parametrize("switch", ["start_passes_barrier", "unique_batches_are_serial", "drain_is_a_heartbeat"])
def test_these_rules_are_not_what_keeps_rows(switch: str) -> None:
    """Other rules cover them: chunks pass a barrier of their own; rounds do not overlap, so whatever a parallel batch
    evicts is pending for the next round; a flush passes its barrier whatever the drain waited for."""
    for profile in (COPYING, SWITCHING):
        assert simulate_many(range(200), profile, protocol=mutate(switch), shapes=TWO_GENERATIONS).violations == ()


@pytest.mark.parametrize("profile", [COPYING, WHOLE], ids=lambda profile: profile.name)
def test_three_generations_of_a_cascade_lose_nothing(profile: Profile) -> None:
    """Parent deleted, child removed by CASCADE, grandchild set to NULL: all without events but the first."""
    assert simulate_many(range(1000), profile, shapes=GENERATIONS).violations == ()


@pytest.mark.parametrize("switch", ["vanished_rows_are_followed", "orphans_are_sought_after_copy"])
def test_without_this_rule_the_third_generation_is_lost(switch: str) -> None:
    """The middle row is gone from both sides before its parent is flushed, and nothing else leads to its children."""
    found = simulate_many(range(1500), WHOLE, protocol=mutate(switch), shapes=GENERATIONS, most_violations=1)
    assert found.violations


def test_without_marked_inserts_the_third_generation_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row in the middle is gone and inserted again before anything of it is flushed: it looks as if it had stayed."""
    monkeypatch.setattr(Shape, "is_in_the_middle", lambda shape, table: False)
    found = simulate_many(range(50_600, 50_700), DYING_FOR_GOOD, shapes=GENERATIONS, most_violations=1)
    assert found.violations
