"""How fast rows are copied: our copy phase against mydumper with myloader, and against the server's own dump client
piped into its client.

All with the same threads, between the same two servers, which keep every commit on disk and write a binlog. Ours runs
as in production: the stream follows meanwhile, every chunk has its barrier and its cursor, and the secondary indexes
are built afterwards within the time that counts. myloader is asked to write the binlog, too (``-e``), as a target with
replicas or a way back needs it.
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
from collections.abc import Callable, Sequence
from typing import Any

from bench.arithmetic import Report, Spread, Target, alternate, ratios_of, significant
from bench.clients import ClientPrograms, find_client_programs
from bench.harness import (
    COLUMNS,
    SCHEMA,
    TABLE,
    BenchError,
    build_parser,
    describe_machine,
    drop_everything,
    exiting_clearly,
    fill_table,
    finish,
    let_rest,
    login,
    relax,
    require_equal,
    require_tools,
    reset_binlog,
    run_mover,
    run_peer,
    running_servers,
    say,
    write_config,
    write_login_file,
)
from bench.shapes import SHAPES, Shape, fill_shape
from dbmigrate.domain.flavours import Flavour
from dbmigrate.throwaway.local_servers import LocalServer

OURS, MYDUMPER, DUMP = "ours", "mydumper+myloader", "dump|client"
UNLOGGED = "mydumper+myloader without binlog"
LIMITS = {"shop": 0.8, "indexes": 0.8}
"""Most of mydumper+myloader's time that ours may take; 1.0 for every other shape."""
MOST_CPU_SHARE = 0.12
MOST_DEADLOCKS = 5
BEYOND = "beyond memory"
BEYOND_POOL_MB, BEYOND_ROWS, BEYOND_QUICK_ROWS = 8, 2_000_000, 250_000
WIDE_ROWS = 100_000
GB = 1_000_000_000
MOST_MEMORY_MB = 200.0
FLAVOURS = {"mariadb": Flavour.MARIADB, "mysql": Flavour.MYSQL}


def _sum_up(figures: dict[str, Any], name: str) -> float:
    """Of what counts as the copy: from creating the table to the last index built."""
    return float(figures[name]["expand"] + figures[name]["copy"])


