"""Medians, spreads and ratios of repeated measurements: pure, so that a test can hold the figures to account."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Spread:
    """What repeats of one measurement gave."""

    median: float
    low: float
    high: float
    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Raises ValueError without values: no measurement is no result."""
        if not values:
            raise ValueError("nothing was measured")
        return cls(statistics.median(values), min(values), max(values), tuple(values))

    def to_json(self) -> dict[str, Any]:
        """Rounded to four significant digits, which is more than two runs agree on."""
        return {
            "median": significant(self.median), "low": significant(self.low), "high": significant(self.high),
            "values": [significant(value) for value in self.values],
        }  # fmt: skip

    def __str__(self) -> str:
        return f"{significant(self.median)} ({significant(self.low)} to {significant(self.high)})"


def significant(value: float, digits: int = 4) -> float:
    """``value`` with so many significant digits."""
    if value == 0 or not math.isfinite(value):
        return value
    return round(value, digits - 1 - math.floor(math.log10(abs(value))))


def ratios_of(ours: Sequence[float], peer: Sequence[float]) -> Spread:
    """Ours divided by the peer's, pair by pair: both of a pair ran next to each other, so they shared the noise.

    Raises:
        ValueError: not the same number of runs.
    """
    if len(ours) != len(peer):
        raise ValueError(f"{len(ours)} runs cannot be paired with {len(peer)}")
    return Spread.of([mine / theirs for mine, theirs in zip(ours, peer, strict=True)])


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of the values do not exceed (nearest rank).

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("nothing was measured")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def find_gaps(successes: Sequence[tuple[float, str]]) -> list[float]:
    """Seconds between the last success on one side and the first on the other, for every change of sides."""
    pairs = itertools.pairwise(successes)
    return [later - earlier for (earlier, before), (later, after) in pairs if before != after]


def worst_gaps(writers: Sequence[Sequence[tuple[float, str]]]) -> list[float]:
    """For each switch the longest gap that any writer saw. Raises ValueError when one missed a switch."""
    gaps = [find_gaps(successes) for successes in writers]
    if len({len(found) for found in gaps}) != 1:
        raise ValueError(f"the writers saw different numbers of switches: {[len(found) for found in gaps]}")
    return [max(seen) for seen in zip(*gaps, strict=True)]


def alternate(contenders: Sequence[str], repeats: int) -> Iterator[tuple[int, str]]:
    """Round and contender, every round beginning with another one, so that nobody always runs on a warm machine."""
    for number in range(repeats):
        shift = number % len(contenders)
        for name in (*contenders[shift:], *contenders[:shift]):
            yield number, name


@dataclass(frozen=True, slots=True)
class Target:
    """A promise about one ratio."""

    limit: float
    is_upper: bool

    def is_met_by(self, value: float) -> bool:
        """Whether the measured median keeps the promise."""
        return value <= self.limit if self.is_upper else value >= self.limit

    def __str__(self) -> str:
        return f"{'at most' if self.is_upper else 'at least'} {self.limit:g}"


@dataclass(frozen=True)
class Report:
    """One benchmark's outcome. ``seconds`` are the raw measurements, ``details`` whatever else helps to judge them."""

    bench: str
    mode: str
    machine: Mapping[str, Any]
    ratios: Mapping[str, Spread]
    seconds: Mapping[str, Sequence[float]]
    targets: Mapping[str, Target]
    details: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """``ratios`` holds the medians by name, ``spread`` the same with minimum, maximum and every value."""
        return {
            "bench": self.bench,
            "mode": self.mode,
            "machine": dict(self.machine),
            "ratios": {name: significant(ratio.median) for name, ratio in self.ratios.items()},
            "spread": {name: ratio.to_json() for name, ratio in self.ratios.items()},
            "targets": {
                name: {"target": str(target), "is_met": target.is_met_by(self.ratios[name].median)}
                for name, target in self.targets.items()
            },
            "seconds": {name: [significant(value) for value in values] for name, values in self.seconds.items()},
            "details": dict(self.details),
        }

    def format_text(self) -> str:
        """The same for people: the ratios first."""
        lines = [f"{self.bench} ({self.mode}), {', '.join(f'{k} {v}' for k, v in self.machine.items())}"]
        for name, ratio in self.ratios.items():
            target = self.targets.get(name)
            verdict = f"; target {target}: {'met' if target.is_met_by(ratio.median) else 'MISSED'}" if target else ""
            lines.append(f"  {name}: {ratio}{verdict}")
        lines += [f"  {name} [s]: {Spread.of(values)}" for name, values in self.seconds.items() if values]
        lines += [f"  {name}: {value}" for name, value in self.details.items()]
        return "\n".join(lines)
