"""How fast both sides are compared in full: our verification against CHECKSUM TABLE on both servers at once.

CHECKSUM TABLE is the fastest thing a server offers, and the least: one number for a whole table that stands still.
Ours works under traffic and can name the row that differs.
"""

from __future__ import annotations

import os
import sys

sys.path.pop(0)  # this directory: its copy.py would hide the library's
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import argparse
import time
from concurrent.futures import ThreadPoolExecutor

from bench.arithmetic import Report, alternate, ratios_of, significant
from bench.harness import (
    BenchError,
    build_parser,
    describe_machine,
    exiting_clearly,
    fill_table,
    finish,
    let_rest,
    read_checksum,
    run_mover,
    running_servers,
    say,
    write_config,
)
from dbmigrate.throwaway.local_servers import LocalServer

OURS, CHECKSUM = "ours", "CHECKSUM TABLE"
FULL_ROWS, QUICK_ROWS = 1_000_000, 250_000


def checksum_both(servers: list[LocalServer]) -> float:
    """Seconds of CHECKSUM TABLE on all servers at once. Raises BenchError when the sums differ."""
    began = time.monotonic()
    with ThreadPoolExecutor(len(servers)) as executor:
        sums = set(executor.map(read_checksum, servers))
    if len(sums) != 1:
        raise BenchError("the copies differ")
    return time.monotonic() - began


def measure(options: argparse.Namespace) -> Report:
    """The whole benchmark."""
    rows = options.rows or (QUICK_ROWS if options.quick else FULL_ROWS)
    repeats = options.repeats or (3 if options.quick else 5)
    seconds: dict[str, list[float]] = {OURS: [], CHECKSUM: []}
    cpu: list[float] = []
    with running_servers("source", "target", innodb_buffer_pool_size="512M") as (source, target):
        machine = describe_machine(source)
        fill_table(source, rows)
        config = write_config(source, target)
        say("copying")
        run_mover(config, source, target, "move", "catch_up")
        let_rest(source, target)
        for _, contender in alternate((OURS, CHECKSUM), repeats):
            if contender == OURS:
                figures = run_mover(config, source, target, "verify")
                if figures["rows"] != rows:
                    raise BenchError(f"{figures['rows']} of {rows} rows were compared")
                seconds[OURS].append(figures["verify_seconds"])
                cpu.append(significant(figures["cpu_seconds"]))
            else:
                seconds[CHECKSUM].append(checksum_both([source, target]))
            say(f"{contender}: {seconds[contender][-1]:.2f} s")
    return Report(
        "verify", "quick" if options.quick else "full", machine,
        {f"{OURS} / {CHECKSUM}": ratios_of(seconds[OURS], seconds[CHECKSUM])}, seconds, targets={},
        details={"rows": rows, "our_cpu_seconds": cpu},
    )  # fmt: skip


def main() -> None:
    """The command line."""
    parser = build_parser("Compare both sides in full: ours and CHECKSUM TABLE.")
    parser.add_argument("--rows", type=int, default=0, help="size of the table")
    parser.add_argument("--repeats", type=int, default=0, help="alternating runs of each")
    options = parser.parse_args()
    with exiting_clearly():
        finish(measure(options), as_json=options.json)


if __name__ == "__main__":
    main()
