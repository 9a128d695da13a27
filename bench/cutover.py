"""How long writers are held back by a switch, at a stated load, forward and back.

Seen twice: by the program (from closing the fence to the new owner's commit) and by the writers (from the last write
that succeeded on one server to the first on the other, the worst of all threads: it includes noticing, finding the
new owner, and the wait for its next turn).
"""

from __future__ import annotations

import os
import sys

sys.path.pop(0)  # this directory: its copy.py would hide the library's
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import argparse
import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import pymysql
from pymysql.connections import Connection

from bench.arithmetic import Report, Spread, Target, percentile, worst_gaps
from bench.harness import (
    COLUMNS,
    SCHEMA,
    TABLE,
    BenchError,
    build_parser,
    collect,
    describe_machine,
    exiting_clearly,
    fill_table,
    finish,
    running_servers,
    say,
    start_mover,
    write_config,
)
from dbmigrate.throwaway.local_servers import LocalServer

LIMIT_MS = 100.0
ACCOUNT, ACCOUNT_PASSWORD = "shop_app", "throwaway"
RETRY_SECONDS = 0.002
INSERT_EVERY = 5
_REFUSED = frozenset({1290, 1223, 1644, 1792, 1836})  # what a closed fence answers
_UNKNOWN_TABLE = frozenset({1049, 1146})


class Writer(threading.Thread):
    """A client at a steady rate that goes where the fence row says, and notes when it succeeded where."""

    def __init__(self, number: int, servers: dict[str, LocalServer], *, period_seconds: float, rows: int) -> None:
        super().__init__(name=f"writer-{number}", daemon=True)
        self.successes: list[tuple[float, str]] = []
        self.error = ""
        self._number, self._period_seconds, self._rows = number, period_seconds, rows
        self._stopping = threading.Event()
        self._connections: dict[str, Connection[Any]] = {
            side: server.connect(user=ACCOUNT, password=ACCOUNT_PASSWORD) for side, server in servers.items()
        }

    def run(self) -> None:
        """Write until stopped; what is refused is tried again where the owner is now."""
        due, turn = time.monotonic(), 0
        try:
            while not self._stopping.wait(max(0.0, due - time.monotonic())):
                self._write(turn)
                turn += 1
                due = max(due + self._period_seconds, time.monotonic())
        except pymysql.err.MySQLError as fault:
            self.error = str(fault)
        finally:
            for connection in self._connections.values():
                connection.close()

    def stop(self) -> None:
        """End after the write in hand."""
        self._stopping.set()

    def _write(self, turn: int) -> None:
        side = self.successes[-1][1] if self.successes else "source"
        while not self._stopping.is_set():
            try:
                self._commit(self._connections[side], turn)
            except (pymysql.err.OperationalError, pymysql.err.InternalError) as fault:
                if fault.args[0] not in _REFUSED:
                    raise
                with contextlib.suppress(pymysql.err.MySQLError):
                    self._connections[side].rollback()
                time.sleep(RETRY_SECONDS)
                side = self._find_owner()
            else:
                self.successes.append((time.monotonic(), side))
                return

    def _commit(self, connection: Connection[Any], turn: int) -> None:
        connection.begin()
        with connection.cursor() as cursor:
            if turn % INSERT_EVERY == 0:
                cursor.execute(
                    f"INSERT INTO {SCHEMA}.{TABLE} ({COLUMNS}) VALUES "
                    "(1, 'SKU', 'new', 1, 9.99, NULL, 'new', NOW(6), NOW(3))"
                )
            else:
                row = (self._number * 7919 + turn * 104729) % self._rows + 1
                cursor.execute(f"UPDATE {SCHEMA}.{TABLE} SET quantity = quantity + 1 WHERE id = {row}")
        connection.commit()

    def _find_owner(self) -> str:
        try:
            with self._connections["source"].cursor() as cursor:
                cursor.execute("SELECT owner FROM _dbmigrate.fence")
                row = cursor.fetchone()
        except pymysql.err.ProgrammingError as fault:
            if fault.args[0] not in _UNKNOWN_TABLE:
                raise
            return "source"
        return str(row[0]) if row else "source"


