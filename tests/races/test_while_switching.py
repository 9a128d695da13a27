"""Writes on either side at each step of a switch: carried or refused, never lost, and never on one side only."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import pytest
from databases import Pair, list_connections
from moves import Move

from dbmigrate.domain.errors import DbmigrateError
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Side

from .changes import swap
from .racing import Race

BEFORE_THE_FENCE = ("fence",)
INSIDE = ("drain", "verify", "carry", "way_back", "before_commit", "commit", "row_written")
AFTER_THE_COMMIT = ("origin_committed", "destination_committed")
STEPS = (*BEFORE_THE_FENCE, *INSIDE, *AFTER_THE_COMMIT)
EVERYDAY = {"fence", "drain", "before_commit", "row_written", "destination_committed"}
CHANGES = (
    "INSERT INTO item VALUES (1, 'n1', 'new')",
    "UPDATE item SET note = 'changed' WHERE id = 10",
    "DELETE FROM item WHERE id = 20",
    "UPDATE item SET id = 31 WHERE id = 30",
)
CARRIED = "SELECT id, note FROM item WHERE id IN (1, 10, 20, 30, 31) ORDER BY id"
WITH = ((1, "new"), (10, "changed"), (31, "note 30"))
WITHOUT = ((10, "note 10"), (20, "note 20"), (30, "note 30"))


@pytest.fixture(params=["read_only", pytest.param("lock_tables", marks=pytest.mark.slow)])
def switching(request: pytest.FixtureRequest, window_pair: Pair, race_factory: Callable[..., Race]) -> Race:
    """The race of one small table, behind either fence."""
    return race_factory(window_pair, fence=f'"{request.param}"')


def by_step(*steps: str, everyday: set[str] = EVERYDAY) -> Any:
    """One test a step."""
    marks = [pytest.param(step, marks=() if step in everyday else pytest.mark.slow) for step in steps]
    return pytest.mark.parametrize("step", marks)


@by_step(*STEPS)
def test_a_write_on_the_origin_is_carried_or_refused(step: str, switching: Race) -> None:
    passed = []
    switching.at(f"switch.{step}", lambda: passed.append(switching.try_to_write(Side.SOURCE, *CHANGES)))
    switching.move()
    switching.require_equal()
    assert passed == [step in BEFORE_THE_FENCE]
    switching.require_everywhere(CARRIED, *(WITH if passed[0] else WITHOUT))


@by_step("before_commit", "commit", "row_written", *AFTER_THE_COMMIT, everyday={"origin_committed"})
def test_a_write_on_the_destination_comes_back_on_the_way_back(step: str, switching: Race) -> None:
    """From the moment on when the way back is open, the destination's writes are followed."""
    switching.at(f"switch.{step}", lambda: switching.write_target(*CHANGES, *swap(150, 300)))
    switching.move()
    switching.revert()
    switching.require_equal()
    switching.require_everywhere(CARRIED, *WITH)
    switching.require_everywhere("SELECT code FROM item WHERE id IN (150, 300) ORDER BY id", ("c300",), ("c150",))


@by_step(*STEPS, everyday={"row_written"})
def test_a_write_on_the_new_owner_is_carried_back_or_refused(step: str, switching: Race) -> None:
    switching.move()
    passed = []
    switching.at(f"switch.{step}", lambda: passed.append(switching.try_to_write(Side.TARGET, *CHANGES)))
    switching.revert()
    switching.require_equal()
    assert passed == [step in BEFORE_THE_FENCE]
    switching.require_everywhere(CARRIED, *(WITH if passed[0] else WITHOUT))


@pytest.mark.slow
def test_a_write_on_the_source_right_after_the_way_back_is_moved_again(switching: Race) -> None:
    """There and back and there: each switch leaves its position to the next."""
    switching.move()
    passed: list[bool] = []
    for step in AFTER_THE_COMMIT:
        switching.at(f"switch.{step}", lambda: passed.append(switching.try_to_write(Side.SOURCE, *CHANGES[3:])))
    switching.on_entering(Phase.CATCH_UP, lambda: switching.write_source(*CHANGES[:3]))
    switching.revert()
    switching.move()
    switching.require_equal()
    moved = any(passed)
    switching.require_everywhere(CARRIED, *(WITH if moved else (*WITH[:2], WITHOUT[2])))


