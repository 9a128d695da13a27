"""Private database servers: one process each, in a directory of its own, on a free port of this machine.

For the demo, the rehearsal and the tests. Real servers with real durability that need no service and no
privileges, touch nothing outside their directory, and cannot outlive the process that started them.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dbmigrate.domain.errors import FatalError
from dbmigrate.domain.flavours import Flavour
from dbmigrate.throwaway.administration import AdministeredServer, build_default_options
from dbmigrate.throwaway.server_binaries import ServerBinary, copy_template, find_server_binary

START_SECONDS = 120.0
STOP_SECONDS = 60.0
_POLL_SECONDS = 0.02
_PORT_ATTEMPTS = 5
_LOG_TAIL_BYTES = 3000
_LONGEST_SOCKET_PATH = 100  # the kernel's limit is 107 bytes

_server_ids = itertools.count(os.getpid() % 100_000 * 100 + 1)

# The kernel ends a child when the *thread* that started it ends, so one thread starts all servers and lives
# as long as the program.
_starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="server-starter")


class LocalServer(AdministeredServer):
    """One private server; a context manager that starts and stops it.

    ``directory`` is the caller's: it keeps data, binlog and error log until the caller removes it.
    ``options`` are server options by name; they win over the defaults. An empty value gives the bare option
    (``skip_log_bin``), but for ``secure_file_priv``, where empty means "anywhere".
    """

    def __init__(self, binary: ServerBinary, directory: Path, *, name: str, options: Mapping[str, str]) -> None:
        super().__init__(binary.flavour, name=name)
        self.version = binary.version
        self.directory = directory.resolve() / name
        self.data_directory = self.directory / "data"
        self.error_log = self.directory / "error.log"
        self.server_id = next(_server_ids)
        self.options = build_default_options(binary.flavour)
        self.options |= {key.replace("-", "_"): value for key, value in options.items()}
        self._binary = binary
        self._process: subprocess.Popen[bytes] | None = None
        self._socket_folder = self.directory

    @classmethod
    def mariadb(
        cls, directory: Path, *, name: str, root: Path | None = None, options: Mapping[str, str] | None = None
    ) -> LocalServer:
        """A MariaDB server, from the machine's package or from the tree ``root``. Raises FatalError."""
        binary = find_server_binary(Flavour.MARIADB, root)
        return cls(binary, directory, name=name, options=options or {})

    @classmethod
    def mysql(
        cls, directory: Path, *, name: str, root: Path | None = None, options: Mapping[str, str] | None = None
    ) -> LocalServer:
        """A MySQL server, from the tree ``root`` or the one DBMIGRATE_MYSQL_TREE names. Raises FatalError."""
        binary = find_server_binary(Flavour.MYSQL, root)
        return cls(binary, directory, name=name, options=options or {})

    def __repr__(self) -> str:
        return f"LocalServer({self.name!r}, {self.flavour.value}, port={self.port}, pid={self.pid})"

    @property
    def pid(self) -> int | None:
        """The process, or None while the server is down."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def is_running(self) -> bool:
        """Whether the process exists."""
        return self.pid is not None

    @property
    def socket(self) -> Path:
        """The Unix socket; in a shorter place where ``directory`` is too deep for one."""
        return self._socket_folder / "mysqld.sock"

    def start(self) -> None:
        """Start the server and return once it answers. The port stays the same over restarts.

        Raises:
            FatalError: it ended or did not answer in time; the cause is the end of its error log.
        """
        if self.is_running:
            return
        if self.data_directory.exists():
            self._launch()
            self._wait_until_it_answers()
            return
        self._prepare()
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            self.port = _find_free_port()
            self._launch()
            try:
                self._wait_until_it_answers()
            except FatalError:
                if attempt == _PORT_ATTEMPTS or "already in use" not in self._read_log_end():
                    raise
            else:
                (self.directory / "accounts.sql").write_text("")  # it held the password
                return

    def stop(self) -> None:
        """Shut the server down cleanly; what still runs after a minute is killed. Fine when it is down."""
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGCONT)  # one that was frozen could not hear the next signal
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._forget_process()

    def kill(self) -> None:
        """End the process at once (SIGKILL), as a power cut would. Start it again with ``start``."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._forget_process()

    def freeze(self) -> None:
        """Make the server hang with its connections open (SIGSTOP); on return all its threads have stopped."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def thaw(self) -> None:
        """Let a frozen server go on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def _prepare(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        accounts = self.directory / "accounts.sql"
        accounts.touch(mode=0o600)
        accounts.write_text("\n".join(self._build_accounts()) + "\n")
        copy_template(self._binary, self.options, self.data_directory)

    def _build_accounts(self) -> list[str]:
        accounts = [f"'{self.user}'@'{self.host}'", f"'{self.user}'@'localhost'"]
        return [
            "SET SESSION sql_log_bin = 0;",
            # An anonymous account of this host would be preferred to any account of '%'.
            "DROP USER IF EXISTS ''@'localhost';",
            "DROP USER IF EXISTS 'root'@'::1';",
            *(f"CREATE USER IF NOT EXISTS {account};" for account in accounts),
            *(f"ALTER USER {account} IDENTIFIED BY '{self.password}';" for account in accounts),
            *(f"GRANT ALL PRIVILEGES ON *.* TO {account} WITH GRANT OPTION;" for account in accounts),
        ]

    def _launch(self) -> None:
        if len(str(self.directory)) > _LONGEST_SOCKET_PATH - len("/mysqld.sock"):
            self._socket_folder = Path(tempfile.mkdtemp(prefix="dbmigrate-"))
        settings = self.directory / "server.cnf"
        settings.write_text(self._build_settings())
        # A session of its own: Ctrl-C in the terminal is for the program, which then stops its servers.
        command = [*self._binary.command, f"--defaults-file={settings}"]
        guard = shutil.which("setpriv")
        if guard:
            command = [guard, "--pdeathsig", "KILL", "--", *command]
        with self.error_log.open("ab") as output:
            self._process = _starter.submit(
                subprocess.Popen,
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd=self.directory,
            ).result()

    def _build_settings(self) -> str:
        own = {
            "basedir": str(self._binary.base),
            "datadir": str(self.data_directory),
            "tmpdir": str(self.directory),
            "pid_file": str(self.directory / "mysqld.pid"),
            "socket": str(self.socket),
            "log_error": str(self.error_log),
            "bind_address": self.host,
            "port": str(self.port),
            "server_id": str(self.server_id),
            "init_file": str(self.directory / "accounts.sql"),
        }
        if os.geteuid() == 0:
            own["user"] = "root"
        lines = [
            f"{key} = {value}" if value or key == "secure_file_priv" else key
            for key, value in (own | self.options).items()
        ]
        return "\n".join(["[mysqld]", *lines, ""])

    def _wait_until_it_answers(self) -> None:
        """Return once a connection opens. On every other way out, no process is left."""
        deadline = time.monotonic() + START_SECONDS
        try:
            while time.monotonic() < deadline and self.is_running:
                if self.answers():
                    return
                time.sleep(_POLL_SECONDS)
            trouble = f"did not answer within {START_SECONDS:g} s" if self.is_running else "ended while it started"
        except BaseException:
            self.kill()
            raise
        self.kill()
        raise FatalError(
            f"the {self.flavour.value} server {self.name} {trouble}",
            place=str(self.error_log),
            cause=self._read_log_end(),
        )

    def _read_log_end(self) -> str:
        with contextlib.suppress(OSError):
            return self.error_log.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace").strip()
        return ""

    def _forget_process(self) -> None:
        self._process = None
        if self._socket_folder != self.directory:
            shutil.rmtree(self._socket_folder, ignore_errors=True)
            self._socket_folder = self.directory


def _find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LocalServer.host, 0))
        return int(probe.getsockname()[1])
