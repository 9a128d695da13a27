"""What a schema change may be while the application keeps running: a lane, or refused with the way to do it instead.

Plain values, apart from the rules that choose between them (``lanes``), because the lint, the plan and whoever runs
the lanes must mean the same by them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class Lane(Enum):
    """When a change may run. The value is the branch label, and the folder below ``versions/``."""

    EXPAND = "expand"
    TIGHTEN = "tighten"
    CONTRACT = "contract"

    @property
    def meaning(self) -> str:
        """One sentence for people."""
        return _MEANINGS[self]


_MEANINGS = {
    Lane.EXPAND: "additive: the running version of the application does not notice",
    Lane.TIGHTEN: "a rule over rows that a backfill has made true; every running version must keep it",
    Lane.CONTRACT: "destructive: only after soak, and only when nothing still uses what goes",
}


class Stage(Enum):
    """One step of a safe sequence, in the order in which they happen. Deployments are steps of the application."""

    EXPAND = "expand revision"
    WRITE_BOTH = "deploy: write both"
    BACKFILL = "backfill"
    TIGHTEN = "tighten revision"
    READ_NEW = "deploy: use the new one only"
    CONTRACT = "contract revision"


@dataclass(frozen=True, slots=True)
class Step:
    """What to write, or to do, in one stage: ``text`` is Python for Alembic's ``upgrade()``, or a sentence."""

    stage: Stage
    text: str


@dataclass(frozen=True, slots=True)
class Placed:
    """An operation that belongs to ``lane``. ``rule`` names what decided, ``note`` what the lane has to mind."""

    rule: str
    lane: Lane
    note: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """An operation that may run in no lane as it is written.

    ``breaks`` says what would lock, break or be lost; ``instead`` is the sequence to write in its place.
    """

    rule: str
    breaks: str
    instead: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Undecided:
    """An operation whose class depends on the table as it is now, and no server was asked.

    Not allowed either: nothing is guessed. ``question`` is what the server would answer.
    """

    rule: str
    question: str

    @property
    def hint(self) -> str:
        """How to have it decided."""
        return "needs a server that has it: give --url-env, or -c with a [target]"


Verdict = Placed | Refused | Undecided
"""What the rules say of one operation."""


def lane_of(verdicts: Iterable[Verdict]) -> Lane | None:
    """The one lane of a revision's operations; None where they are of several, or one is not placed, or there are none."""
    lanes = {verdict.lane if isinstance(verdict, Placed) else None for verdict in verdicts}
    return lanes.pop() if len(lanes) == 1 else None