@pytest.mark.parametrize("end", ["COMMIT", pytest.param("ROLLBACK", marks=pytest.mark.slow)])
@pytest.mark.parametrize("side", [Side.SOURCE, pytest.param(Side.TARGET, marks=pytest.mark.slow)])
def test_a_transaction_open_when_the_fence_closes(
    side: Side, end: str, switching: Race, request: pytest.FixtureRequest
) -> None:
    """It ends after the fence has closed, or after an attempt that could not close it has been undone."""
    switching.write(fence=f'"{request.node.callspec.params["switching"]}"', max_write_pause_seconds=3.0)
    if side is Side.TARGET:
        switching.move()
    opened: list[Any] = []
    passed: list[bool] = []

    def begin() -> None:
        opened.append(switching.connect(side))
        with opened[0].cursor() as cursor:
            for statement in (*CHANGES, "SAVEPOINT s", "UPDATE item SET note = 'not kept' WHERE id IN (1, 12, 300)"):
                cursor.execute(statement)
            cursor.execute("ROLLBACK TO SAVEPOINT s")

    def finish() -> None:
        with contextlib.closing(opened[0]) as connection, connection.cursor() as cursor:
            passed.append(switching.may_be_refused(lambda: cursor.execute(end)) and end == "COMMIT")

    switching.at("switch.fence", begin)
    switching.at_first(("switch.drain", "switch.undo"), finish)
    switching.move() if side is Side.SOURCE else switching.revert()
    switching.require_equal()
    switching.require_everywhere(CARRIED, *(WITH if passed[0] else WITHOUT))
    switching.require_everywhere("SELECT COUNT(*) FROM item WHERE note = 'not kept'", (0,))


@pytest.mark.slow
@pytest.mark.parametrize("step", INSIDE)
def test_a_writer_that_waits_through_the_switch_is_refused_when_it_is_let_go(
    step: str, window_pair: Pair, race_factory: Callable[..., Race]
) -> None:
    """Table locks make writers wait; by the time they may go on, another side owns the data."""
    race = race_factory(window_pair, fence='"lock_tables"')
    passed: list[bool] = []

    def write() -> None:
        with contextlib.closing(race.connect(Side.SOURCE)) as connection, connection.cursor() as cursor:
            cursor.execute("SET SESSION lock_wait_timeout = 60")

            def change() -> None:
                for statement in CHANGES:
                    cursor.execute(statement)
                connection.commit()

            passed.append(race.may_be_refused(change))

    writer = threading.Thread(target=write)

    def wait_for_writer() -> None:
        writer.start()
        while not any("metadata" in (one.state or "") for one in list_connections(race.pair.source.server)):
            assert writer.is_alive()

    race.at(f"switch.{step}", wait_for_writer)
    race.move()
    writer.join(60)
    race.require_equal()
    assert passed == [False]
    assert race.refused == [1644]
    race.require_everywhere(CARRIED, *WITHOUT)


@pytest.mark.slow
@pytest.mark.parametrize("step", INSIDE[2:])
def test_an_attempt_undone_at_any_step_keeps_what_was_written_before_and_after(step: str, switching: Race) -> None:
    switching.fail_at(f"switch.{step}")
    switching.at("switch.fence", lambda: switching.write_source(*CHANGES[:2]))
    switching.move()
    switching.require_equal()
    switching.require_everywhere("SELECT id, note FROM item WHERE id IN (1, 10) ORDER BY id", *WITH[:2])


def test_a_row_that_a_stranger_changes_on_the_target_during_the_switch_undoes_it(switching: Race) -> None:
    """Rows that arrived during the pause are compared inside it; what a stranger did to them is not overwritten."""
    race = switching
    race.at("switch.fence", lambda: race.write_source("UPDATE item SET note = 'changed' WHERE id = 10"))
    race.at("switch.verify", lambda: race.pair.target.execute("UPDATE item SET note = 'tampered' WHERE id = 10"))
    with pytest.raises(DbmigrateError, match="rows differ"):
        race.move()
    race.require_happened()
    move = Move(race.pair, race.path, race.environment)
    assert move.read_owner() is Side.SOURCE
    assert race.read(Side.TARGET, "SELECT note FROM item WHERE id = 10") == (("tampered",),)
    race.write_source("UPDATE item SET note = 'still written' WHERE id = 12")
    move.run("verify", "--repair")
    race.move()
    race.require_equal()
    race.require_everywhere("SELECT note FROM item WHERE id IN (10, 12) ORDER BY id", ("changed",), ("still written",))
