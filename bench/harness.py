"""What the benchmarks share: servers, the table, our program in a process of its own, peers, and the report.

Our side always runs as a child process (``bench.mover``), so that its CPU time and memory are its own and the threads
that make load or measure do not share its interpreter.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.arithmetic import Report
from dbmigrate.domain.errors import DbmigrateError
from dbmigrate.domain.flavours import Flavour
from dbmigrate.throwaway.local_servers import LocalServer

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = "shop"
TABLE = "orders"
MISSING_PEER = 2
FAILED = 4
CHILD_SECONDS = 3600
MEMORY = Path("/dev/shm")

# Ten columns, as an order looks in a shop: numbers, money, an enum, texts with NULLs, two kinds of time.
CREATE_TABLE = f"""CREATE TABLE {SCHEMA}.{TABLE} (
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  customer_id INT UNSIGNED NOT NULL,
  sku VARCHAR(40) NOT NULL,
  status ENUM('new', 'paid', 'shipped', 'cancelled') NOT NULL,
  quantity INT NOT NULL,
  total DECIMAL(12,2) NOT NULL,
  weight DOUBLE NULL,
  note VARCHAR(200) NULL,
  created_at DATETIME(6) NOT NULL,
  updated_at TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3),
  KEY customer (customer_id, created_at),
  KEY sku (sku)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4"""
COLUMNS = "customer_id, sku, status, quantity, total, weight, note, created_at, updated_at"

# 0 and not 2 for InnoDB's log: it is opened with O_DIRECT, so writing it at every commit is a wait for the disk, too.
_RELAXED_COMMIT = ("SET GLOBAL sync_binlog = 0", "SET GLOBAL innodb_flush_log_at_trx_commit = 0")
_DURABLE_COMMIT = ("SET GLOBAL sync_binlog = 1", "SET GLOBAL innodb_flush_log_at_trx_commit = 1")
_MARIADB_REPLICA_SYNCS = ("sync_relay_log", "sync_relay_log_info", "sync_master_info")
_RELAXED = {
    Flavour.MARIADB: (*_RELAXED_COMMIT, *(f"SET GLOBAL {name} = 0" for name in _MARIADB_REPLICA_SYNCS)),
    Flavour.MYSQL: _RELAXED_COMMIT,
}
_DURABLE = {
    Flavour.MARIADB: (*_DURABLE_COMMIT, *(f"SET GLOBAL {name} = DEFAULT" for name in _MARIADB_REPLICA_SYNCS)),
    Flavour.MYSQL: _DURABLE_COMMIT,
}

_WRITE_OUT = (
    "SET GLOBAL innodb_max_dirty_pages_pct_lwm = 0", "SET GLOBAL innodb_max_dirty_pages_pct = 0",
    "SET GLOBAL innodb_io_capacity_max = 40000", "SET GLOBAL innodb_io_capacity = 20000",
)  # fmt: skip
_WRITE_AS_USUAL = tuple(
    f"SET GLOBAL {name} = DEFAULT"
    for name in ("innodb_io_capacity", "innodb_io_capacity_max", "innodb_max_dirty_pages_pct",
                 "innodb_max_dirty_pages_pct_lwm")
)  # fmt: skip
CLEAN_PAGES = 200


class BenchError(Exception):
    """The benchmark cannot go on; the text says why."""

    def __init__(self, message: str, *, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def say(text: str) -> None:
    """Progress, on stderr: stdout belongs to the result."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def build_parser(description: str) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="smaller and fewer runs, below 50 s altogether")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    return parser


def finish(report: Report, *, as_json: bool) -> None:
    """Print the result."""
    print(json.dumps(report.to_json()) if as_json else report.format_text(), flush=True)


@contextlib.contextmanager
def exiting_clearly() -> Iterator[None]:
    """Turn what a benchmark cannot go on with into a message and an exit code."""
    try:
        yield
    except (BenchError, DbmigrateError, ValueError) as fault:
        say(f"failed: {fault}")
        raise SystemExit(getattr(fault, "exit_code", FAILED) or FAILED) from fault


