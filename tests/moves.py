"""The program as a user runs it: a configuration file, a process, its exit code and what it prints."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dbmigrate.domain.ownership import FenceRow, decide_owner
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Side
from dbmigrate.throwaway.row_comparison import compare
from dbmigrate.throwaway.shop_writers import Writers

FULL_SPEED = "[throttle]\nmax_source_write_factor = 0\n"
"""Servers and writers share this machine with everything else: by default the copy would wait for the test's own work."""
LIST_TABLES = (
    "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() AND table_type = 'BASE TABLE'"
)


@dataclass
class Move:
    """One migration's configuration file and environment, and the commands on it.

    ``source_url`` and ``target_url`` replace the pair's own addresses where the program is to take another way.
    """

    pair: Any
    path: Path
    environment: dict[str, str]
    source_url: str = ""
    target_url: str = ""
    _processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def write(self, text: str = "", *, source: str = "", target: str = "", tables: str = "") -> None:
        """Write the configuration: the pair's addresses and what is given; at full speed unless that says otherwise."""
        speed = "" if "[throttle]" in text else FULL_SPEED
        self.path.write_text(
            f'[migration]\nid = "move"\n'
            f'[source]\nurl = "{self.source_url or self.pair.source.url}"\npassword_env = "SOURCE_PASSWORD"\n{source}\n'
            f'[target]\nurl = "{self.target_url or self.pair.target.url}"\npassword_env = "TARGET_PASSWORD"\n{target}\n'
            f"{tables}\n{text}\n{speed}"
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """A command in the background."""
        process = subprocess.Popen(
            [sys.executable, "-m", "dbmigrate", *arguments, "-c", str(self.path)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **self.environment},
        )  # fmt: skip
        self._processes.append(process)
        return process

    def run(self, *arguments: str, expect: int | None = 0, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """A command to its end; its exit code must be ``expect``."""
        process = self.start(*arguments)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"not done after {timeout} s\n{out}\n{err[-3000:]}") from None
        if expect is not None:
            assert process.returncode == expect, f"exit {process.returncode}\n{out}\n{err}"
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def status(self) -> dict[str, Any]:
        """What ``status --json`` prints."""
        return dict(json.loads(self.run("status", "--json").stdout))

    def await_phase(self, *phases: str, process: subprocess.Popen[str], timeout: float = 90) -> str:
        """Wait until the migration has entered one of these phases, with the process alive."""
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            phase = self.read_phase()
            if phase in phases:
                return phase
            if process.poll() is not None:
                out, err = process.communicate()
                raise AssertionError(f"ended in {phase} with {process.returncode}\n{out}\n{err}")
            time.sleep(0.02)
        raise AssertionError(f"never reached {phases}")

    def read_phase(self) -> str:
        """The phase, from the control tables themselves."""
        try:
            rows = self.pair.target.server.execute("SELECT phase FROM _dbmigrate.migration WHERE id = 'move'")
        except Exception:
            return ""
        return rows[0][0] if rows else ""

    def read_owner(self) -> Side:
        """Who owns the data, from the fence rows themselves."""
        rows = []
        for database in (self.pair.source, self.pair.target):
            try:
                found = database.server.execute("SELECT epoch, owner, phase FROM _dbmigrate.fence")
            except Exception:
                found = ()
            rows.append(FenceRow(found[0][0], Side(found[0][1]), Phase(found[0][2])) if found else None)
        row = decide_owner(*rows)
        return row.owner if row else Side.SOURCE

    def connect_to_owner(self, user: str = "shop_app", password: str = "app") -> Any:
        """A connection to where an application's writes go now."""
        database = self.pair.source if self.read_owner() is Side.SOURCE else self.pair.target
        return database.connect(user=user, password=password)

    def create_application_user(self) -> None:
        """An account without administrative privileges on both sides."""
        for database in (self.pair.source, self.pair.target):
            database.server.create_user("shop_app", "app", f"ALL PRIVILEGES ON `{database.schema}`.*")

    def require_equal(self, writers: Writers | None = None, *, prefix_that_stays: str = "_") -> None:
        """Both sides row by row, by a query of its own, and the owner's rows by the writers' journal.

        Tables whose names begin with ``prefix_that_stays`` do not move.
        """
        with self.pair.source.connect() as source, self.pair.target.connect() as target:
            schema = self.pair.source.schema
            found = [self.pair.source.execute(LIST_TABLES), self.pair.target.execute(LIST_TABLES)]
            names = {name for rows in found for (name,) in rows if not name.startswith(prefix_that_stays)}
            result = compare(source, target, schema, tables=sorted(names))
            assert result.differing == 0, result.first
        if writers is None:
            return
        owner = self.pair.target if self.read_owner() is Side.TARGET else self.pair.source
        with owner.connect() as connection:
            assert writers.verify_journal(connection) == (0, 0)
        assert writers.failed == 0, writers.errors
        assert writers.committed > 0

    def stop(self, process: subprocess.Popen[str]) -> None:
        """End a runner as Ctrl-C does: what is in flight is finished, the checkpoint saved."""
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 4, f"exit {process.returncode}\n{out}\n{err}"
        assert "stopped cleanly" in err

    def finish(self, writers: Writers, *arguments: str) -> None:
        """Move to the end with the writers at work, then stop them and compare everything."""
        self.run("run", "--until", "cutover", "--yes", *arguments)
        assert self.read_owner() is Side.TARGET
        before = writers.committed
        while writers.committed < before + 5:
            time.sleep(0.02)
        writers.stop()
        self.run("run", "--until", "soak")
        self.require_equal(writers)

    def release_lease(self) -> None:
        """What 15 s would do after a runner was killed."""
        self.pair.target.server.execute("UPDATE _dbmigrate.migration SET lease_until = NULL")

    def stop_all(self) -> None:
        """End what is still running."""
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.communicate()
