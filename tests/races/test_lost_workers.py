"""Chunks whose worker counts as lost while it is still at it: a zombie that commits, or tries to, when nobody expects it.

The zombie is the program's own function, held at a step in a thread of its own; the runner is told that it was lost.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from dbmigrate.copying.chunks import StaleStripeError
from dbmigrate.copying.reading import ChunkTask
from dbmigrate.domain.errors import FatalError, TransientError
from dbmigrate.mysql.workplace import InProcess, Workplace
from dbmigrate.workflow.migration import Migration

from .racing import PATIENCE_SECONDS, Moment, Race

LOST = 2
"""Which chunk's first worker is lost."""
READ_BY_THE_ZOMBIE = "UPDATE item SET note = 'changed meanwhile' WHERE id BETWEEN 110 AND 120"
REMOVED = "DELETE FROM item WHERE id = 130"
MOVED = "UPDATE item SET id = 141, code = 'moved' WHERE id = 140"


@dataclass
class LossyExecutor:
    """Does chunk work, but for one chunk whose first worker stops at ``held_at`` and is then reported as lost."""

    workplace: Workplace
    held_at: str
    fault: Exception
    when_lost: Callable[[LossyExecutor], object] = lambda executor: None
    chunks: int = 0
    is_released: threading.Event = field(default_factory=threading.Event)
    zombie: threading.Thread | None = None
    outcome: Any = None

    def run(self, work: Callable[[Workplace, Any], Any], task: Any) -> Any:
        if isinstance(task, ChunkTask):
            self.chunks += 1
            if self.chunks == LOST:
                self._lose(work, task)
        return work(self.workplace, task)

    def _lose(self, work: Callable[[Workplace, Any], Any], task: Any) -> None:
        is_held = threading.Event()

        def hold(step: str) -> None:
            if step == self.held_at:
                is_held.set()
                assert self.is_released.wait(PATIENCE_SECONDS)

        def haunt() -> None:
            try:
                self.outcome = work(replace(self.workplace, on_step=hold), task)
            except Exception as fault:
                self.outcome = fault

        self.zombie = threading.Thread(target=haunt)
        self.zombie.start()
        assert is_held.wait(PATIENCE_SECONDS)
        self.when_lost(self)
        raise self.fault

    def release(self) -> None:
        """Let the zombie go on to its end."""
        self.is_released.set()
        assert self.zombie is not None
        self.zombie.join(PATIENCE_SECONDS)
        assert not self.zombie.is_alive()


@pytest.fixture
def lose(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[LossyExecutor]]:
    """``lose(held_at, fault, when_lost)``: the executors that the moves of this test get, as they are built."""

    def prepare(
        held_at: str, fault: Exception | None = None, when_lost: Callable[[LossyExecutor], object] = lambda executor: None
    ) -> list[LossyExecutor]:
        built: list[LossyExecutor] = []
        ordinary = Migration.build_chunk_executor

        def build(migration: Migration, kind: Any) -> Any:
            executor = ordinary(migration, kind)
            if built:
                return executor  # the verification, and whoever runs after
            assert isinstance(executor, InProcess)
            lost = fault or TransientError("its worker was lost", place="the test")
            built.append(LossyExecutor(executor._workplace, f"copy.chunk.{held_at}", lost, when_lost))
            return built[0]

        monkeypatch.setattr(Migration, "build_chunk_executor", build)
        return built

    return prepare


@pytest.mark.parametrize("step", ["begin", "barrier", "read", "written"])
def test_it_commits_before_anybody_takes_its_place(step: str, race: Race, lose: Callable[..., Any]) -> None:
    """What it wrote counts, its rows are counted once, and what changed meanwhile is flushed after it."""

    def when_lost(executor: LossyExecutor) -> None:
        race.write_source(READ_BY_THE_ZOMBIE, REMOVED, MOVED)
        executor.release()

    executors = lose(step, when_lost=when_lost)
    race.move()
    assert not isinstance(executors[0].outcome, Exception), executors[0].outcome
    race.require_equal()
    rows = race.pair.target.server.execute("SELECT SUM(copied_rows), MAX(claim) FROM _dbmigrate.stripe")
    assert rows == ((200 - (step in ("begin", "barrier")), 1),)  # those read the row as deleted


@pytest.mark.parametrize("step", ["begin", "barrier", "read"])
def test_it_tries_to_commit_after_somebody_took_its_place(step: str, race: Race, lose: Callable[..., Any]) -> None:
    """Rows that it read are changed and flushed before it goes on: it must not bring the old ones back."""
    executors = lose(step, when_lost=lambda executor: race.write_source(READ_BY_THE_ZOMBIE, REMOVED, MOVED))
    race.at(Moment("copy.chunk.committed", LOST + 1), lambda: executors[0].release())
    race.move()
    assert isinstance(executors[0].outcome, StaleStripeError)
    race.require_equal()


def test_it_has_written_but_not_committed_when_somebody_takes_its_place(race: Race, lose: Callable[..., Any]) -> None:
    """Its rows are locked until it ends: who comes after waits for them, and finds them gone."""
    executors = lose("written", when_lost=lambda executor: race.write_source(READ_BY_THE_ZOMBIE, REMOVED, MOVED))
    race.at(Moment("copy.chunk.read", LOST), lambda: executors[0].release())
    race.move()
    assert isinstance(executors[0].outcome, StaleStripeError)
    race.require_equal()


@pytest.mark.parametrize("step", ["barrier", "read", "written"])
def test_the_run_ends_and_the_zombie_goes_on(step: str, race: Race, lose: Callable[..., Any]) -> None:
    """The lease it works under is still the newest, and yet what it read may be older than what was flushed since."""
    executors = lose(step, FatalError("there is no worker", place="the test"))
    with pytest.raises(FatalError, match="there is no worker"):
        race.move()
    before = race.pair.target.server.execute("SELECT number, cursor_key, copied_rows FROM _dbmigrate.stripe")
    race.write_source(READ_BY_THE_ZOMBIE, REMOVED, MOVED)
    executors[0].release()
    assert isinstance(executors[0].outcome, StaleStripeError | TransientError)
    assert race.pair.target.server.execute("SELECT number, cursor_key, copied_rows FROM _dbmigrate.stripe") == before
    race.move()
    race.require_equal()
