"""How far a reader of the target is behind the source while the source takes writes at a steady rate.

Every 20 ms one row is given the next number on the source; a reader of the target notes when it sees that number or a
later one. The time between is the lag as an application would feel it: delivery, barrier, re-read, write and commit.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pymysql

from bench.arithmetic import percentile
from bench.harness import SCHEMA, TABLE, BenchError, collect, run_mover, say, start_mover
from dbmigrate.throwaway.local_servers import LocalServer

PROBE_SECONDS = 0.02
PROBED_ROW = 1
WRITING_THREADS = 8
WARM_UP_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Lag:
    """What was seen. ``writes_per_second`` is the rate that the source really took."""

    p50_ms: float
    p99_ms: float
    max_ms: float
    samples: int
    writes_per_second: float


def measure_lag(config: Path, source: LocalServer, target: LocalServer, *, rate: float, seconds: float, rows: int) -> Lag:
    """Copy, then follow the source for ``seconds`` under ``rate`` single-row updates a second.

    Raises:
        BenchError: the target never showed what was written, or a side failed.
    """
    say("copying")
    run_mover(config, source, target, "move", "copy")
    mover = start_mover(config, source, target, "follow", str(seconds + WARM_UP_SECONDS + 2.0))
    say(f"{rate:g} writes/s for {seconds:g} s")
    context = multiprocessing.get_context("spawn")
    stop, count = context.Event(), context.Value("q", 0)
    where = {"host": source.host, "port": source.port, "user": source.user, "password": source.password}
    writers = context.Process(target=write_steadily, args=(where, rate, rows, stop, count), daemon=True)
    writers.start()
    try:
        time.sleep(WARM_UP_SECONDS)
        before, began = count.value, time.monotonic()
        committed, seen = _probe(source, target, seconds)
        written = (count.value - before) / (time.monotonic() - began)
    finally:
        stop.set()
        writers.join(30)
    collect(mover)
    lags = [1000 * (seen[number] - at) for number, at in committed.items() if number in seen]
    if len(lags) < len(committed) * 0.95:
        raise BenchError(f"{len(committed) - len(lags)} of {len(committed)} marks were never seen on the target")
    return Lag(
        round(percentile(lags, 0.5), 1), round(percentile(lags, 0.99), 1), round(max(lags), 1), len(lags), round(written)
    )


def _probe(source: LocalServer, target: LocalServer, seconds: float) -> tuple[dict[int, float], dict[int, float]]:
    """When each number was committed on the source, and when the target first showed it or a later one."""
    committed: dict[int, float] = {}
    seen: dict[int, float] = {}
    done = threading.Event()

    def look() -> None:
        last = 0
        with target.connect() as connection, connection.cursor() as cursor:
            while not done.is_set():
                cursor.execute(f"SELECT quantity FROM {SCHEMA}.{TABLE} WHERE id = {PROBED_ROW}")
                ((shown,),) = cursor.fetchall() or ((0,),)
                now = time.monotonic()
                for number in range(last + 1, shown + 1):
                    seen[number] = now
                last = max(last, shown)
                time.sleep(0.001)

    with source.connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"UPDATE {SCHEMA}.{TABLE} SET quantity = 0 WHERE id = {PROBED_ROW}")
        time.sleep(0.5)
        looker = threading.Thread(target=look, daemon=True)
        looker.start()
        ends, number = time.monotonic() + seconds, 0
        while time.monotonic() < ends:
            number += 1
            cursor.execute(f"UPDATE {SCHEMA}.{TABLE} SET quantity = {number} WHERE id = {PROBED_ROW}")
            committed[number] = time.monotonic()
            time.sleep(PROBE_SECONDS)
        time.sleep(1.0)
        done.set()
        looker.join()
    return committed, seen


def write_steadily(where: dict[str, Any], rate: float, rows: int, stop: Event, count: Any) -> None:
    """Single-row updates at this rate by several clients, in a process of their own, until told to stop."""

    def write(number: int) -> None:
        with pymysql.connect(**where, autocommit=True) as connection, connection.cursor() as cursor:
            due, turn = time.monotonic(), 0
            while not stop.is_set():
                row = 2 + (number * 7919 + turn * 104729) % (rows - 1)
                cursor.execute(f"UPDATE {SCHEMA}.{TABLE} SET quantity = quantity + 1 WHERE id = {row}")
                turn += 1
                with count.get_lock():
                    count.value += 1
                due = max(due + WRITING_THREADS / rate, time.monotonic() - 0.1)
                time.sleep(max(0.0, due - time.monotonic()))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(WRITING_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