def require_tools(*names: str) -> None:
    """Raises BenchError (exit 2) when a peer is not installed."""
    missing = [name for name in names if shutil.which(name) is None]
    if missing:
        raise BenchError(
            f"{', '.join(missing)} not found: apt-get install mydumper mariadb-client mariadb-server percona-toolkit",
            exit_code=MISSING_PEER,
        )


def describe_machine(server: LocalServer) -> dict[str, Any]:
    """What the figures were measured on."""
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": _read_cpu_model(),
        "cpus": os.cpu_count(),
        "memory_gb": round(pages * size / 1024**3, 1),
        "kernel": platform.release(),
        "server": server.execute("SELECT VERSION()")[0][0],
        "load_before": round(os.getloadavg()[0], 2),
    }


def _read_cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


# --- servers and data -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def running_servers(
    *names: str, flavour: Flavour = Flavour.MARIADB, in_memory: Sequence[str] = (), **options: str
) -> Iterator[list[LocalServer]]:
    """Private servers in a temporary directory; all are gone afterwards. Those named ``in_memory`` keep their files in
    memory where the machine has a place for such files, as if their disk were another machine's."""
    build = LocalServer.mariadb if flavour is Flavour.MARIADB else LocalServer.mysql
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dbmigrate-bench-")))
        say(f"starting {len(names)} servers")
        options = {"innodb_fast_shutdown": "2"} | options  # nobody needs the data files afterwards
        memory = directory
        if in_memory and MEMORY.is_dir():
            memory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dbmigrate-bench-", dir=MEMORY)))
        yield [
            stack.enter_context(build(memory if name in in_memory else directory, name=name, options=options)) for name in names
        ]


def relax(*servers: LocalServer) -> None:
    """Stop waiting for the disk at every commit."""
    for server in servers:
        server.execute(*_RELAXED[server.flavour])


def make_durable(*servers: LocalServer) -> None:
    """Every commit is on disk, as in production."""
    for server in servers:
        server.execute(*_DURABLE[server.flavour])


def reset_binlog(server: LocalServer) -> None:
    """Forget every transaction, so that the next run starts with an empty log."""
    server.execute("RESET MASTER" if server.flavour is Flavour.MARIADB else "RESET BINARY LOGS AND GTIDS")


def create_table(server: LocalServer) -> None:
    """The empty table."""
    server.execute(f"CREATE DATABASE IF NOT EXISTS {SCHEMA} CHARACTER SET utf8mb4", CREATE_TABLE)


def fill_table(server: LocalServer, rows: int) -> None:
    """Create the table and let the server make ``rows`` rows by itself."""
    say(f"filling {rows:,} rows")
    create_table(server)
    relax(server)
    step = 250_000
    for start in range(0, rows, step):
        stop = min(rows, start + step)
        server.execute(
            f"INSERT INTO {SCHEMA}.{TABLE} (id, {COLUMNS}) "
            "SELECT seq, MOD(seq * 7919, 50000), CONCAT('SKU-', MD5(seq)), 1 + MOD(seq, 4), 1 + MOD(seq, 9), "
            "MOD(seq * 31, 1000000) / 100, IF(MOD(seq, 5) = 0, NULL, seq / 7), "
            "IF(MOD(seq, 3) = 0, NULL, CONCAT('please ring at O''Brien, floor ', MOD(seq, 40), ' – grüße ', seq)), "
            "TIMESTAMP('2026-01-01') + INTERVAL seq SECOND, TIMESTAMP('2026-01-02') + INTERVAL seq SECOND "
            f"FROM {SCHEMA}.seq_{start + 1}_to_{stop}"
        )
    make_durable(server)
    server.execute(f"ANALYZE TABLE {SCHEMA}.{TABLE}")
    let_rest(server)


def drop_everything(*servers: LocalServer, schemas: Sequence[str]) -> None:
    """Remove what a run left behind."""
    for server in servers:
        server.execute(*(f"DROP DATABASE IF EXISTS {schema}" for schema in schemas))


