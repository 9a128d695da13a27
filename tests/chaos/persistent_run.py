"""An operator who starts ``dbmigrate run`` again whenever it ends with an exit code that says so."""

from __future__ import annotations

import time
from typing import Any

from moves import Move

RUN_AGAIN = (3, 4)  # 3: the lease of the run before, or a switch that was undone too often


class PersistentRun:
    """``run`` in the background, started again after the exit codes in ``codes``; ``ends`` has what they said."""

    def __init__(self, move: Move, *arguments: str) -> None:
        self._move = move
        self.arguments = arguments or ("--yes",)
        self.codes = RUN_AGAIN
        self._process: Any = None
        self.ends: list[tuple[int, str]] = []

    def look(self) -> bool:
        """Whether a runner works now; starts one if not."""
        if self._process is not None:
            if self._process.poll() is None:
                return True
            _, err = self._process.communicate()
            self.ends.append((self._process.returncode, err))
            assert self._process.returncode in self.codes, f"exit {self._process.returncode}\n{err}"
            time.sleep(0.2)
        self._process = self._move.start("run", *self.arguments)
        return False

    def await_phase(self, *phases: str, timeout: float = 180) -> str:
        """Wait until the migration is in one of these phases."""
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            self.look()
            phase = self._move.read_phase()
            if phase in phases:
                return phase
            time.sleep(0.01)
        raise AssertionError(f"never reached {phases}: {self.ends}")

    def stop(self, timeout: float = 150) -> None:
        """Ctrl-C, once a runner is at work; nothing is started again."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            _, err = self._process.communicate(timeout=timeout)
            self.ends.append((self._process.returncode, err))
        self._process = None

    def finish(self, *, timeout: float = 240) -> None:
        """A last run that drains in soak."""
        self.stop()
        until = time.monotonic() + timeout
        while True:
            done = self._move.run("run", "--yes", "--until", "soak", expect=None, timeout=timeout)
            if done.returncode == 0:
                return
            self.ends.append((done.returncode, done.stderr))
            assert done.returncode in self.codes, done.stderr
            assert time.monotonic() < until, self.ends
            time.sleep(0.5)
