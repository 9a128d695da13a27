"""Our program at work, measured from inside: ``python -m bench.mover CONFIG TASK [ARGUMENT]`` prints one JSON object.

It drives the same Runner, Migration and stream as the command line does. A process of its own per task, because CPU
time and peak memory belong to a process.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.processes import read_cpu_seconds
from dbmigrate.__main__ import spare_the_collector
from dbmigrate.config.loading import parse_config
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Direction
from dbmigrate.telemetry import SilentObserver
from dbmigrate.workflow.migration import Migration, Surroundings
from dbmigrate.workflow.phases.verify import verify_completely
from dbmigrate.workflow.run import Run
from dbmigrate.workflow.runner import Runner

DRAIN_SECONDS = 600.0
REST_SECONDS = 0.5


class PhaseClock(SilentObserver):
    """Notes when each phase began, and what CPU time we and the servers had used by then."""

    def __init__(self) -> None:
        self._server_pids = [int(pid) for pid in os.environ.get("BENCH_SERVER_PIDS", "").split()]
        self._entered = [("", self._read())]

    def _read(self) -> tuple[float, float, float]:
        return time.monotonic(), _read_cpu_seconds(), read_cpu_seconds(self._server_pids)

    def phase_entered(self, phase: str) -> None:
        """A phase begins now."""
        self._entered.append((phase, self._read()))

    def read_phases(self) -> dict[str, dict[str, float]]:
        """By figure (``phases`` are seconds) and phase: what was used in each that was left."""
        found: dict[str, dict[str, float]] = {"phases": {}, "our_cpu": {}, "server_cpu": {}}
        for (phase, began), (_, ended) in itertools.pairwise([*self._entered, ("", self._read())]):
            for figure, before, after in zip(found.values(), began, ended, strict=True):
                figure[phase] = figure.get(phase, 0.0) + after - before
        return {name: {phase: used for phase, used in figure.items() if phase} for name, figure in found.items()}


def _open(config: Path, clock: PhaseClock | None = None) -> Migration:
    parsed = parse_config(config.read_text(), place=str(config), directory=config.parent)
    return Migration(parsed, around=Surroundings(observer=clock or SilentObserver()))


def move(config: Path, until: str) -> dict[str, Any]:
    """Run until a phase's gate has passed."""
    clock = PhaseClock()
    migration = _open(config, clock)
    try:
        Runner(migration, until=Phase(until), assume_yes=True).run()
        return dict(clock.read_phases())
    finally:
        migration.close()


def _hold_lease(config: Path, work: Callable[[Run], dict[str, Any]]) -> dict[str, Any]:
    migration = _open(config)
    try:
        return Runner(migration).run_once(work)
    finally:
        migration.close()


def work_off_backlog(config: Path) -> dict[str, Any]:
    """Stream from the checkpoint until everything that the source had committed by now is on the target."""

    def work(run: Run) -> dict[str, Any]:
        before = resource.getrusage(resource.RUSAGE_SELF)
        began = time.monotonic()
        stream = run.ensure_stream(Direction.FORWARD)
        stream.drain(timeout_seconds=DRAIN_SECONDS)
        seconds = time.monotonic() - began
        after = resource.getrusage(resource.RUSAGE_SELF)
        status = stream.read_status()
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return {
            "drain_seconds": seconds,
            "drain_cpu_seconds": cpu,
            "rows": status.rows_streamed,
            "keys": status.keys_flushed,
        }

    return _hold_lease(config, work)


def follow(config: Path, seconds: str) -> dict[str, Any]:
    """Stream for so many seconds."""

    def work(run: Run) -> dict[str, Any]:
        stream = run.ensure_stream(Direction.FORWARD)
        ends = time.monotonic() + float(seconds)
        while time.monotonic() < ends:
            stream.require_healthy()
            time.sleep(0.1)
        status = stream.read_status()
        return {"rows": status.rows_streamed, "keys": status.keys_flushed}

    return _hold_lease(config, work)


def verify(config: Path) -> dict[str, Any]:
    """Compare everything once while the stream runs, as the verify phase does."""

    def work(run: Run) -> dict[str, Any]:
        run.ensure_stream(Direction.FORWARD)
        began = time.monotonic()
        result = verify_completely(run, Direction.FORWARD, repair=False)
        seconds = time.monotonic() - began
        if result is None or not result.is_clean:
            raise RuntimeError("the sides differ")
        return {"verify_seconds": seconds, "rows": result.rows, "chunks": result.chunks}

    return _hold_lease(config, work)


def switch_to_and_fro(config: Path, times: str) -> dict[str, Any]:
    """Switch to the target and back, so many times each; the first time moves the rows."""
    for _ in range(int(times)):
        for options in ({"until": Phase.CUTOVER}, {"request": "revert"}):
            time.sleep(REST_SECONDS)
            migration = _open(config)
            try:
                Runner(migration, assume_yes=True, **options).run()  # type: ignore[arg-type]
            finally:
                migration.close()
    migration = _open(config)
    try:
        return {
            "switches": [evidence.content for evidence in migration.store.load_all_evidence("switch")],
            "undone": [evidence.content for evidence in migration.store.load_all_evidence("switch_undone")],
        }
    finally:
        migration.close()


def read_peak_memory_mb() -> float:
    """The most memory this process ever had resident."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _read_cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


TASKS: dict[str, Callable[..., dict[str, Any]]] = {
    "move": move,
    "backlog": work_off_backlog,
    "follow": follow,
    "verify": verify,
    "switch": switch_to_and_fro,
}


def main(config: str, task: str, *arguments: str) -> None:
    """Do one task and print its figures."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    spare_the_collector()
    began = time.monotonic()
    figures = TASKS[task](Path(config), *arguments)
    figures |= {
        "seconds": time.monotonic() - began,
        "cpu_seconds": _read_cpu_seconds(),
        "peak_memory_mb": read_peak_memory_mb(),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:])