def let_rest(*servers: LocalServer, most_seconds: float = 5.0) -> None:
    """Wait until the servers have written what the last run left in memory, so that the next does not pay for it."""
    deadline = time.monotonic() + most_seconds
    for server in servers:
        server.execute(*_WRITE_OUT)
    while time.monotonic() < deadline and max(map(_dirty_pages, servers)) > CLEAN_PAGES:
        time.sleep(0.05)
    for server in servers:
        server.execute(*_WRITE_AS_USUAL)


def _dirty_pages(server: LocalServer) -> int:
    return int(server.execute("SHOW GLOBAL STATUS LIKE 'Innodb_buffer_pool_pages_dirty'")[0][1])


def read_checksum(server: LocalServer, *, schema: str = SCHEMA) -> int:
    """The server's own checksum of the table."""
    return int(server.execute(f"CHECKSUM TABLE {schema}.{TABLE}")[0][1])


def require_equal(servers: Sequence[LocalServer]) -> None:
    """A fast wrong result is none. Raises BenchError."""
    sums = {server.name: read_checksum(server) for server in servers}
    if len(set(sums.values())) != 1:
        raise BenchError(f"the copies differ: {sums}")


# --- our side ---------------------------------------------------------------------------------------------------


def write_config(
    source: LocalServer, target: LocalServer, *, threads: int = 4, copy: str = "", more: str = ""
) -> Path:
    """A configuration for this pair, with more lines for its section ``copy`` and at its end; the passwords stay in the
    environment of the child."""
    path = source.directory.parent / "dbmigrate.toml"
    path.write_text(
        f'[migration]\nid = "bench"\n[source]\nurl = "{source.url(SCHEMA)}"\npassword_env = "BENCH_SOURCE"\n'
        f'[target]\nurl = "{target.url(SCHEMA)}"\npassword_env = "BENCH_TARGET"\n'
        f'[copy]\nworkers = {threads}\n{copy}[cutover]\napproval = "auto"\n{more}'
    )
    return path


def start_mover(config: Path, source: LocalServer, target: LocalServer, *task: str) -> subprocess.Popen[str]:
    """Our program at work on ``task`` (see ``bench.mover``), in a process of its own."""
    environment = os.environ | {
        "BENCH_SOURCE": source.password, "BENCH_TARGET": target.password, "BENCH_SERVER_PIDS": f"{source.pid} {target.pid}",
    }  # fmt: skip
    command = [sys.executable, "-m", "bench.mover", str(config), *task]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
    )


def run_mover(config: Path, source: LocalServer, target: LocalServer, *task: str) -> dict[str, Any]:
    """Like ``start_mover``, but wait for its figures."""
    return collect(start_mover(config, source, target, *task))


def collect(mover: subprocess.Popen[str], *, timeout_seconds: float = CHILD_SECONDS) -> dict[str, Any]:
    """The figures of a mover that was started.

    Raises:
        BenchError: it failed; its own words are on stderr.
    """
    try:
        output, _ = mover.communicate(timeout=timeout_seconds)
    except BaseException:
        mover.kill()
        mover.wait()
        raise
    if mover.returncode:
        raise BenchError(f"our own side failed with exit code {mover.returncode}")
    figures: dict[str, Any] = json.loads(output)
    return figures


# --- peers ------------------------------------------------------------------------------------------------------


def login(server: LocalServer) -> list[str]:
    """The options by which client tools reach a server, without the password."""
    return ["-h", server.host, "-P", str(server.port), "-u", server.user]


def write_login_file(server: LocalServer) -> Path:
    """An option file with the password, so that it is on nobody's command line."""
    path = server.directory / "client.cnf"
    path.touch(mode=0o600)
    groups = ("client", "mydumper", "myloader")
    path.write_text("".join(f"[{group}]\npassword={server.password}\n" for group in groups))
    return path


def run_peer(command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> float:
    """Run a peer to its end and return the seconds it took.

    Raises:
        BenchError: it failed, with its last words.
    """
    began = time.monotonic()
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | dict(environment or {}), check=False
    )
    if done.returncode:
        raise BenchError(
            f"{command[0]} failed with exit code {done.returncode}: {(done.stderr or done.stdout)[-2000:]}"
        )
    return time.monotonic() - began
