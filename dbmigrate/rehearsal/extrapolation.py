"""From the durations of a sample to those of the real tables: one rule, and an honest silence where it does not hold.

Pure, so that the rule can be tested and read in one place. ``docs/rehearsal.md`` tells it to operators.
"""

from __future__ import annotations

from dataclasses import dataclass

from dbmigrate.domain.phases import Phase

GROWS_WITH_SIZE = frozenset({Phase.COPY, Phase.VERIFY})
"""Their work is one pass over every row."""

STAYS = frozenset({Phase.PLAN, Phase.EXPAND})
"""Their work depends on the number of tables."""

_REASONS = {
    Phase.CATCH_UP: "depends on the writes during the real copy",
    Phase.CUTOVER: "from the approval on; depends on writes",
    Phase.SOAK: "as long as you want it",
    Phase.REVERTING: "depends on writes",
}
_NO_REASON = "depends on the application"


@dataclass(frozen=True, slots=True)
class Size:
    """Rows and bytes (rows and indexes) of the tables that move, by the server's own estimates or by counting."""

    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a phase would take at the real size; ``seconds`` is None where nothing can be said, ``basis`` says why."""

    seconds: float | None
    basis: str


def find_factor(sample: Size, real: Size | None) -> float | None:
    """How many times the real tables are larger: by rows or by bytes, whichever is more; at least 1.

    None where one of the two is unknown or empty.
    """
    if real is None:
        return None
    factors = [r / s for r, s in ((real.rows, sample.rows), (real.bytes, sample.bytes)) if s > 0 and r > 0]
    return max(1.0, *factors) if factors else None


def extrapolate(phase: Phase, seconds: float, factor: float | None, *, disturbed: bool = False) -> Estimate:
    """The estimate of one phase. ``disturbed``: a fault was injected in it, so its duration says nothing."""
    if phase in STAYS:
        return Estimate(seconds, "grows with the number of tables")
    if phase not in GROWS_WITH_SIZE:
        return Estimate(None, _REASONS.get(phase, _NO_REASON))
    if disturbed:
        return Estimate(None, "a fault was injected: rehearse without")
    if factor is None:
        return Estimate(None, "the real size is not known")
    return Estimate(seconds * factor, f"measured x {factor:,.1f}")
