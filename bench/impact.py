"""What a copy costs the application: the latency of its writes on the source without a copy, with one at the default
throttle and with one at full speed, and whether the throttle on their latency holds the limit it is given. Without a copy
means before and after the one at the default throttle, because a disk is as fast as it likes to be within minutes, and for as
long as that takes, because what a machine does now and then is in long measurements and in few of the short ones.

On a machine of two cores or more the source and its application get the first core, everything else the rest, and the
target keeps its files in memory: a target is another machine, with a disk of its own. Single-row updates, every commit on
disk, by clients in a process of their own.
"""

from __future__ import annotations

import os
import sys

sys.path.pop(0)  # this directory: its copy.py would hide the library's
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import argparse
import multiprocessing
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pymysql

from bench.arithmetic import Report, Spread, Target, percentile
from bench.harness import (
    MEMORY,
    SCHEMA,
    TABLE,
    build_parser,
    collect,
    describe_machine,
    drop_everything,
    exiting_clearly,
    finish,
    let_rest,
    reset_binlog,
    running_servers,
    say,
    start_mover,
    write_config,
)
from bench.shapes import SHAPES, fill_shape
from dbmigrate.throwaway.local_servers import LocalServer

MOST_RATIO = 1.3
CLIENTS = 4
LIMIT_FACTOR = 3.0
"""The stated limit, as a multiple of the p95 without a copy."""
LEAST_SAMPLES = 100


