"""Breaking something on purpose, in the phase that was asked for, and watching whether the move goes on.

A fault counts as injected only when it took place, and is recovered from when a living runner renews its lease after it.
Whether it was survived is known at the end: the move came through, and no row differs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dbmigrate.domain.errors import DbmigrateError
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Side
from dbmigrate.rehearsal.report import FaultSuffered
from dbmigrate.rehearsal.runners import LOOK_SECONDS, SpawnedRunner
from dbmigrate.rehearsal.servers import StandIn
from dbmigrate.rehearsal.settings import Fault, FaultKind

RECOVERY_SECONDS = 180.0
"""Longer than a lease that must expire first, and than a container that restarts on a busy machine."""

FORWARD = (
    Phase.COPY, Phase.CATCH_UP, Phase.DUAL_WRITE, Phase.SHADOW_READ, Phase.VERIFY, Phase.RAMP_READS, Phase.CUTOVER,
)  # fmt: skip


@dataclass
class Injection:
    """A fault on its way: what became of it."""

    fault: Fault
    phase: Phase | None = None
    is_injected: bool = False
    recovered_seconds: float | None = None
    note: str = "the move never came to this phase"

    def judge(self, *, has_ended_well: bool) -> FaultSuffered:
        """What the report says of it."""
        survived = self.is_injected and self.recovered_seconds is not None and has_ended_well
        return FaultSuffered(
            str(self.fault), self.is_injected, survived, self.phase.value if self.phase else "", self.recovered_seconds, self.note
        )


class Injector:
    """Injects faults into one move."""

    def __init__(self, runner: SpawnedRunner, stand_ins: Mapping[Side, StandIn], *, cut_seconds: float) -> None:
        self._runner, self._stand_ins, self._cut_seconds = runner, stand_ins, cut_seconds

    def inject(self, injection: Injection, *, until: float) -> None:
        """Wait for the phase (or one behind it, should it be over in no time), break it, and wait until it goes on.

        Raises:
            Stopped: the runner has ended for good.
            FatalError: the time is over.
        """
        wanted = injection.fault.phase
        later = FORWARD[FORWARD.index(wanted) :] if wanted in FORWARD else (wanted,)
        injection.phase = self._runner.await_phase(*later, until=until)
        before = self._runner.load_state()
        began = time.monotonic()
        try:
            injection.is_injected = self._break(injection.fault)
        except DbmigrateError as fault:
            injection.note = f"could not be injected: {fault.message}"
            return
        if not injection.is_injected:
            injection.note = "there was no runner to kill"
            return
        injection.note = "" if injection.phase is wanted else f"{wanted.value} was over too soon"
        self._await_recovery(injection, before.lease_until if before else None, began, min(until, began + RECOVERY_SECONDS))

    def _break(self, fault: Fault) -> bool:
        actions: dict[FaultKind, Callable[[], bool]] = {
            FaultKind.RUNNER_KILL: self._runner.kill,
            FaultKind.SERVER_RESTART: lambda: self._restart(fault),
            FaultKind.NETWORK_CUT: lambda: self._cut(fault),
        }
        return actions[fault.kind]()

    def _restart(self, fault: Fault) -> bool:
        self._stand_ins[fault.side or Side.TARGET].restart()
        return True

    def _cut(self, fault: Fault) -> bool:
        proxy = self._stand_ins[fault.side or Side.TARGET].proxy
        proxy.cut()
        try:
            time.sleep(self._cut_seconds)
        finally:
            proxy.restore()
        return True

    def _await_recovery(self, injection: Injection, lease_before: object, began: float, until: float) -> None:
        lease_after_fault = self._read_lease() or lease_before
        while time.monotonic() < until:
            self._runner.keep_going()
            lease = self._read_lease()
            if self._runner.is_alive and lease is not None and lease not in (lease_before, lease_after_fault):
                injection.recovered_seconds = round(time.monotonic() - began, 2)
                return
            time.sleep(LOOK_SECONDS)
        injection.note = f"nobody went on within {RECOVERY_SECONDS:g} s"

    def _read_lease(self) -> object:
        state = self._runner.load_state()
        return state.lease_until if state else None
