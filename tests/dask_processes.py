"""A Dask cluster of real processes on this machine, as an operator starts them, and what may happen to them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from distributed import Client


def wait_for(condition: Callable[[], object], what: str, *, seconds: float = 60) -> None:
    """Return when the condition holds."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"{what} did not come within {seconds} s"
        time.sleep(0.05)


@dataclass
class DaskProcesses:
    """A scheduler and its workers. ``environment`` is the workers': passwords are in it."""

    directory: Path
    environment: Mapping[str, str]
    scheduler_settings: Mapping[str, str] = field(default_factory=dict)
    address: str = ""
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    scheduler: subprocess.Popen[bytes] | None = None

    def start(self, workers: int = 2) -> DaskProcesses:
        """Start the scheduler and so many workers of two threads each; returns when all are there."""
        file = self.directory / "scheduler.json"
        self.scheduler = self._spawn(
            "dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file),
            environment=self.scheduler_settings,
        )  # fmt: skip
        wait_for(lambda: file.exists() and file.stat().st_size, "the scheduler")
        with self.connect(str(file)) as client:
            self.address = client.scheduler.address
        for _ in range(workers):
            self.add_worker()
        self.await_workers(workers)
        return self

    def connect(self, file: str = "") -> Client:
        """A client of the test's own."""
        return Client(**({"scheduler_file": file} if file else {"address": self.address}), set_as_default=False)

    def add_worker(self, **environment: str) -> None:
        """One more process."""
        arguments = ("--no-nanny", "--nthreads", "2", "--no-dashboard", "--local-directory", str(self.directory))
        self.workers.append(
            self._spawn("dask_worker", self.address, *arguments, environment={**self.environment, **environment})
        )

    def _spawn(self, command: str, *arguments: str, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        log = (self.directory / f"{command}.log").open("ab")
        return subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{command}", *arguments], stdout=log, stderr=log,
            env={**os.environ, **environment},
        )  # fmt: skip

    def await_workers(self, count: int) -> None:
        """Wait until the scheduler knows so many."""
        with self.connect() as client:
            wait_for(lambda: len(client.nthreads()) == count, f"{count} workers")

    def find_busy(self) -> subprocess.Popen[bytes]:
        """A worker that has a task now."""
        with self.connect() as client:
            pids = client.run(os.getpid)

            def busy() -> list[int]:
                return [pids[address] for address, tasks in client.processing().items() if tasks and address in pids]

            wait_for(busy, "a busy worker")
            pid = busy()[0]
        return next(worker for worker in self.workers if worker.pid == pid)

    def read_log(self) -> str:
        """What the workers wrote."""
        return (self.directory / "dask_worker.log").read_text(encoding="utf-8", errors="replace")

    def stop(self) -> None:
        """End what was started."""
        for process in (*self.workers, *([self.scheduler] if self.scheduler else [])):
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
