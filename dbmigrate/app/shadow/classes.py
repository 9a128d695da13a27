"""Whether a difference is lag, a row that moves, or real: decided from many answers of both sides, read in turns.

Pure: the reader reads, this module judges. C0 and D0 are the first answers of control and candidate. Then, in rounds: read
the control, wait until the stream has passed everything committed so far, read the candidate, read the control again.
At the end both sides are watched: read some more times, at irregular moments.

A fact that held on the control without a break from the first read of a round to its last was committed before the wait
began, so the candidate must have it; one that had gone by the first read, and does not return, must not be there. Hence a
fact is *suspicious* while every control read had it and no candidate read did, or the reverse. It is real if it still
is after all rounds and the watch, and refuted for good once a single read of either side says otherwise.

- *Only real counts.* What is refuted has been seen equal, or in motion, and says nothing against the candidate: lag has a
  gate of its own, and motion belongs to the application.
- *A persistent difference becomes real in bounded time*, after ``rechecks`` rounds, each of bounded length, however hot
  the table is. Facts are judged one by one, so other rows, or other columns of the same row where its key is known, may
  change at will: they refute themselves and not their neighbours. Comparing whole answers would never find two equal
  control reads of a hot table, and give up.
- *A hot row does not become real.* A value that moves on and never returns cannot deceive even one round. One that returns
  (A, B, A) can, if it changes twice within the round and the candidate is read between: at worst, with a coin tossed for
  each read, in 1 of 8. It would have to deceive the first comparison, every round, and every read of the watch, which has
  no regular beat to fall into: with five rounds and ten reads of each side 1 in 10^10 differences. (Measured on a row
  that toggles at three speeds: without the watch and the first read of a round, 1 of 1,557 samples was called real.)
- *What it cannot tell:* a fact that changes faster than the control is read twice is ``moved`` even if the candidate is
  wrong about it as well. Verification compares those rows by digest.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dbmigrate.app.shadow.comparison import Facts
from dbmigrate.domain.evidence import MismatchKind


@dataclass(slots=True)
class Suspicion:
    """What still speaks against the candidate, after the reads so far."""

    control: Facts
    candidate: Facts
    missing: Facts = field(init=False)
    """What all control reads had, and no candidate read."""
    extra: Facts = field(init=False)
    """What all candidate reads had, and no control read."""
    _were_equal: bool = field(init=False, default=False)
    _first_candidate: Facts = field(init=False)

    def __post_init__(self) -> None:
        self._first_candidate = self.candidate
        self.missing, self.extra = self.control - self.candidate, self.candidate - self.control

    def add(self, before: Facts, candidate: Facts, after: Facts) -> None:
        """One more round: the candidate was read behind the stream, the control before the wait and after it."""
        self._were_equal |= candidate in (before, after) or self._first_candidate in (before, after)
        for control in (before, after):
            self.watch_control(control)
        self.watch_candidate(candidate)

    def watch_control(self, facts: Facts) -> None:
        """One more read of the control, at any moment."""
        self.missing &= facts
        self.extra -= facts

    def watch_candidate(self, facts: Facts) -> None:
        """One more read of the candidate, at any moment."""
        self.missing -= facts
        self.extra &= facts

    @property
    def is_refuted(self) -> bool:
        """Whether nothing is left that could be real; more reads would not change that."""
        return not self.missing and not self.extra

    @property
    def kind(self) -> MismatchKind:
        """What it is if no more reads follow."""
        if not self.is_refuted:
            return MismatchKind.REAL
        return MismatchKind.LAG if self._were_equal else MismatchKind.MOVED
