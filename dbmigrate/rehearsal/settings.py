"""What a rehearsal is asked to do: on which servers, with which data, under which workload, with which faults.

Plain values without any doing, so that the command line, the pytest plugin and users' programs say it in one way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from dbmigrate.domain.errors import ConfigurationError
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Side


class ServerKind(Enum):
    """Where throwaway servers run. ``AUTO``: in containers where a Docker engine answers, else as local processes."""

    AUTO = "auto"
    DOCKER = "docker"
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class SampledRows:
    """A consistent sample of the source's rows: so many a table, or that percentage of each table."""

    rows: int = 10_000
    percent: float | None = None


@dataclass(frozen=True, slots=True)
class DumpedRows:
    """What an SQL file holds; the source is not asked for rows."""

    path: Path


@dataclass(frozen=True, slots=True)
class GeneratedRows:
    """Rows of the source's shape and of nobody's content: so many a table, the same for the same seed."""

    rows: int
    seed: int = 1


Rows = SampledRows | DumpedRows | GeneratedRows


class FaultKind(Enum):
    """What can be broken on purpose."""

    RUNNER_KILL = "runner-kill"
    SERVER_RESTART = "server-restart"
    NETWORK_CUT = "network-cut"


FAULT_PHASES = (Phase.COPY, Phase.CATCH_UP, Phase.VERIFY, Phase.CUTOVER, Phase.SOAK)
"""Phases in which a fault may be asked for: those that last, or wait for somebody."""

_FAULT_FORM = "KIND[:source|target][@PHASE]"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: ``runner-kill``, ``server-restart:target@copy``, ``network-cut:source@soak``.

    ``side`` is None for what has no side. ``phase`` is when it is injected: as soon as the migration is there.
    """

    kind: FaultKind
    side: Side | None = None
    phase: Phase = Phase.COPY

    def __str__(self) -> str:
        side = f":{self.side.value}" if self.side else ""
        return f"{self.kind.value}{side}@{self.phase.value}"

    @classmethod
    def parse(cls, text: str) -> Fault:
        """From ``KIND[:SIDE][@PHASE]``. The side is the target unless said, the phase is ``copy``.

        Raises:
            ConfigurationError: it is none.
        """
        rest, at, phase = text.partition("@")
        kind, colon, side = rest.partition(":")
        phases = {p.value: p for p in FAULT_PHASES}
        kinds, sides = {k.value: k for k in FaultKind}, {s.value: s for s in Side}
        if kind not in kinds:
            raise _refuse(text, f"{kind!r} is no fault; there are {', '.join(kinds)}")
        if at and phase not in phases:
            raise _refuse(text, f"{phase!r} is no phase for a fault; there are {', '.join(phases)}")
        if colon and side not in sides:
            raise _refuse(text, f"{side!r} is no side; there are {', '.join(sides)}")
        if colon and kinds[kind] is FaultKind.RUNNER_KILL:
            raise _refuse(text, "a runner is on no side")
        found = None if kinds[kind] is FaultKind.RUNNER_KILL else sides.get(side, Side.TARGET)
        return cls(kinds[kind], found, phases.get(phase, Phase.COPY))


def _refuse(text: str, cause: str) -> ConfigurationError:
    return ConfigurationError(f"not a fault: {text!r}", place="--fault", cause=cause, hint=f"write {_FAULT_FORM}")


class WorkloadKind(Enum):
    """What writes during the rehearsal."""

    GENERIC = "generic"
    NONE = "none"
    SYSBENCH = "sysbench"
    COMMAND = "command"
    PYTHON = "python"


@dataclass(frozen=True, slots=True)
class WorkloadChoice:
    """Which workload. ``text`` is the command line of ``COMMAND`` and ``module:function`` of ``PYTHON``."""

    kind: WorkloadKind = WorkloadKind.GENERIC
    text: str = ""

    @classmethod
    def parse(cls, text: str) -> WorkloadChoice:
        """From ``generic``, ``none``, ``sysbench``, ``command:LINE`` or ``python:MODULE:FUNCTION``.

        Raises:
            ConfigurationError: it is none of these.
        """
        word, _, rest = text.partition(":")
        kinds = {kind.value: kind for kind in WorkloadKind}
        needs_text = kinds.get(word) in (WorkloadKind.COMMAND, WorkloadKind.PYTHON)
        is_complete = bool(rest.strip()) if needs_text else ":" not in text
        if word in kinds and is_complete and (word != "python" or ":" in rest.strip(":")):
            return cls(kinds[word], rest.strip())
        raise ConfigurationError(
            f"not a workload: {text!r}", place="--workload",
            hint="write generic, none, sysbench, command:LINE or python:MODULE:FUNCTION",
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class RehearsalSettings:
    """One rehearsal.

    ``source_image`` and ``target_image`` say what to run, by default the official images of the configured servers'
    versions; with both given, the configured servers are asked only for rows. Where servers are local processes, the
    images' names decide the flavours, and the installed release is what runs. ``target_schema`` is an SQL file that
    prepares the target, where the move expects tables to be there already. ``with_app``: the workload uses
    ``dbmigrate.app``, so the phases of an application are rehearsed too. ``read_real_size``: ask the configured source
    how large it is, even if nothing else is taken from it.
    """

    servers: ServerKind = ServerKind.AUTO
    source_image: str = ""
    target_image: str = ""
    rows: Rows = field(default_factory=SampledRows)
    target_schema: Path | None = None
    workload: WorkloadChoice = field(default_factory=WorkloadChoice)
    workers: int = 2
    rate: float = 50.0
    with_app: bool = False
    faults: tuple[Fault, ...] = ()
    soak_seconds: float = 3.0
    cut_seconds: float = 3.0
    limit_seconds: float = 3600.0
    read_real_size: bool = True


def parse_faults(texts: Sequence[str]) -> tuple[Fault, ...]:
    """Every one, in the order of the phases and then as given.

    Raises:
        ConfigurationError: one is none.
    """
    order = list(Phase)
    return tuple(sorted((Fault.parse(text) for text in texts), key=lambda fault: order.index(fault.phase)))
