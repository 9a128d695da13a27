"""The rehearsed move itself: there, back, and there again, with faults on the way and a workload all along.

A runner works in a process of its own; approvals and requests go through the control tables, as the commands send them.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence

from dbmigrate.config import Config
from dbmigrate.domain.errors import RefusedError
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Side
from dbmigrate.rehearsal.creating import read_created_schema
from dbmigrate.rehearsal.faults import Injection, Injector
from dbmigrate.rehearsal.runners import SpawnedRunner
from dbmigrate.rehearsal.servers import StandIn
from dbmigrate.rehearsal.settings import RehearsalSettings
from dbmigrate.rehearsal.workload import Workload
from dbmigrate.workflow.requests import approve_cutover
from dbmigrate.workflow.routing import build_reverse_routes

_APPROVE_AGAIN_SECONDS = 2.0


class RehearsedMove:
    """Drives one move. ``injections`` and ``notes`` tell what happened, also after an error."""

    def __init__(
        self, config: Config, settings: RehearsalSettings, runner: SpawnedRunner, stand_ins: Mapping[Side, StandIn],
        say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._config, self._settings, self._runner, self._stand_ins, self._say = config, settings, runner, stand_ins, say
        self._injector = Injector(runner, stand_ins, cut_seconds=settings.cut_seconds)
        self._until = time.monotonic() + settings.limit_seconds
        self.injections = [Injection(fault) for fault in settings.faults]
        self.notes: list[str] = []
        self.cutover_seconds: float | None = None

    def go(self, workload: Workload) -> None:
        """From the plan to the last comparison's eve: the workload has stopped, everything is drained.

        Raises:
            Stopped: the runner has ended for good.
            DbmigrateError: something failed, or took too long.
        """
        self._runner.start()
        self._inject([one for one in self.injections if one.fault.phase is not Phase.SOAK])
        self._await(Phase.CUTOVER)
        if not self._has_way_back():
            workload.stop()
        self._switch()
        self._inject([one for one in self.injections if one.fault.phase is Phase.SOAK])
        self._soak()
        if self._has_way_back():
            self._go_back()
            self._go_again()
            workload.stop()
        self._drain()

    # --- stretches ---

    def _await(self, phase: Phase) -> None:
        self._runner.await_phase(phase, until=self._until)
        self._say(f"phase {phase.value}")

    def _inject(self, injections: Sequence[Injection]) -> None:
        for injection in injections:
            self._injector.inject(injection, until=self._until)
            done = f"recovered after {injection.recovered_seconds} s" if injection.recovered_seconds else injection.note
            self._say(f"fault {injection.fault}: {done}")

    def _switch(self) -> None:
        """Approve, as often as new evidence asks for it, until the target owns the data."""
        began = time.monotonic()
        while self._runner.read_phase() is not Phase.SOAK:
            with contextlib.suppress(RefusedError):  # a verification is under way again
                approve_cutover(self._runner.store, "the rehearsal")
            again = time.monotonic() + _APPROVE_AGAIN_SECONDS
            self._runner.await_phase(*Phase, until=self._until)
            while time.monotonic() < again and self._runner.read_phase() is not Phase.SOAK:
                self._runner.keep_going()
                time.sleep(0.05)
        if self.cutover_seconds is None:
            self.cutover_seconds = time.monotonic() - began
        self._await(Phase.SOAK)

    def _soak(self) -> None:
        until = time.monotonic() + self._settings.soak_seconds
        while time.monotonic() < until:
            self._runner.keep_going()
            time.sleep(0.05)

    def _go_back(self) -> None:
        self._say("going back")
        self._runner.store.save_request("revert")
        self._runner.await_end(until=self._until, or_phase=Phase.CUTOVER)
        self._say("reverted: the source owns the data again")

    def _go_again(self) -> None:
        if not self._runner.is_alive:
            self._runner.start()
        self._await(Phase.CUTOVER)
        self._switch()
        self._soak()

    def _drain(self) -> None:
        """With nobody writing, let the way back become empty; without one there is nothing to drain."""
        self._runner.stop()
        self._runner.start("--until", Phase.SOAK.value)
        self._runner.await_end(until=self._until)

    def _has_way_back(self) -> bool:
        """Whether this configuration can be reverted. `check` says the same."""
        schemas = [read_created_schema(self._stand_ins[side]) for side in Side]
        _, problems = build_reverse_routes(self._config.tables, *schemas)
        if problems and not self.notes:
            self.notes.append(
                f"no way back with this configuration ({problems[0].table}: {problems[0].message}), so nothing was written "
                "after the switch, and revert was not rehearsed"
            )
        return not problems
