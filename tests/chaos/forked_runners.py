"""Runners that start in milliseconds, so that hundreds of them can be killed.

``python -m tests.chaos.forked_runners FILE`` has imported everything, has a single thread and forks a runner for each
line that it reads (the request of that run, or nothing): a process of its own like any other, without the second that
an interpreter needs to come up. ``ForkedRunners`` is the tests' end of it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType

from moves import Move

ERROR_EXIT = 70


def main(path: str) -> None:
    """Fork a runner for each line; answer its process id, and after its end what os.waitpid said."""
    from dbmigrate.config import load_config
    from dbmigrate.domain.errors import DbmigrateError
    from dbmigrate.workflow.migration import Migration
    from dbmigrate.workflow.runner import Runner

    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            code = 0
            try:
                migration = Migration(load_config(Path(path)))
                runner = Runner(migration, assume_yes=True, request=line.strip())
                runner.run()
                migration.close()
            except DbmigrateError as fault:
                sys.stderr.write(f"{fault}\n")
                code = int(fault.exit_code)
            except BaseException as fault:
                sys.stderr.write(f"{fault!r}\n")
                code = ERROR_EXIT
            sys.stderr.flush()
            os._exit(code)
        _answer(child)
        _, status = os.waitpid(child, 0)
        _answer(os.waitstatus_to_exitcode(status))


def _answer(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


class ForkedRunners:
    """Starts one runner at a time; a context manager."""

    def __init__(self, move: Move, log: Path) -> None:
        self._log = log
        self._output = log.open("w")
        self._parent = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.forked_runners", str(move.path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._output, text=True,
            env={**os.environ, **move.environment, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )  # fmt: skip
        self.pid = 0
        self._exit_code: int | None = None
        self._waiter: threading.Thread | None = None

    def start(self, request: str = "") -> None:
        """Fork a runner; the one before must have ended."""
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        assert self._waiter is None
        self._exit_code = None
        self._parent.stdin.write(f"{request}\n")
        self._parent.stdin.flush()
        self.pid = int(self._parent.stdout.readline())
        self._waiter = threading.Thread(target=self._await_end, daemon=True)
        self._waiter.start()

    def _await_end(self) -> None:
        assert self._parent.stdout is not None
        self._exit_code = int(self._parent.stdout.readline())

    def poll(self) -> int | None:
        """The exit code, or None while the runner lives."""
        return self._exit_code

    def wait(self, timeout: float = 120) -> int:
        """The exit code, once the runner has ended."""
        if self._waiter is not None:
            self._waiter.join(timeout)
            assert not self._waiter.is_alive(), "the runner does not end"
            self._waiter = None
        assert self._exit_code is not None
        return self._exit_code

    def kill(self) -> bool:
        """kill -9; False when the runner had ended by itself."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
        return self.wait() == -signal.SIGKILL

    def read_log(self) -> str:
        """What all runners have said."""
        return self._log.read_text()

    def __enter__(self) -> ForkedRunners:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._waiter is not None and self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
            self._waiter.join(10)
        self._parent.kill()
        self._parent.communicate()
        self._output.close()


def await_phase_of(runners: ForkedRunners, move: Move, phases: frozenset[str], timeout: float = 120) -> str:
    """Wait until the migration is in one of these phases with a runner at work; '' when the runner ended."""
    with move.pair.target.server.connect() as connection, connection.cursor() as cursor:
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            try:
                cursor.execute(
                    "SELECT phase FROM _dbmigrate.migration WHERE id = 'move' AND lease_until > UTC_TIMESTAMP(6)"
                )
                row = cursor.fetchone()
            except Exception:
                row = None  # the tables are not there yet
            if row and row[0] in phases:
                return str(row[0])
            if runners.poll() is not None:
                return ""
            time.sleep(0.005)
    raise AssertionError(f"never reached {sorted(phases)}\n{runners.read_log()}")


if __name__ == "__main__":
    main(*sys.argv[1:])
