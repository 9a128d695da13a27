"""The phases of a migration: everything that affects which phase may follow which lives in this file.

``MEANINGS`` says what each phase is, ``TRANSITIONS`` which may follow; the diagram in docs/phases.md is drawn from
them. Code asks the meaning of a phase and never compares phases by order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from dbmigrate.domain.routes import Direction, Side


class Phase(Enum):
    """Where a migration stands."""

    PLAN = "plan"
    EXPAND = "expand"
    COPY = "copy"
    CATCH_UP = "catch_up"
    DUAL_WRITE = "dual_write"
    SHADOW_READ = "shadow_read"
    VERIFY = "verify"
    RAMP_READS = "ramp_reads"
    CUTOVER = "cutover"
    SOAK = "soak"
    REVERTING = "reverting"
    CONTRACT = "contract"
    DONE = "done"
    ABORTED = "aborted"
    HELD = "held"


@dataclass(frozen=True, slots=True)
class PhaseMeaning:
    """What holds while a migration is in a phase.

    ``owner`` is the side that takes application writes (None: unknown, a person decides). ``streaming`` is the
    direction in which changes flow, ``needs_application`` marks phases that exist only with an application
    library. ``next_phase`` is where a passed gate leads. What an application does beside its work on the owner:
    ``mirrors`` its writes to the other side, ``shadows`` a sample of its reads there, ``ramps`` a share of them.
    """

    summary: str
    gate: str
    owner: Side | None
    streaming: Direction | None = None
    next_phase: Phase | None = None
    may_abort: bool = False
    may_revert: bool = False
    needs_application: bool = False
    is_final: bool = False
    mirrors: bool = False
    shadows: bool = False
    ramps: bool = False


_SOURCE, _TARGET = Side.SOURCE, Side.TARGET
_FORWARD, _REVERSE = Direction.FORWARD, Direction.REVERSE

MEANINGS: dict[Phase, PhaseMeaning] = {
    Phase.PLAN: PhaseMeaning(
        "everything that could stop the move is looked for; nothing is changed on either side",
        "the preflight finds no obstacle", _SOURCE, next_phase=Phase.EXPAND, may_abort=True,
    ),
    Phase.EXPAND: PhaseMeaning(
        "tables, views and routines are created on the target; triggers and events wait for the cutover",
        "every table has its counterpart on the target", _SOURCE, next_phase=Phase.COPY, may_abort=True,
    ),
    Phase.COPY: PhaseMeaning(
        "rows are copied in chunks while changes stream",
        "every chunk is on the target and deferred indexes are built",
        _SOURCE, _FORWARD, Phase.CATCH_UP, may_abort=True,
    ),
    Phase.CATCH_UP: PhaseMeaning(
        "the stream works off what changed during the copy",
        "lag and backlog are below their limits", _SOURCE, _FORWARD, Phase.DUAL_WRITE, may_abort=True,
    ),
    Phase.DUAL_WRITE: PhaseMeaning(
        "the application mirrors its writes to the target",
        "enough mirrored writes within the error budget",
        _SOURCE, _FORWARD, Phase.SHADOW_READ, may_abort=True, needs_application=True, mirrors=True,
    ),
    Phase.SHADOW_READ: PhaseMeaning(
        "a sample of reads is repeated on the target and compared",
        "enough samples, no real mismatch, latency within budget",
        _SOURCE, _FORWARD, Phase.VERIFY, may_abort=True, needs_application=True, mirrors=True, shadows=True,
    ),
    Phase.VERIFY: PhaseMeaning(
        "both sides are compared by digests, and what differs by key",
        "a complete, fresh verification without differences",
        _SOURCE, _FORWARD, Phase.RAMP_READS, may_abort=True, mirrors=True, shadows=True,
    ),
    Phase.RAMP_READS: PhaseMeaning(
        "a growing share of reads is answered by the target",
        "the largest share held without a broken guardrail",
        _SOURCE, _FORWARD, Phase.CUTOVER, may_abort=True, needs_application=True,
        mirrors=True, shadows=True, ramps=True,
    ),
    Phase.CUTOVER: PhaseMeaning(
        "writes pause, the stream drains, ownership changes sides",
        "approved where configured, verification fresh, and the switch fits its budget",
        _SOURCE, _FORWARD, Phase.SOAK, may_abort=True, mirrors=True,
    ),
    Phase.SOAK: PhaseMeaning(
        "the target owns the data; the same stream runs backwards so that going back loses nothing",
        "a person ends the way back with `dbmigrate contract`",
        _TARGET, _REVERSE, Phase.CONTRACT, may_revert=True, mirrors=True,
    ),
    Phase.REVERTING: PhaseMeaning(
        "the cutover with the roles exchanged",
        "the switch back fits its budget", _TARGET, _REVERSE, Phase.CATCH_UP, may_revert=True,
    ),
    Phase.CONTRACT: PhaseMeaning(
        "the way back ends; what only served the move is removed",
        "the move's own objects are gone from both sides", _TARGET, next_phase=Phase.DONE,
    ),
    Phase.DONE: PhaseMeaning("the move is over", "", _TARGET, is_final=True),
    Phase.ABORTED: PhaseMeaning(
        "the source is as it was found; the move can be planned anew", "", _SOURCE, is_final=True
    ),
    Phase.HELD: PhaseMeaning("ownership cannot be known; a person decides", "a person decides", None),
}  # fmt: skip


def _build_transitions() -> dict[Phase, frozenset[Phase]]:
    """From each phase to those that may follow: the next, abort, revert, undo and held, per its meaning."""
    table: dict[Phase, frozenset[Phase]] = {}
    for phase, meaning in MEANINGS.items():
        following: set[Phase] = set()
        step = meaning.next_phase
        while step is not None:
            following.add(step)
            step = MEANINGS[step].next_phase if MEANINGS[step].needs_application else None
        if meaning.may_abort:
            following.add(Phase.ABORTED)
        if phase is Phase.SOAK:
            following.add(Phase.REVERTING)
        if phase is Phase.REVERTING:
            following.add(Phase.SOAK)  # undo: the switch back did not fit its budget
        if phase is Phase.CUTOVER:
            following |= {Phase.CATCH_UP}  # undo after too many attempts, or evidence gone stale
        if phase is Phase.RAMP_READS:
            following |= {Phase.CATCH_UP}  # the verification does not hold any more: no reads on the target before another
        if phase in (Phase.CUTOVER, Phase.REVERTING):
            following.add(Phase.HELD)
        if phase is Phase.HELD:
            following |= {Phase.CATCH_UP, Phase.SOAK}
        table[phase] = frozenset(following)
    return table


TRANSITIONS: dict[Phase, frozenset[Phase]] = _build_transitions()


def following_phase(phase: Phase, *, has_application: bool) -> Phase | None:
    """Where a passed gate of ``phase`` leads; phases that need an application are skipped without one."""
    step = MEANINGS[phase].next_phase
    while step is not None and MEANINGS[step].needs_application and not has_application:
        step = MEANINGS[step].next_phase
    return step


def path_to(phase: Phase, *, has_application: bool) -> tuple[Phase, ...]:
    """The phases a move passes from ``plan`` up to and including ``phase``; empty if it never does."""
    path: list[Phase] = []
    step: Phase | None = Phase.PLAN
    while step is not None and step not in path:
        path.append(step)
        if step is phase:
            return tuple(path)
        step = following_phase(step, has_application=has_application)
    return ()


def may_follow(phase: Phase, following: Phase) -> bool:
    """Whether the table allows this transition."""
    return following in TRANSITIONS[phase]


def draw_diagram(phases: Iterable[Phase] = tuple(Phase)) -> str:
    """The table as a Mermaid state diagram, for docs/phases.md."""
    lines = ["stateDiagram-v2", "    [*] --> plan"]
    for phase in phases:
        for following in sorted(TRANSITIONS[phase], key=list(Phase).index):
            lines.append(f"    {phase.value} --> {following.value}")
        if MEANINGS[phase].is_final:
            lines.append(f"    {phase.value} --> [*]")
    return "\n".join(lines)
