"""Who owns the data, decided from the two fence rows alone, and what an application does beside.

A switch commits the row of the side that gives up ownership first, then the other side's. After a crash the later
epoch therefore tells the truth, whichever side holds it; equal epochs that disagree cannot come from this protocol,
and a person decides.
"""

from __future__ import annotations

from dataclasses import dataclass

from dbmigrate.domain.errors import AmbiguousError
from dbmigrate.domain.phases import MEANINGS, Phase
from dbmigrate.domain.routes import Side

IDLE_LOOK_SECONDS = 1.0
"""How often an instance that sees no fence row looks whether there is one now."""

STATE_EXPIRES_SECONDS = 3.0
"""How long an instance may act on what it saw last; after that it looks before it writes. A row must have existed
for at least twice as long before ownership changes: then no instance is left that believes there is no migration."""


@dataclass(frozen=True, slots=True)
class FenceRow:
    """What one side's fence row says. The epoch grows with every change of the others.

    ``mirror``: write transactions also go to the side that is not the owner. ``read_share`` and ``shadow_share`` are
    percentages (0 to 100): of reads answered by the target, and of reads repeated on the other side.
    """

    epoch: int
    owner: Side
    phase: Phase
    mirror: bool = False
    read_share: float = 0.0
    shadow_share: float = 0.0


@dataclass(frozen=True, slots=True)
class ApplicationSettings:
    """What the configuration lets an application do in the phases that have it."""

    mirror: bool = False
    mirror_in_soak: bool = False
    shadow_share: float = 0.0


NO_APPLICATION = ApplicationSettings()


def row_for(phase: Phase, epoch: int, application: ApplicationSettings = NO_APPLICATION) -> FenceRow | None:
    """The row with which a phase begins; None where the owner is unknown.

    A phase begins with no reads on the target: shares grow step by step. And mirrors to the source, after the
    switch, begin only once the source has lost its triggers, which would fire on mirrored rows (``mirrors_back``).
    """
    meaning = MEANINGS[phase]
    if meaning.owner is None:
        return None
    return FenceRow(
        epoch,
        meaning.owner,
        phase,
        mirror=meaning.mirrors and meaning.owner is Side.SOURCE and application.mirror,
        shadow_share=application.shadow_share if meaning.shadows else 0.0,
    )


def mirrors_back(phase: Phase, application: ApplicationSettings) -> bool:
    """Whether the application mirrors to the source in a phase in which the target owns the data."""
    meaning = MEANINGS[phase]
    return (
        meaning.mirrors and meaning.owner is Side.TARGET and application.mirror and application.mirror_in_soak
    )


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
