"""What a cluster costs: the same copy and the same verification by threads of the runner and by the processes of a local
Dask cluster, with as many chunks at a time. On one machine a cluster cannot win; what it loses is its price.
"""

from __future__ import annotations

import os
import sys

sys.path.pop(0)  # this directory: its copy.py would hide the library's
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import argparse
import contextlib
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distributed import Client

from bench.arithmetic import Report, Spread
from bench.harness import (
    SCHEMA,
    BenchError,
    build_parser,
    describe_machine,
    drop_everything,
    exiting_clearly,
    finish,
    let_rest,
    relax,
    require_equal,
    reset_binlog,
    run_mover,
    running_servers,
    say,
    write_config,
)
from bench.processes import read_cpu_seconds
from bench.shapes import SHAPES, fill_shape
from dbmigrate.throwaway.local_servers import LocalServer

START_SECONDS = 60.0


@contextlib.contextmanager
def running_cluster(source: LocalServer, target: LocalServer, workers: int) -> Iterator[tuple[str, list[int]]]:
    """A scheduler and so many worker processes of one thread each; its address, and the workers' process ids."""
    passwords = os.environ | {"BENCH_SOURCE": source.password, "BENCH_TARGET": target.password}
    started: list[subprocess.Popen[bytes]] = []

    def start(command: str, *arguments: str) -> int:
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{command}", "--no-dashboard", *arguments], env=passwords,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )
        )  # fmt: skip
        return started[-1].pid

    with tempfile.TemporaryDirectory(prefix="bench-cluster-") as folder:
        file = Path(folder) / "scheduler.json"
        try:
            start("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file))
            _await(lambda: file.exists() and file.stat().st_size > 0, "the scheduler")
            common = ("--no-nanny", "--nthreads", "1", "--local-directory", folder)
            pids = [start("dask_worker", "--scheduler-file", str(file), *common) for _ in range(workers)]
            with Client(scheduler_file=str(file), set_as_default=False) as client:
                _await(lambda: len(client.nthreads()) == workers, "the workers")
                address = client.scheduler.address
            yield address, pids
        finally:
            for process in reversed(started):
                process.terminate()
            for process in started:
                process.wait(30)


def _await(condition: Any, what: str) -> None:
    until = time.monotonic() + START_SECONDS
    while not condition():
        if time.monotonic() > until:
            raise BenchError(f"{what} did not start within {START_SECONDS:.0f} s")
        time.sleep(0.05)


def measure(options: argparse.Namespace) -> Report:
    """Alternating: threads, cluster; each copies everything and compares everything."""
    rows = options.rows or (60_000 if options.quick else 800_000)
    repeats = options.repeats or (1 if options.quick else 5)
    seconds: dict[str, list[float]] = {f"{work} by {who}": [] for work in ("copy", "verification") for who in ("threads", "dask")}
    worker_cpu: list[float] = []
    with running_servers("source", "target") as (source, target):
        machine = describe_machine(source)
        fill_shape(source, SHAPES["shop"], rows)
        with running_cluster(source, target, options.threads) as (address, pids):
            for _ in range(repeats):
                for who in ("threads", "dask"):
                    before = read_cpu_seconds(pids)
                    copied, verified = _move(source, target, who, address, options.threads)
                    if who == "dask":
                        worker_cpu.append(round(read_cpu_seconds(pids) - before, 2))
                    seconds[f"copy by {who}"].append(copied)
                    seconds[f"verification by {who}"].append(verified)
                    say(f"{who}: copied in {copied:.2f} s, compared in {verified:.2f} s")
    ratios = {
        f"{work}: dask / threads": Spread.of(
            [b / a for a, b in zip(seconds[f"{work} by threads"], seconds[f"{work} by dask"], strict=True)]
        )
        for work in ("copy", "verification")
    }
    return Report(
        "cluster", "quick" if options.quick else "full", machine, ratios, seconds, targets={},
        details={
            "rows": rows, "workers": options.threads, "workers_cpu_seconds": worker_cpu,
            "rows_copied_per_second_and_worker": [round(rows / value / options.threads) for value in seconds["copy by dask"]],
        },
    )  # fmt: skip


def _move(source: LocalServer, target: LocalServer, who: str, address: str, threads: int) -> tuple[float, float]:
    relax(source, target)
    executor = f'executor = "{who}"\n'
    more = f'[verify]\nworkers = {threads}\n{executor}[cluster]\nscheduler = "{address}"\n'
    config = write_config(source, target, threads=threads, copy=executor, more=more)
    copied = float(run_mover(config, source, target, "move", "catch_up")["phases"]["copy"])
    verified = float(run_mover(config, source, target, "verify")["verify_seconds"])
    require_equal((source, target))
    drop_everything(source, schemas=["_dbmigrate"])
    drop_everything(target, schemas=["_dbmigrate", SCHEMA])
    reset_binlog(target)
    let_rest(source, target)
    return copied, verified


def main() -> None:
    """The command line."""
    parser = build_parser("Copy and verification by threads and by a local Dask cluster.")
    parser.add_argument("--rows", type=int, default=0, help="size of the table")
    parser.add_argument("--threads", type=int, default=2, help="chunks at a time, and worker processes")
    parser.add_argument("--repeats", type=int, default=0, help="alternating runs of each")
    options = parser.parse_args()
    with exiting_clearly():
        finish(measure(options), as_json=options.json)


if __name__ == "__main__":
    main()