def measure(options: argparse.Namespace) -> Report:
    """Alternating: without a copy, with one at the default throttle, at full speed, and within a stated limit."""
    rows = options.rows or (20_000 if options.quick else 100_000)
    repeats = options.repeats or (1 if options.quick else 5)
    alone_seconds = 3.0 if options.quick else 15.0
    latencies: dict[str, list[dict[str, float]]] = {"alone": [], "copy": [], "full speed": [], "limited": []}
    copy_seconds: dict[str, list[float]] = {"copy": [], "full speed": [], "limited": []}
    limit = 0.0
    with running_servers("source", "target", in_memory=["target"]) as (source, target):
        machine = describe_machine(source)
        fill_shape(source, SHAPES["shop"], rows)
        is_pinned = _pin([source.pid], first=True) and _pin([target.pid], first=False)
        for _ in range(repeats):
            alone = [run_load(source, options.rate, rows, seconds=alone_seconds)]
            limit = limit or round(alone[0].describe()["p95"] * LIMIT_FACTOR, 2)
            settings = {"copy": "", "full speed": "max_source_write_factor = 0", "limited": f"max_source_write_ms = {limit}"}
            for name, setting in settings.items():
                config = write_config(source, target, more=f"[throttle]\n{setting}\n")
                load, seconds = _copy_under_load(config, source, target, options.rate, rows)
                if name == "copy":
                    alone.append(run_load(source, options.rate, rows, seconds=max(alone_seconds, seconds - alone_seconds)))
                latencies[name].append(load.describe())
                copy_seconds[name].append(seconds)
                say(f"{name}: p99 {latencies[name][-1]['p99']:.2f} ms, {seconds:.1f} s; limit {limit} ms")
            latencies["alone"].append(Load.joined(alone).describe())
            say(f"alone: p99 {latencies['alone'][-1]['p99']:.2f} ms")

    def compare(name: str, quantile: str) -> Spread:
        return Spread.of([b[quantile] / a[quantile] for a, b in zip(latencies["alone"], latencies[name], strict=True)])

    ratios = {
        "p50 of writes: during a copy / without": compare("copy", "p50"),
        "p95 of writes: during a copy / without": compare("copy", "p95"),
        "p99 of writes: during a copy / without": compare("copy", "p99"),
        "p99 of writes: during a copy at full speed / without": compare("full speed", "p99"),
        "p95 of writes during a limited copy / stated limit": Spread.of([f["p95"] / limit for f in latencies["limited"]]),
        **{
            f"time of the copy: {name} / full speed": Spread.of(
                [b / a for a, b in zip(copy_seconds["full speed"], seconds, strict=True)]
            )
            for name, seconds in (("default", copy_seconds["copy"]), ("limited", copy_seconds["limited"]))
        },
    }
    return Report(
        "impact", "quick" if options.quick else "full", machine, ratios, copy_seconds,
        targets={
            "p99 of writes: during a copy / without": Target(MOST_RATIO, is_upper=True),
            "p95 of writes during a limited copy / stated limit": Target(1.0, is_upper=True),
        },
        details={
            "rows": rows, "writes_per_second_asked": options.rate, "stated_limit_ms": limit,
            "source_has_a_core_of_its_own": is_pinned, "source_has_a_disk_of_its_own": MEMORY.is_dir(), "write_latency_ms": latencies,
        },
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Load:
    """Writes that were made within so many seconds: of each how many milliseconds it took, and for how many of them its
    threads had no core."""

    writes: list[tuple[float, float]]
    seconds: float

    @classmethod
    def joined(cls, loads: Sequence[Load]) -> Load:
        """Several as one."""
        return cls([write for load in loads for write in load.writes], sum(load.seconds for load in loads))

    def describe(self) -> dict[str, float]:
        """Latencies in milliseconds, and the rate that was reached."""
        slowest = sorted(self.writes)[-max(1, len(self.writes) // 50) :]
        without_core = sum(waited for _, waited in slowest) / sum(took for took, _ in slowest)
        timed = [took for took, _ in self.writes]
        return {
            "share_of_the_slowest_2_percent_without_a_core": round(without_core, 3),
            "p50": round(percentile(timed, 0.5), 3), "p95": round(percentile(timed, 0.95), 3), "p99": round(percentile(timed, 0.99), 3),
            "max": round(max(timed), 2), "writes_per_second": round(len(timed) / self.seconds),
        }  # fmt: skip


def _copy_under_load(
    config: Path, source: LocalServer, target: LocalServer, rate: float, rows: int
) -> tuple[Load, float]:
    mover = start_mover(config, source, target, "move", "copy")
    _pin([mover.pid], first=False)
    found = run_load(source, rate, rows, until=mover)
    figures = collect(mover)
    drop_everything(source, schemas=["_dbmigrate"])
    drop_everything(target, schemas=["_dbmigrate", SCHEMA])
    reset_binlog(target)
    let_rest(source, target)
    return found, float(figures["phases"]["copy"])


def run_load(source: LocalServer, rate: float, rows: int, *, seconds: float = 0.0, until: Any = None) -> Load:
    """Write for so long, or until a process has ended."""
    context = multiprocessing.get_context("spawn")
    stop, answers = context.Event(), context.Queue()
    where = {"host": source.host, "port": source.port, "user": source.user, "password": source.password}
    writers = context.Process(target=write_and_time, args=(where, rate, rows, stop, answers), daemon=True)
    writers.start()
    ends = time.monotonic() + seconds
    while (until.poll() is None) if until else (time.monotonic() < ends):
        time.sleep(0.02)
    stop.set()
    timed, took = answers.get(timeout=60)
    writers.join(30)
    if len(timed) < LEAST_SAMPLES:
        raise ValueError(f"only {len(timed)} writes: the copy is too short, take more --rows")
    return Load(timed, took)


def write_and_time(where: dict[str, Any], rate: float, rows: int, stop: Event, answers: Any) -> None:
    """Single-row updates at this rate by several clients on the first core, until told to stop. Of each, how long it took
    and for how much of that its two threads, the client's and the server's, were ready and had no core."""
    _pin([os.getpid()], first=True)
    timed: list[tuple[float, float]] = []

    def write(number: int) -> None:
        with pymysql.connect(**where, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT TID FROM information_schema.processlist WHERE ID = CONNECTION_ID()")
            threads = [threading.get_native_id(), int(cursor.fetchall()[0][0])]
            due, turn = time.monotonic(), 0
            while not stop.is_set():
                row = 1 + (number * 7919 + turn * 104729) % rows
                waited, began = read_waits(threads), time.monotonic()
                cursor.execute(f"UPDATE {SCHEMA}.{TABLE} SET quantity = quantity + 1 WHERE id = {row}")
                took = 1000 * (time.monotonic() - began)
                timed.append((took, read_waits(threads) - waited))
                turn += 1
                due = max(due + CLIENTS / rate, time.monotonic() - 0.1)
                time.sleep(max(0.0, due - time.monotonic()))

    began = time.monotonic()
    threads = [threading.Thread(target=write, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answers.put((timed, time.monotonic() - began))


def read_waits(threads: list[int]) -> float:
    """For how many milliseconds these threads have been ready to run without a core, since they began."""
    return sum(int(Path(f"/proc/{thread}/schedstat").read_text().split()[1]) for thread in threads) / 1e6


def _pin(pids: list[int | None], *, first: bool) -> bool:
    """Put every thread of these processes on the first core, or on all others. False where there is only one."""
    cores = sorted(os.sched_getaffinity(0) | set(range(os.cpu_count() or 1)))
    if len(cores) < 2:
        return False
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), cores[:1] if first else cores[1:])
    return True


def main() -> None:
    """The command line."""
    parser = build_parser("The latency of the application's writes on the source while it is copied.")
    parser.add_argument("--rate", type=float, default=300.0, help="writes per second of all clients")
    parser.add_argument("--rows", type=int, default=0, help="size of the table")
    parser.add_argument("--repeats", type=int, default=0, help="alternating runs of each")
    options = parser.parse_args()
    with exiting_clearly():
        finish(measure(options), as_json=options.json)


if __name__ == "__main__":
    main()
