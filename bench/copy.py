"""How fast rows are copied: our copy phase against mydumper with myloader, and against mariadb-dump piped into mariadb.

All with the same threads, between the same two servers, which keep every commit on disk and write a binlog. Ours runs
as in production: the stream follows meanwhile, every chunk has its barrier and its cursor, and the secondary indexes
are built afterwards within the time that counts. myloader is asked to write the binlog, too (``-e``), as a target with
replicas or a way back needs it; a full run also shows it without.
"""

from __future__ import annotations

import os
import sys

sys.path.pop(0)  # this directory: its copy.py would hide the library's
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import argparse
import shlex
import shutil
import time
from collections.abc import Callable
from typing import Any

from bench.arithmetic import Report, Spread, Target, alternate, ratios_of, significant
from bench.harness import (
    COLUMNS,
    SCHEMA,
    TABLE,
    build_parser,
    describe_machine,
    drop_everything,
    exiting_clearly,
    fill_table,
    finish,
    let_rest,
    login,
    read_checksum,
    relax,
    require_equal,
    require_tools,
    run_mover,
    run_peer,
    running_servers,
    say,
    write_config,
    write_login_file,
)
from dbmigrate.throwaway.local_servers import LocalServer

OURS, MYDUMPER, DUMP = "ours", "mydumper+myloader", "mariadb-dump|mariadb"
UNLOGGED = "mydumper+myloader without binlog"
FULL_ROWS, QUICK_ROWS, WIDE_ROWS = 1_000_000, 200_000, 100_000
GB = 1_000_000_000
MOST_MEMORY_MB = 200.0