@contextlib.contextmanager
def writing(servers: dict[str, LocalServer], *, rate: float, threads: int, rows: int) -> Iterator[list[Writer]]:
    """Writers at work; stopped at the end."""
    for server in servers.values():
        server.create_user(ACCOUNT, ACCOUNT_PASSWORD, "SELECT, INSERT, UPDATE, DELETE ON *.*")
    writers = [Writer(number, servers, period_seconds=threads / rate, rows=rows) for number in range(threads)]
    for writer in writers:
        writer.start()
    try:
        yield writers
    finally:
        for writer in writers:
            writer.stop()
        for writer in writers:
            writer.join()


def measure(options: argparse.Namespace) -> Report:
    """The whole benchmark."""
    times = options.times or (3 if options.quick else 50)
    rows = options.rows or (50_000 if options.quick else 200_000)
    with running_servers("source", "target") as (source, target):
        machine = describe_machine(source)
        fill_table(source, rows)
        config = write_config(source, target, more=f'fence = "{options.fence}"\n[throttle]\nmax_source_write_factor = 0\n')
        sides = {"source": source, "target": target}
        say(f"{times} switches forward and {times} back at {options.rate:g} writes/s")
        with writing(sides, rate=options.rate, threads=options.threads, rows=rows) as writers:
            began = time.monotonic()
            figures = collect(start_mover(config, source, target, "switch", str(times)))
            took = time.monotonic() - began
        if errors := [writer.error for writer in writers if writer.error]:
            raise BenchError(f"a writer failed: {errors[0]}")
        count = sum(len(writer.successes) for writer in writers)
    pauses = [switch["pause_ms"] for switch in figures["switches"]]
    gaps = [1000 * gap for gap in worst_gaps([writer.successes for writer in writers])]
    if len(pauses) != 2 * times or len(gaps) != 2 * times:
        raise BenchError(f"{2 * times} switches were asked for, {len(pauses)} were made, {len(gaps)} were seen")
    ratios = {
        f"p99 of the pause seen by the program / {LIMIT_MS:g} ms": Spread.of([percentile(pauses, 0.99) / LIMIT_MS]),
        f"p99 of the gap seen by the writers / {LIMIT_MS:g} ms": Spread.of([percentile(gaps, 0.99) / LIMIT_MS]),
    }
    return Report(
        "cutover", "quick" if options.quick else "full", machine, ratios,
        {"pause": [pause / 1000 for pause in pauses], "writers' gap": [gap / 1000 for gap in gaps]},
        targets=dict.fromkeys(ratios, Target(1.0, is_upper=True)),
        details={
            "pause_ms": describe(pauses), "gap_ms": describe(gaps), "switches": len(pauses),
            "undone": len(figures["undone"]), "fence": options.fence,
            "writes_per_second_asked": options.rate, "writes_per_second": round(count / took),
            "threads": options.threads,
            "rows": rows, "median_steps_ms": describe_steps(figures["switches"]),
            "longest_steps_ms": max(figures["switches"], key=lambda switch: float(switch["pause_ms"]))["steps_ms"],
        },
    )  # fmt: skip


def describe(values: list[float]) -> dict[str, float]:
    """p50, p99 and maximum in milliseconds."""
    return {
        "p50": round(percentile(values, 0.5), 1), "p99": round(percentile(values, 0.99), 1),
        "max": round(max(values), 1),
    }  # fmt: skip


def describe_steps(switches: list[dict[str, Any]]) -> dict[str, float]:
    """Where the pause goes: the median of every step."""
    names = list(switches[0]["steps_ms"])
    return {name: round(percentile([s["steps_ms"].get(name, 0.0) for s in switches], 0.5), 1) for name in names}


def main() -> None:
    """The command line."""
    parser = build_parser("Switch to and fro under load and measure the write pause.")
    parser.add_argument("--rate", type=float, default=500.0, help="writes per second of all threads")
    parser.add_argument("--threads", type=int, default=4, help="writers")
    parser.add_argument("--times", type=int, default=0, help="switches forward, and as many back")
    parser.add_argument("--rows", type=int, default=0, help="size of the table")
    parser.add_argument("--fence", choices=("read_only", "lock_tables"), default="read_only")
    options = parser.parse_args()
    with exiting_clearly():
        finish(measure(options), as_json=options.json)


if __name__ == "__main__":
    main()
