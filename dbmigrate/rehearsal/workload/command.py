"""A user's command, or sysbench, as the workload. It learns where to connect from its environment, never from arguments.

A command that ends before it is stopped is started again: many programs give up when their connection is reset, as it
is at a switch. Every end with an error counts as a failure.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from dbmigrate.domain.errors import ConfigurationError, FatalError
from dbmigrate.domain.routes import Side
from dbmigrate.rehearsal.settings import WorkloadKind
from dbmigrate.rehearsal.workload.following import OwnerAddress
from dbmigrate.rehearsal.workload.running import Workload

_STOP_SECONDS = 10.0
_PAUSE_SECONDS = 0.2
_LOG_TAIL_BYTES = 500
_SHORTEST_LIFE_SECONDS = 1.0
_SYSBENCH_SCRIPT = ("oltp_write_only", "--tables=2", "--table-size=5000")
"""What a script takes is read from arguments only, not from the file with the options."""

Environment = Mapping[str, str]


def build_environment(address: OwnerAddress, migration_id: str) -> dict[str, str]:
    """What a workload's process finds in its environment: the owner's address, and both sides'."""
    owner = address.parameters
    found = {
        "DBMIGRATE_HOST": owner.host, "DBMIGRATE_PORT": str(owner.port), "DBMIGRATE_USER": owner.user,
        "DBMIGRATE_PASSWORD": owner.password, "DBMIGRATE_DATABASE": owner.database,
        "DBMIGRATE_MIGRATION_ID": migration_id,
    }  # fmt: skip
    for side in Side:
        one, name = address.parameters_of(side), side.value.upper()
        found |= {f"DBMIGRATE_{name}_HOST": one.host, f"DBMIGRATE_{name}_PORT": str(one.port)}
        found |= {f"DBMIGRATE_{name}_DATABASE": one.database}
    return found


class CommandWorkload(Workload):
    """One process, without a shell, in a session of its own so that what it starts ends with it."""

    kind = WorkloadKind.COMMAND

    def __init__(self, line: str, address: OwnerAddress, migration_id: str, log: Path) -> None:
        super().__init__()
        self._arguments = split_command(line)
        self._address, self._id, self._log = address, migration_id, log
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._longest_life = 0.0
        self.note = "a command's writes are not counted, only its failures"

    def threads_wanted(self) -> int:
        """One, which watches the process."""
        return 1

    def work(self, number: int) -> None:
        """Run it again and again until stopped."""
        while not self.stop_event.is_set():
            began, process = time.monotonic(), self._launch()
            code = process.wait()
            self._longest_life = max(self._longest_life, time.monotonic() - began)
            if self.stop_event.is_set():
                return
            if code:
                self.tally.count_failure(f"ended with {code}")
            self.stop_event.wait(_PAUSE_SECONDS)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL to what still runs ten seconds later."""
        self.stop_event.set()
        with self._lock:
            process = self._process
        if process is not None and process.poll() is None:
            _signal_group(process, signal.SIGTERM)
            until = time.monotonic() + _STOP_SECONDS
            while process.poll() is None and time.monotonic() < until:
                time.sleep(0.05)
            _signal_group(process, signal.SIGKILL)
        super().stop()
        if self.tally.failed and self._longest_life < _SHORTEST_LIFE_SECONDS and self.failure is None:
            self.failure = FatalError("it never ran for a second", place="--workload", cause=self._read_log_end())

    def _launch(self) -> subprocess.Popen[bytes]:
        environment = {**os.environ, **build_environment(self._address, self._id)}
        with self._lock, self._log.open("ab") as log:
            if self.stop_event.is_set():
                raise FatalError("stopped before it started", place="--workload")
            self._process = subprocess.Popen(  # noqa: S603  # the user's own command, as the user wrote it
                self._arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
            )
            return self._process

    def _read_log_end(self) -> str:
        """The end of what it printed."""
        with contextlib.suppress(OSError):
            return self._log.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace").strip()
        return ""


class SysbenchWorkload(CommandWorkload):
    """``oltp_write_only`` on tables of its own, prepared before the move, which moves them with the rest."""

    kind = WorkloadKind.SYSBENCH

    def __init__(self, address: OwnerAddress, migration_id: str, directory: Path, *, workers: int, rate: float) -> None:
        self._options = directory / "sysbench.cnf"
        call = ["sysbench", f"--config-file={self._options}", *_SYSBENCH_SCRIPT]
        super().__init__(shlex.join([*call, "run"]), address, migration_id, directory / "workload.log")
        self._workers, self._rate = workers, rate
        self._prepare = [*call, "prepare"]
        self.note = "sysbench wrote to tables of its own (sbtest1, sbtest2); its writes are not counted, only its failures"

    def prepare(self) -> None:
        """Create and fill its tables.

        Raises:
            FatalError: it failed.
        """
        self._write_options()
        done = subprocess.run(self._prepare, capture_output=True, check=False, timeout=600)  # noqa: S603
        if done.returncode or b"FATAL" in done.stdout + done.stderr:  # it returns 0 after errors, too
            raise FatalError(
                "sysbench could not prepare its tables", place="--workload sysbench",
                cause=(done.stdout + done.stderr).decode(errors="replace").strip()[-_LOG_TAIL_BYTES:],
                hint="the account of the workload has ALL PRIVILEGES on the database only",
            )  # fmt: skip

    def _write_options(self) -> None:
        """In a file that only we can read: the password must not stand in arguments."""
        to = self._address.parameters
        self._options.touch(mode=0o600)
        self._options.write_text(
            f"mysql-host={to.host}\nmysql-port={to.port}\nmysql-user={to.user}\nmysql-password={to.password}\n"
            f"mysql-db={to.database}\ndb-driver=mysql\nthreads={self._workers}\n"
            f"rate={max(1, round(self._rate))}\ntime=0\nmysql-ignore-errors=1213,1020,1205,1290,1644,2006,2013,2003\n"
        )

    def _launch(self) -> subprocess.Popen[bytes]:
        self._write_options()  # the database may be called differently on the other side
        return super()._launch()


def split_command(line: str) -> Sequence[str]:
    """The words of a command line.

    Raises:
        ConfigurationError: it cannot be read, or names no program that is there.
    """
    try:
        arguments = shlex.split(line)
    except ValueError as fault:
        raise ConfigurationError("the command cannot be read", place="--workload", cause=str(fault)) from None
    program = shutil.which(arguments[0]) if arguments else None
    if program is None:
        name = arguments[0] if arguments else ""
        raise ConfigurationError(
            f"there is no program {name!r}", place="--workload", hint="install it, or name its path; no shell is used"
        )
    return [program, *arguments[1:]]


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
