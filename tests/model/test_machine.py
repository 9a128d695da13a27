"""Hypothesis drives the model: each rule is one step of one actor, or one thing that happens to it."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from model.servers import SHAPES
from model.world import World


class Move(RuleBasedStateMachine):
    """A move under attack. Ends by coming to rest, where both sides must equal what was acknowledged."""

    world: World | None = None

    @initialize(
        shape=st.sampled_from(SHAPES[:3]), seed=st.integers(0, 1 << 16), read_only=st.booleans(), copied=st.booleans()
    )
    def begin(self, shape, seed, read_only, copied) -> None:  # type: ignore[no-untyped-def]
        """Two databases, an application, a runner."""
        self.world = World(shape, seed=seed, uses_read_only=read_only, is_copied=copied)

    @rule(choices=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 1 << 16)), min_size=5, max_size=30))
    def let_actors_step(self, choices) -> None:  # type: ignore[no-untyped-def]
        """Each step: who of those who can, and what it decides."""
        assert self.world is not None
        for who, decision in choices:
            ready = self.world.list_ready()
            if ready:
                self.world.reseed(decision)
                self.world.step(ready[who % len(ready)])

    @rule(seed=st.integers(0, 1 << 16))
    def crash(self, seed: int) -> None:
        """kill -9, and a new runner some time later."""
        assert self.world is not None
        self.world.reseed(seed)
        if self.world.live is not None:
            self.world.crash()
        self.world.start_runner()

    @rule()
    def take_over(self) -> None:
        """The runner freezes, its lease ends, another one begins; the frozen one goes on later."""
        assert self.world is not None
        self.world.freeze()
        self.world.start_runner()

    @rule(seed=st.integers(0, 1 << 16))
    def bury(self, seed: int) -> None:
        """A thread of an earlier runner ends."""
        assert self.world is not None
        self.world.reseed(seed)
        self.world.bury_ghost()

    @rule()
    def spend_budget(self) -> None:
        """The write pause takes too long."""
        assert self.world is not None
        self.world.spend_budget()

    @rule()
    def cut_connection(self) -> None:
        """The session that holds the fence loses its connection."""
        assert self.world is not None
        self.world.cut_fence_session()

    @rule(cutover=st.booleans(), revert=st.booleans())
    def ask(self, cutover: bool, revert: bool) -> None:
        """A person wants the switch, or the way back."""
        assert self.world is not None
        self.world.is_cutover_wanted, self.world.is_revert_wanted = cutover, revert

    def teardown(self) -> None:
        """What the model promises."""
        if self.world is not None:
            self.world.come_to_rest()


CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


@settings(max_examples=60, stateful_step_count=30, deadline=None, derandomize=True, database=None,
          print_blob=True, suppress_health_check=CHECKS)  # fmt: skip
class EverydayMove(Move):
    """Seconds."""


@settings(max_examples=3000, stateful_step_count=100, deadline=None, database=None, print_blob=True,
          suppress_health_check=CHECKS)  # fmt: skip
class LongMove(Move):
    """Many minutes."""


TestEverydayMove = EverydayMove.TestCase
TestLongMove = pytest.mark.timeout(7200)(pytest.mark.slow(LongMove.TestCase))
