"""The store as a child of this program: for the demo and the tests, which start, stop and kill whole instances.

Apart from ``serve`` because the child is the application as it stands; all that is ours is its life. It cannot outlive
the program that started it, and what is secret reaches it through its environment.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

START_SECONDS = 60.0
STOP_SECONDS = 20.0
_POLL_SECONDS = 0.05
_ANSWER_SECONDS = 10.0
_PORT_ATTEMPTS = 5
_LOG_TAIL_BYTES = 3_000

# The kernel ends a child when the *thread* that started it ends, so one thread starts all and lives as long as the
# program.
_starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store-starter")


class ChildServerError(RuntimeError):
    """The store did not start; the message ends with what it wrote."""


class ChildServer:
    """One instance of the store, one process on a port of its own; a context manager that starts and stops it.

    ``database_url`` alone runs it on one database; with ``target_url`` and ``migration_id`` it follows a move. What it
    writes goes to ``log``. ``environment`` is added to this program's own. ``module`` is what Python runs: another version
    of the store, say.
    """

    host = "127.0.0.1"

    def __init__(
        self,
        database_url: str,
        *,
        log: Path,
        target_url: str = "",
        migration_id: str = "",
        environment: Mapping[str, str] | None = None,
        module: str = "dbmigrate.store",
    ) -> None:
        self.log, self._module = log, module
        self.port = 0
        self._environment = {
            "STORE_DATABASE_URL": database_url,
            "STORE_TARGET_URL": target_url,
            "STORE_MIGRATION_ID": migration_id,
            "STORE_HOST": self.host,
            "STORE_WORKERS": "1",
            **(environment or {}),
        }
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> ChildServer:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"ChildServer({self.base_url}, pid={self.pid})"

    @property
    def base_url(self) -> str:
        """Where it listens."""
        return f"http://{self.host}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The process, or None while the store is down."""
        return self._child.pid if self._child and self._child.poll() is None else None

    def start(self) -> None:
        """Start it and return once ``/health`` answers, on the same port every time. Fine when it runs.

        Raises:
            ChildServerError: it ended, or did not answer in time. No process is left.
        """
        if self.pid is not None:
            return
        if self.port:
            self._launch()
            self._wait_until_healthy()
            return
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            self.port = _find_free_port()
            self._launch()
            try:
                self._wait_until_healthy()
            except ChildServerError as error:
                if attempt == _PORT_ATTEMPTS or "address already in use" not in str(error):
                    self.port = 0
                    raise
            else:
                return

    def stop(self) -> None:
        """Let it finish the requests it is at and end; what still runs after 20 s is killed. Fine when it is down."""
        child, self._child = self._child, None
        if child is None:
            return
        child.terminate()
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()

    def kill(self) -> None:
        """End it at once (SIGKILL), in the middle of whatever it does. Start it again with ``start``."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()

    def restart(self) -> None:
        """Stop it and start it again on the same port."""
        self.stop()
        self.start()

    def _launch(self) -> None:
        command = [sys.executable, "-m", self._module]
        guard = shutil.which("setpriv")
        if guard:
            command = [guard, "--pdeathsig", "KILL", "--", *command]
        # A session of its own: Ctrl-C in the terminal is for the program, which then stops its children.
        with self.log.open("ab") as output:
            self._child = _starter.submit(
                subprocess.Popen,
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env={**os.environ, **self._environment, "STORE_PORT": str(self.port)},
            ).result()

    def _wait_until_healthy(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        try:
            while time.monotonic() < deadline and self.pid is not None:
                if self.is_healthy():
                    return
                time.sleep(_POLL_SECONDS)
            trouble = f"did not answer within {START_SECONDS:g} s" if self.pid else "ended while it started"
        except BaseException:
            self.kill()
            raise
        self.kill()
        raise ChildServerError(f"the store {trouble}; {self.log} ends with:\n{self._read_log_end()}")

    def is_healthy(self) -> bool:
        """Whether ``/health`` answers with 200, by this very process."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=_ANSWER_SECONDS)
        with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
            connection.request("GET", "/health")
            answer = connection.getresponse()
            return answer.status == http.client.OK and f'"pid":{self.pid}'.encode() in answer.read()
        return False

    def _read_log_end(self) -> str:
        with contextlib.suppress(OSError):
            return self.log.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace").strip()
        return ""


def _find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind((ChildServer.host, 0))
        return int(probe.getsockname()[1])