class CopyBench:
    """One pair of servers and the three ways from one to the other."""

    def __init__(self, source: LocalServer, target: LocalServer, *, rows: int, threads: int) -> None:
        self._source, self._target = source, target
        self._rows, self._threads = rows, threads
        self._config = write_config(source, target, threads=threads)
        self._logins = {server: write_login_file(server) for server in (source, target)}
        self.figures: list[dict[str, Any]] = []

    def run(self, contender: str) -> float:
        """Copy once, check the copy, remove it; returns the seconds of the copy."""
        ways: dict[str, Callable[[], float]] = {
            OURS: self.run_ours,
            MYDUMPER: lambda: self._run_mydumper(writes_binlog=True),
            UNLOGGED: lambda: self._run_mydumper(writes_binlog=False),
            DUMP: self._run_dump,
        }
        seconds = ways[contender]()
        require_equal((self._source, self._target))
        say(f"{contender}: {seconds:.2f} s")
        drop_everything(self._source, schemas=["_dbmigrate"])
        drop_everything(self._target, schemas=["_dbmigrate", SCHEMA])
        self._target.execute("RESET MASTER")
        let_rest(self._source, self._target)
        return seconds

    def run_ours(self) -> float:
        """From creating the table to the last index built."""
        figures = run_mover(self._config, self._source, self._target, "move", "copy")
        self.figures.append(figures)
        return float(figures["phases"]["expand"] + figures["phases"]["copy"])

    def _run_mydumper(self, *, writes_binlog: bool) -> float:
        folder = self._source.directory.parent / "dump"
        rows_a_file = max(10_000, self._rows // (4 * self._threads))  # without it a table is one thread's work
        shared = ["-t", str(self._threads), "-v", "1"]
        dump = [
            "mydumper", *login(self._source), f"--defaults-file={self._logins[self._source]}", *shared,
            "-B", SCHEMA, "-o", str(folder), "-r", str(rows_a_file),
        ]  # fmt: skip
        load = [
            "myloader", *login(self._target), f"--defaults-file={self._logins[self._target]}", *shared,
            "-d", str(folder), *(["-e"] if writes_binlog else []),
        ]  # fmt: skip
        try:
            return run_peer(dump) + run_peer(load)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _run_dump(self) -> float:
        dump = ["mariadb-dump", f"--defaults-extra-file={self._logins[self._source]}", *login(self._source)]
        load = ["mariadb", f"--defaults-extra-file={self._logins[self._target]}", *login(self._target)]
        options = ["--single-transaction", "--quick", "--databases", SCHEMA]
        return run_peer(["bash", "-o", "pipefail", "-c", f"{shlex.join(dump + options)} | {shlex.join(load)}"])


def measure(options: argparse.Namespace) -> Report:
    """The whole benchmark."""
    require_tools("mydumper", "myloader", "mariadb-dump", "mariadb")
    rows = options.rows or (QUICK_ROWS if options.quick else FULL_ROWS)
    repeats = options.repeats or (2 if options.quick else 3)
    contenders = (OURS, MYDUMPER, DUMP) if options.quick else (OURS, MYDUMPER, DUMP, UNLOGGED)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    with running_servers("source", "target") as (source, target):
        machine = describe_machine(source)
        fill_table(source, rows)
        read_checksum(source)
        bench = CopyBench(source, target, rows=rows, threads=options.threads)
        for _, contender in alternate(contenders, repeats):
            seconds[contender].append(bench.run(contender))
        size_mb = read_size(source) / 1e6
    ratios = {f"{OURS} / {peer}": ratios_of(seconds[OURS], seconds[peer]) for peer in contenders[1:]}
    return Report(
        "copy", "quick" if options.quick else "full", machine, ratios, seconds,
        targets={f"{OURS} / {MYDUMPER}": Target(1.0, is_upper=True)},
        details={
            "rows": rows, "data_mb": round(size_mb), "threads": options.threads,
            "our_cpu_seconds": [significant(f["cpu_seconds"]) for f in bench.figures],
            "our_peak_memory_mb": [round(f["peak_memory_mb"]) for f in bench.figures],
            "our_whole_run_seconds": [significant(f["seconds"]) for f in bench.figures],
        },
    )  # fmt: skip


def read_size(server: LocalServer) -> int:
    """Bytes of the table's rows, as the server counts its pages."""
    found = server.execute(
        f"SELECT data_length FROM information_schema.tables WHERE table_schema = '{SCHEMA}' AND table_name = '{TABLE}'"
    )
    return int(found[0][0])


def measure_memory(gigabytes: float) -> Report:
    """Copy a table of so many GB once, for the peak memory of our process."""
    options = {"innodb_buffer_pool_size": "1G", "innodb_log_file_size": "1G"}
    with running_servers("source", "target", **options) as (source, target):
        machine = describe_machine(source)
        fill_table(source, WIDE_ROWS)
        _grow(source, int(gigabytes * GB))
        relax(source, target)
        rows = int(source.execute(f"SELECT COUNT(*) FROM {SCHEMA}.{TABLE}")[0][0])
        size = read_size(source)
        say(f"copying {rows:,} rows, {size / GB:.2f} GB")
        figures = run_mover(write_config(source, target), source, target, "move", "copy")
        require_equal((source, target))
    peak = figures["peak_memory_mb"]
    name = "peak memory / 200 MB"
    return Report(
        "copy memory", f"{gigabytes:g} GB", machine, {name: Spread.of([peak / MOST_MEMORY_MB])},
        seconds={OURS: [figures["phases"]["copy"]]}, targets={name: Target(1.0, is_upper=True)},
        details={
            "rows": rows, "data_gb": round(size / GB, 2), "peak_memory_mb": round(peak, 1),
            "our_cpu_seconds": significant(figures["cpu_seconds"]),
        },
    )  # fmt: skip


def _grow(server: LocalServer, size_bytes: int) -> None:
    """Widen the rows to about 2 KB, then double the table until it has the size. None of it goes to the binlog."""
    relax(server)
    say(f"growing the table to {size_bytes / GB:.1f} GB")
    widen = (
        f"UPDATE {SCHEMA}.{TABLE} SET note = RPAD(CONCAT(id, ' ', MD5(id)), 1000 + MOD(id, 2000), 'O''Brien – grüße ')"
    )
    server.execute(
        "SET sql_log_bin = 0", f"ALTER TABLE {SCHEMA}.{TABLE} DROP KEY customer, DROP KEY sku",
        f"ALTER TABLE {SCHEMA}.{TABLE} MODIFY note VARCHAR(4000)", widen, f"ANALYZE TABLE {SCHEMA}.{TABLE}",
    )  # fmt: skip
    began = time.monotonic()
    while (size := read_size(server)) < size_bytes:
        rows = int(server.execute(f"SELECT COUNT(*) FROM {SCHEMA}.{TABLE}")[0][0])
        limit = min(rows, int(rows * (size_bytes - size) / size) + 1000)
        server.execute(
            "SET sql_log_bin = 0",
            f"INSERT INTO {SCHEMA}.{TABLE} ({COLUMNS}) SELECT {COLUMNS} FROM {SCHEMA}.{TABLE} LIMIT {limit}",
            f"ANALYZE TABLE {SCHEMA}.{TABLE}",
        )
        say(f"{read_size(server) / GB:.2f} GB after {time.monotonic() - began:.0f} s")
    server.execute(f"ALTER TABLE {SCHEMA}.{TABLE} ADD KEY customer (customer_id, created_at), ADD KEY sku (sku)")


def main() -> None:
    """The command line."""
    parser = build_parser("Copy a table: ours, mydumper with myloader, mariadb-dump piped into mariadb.")
    parser.add_argument("--threads", type=int, default=max(2, min(4, os.cpu_count() or 2)), help="for everybody")
    parser.add_argument("--rows", type=int, default=0, help="size of the table")
    parser.add_argument("--repeats", type=int, default=0, help="alternating runs of each")
    parser.add_argument("--memory", type=float, metavar="GB", help="only copy a table of GB, for the peak memory")
    options = parser.parse_args()
    with exiting_clearly():
        report = measure_memory(options.memory) if options.memory else measure(options)
        finish(report, as_json=options.json)


if __name__ == "__main__":
    main()
