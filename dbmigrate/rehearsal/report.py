"""What a rehearsal found, as values: durations, rates, pauses, faults, differences, and the verdict.

Apart from the rehearsal itself because the terminal, the JSON and the page all show it, and users' tests read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from dbmigrate.domain.errors import ExitCode


@dataclass(frozen=True, slots=True)
class ServerUsed:
    """A throwaway server: which release it was, where it ran, and what the configured server runs (empty: not asked)."""

    side: str
    version: str
    runs_as: str
    real_version: str = ""


@dataclass(frozen=True, slots=True)
class TableUsed:
    """One table: rows rehearsed at the end, and the real table's size by the server's estimate (None: not asked)."""

    table: str
    rows: int
    bytes: int
    real_rows: int | None = None
    real_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class PhaseTaken:
    """One phase of the first passage (or of the way back): how long it took, and would take at the real size.

    ``rows_per_second`` where the phase passes over all rows. ``disturbed``: a fault was injected in it.
    """

    phase: str
    seconds: float
    estimate_seconds: float | None
    basis: str
    rows_per_second: float | None = None
    disturbed: bool = False


@dataclass(frozen=True, slots=True)
class SwitchMade:
    """One switch: its direction, and how long writers waited."""

    direction: str
    pause_ms: float


@dataclass(frozen=True, slots=True)
class FaultSuffered:
    """One fault. ``phase`` is where the migration stood at that moment, ``recovered_seconds`` until it went on."""

    fault: str
    injected: bool
    survived: bool
    phase: str = ""
    recovered_seconds: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class WorkloadDone:
    """What the workload did. ``failures`` counts failed writes by kind; ``longest_gap_ms`` is between two successes."""

    kind: str
    committed: int = 0
    failed: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)
    longest_gap_ms: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class LagSample:
    """A look at the stream, by seconds since the rehearsal's move began."""

    at_seconds: float
    phase: str
    lag_seconds: float | None
    backlog_keys: int | None


@dataclass(frozen=True, slots=True)
class RowDifference:
    """A row that differs at the end: table and key, never its values."""

    table: str
    key: str


@dataclass(frozen=True, slots=True)
class RehearsalReport:
    """Everything a rehearsal found.

    ``failure`` says what stopped it before its end (empty: nothing), ``failure_code`` is that error's exit code.
    ``differences`` is None where it did not come to the comparison. ``notes`` are what was left out or replaced.
    """

    migration: str
    servers: tuple[ServerUsed, ...] = ()
    contents: str = ""
    tables: tuple[TableUsed, ...] = ()
    phases: tuple[PhaseTaken, ...] = ()
    switches: tuple[SwitchMade, ...] = ()
    faults: tuple[FaultSuffered, ...] = ()
    workload: WorkloadDone = field(default_factory=lambda: WorkloadDone("none"))
    lag: tuple[LagSample, ...] = ()
    max_lag_seconds: float = 0.0
    factor: float | None = None
    rows_compared: int = 0
    differences: int | None = None
    first_differences: tuple[RowDifference, ...] = ()
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    failure: str = ""
    failure_code: int = 0

    @property
    def exit_code(self) -> ExitCode:
        """As the commands have it: 0 all well, 1 rows differ, 3 refused by a check or gate, 4 failed."""
        if self.differences:
            return ExitCode.DIFFERENCES
        if self.failure_code:
            return ExitCode(self.failure_code)
        if self.failure or self.differences is None or not self.has_survived:
            return ExitCode.FAILED
        return ExitCode.DONE

    @property
    def is_clean(self) -> bool:
        """Whether everything went as it should."""
        return self.exit_code is ExitCode.DONE

    @property
    def has_survived(self) -> bool:
        """Whether every fault that was asked for was injected and survived."""
        return all(fault.injected and fault.survived for fault in self.faults)

    @property
    def verdict(self) -> str:
        """One sentence."""
        if self.differences:
            return f"{self.differences:,} rows differ at the end"
        if self.failure:
            return f"it stopped: {self.failure.splitlines()[0]}"
        if self.differences is None:
            return "it did not come to its end"
        if missed := [f.fault for f in self.faults if not f.injected]:
            return f"not injected: {', '.join(missed)}"
        if lost := [f.fault for f in self.faults if not f.survived]:
            return f"not survived: {', '.join(lost)}"
        return "both sides are equal at the end" + (", and every fault was survived" if self.faults else "")

    def to_json(self) -> dict[str, Any]:
        """JSON-ready, with the verdict."""
        return {**asdict(self), "exit_code": int(self.exit_code), "verdict": self.verdict}
