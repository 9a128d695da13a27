"""Random schedules over the model: fast, seeded, and as unfair as races need.

A fair scheduler hardly ever lets one actor sleep through everything that the others do. So each run draws how unfair
it is: all alike, by weights drawn for the names of actors, by priorities that change at a few moments, with actors that
fall asleep wherever they are, or with everybody held for long who comes to one of a few places.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from model.protocol import PROGRAM, Protocol
from model.servers import SHAPES, Shape
from model.world import Actor, ViolationError, World

HOLDS = (
    "source engine", "reader", "flush.begin", "flush.chunks_done", "flush.barrier", "children added",
    "flush.batch.read", "the transaction has begun", "copy.chunk.begin", "copy.chunk.barrier", "copy.chunk.read",
    "cursor saved", "stream.position_noted", "stream.checkpoint", "statements", "switch.before_commit",
    "switch.row_written", "switch.way_back", "switch.origin_committed", "switch.destination_committed", "switch.undo",
    "the server has the COMMIT", "fence row read", "lifting read_only", "start proved", "attempt undone",
)  # fmt: skip
"""Where a schedule may hold actors for long: between two statements that a race needs apart."""


@dataclass(frozen=True)
class Outcome:
    """What became of a batch of runs."""

    runs: int
    steps: int
    accepted: int
    switches: int
    violations: tuple[tuple[int, str], ...]


class Scheduler:
    """Picks who goes on."""

    def __init__(self, dice: random.Random, steps: int, held_at: Sequence[str] = ()) -> None:
        self._dice = dice
        self._mode = dice.choice(("alike", "weights", "priorities", "sleepers", "held", "held", "held"))
        self._weights: dict[str, float] = {}
        self._priorities: dict[Actor, float] = {}
        self._asleep: dict[Actor, int] = {}
        if held_at:
            self._mode = "held"
        self._held_at = set(held_at) or set(dice.sample(HOLDS, dice.choice((1, 1, 2, 3))))
        self._changes = {dice.randrange(steps) for _ in range(dice.randrange(1, 12))}
        self._count = 0

    def pick(self, ready: list[Actor]) -> Actor:
        """One of those who can."""
        self._count += 1
        if self._mode in ("sleepers", "held"):
            if self._mode == "held":
                for actor in ready:
                    if actor.stands_at in self._held_at or actor.name in self._held_at:
                        self._asleep.setdefault(actor, self._count + self._dice.randrange(20, 150))
                    elif actor in self._asleep and self._asleep[actor] < self._count:
                        del self._asleep[actor]
            elif self._dice.random() < 0.1:
                self._asleep[self._dice.choice(ready)] = self._count + self._dice.randrange(5, 90)
            awake = [actor for actor in ready if self._asleep.get(actor, 0) < self._count]
            return self._dice.choice(awake or ready)
        if self._mode == "alike" or self._dice.random() < 0.05:
            return self._dice.choice(ready)
        if self._mode == "weights":
            weights = [self._weights.setdefault(a.name, self._dice.random() ** 4 + 0.002) for a in ready]
            return self._dice.choices(ready, weights)[0]
        best = max(ready, key=lambda a: self._priorities.setdefault(a, self._dice.random()))
        if self._count in self._changes or self._dice.random() < 0.03:
            self._priorities[best] = self._dice.random() * 0.2
        return best


@dataclass(frozen=True)
class Profile:
    """What a batch of runs is about."""

    name: str
    steps: int
    is_copied: bool
    disturbances: tuple[float, ...]
    runners_freeze: bool = True
    held_at: tuple[str, ...] = ()


HELD_CHUNKS = Profile("chunks held before they write", 260, False, (0.0,), held_at=("copy.chunk.read",))
HELD_COMMITS = Profile(
    "commits that take long to be seen", 260, False, (0.0,), held_at=("source engine", "copy.chunk.read")
)
COPYING = Profile("copying under load", 200, is_copied=False, disturbances=(0.0,))
DYING = Profile("copying by runners that die", 220, is_copied=False, disturbances=(0.02, 0.05))
SWITCHING = Profile("changing the owner there and back", 350, is_copied=True, disturbances=(0.02, 0.04, 0.08))
WHOLE = Profile("from the copy to wherever it comes", 400, is_copied=False, disturbances=(0.0, 0.01, 0.03, 0.06))
DYING_FOR_GOOD = Profile(
    "changing the owner by runners that die for good", 350, True, (0.02, 0.04, 0.08), runners_freeze=False
)
PROFILES = (COPYING, DYING, SWITCHING, WHOLE)


def simulate(seed: int, profile: Profile, *, protocol: Protocol = PROGRAM, shapes: Sequence[Shape] = SHAPES) -> World:
    """One run. Raises ViolationError."""
    dice = random.Random(seed)
    world = World(
        dice.choice(shapes), protocol=protocol, seed=dice.randrange(1 << 30), uses_read_only=dice.random() < 0.4,
        writers=dice.choice((1, 2, 3)), runners_freeze=profile.runners_freeze, is_copied=profile.is_copied,
    )  # fmt: skip
    scheduler = Scheduler(dice, profile.steps, profile.held_at)
    disturbance = dice.choice(profile.disturbances)
    for _ in range(profile.steps):
        if dice.random() < disturbance:
            world.disturb()
        ready = world.list_ready()
        if ready:
            world.step(scheduler.pick(ready))
    world.come_to_rest()
    return world


def simulate_many(
    seeds: range, profile: Profile, *, protocol: Protocol = PROGRAM, shapes: Sequence[Shape] = SHAPES,
    most_violations: int = 1_000_000,
) -> Outcome:  # fmt: skip
    """Runs until so many violations were found."""
    runs = done = accepted = switches = 0
    violations: list[tuple[int, str]] = []
    for seed in seeds:
        runs += 1
        try:
            world = simulate(seed, profile, protocol=protocol, shapes=shapes)
        except ViolationError as violation:
            violations.append((seed, str(violation)))
            if len(violations) >= most_violations:
                break
        else:
            done += world.steps_done
            accepted += world.accepted
            switches += world.switches
    return Outcome(runs, done, accepted, switches, tuple(violations))
