"""The runner as an operator starts it: ``python -m dbmigrate run`` in a process of its own, which can be killed.

Whoever ends for a reason that passes (a lost server, the lease of a killed runner) is started again, as the operator
would; a refusal, differences and an undecided owner are the end.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dbmigrate.config import Config
from dbmigrate.domain.errors import DbmigrateError, ExitCode, FatalError
from dbmigrate.domain.phases import Phase
from dbmigrate.mysql.control import ControlStore, MigrationState
from dbmigrate.rehearsal.report import LagSample
from dbmigrate.workflow.requests import open_store, read_published_status

LOOK_SECONDS = 0.02
SAMPLE_SECONDS = 0.25
RESTART_SECONDS = 1.0
MOST_REFUSALS = 40
"""One after the other, more than the lease of a killed runner takes: 15 s, tried once a second."""
MOST_FAILURES = 5
"""One after the other without a phase between them: what fails so often will not pass by itself."""
_STOP_SECONDS = 90.0
_LOG_TAIL_BYTES = 4000


@dataclass(frozen=True, slots=True)
class Stopped(Exception):  # noqa: N818  # it says what happened; the report makes an outcome of it
    """The runner's last word: its exit code, and what it printed at the end."""

    code: int
    text: str


class SpawnedRunner:
    """One runner at a time on one configuration file, started again where that is right."""

    def __init__(self, config: Config, path: Path, log: Path) -> None:
        self._config, self._path, self._log = config, path, log
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0
        self._arguments: tuple[str, ...] = ()
        self._failures = self._refusals = 0
        self._failed_in: Phase | None = None
        self.store: ControlStore = open_store(config)

    # --- processes ---

    def start(self, *arguments: str) -> None:
        """Start ``dbmigrate run`` with these arguments."""
        self._arguments = arguments
        self._log_start = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603  # ourselves
                [sys.executable, "-m", "dbmigrate", "run", "-c", str(self._path), *arguments],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True,
            )  # fmt: skip

    @property
    def is_alive(self) -> bool:
        """Whether a runner works."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> bool:
        """SIGKILL; False where there was nothing to kill."""
        process = self._process
        if process is None or process.poll() is not None:
            return False
        process.kill()
        process.wait()
        return True

    def stop(self) -> None:
        """As Ctrl-C does: finish what is in flight, save, end."""
        process = self._process
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._process = None

    def close(self) -> None:
        """Leave no process and no connection."""
        if self.is_alive:
            self.stop()
        self.store.close()

    def keep_going(self, *, may_end: bool = False) -> None:
        """Start the runner again, if it has ended for a reason that passes. With ``may_end`` an end by itself is fine.

        Raises:
            Stopped: it has ended for good.
        """
        process = self._process
        if process is None or process.poll() is None:
            return
        code, text = int(process.returncode), self._read_log_end()
        if may_end and code == int(ExitCode.DONE):
            return
        self._count(code, text)
        if not may_run_again(code, text) or self._failures > MOST_FAILURES or self._refusals > MOST_REFUSALS:
            raise Stopped(code, text)
        time.sleep(RESTART_SECONDS)
        self.start(*self._arguments)

    def _count(self, code: int, text: str) -> None:
        """Failures in a row; a killed runner, and one that got further, begins to count anew."""
        if is_lease_refusal(text):
            self._refusals += 1
            return
        self._refusals = 0
        phase = self.read_phase()
        self._failures = self._failures + 1 if code > 0 and phase is self._failed_in else int(code > 0)
        self._failed_in = phase

    def await_end(self, *, until: float, or_phase: Phase | None = None) -> None:
        """Wait until the runner ends by itself with exit code 0, or is alive in ``or_phase``.

        The latter is where one that was started again goes on to, because it knows nothing of the end it should find.

        Raises:
            Stopped: it ended otherwise.
            FatalError: not before the monotonic time ``until``.
        """
        while self._process is not None:
            if self._process.poll() == 0:
                self._process = None
                return
            if or_phase is not None and self.is_alive and self.read_phase() is or_phase:
                return
            self.keep_going(may_end=True)
            _require_time(until, "the runner did not end", self._describe_wait)
            time.sleep(LOOK_SECONDS)

    def _read_log_end(self) -> str:
        with contextlib.suppress(OSError), self._log.open("rb") as log:
            log.seek(self._log_start)
            return log.read()[-_LOG_TAIL_BYTES:].decode(errors="replace").strip()
        return ""

    # --- looking ---

    def load_state(self) -> MigrationState | None:
        """The migration's row; None while there is none, or its server is away."""
        with contextlib.suppress(DbmigrateError):
            return self.store.load_state() if self.store.exists() else None
        return None

    def read_phase(self) -> Phase | None:
        """Where the migration stands."""
        state = self.load_state()
        return state.phase if state else None

    def _describe_wait(self) -> str:
        """Where the migration stands and what it waits for, as `dbmigrate status` would say it."""
        with contextlib.suppress(DbmigrateError):
            status = read_published_status(self.store)
            return f"it stands in {status.phase}" + (f": {status.waiting_for}" if status.waiting_for else "")
        return "where it stands cannot be read"

    def await_phase(self, *phases: Phase, until: float, meanwhile: Callable[[], None] = lambda: None) -> Phase:
        """Wait until the migration is in one of these phases, starting the runner again where needed.

        Raises:
            Stopped: the runner has ended for good.
            FatalError: not before the monotonic time ``until``.
        """
        while True:
            phase = self.read_phase()
            if phase in phases and phase is not None:
                return phase
            self.keep_going()
            _require_time(
                until, f"the migration never reached {' or '.join(p.value for p in phases)}", self._describe_wait
            )
            meanwhile()
            time.sleep(LOOK_SECONDS)


def may_run_again(code: int, text: str) -> bool:
    """Whether another ``dbmigrate run`` is what an operator would try."""
    if code == int(ExitCode.REFUSED):
        return is_lease_refusal(text)
    return code < 0 or code == int(ExitCode.FAILED)


def is_lease_refusal(text: str) -> bool:
    """Whether the runner was refused because another one, who may be dead, still holds the lease."""
    return "another runner" in text


def _require_time(until: float, what: str, describe: Callable[[], str]) -> None:
    if time.monotonic() > until:
        raise FatalError(
            what, place="rehearsal", cause=describe(), hint="allow more time: --limit-seconds, or take fewer rows"
        )


class LagWatch:
    """Looks at the stream a few times a second; a context manager."""

    def __init__(self, config: Config, began: float) -> None:
        self._config, self._began = config, began
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="lag-watch", daemon=True)
        self.samples: list[LagSample] = []
        self.max_lag_seconds = 0.0

    def __enter__(self) -> LagWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        store = open_store(self._config)
        while not self._ended.wait(SAMPLE_SECONDS):
            with contextlib.suppress(DbmigrateError):
                self._look(store)
        store.close()

    def _look(self, store: ControlStore) -> None:
        if not store.exists():
            return
        status = read_published_status(store)
        at = round(time.monotonic() - self._began, 2)
        self.samples.append(LagSample(at, status.phase, status.lag_seconds, status.backlog_keys))
        self.max_lag_seconds = max(self.max_lag_seconds, status.max_lag_seconds)


def thin_out(samples: Sequence[LagSample], most: int = 400) -> tuple[LagSample, ...]:
    """At most so many samples, the highest lag of each stretch kept."""
    if len(samples) <= most:
        return tuple(samples)
    size = -(-len(samples) // most)
    stretches = [samples[start : start + size] for start in range(0, len(samples), size)]
    return tuple(max(stretch, key=lambda one: one.lag_seconds or 0.0) for stretch in stretches)
