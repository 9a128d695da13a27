"""Who owns the data, decided from the two fence rows alone.

A switch commits the row of the side that gives up ownership first, then the other side's. After a crash the later
epoch therefore tells the truth, whichever side holds it; equal epochs that disagree cannot come from this protocol,
and a person decides.
"""

from __future__ import annotations

from dataclasses import dataclass

from dbmigrate.domain.errors import AmbiguousError
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Side


@dataclass(frozen=True, slots=True)
class FenceRow:
    """What one side's fence row says. The shares are percentages of reads."""

    epoch: int
    owner: Side
    phase: Phase
    mirror: bool = False
    read_share: float = 0
    shadow_share: float = 0


IDLE_LOOK_SECONDS = 1.0
"""How often an application that saw no fence row looks for one again."""
STATE_EXPIRES_SECONDS = 3.0
"""How long it may go on without having looked; then every write looks for itself."""


def decide_owner(source: FenceRow | None, target: FenceRow | None) -> FenceRow | None:
    """The row that is true now, or None before either side has one.

    Raises:
        AmbiguousError: both rows have the same epoch and name different owners.
    """
    if source is None or target is None:
        return source or target
    if source.epoch == target.epoch and source.owner is not target.owner:
        raise AmbiguousError(
            "the two fence rows contradict each other", place=f"epoch {source.epoch}",
            cause=f"the source says {source.owner.value} owns the data, the target says {target.owner.value}",
            hint="find out where the application writes, correct _dbmigrate.fence on the other side, then run again",
        )  # fmt: skip
    return source if source.epoch > target.epoch else target