class CopyBench:
    """One pair of servers, one table, and the ways from one server to the other."""

    def __init__(self, source: LocalServer, target: LocalServer, *, rows: int, threads: int) -> None:
        self._source, self._target = source, target
        self._rows, self._threads = rows, threads
        self._config = write_config(source, target, threads=threads)
        self._logins = {server: write_login_file(server) for server in (source, target)}
        self._clients: ClientPrograms = find_client_programs(source.flavour)
        self.figures: list[dict[str, Any]] = []
        self.peer_deadlocks = 0

    def run(self, contender: str) -> float:
        """Copy once, check the copy, remove it; returns the seconds of the copy.

        A peer whose threads deadlock each other begins anew: myloader gives up at the first deadlock.
        """
        ways: dict[str, Callable[[], float]] = {
            OURS: self.run_ours,
            MYDUMPER: lambda: self._run_mydumper(writes_binlog=True),
            UNLOGGED: lambda: self._run_mydumper(writes_binlog=False),
            DUMP: self._run_dump,
        }
        try:
            seconds = ways[contender]()
        except BenchError as fault:
            if contender == OURS or "Deadlock" not in str(fault) or self.peer_deadlocks >= MOST_DEADLOCKS:
                raise
            say(f"{contender} ended with a deadlock: once more")
            self.peer_deadlocks += 1
            self._clean_up()
            return self.run(contender)
        require_equal((self._source, self._target))
        say(f"{contender}: {seconds:.2f} s")
        self._clean_up()
        return seconds

    def _clean_up(self) -> None:
        drop_everything(self._source, schemas=["_dbmigrate"])
        drop_everything(self._target, schemas=["_dbmigrate", SCHEMA])
        reset_binlog(self._target)
        let_rest(self._source, self._target)

    def run_ours(self) -> float:
        """From creating the table to the last index built."""
        figures = run_mover(self._config, self._source, self._target, "move", "copy")
        self.figures.append(figures)
        return _sum_up(figures, "phases")

    def _run_mydumper(self, *, writes_binlog: bool) -> float:
        folder = self._source.directory.parent / "dump"
        rows_a_file = max(1, self._rows // (4 * self._threads))  # without it a table is one thread's work
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
        dump = [*self._clients.dump, f"--defaults-extra-file={self._logins[self._source]}", *login(self._source)]
        load = [*self._clients.client, f"--defaults-extra-file={self._logins[self._target]}", *login(self._target)]
        options = ["--single-transaction", "--quick", *self._clients.dump_options, "--databases", SCHEMA]
        return run_peer(["bash", "-o", "pipefail", "-c", f"{shlex.join(dump + options)} | {shlex.join(load)}"])


def measure(options: argparse.Namespace) -> Report:
    """Every shape that was asked for, on one flavour."""
    require_tools("mydumper", "myloader")
    flavour = FLAVOURS[options.flavour]
    repeats = options.repeats or (1 if options.quick else 5)
    parts: list[tuple[str, dict[str, str], Shape, int]] = []
    for name in options.shape or (["shop", "wide"] if options.quick else SHAPES):
        if name == BEYOND:
            pool = {"innodb_buffer_pool_size": f"{BEYOND_POOL_MB}M"}
            parts.append((name, pool, SHAPES["narrow"], BEYOND_QUICK_ROWS if options.quick else BEYOND_ROWS))
        else:
            parts.append((name, {}, SHAPES[name], SHAPES[name].quick_rows if options.quick else SHAPES[name].rows))
    gathered = _Gathered(options.flavour)
    for name, server_options, shape, rows in parts:
        # mydumper cannot read the tree that MySQL 9 explains by default, and would not cut the table.
        more = server_options | ({"explain_format": "TRADITIONAL"} if flavour is Flavour.MYSQL else {})
        with running_servers("source", "target", flavour=flavour, **more) as (source, target):
            gathered.machine = gathered.machine or describe_machine(source)
            rows = options.rows or rows
            fill_shape(source, shape, rows)
            bench = CopyBench(source, target, rows=rows, threads=options.threads)
            contenders = (OURS, MYDUMPER) if name == BEYOND else (OURS, MYDUMPER, DUMP)
            if name == "shop" and flavour is Flavour.MARIADB and not options.quick:
                contenders += (UNLOGGED,)
            seconds: dict[str, list[float]] = {contender: [] for contender in contenders}
            for _, contender in alternate(contenders, repeats):
                seconds[contender].append(bench.run(contender))
            gathered.add(
                name, seconds, bench.figures, rows=rows, size_bytes=read_size(source), peer_deadlocks=bench.peer_deadlocks
            )
    return gathered.report("quick" if options.quick else "full", threads=options.threads)


class _Gathered:
    """What the shapes gave, as one report: ratios are named ``flavour shape: ours / peer``."""

    def __init__(self, flavour: str) -> None:
        self._flavour = flavour
        self.machine: dict[str, Any] = {}
        self._ratios: dict[str, Spread] = {}
        self._seconds: dict[str, list[float]] = {}
        self._targets: dict[str, Target] = {}
        self._shapes: dict[str, dict[str, Any]] = {}

    def add(
        self, shape: str, seconds: dict[str, list[float]], figures: Sequence[dict[str, Any]], *, rows: int, size_bytes: int,
        peer_deadlocks: int,
    ) -> None:
        name = f"{self._flavour} {shape}"
        for peer in list(seconds)[1:]:
            self._ratios[f"{name}: {OURS} / {peer}"] = ratios_of(seconds[OURS], seconds[peer])
        self._targets[f"{name}: {OURS} / {MYDUMPER}"] = Target(LIMITS.get(shape, 1.0), is_upper=True)
        self._seconds |= {f"{name}: {contender}": values for contender, values in seconds.items()}
        shares = f"{name}: our CPU / servers' CPU"
        self._ratios[shares] = Spread.of([_sum_up(f, "our_cpu") / _sum_up(f, "server_cpu") for f in figures])
        self._targets[shares] = Target(MOST_CPU_SHARE, is_upper=True)
        self._shapes[shape] = {
            "rows": rows, "data_mb": round(size_bytes / 1e6), "deadlocks_of_myloader": peer_deadlocks,
            "our_rows_per_second": [round(rows / taken) for taken in seconds[OURS]],
            "our_cpu_seconds": [significant(_sum_up(f, "our_cpu")) for f in figures],
            "server_cpu_seconds": [significant(_sum_up(f, "server_cpu")) for f in figures],
            "our_peak_memory_mb": [round(f["peak_memory_mb"]) for f in figures],
        }  # fmt: skip

    def report(self, mode: str, *, threads: int) -> Report:
        details = {"flavour": self._flavour, "threads": threads, "shapes": self._shapes}
        return Report("copy", mode, self.machine, self._ratios, self._seconds, self._targets, details)


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
    parser = build_parser("Copy tables of several shapes: ours, mydumper with myloader, the dump client piped into the client.")
    parser.add_argument("--flavour", choices=sorted(FLAVOURS), default="mariadb", help="of both servers")
    parser.add_argument("--shape", action="append", choices=[*SHAPES, BEYOND], help="only this one; may be repeated")
    parser.add_argument("--threads", type=int, default=max(2, min(4, os.cpu_count() or 2)), help="for everybody")
    parser.add_argument("--rows", type=int, default=0, help="size of every table")
    parser.add_argument("--repeats", type=int, default=0, help="alternating runs of each")
    parser.add_argument("--memory", type=float, metavar="GB", help="only copy a table of GB, for the peak memory")
    options = parser.parse_args()
    with exiting_clearly():
        report = measure_memory(options.memory) if options.memory else measure(options)
        finish(report, as_json=options.json)


if __name__ == "__main__":
    main()
