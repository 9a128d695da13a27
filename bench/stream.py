"""How fast changes are applied: our stream against MariaDB's own replication, single-threaded and parallel.

All work off the same backlog, alternately, each to a server of its own with the same settings. Nobody waits for the
disk unless ``--durable``, so nothing is won by committing a thousand rows at once where replication commits one. And
how far behind the target is, as its readers see it, while the source takes writes at a steady rate (``--lag``).
"""

from __future__ import annotations

import os
import sys

sys.path.pop(0)  # this directory: its copy.py would hide the library's
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import argparse

from bench.arithmetic import Report, Spread, Target, alternate, ratios_of, significant
from bench.harness import (
    SCHEMA,
    TABLE,
    build_parser,
    describe_machine,
    exiting_clearly,
    fill_table,
    finish,
    let_rest,
    make_durable,
    relax,
    require_equal,
    require_tools,
    run_mover,
    running_servers,
    say,
    write_config,
)
from bench.lag import measure_lag
from bench.mixes import MIXES, create_procedures, make_backlog
from bench.replication import replicate, start_replica

OURS, NATIVE, PARALLEL = "ours", "native", "native parallel"
PARALLEL_THREADS = 4
LIMITS = {"single": 3.0}
"""Least multiple of the rows per second of single-threaded replication; 1.0 for every other mix."""
MOST_LAG_MS = 100.0
MOST_MEMORY_MB = 500


def measure(options: argparse.Namespace) -> Report:
    """Every mix that was asked for."""
    require_tools("mariadb-dump", "mariadb")
    changes = options.changes or (40_000 if options.quick else 120_000)
    repeats = options.repeats or (1 if options.quick else 5)
    mixes = [MIXES[name] for name in options.mix or MIXES]
    ratios: dict[str, Spread] = {}
    seconds: dict[str, list[float]] = {}
    targets: dict[str, Target] = {}
    details: dict[str, dict[str, list[float]]] = {}
    with running_servers(
        "source", "target", "replica", "parallel", gtid_strict_mode="OFF", replicate_wild_ignore_table="\\_dbmigrate.%"
    ) as servers:
        source, target, replica, parallel = servers
        machine = describe_machine(source)
        fill_table(source, max(100_000, *(changes * mix.scale for mix in mixes)))
        create_procedures(source)
        say("copying to all targets")
        relax(target, replica, parallel)
        config = write_config(source, target)
        run_mover(config, source, target, "move", "copy")
        start_replica(source, replica)
        start_replica(source, parallel, threads=PARALLEL_THREADS)
        if options.durable:
            make_durable(target, replica, parallel)
        for mix in mixes:
            amount = changes * mix.scale
            taken: dict[str, list[float]] = {OURS: [], NATIVE: [], PARALLEL: []}
            figures: list[dict[str, float]] = []
            made: list[float] = []
            for round_number, contender in alternate((OURS, NATIVE, PARALLEL), repeats):
                if len(made) == round_number:
                    say(f"{amount:,} changes: {mix.says}")
                    made.append(make_backlog(source, mix, amount))
                    let_rest(*servers)
                if contender == OURS:
                    figures.append(run_mover(config, source, target, "backlog"))
                    taken[OURS].append(figures[-1]["drain_seconds"])
                else:
                    taken[contender].append(replicate(source, replica if contender == NATIVE else parallel))
                say(f"{contender}: {taken[contender][-1]:.2f} s, {amount / taken[contender][-1]:,.0f} rows/s")
            require_equal(servers)
            for peer in (NATIVE, PARALLEL):
                ratios[f"{mix.name}: {OURS} / {peer} (rows/s)"] = ratios_of(taken[peer], taken[OURS])
            targets[f"{mix.name}: {OURS} / {NATIVE} (rows/s)"] = Target(LIMITS.get(mix.name, 1.0), is_upper=False)
            seconds |= {f"{mix.name}: {name}": values for name, values in taken.items()}
            details[mix.name] = {
                "changes": amount,
                "rows_per_second": [round(amount / value) for value in taken[OURS]],
                "keys_flushed": [f["keys"] for f in figures],
                "our_cpu_seconds": [significant(f["drain_cpu_seconds"]) for f in figures],
                "seconds_to_make": [significant(value) for value in made],
            }
    return Report(
        "stream", "quick" if options.quick else "full", machine, ratios, seconds, targets,
        details={"changes": changes, "durability": "every commit on disk" if options.durable else "relaxed", "mixes": details},
    )  # fmt: skip


def measure_behind(options: argparse.Namespace) -> Report:
    """The lag at a steady rate, every commit of both servers on disk."""
    rows = 50_000 if options.quick else 200_000
    with running_servers("source", "target") as (source, target):
        machine = describe_machine(source)
        fill_table(source, rows)
        config = write_config(source, target)
        found = measure_lag(config, source, target, rate=options.lag, seconds=8.0 if options.quick else 30.0, rows=rows)
    name = f"lag p99 at {options.lag:g} writes/s / {MOST_LAG_MS:g} ms"
    return Report(
        "lag", "quick" if options.quick else "full", machine, {name: Spread.of([found.p99_ms / MOST_LAG_MS])},
        {"lag": [value / 1000 for value in (found.p50_ms, found.p99_ms, found.max_ms)]},
        targets={name: Target(1.0, is_upper=True)},
        details={
            "lag_ms": {"p50": found.p50_ms, "p99": found.p99_ms, "max": found.max_ms}, "samples": found.samples,
            "writes_per_second_asked": options.lag, "writes_per_second": found.writes_per_second,
        },
    )  # fmt: skip


MILLION = 1_000_000


def measure_memory(millions: int) -> Report:
    """Work off transactions of a million changed rows each, every row changed once, for the peak memory of our process."""
    with running_servers("source", "target", max_binlog_size="1G", innodb_buffer_pool_size="1G") as (source, target):
        machine = describe_machine(source)
        relax(source, target)
        say(f"filling {millions} million narrow rows")
        source.execute(f"CREATE DATABASE {SCHEMA}", f"CREATE TABLE {SCHEMA}.{TABLE} (id INT PRIMARY KEY, amount INT NOT NULL)")
        for number in range(millions):
            first = number * MILLION
            source.execute(f"INSERT INTO {SCHEMA}.{TABLE} SELECT seq, 0 FROM {SCHEMA}.seq_{first + 1}_to_{first + MILLION}")
        config = write_config(source, target)
        copied = run_mover(config, source, target, "move", "copy")
        for number in range(millions):
            say(f"transaction {number + 1} of a million rows")
            first = number * MILLION
            source.execute(f"UPDATE {SCHEMA}.{TABLE} SET amount = 1 WHERE id BETWEEN {first + 1} AND {first + MILLION}")
        say("working them off")
        figures = run_mover(config, source, target, "backlog")
        require_equal((source, target))
    peak = figures["peak_memory_mb"]
    name = f"peak memory / {MOST_MEMORY_MB} MB"
    return Report(
        "stream memory", f"{millions} million keys", machine, {name: Spread.of([peak / MOST_MEMORY_MB])},
        {"drain": [figures["drain_seconds"]]}, targets={name: Target(1.0, is_upper=True)},
        details={
            "keys": figures["keys"], "rows": figures["rows"], "peak_memory_mb": round(peak, 1),
            "peak_memory_of_the_copy_mb": round(copied["peak_memory_mb"], 1),
            "our_cpu_seconds": significant(figures["drain_cpu_seconds"]),
        },
    )  # fmt: skip


def main() -> None:
    """The command line."""
    parser = build_parser("Work off backlogs of changes: our stream and native replication, single-threaded and parallel.")
    parser.add_argument("--mix", action="append", choices=sorted(MIXES), help="only this one; may be repeated")
    parser.add_argument("--lag", type=float, metavar="RATE", help="only the lag, at so many writes per second")
    parser.add_argument("--changes", type=int, default=0, help="changed rows in a backlog")
    parser.add_argument("--repeats", type=int, default=0, help="backlogs")
    parser.add_argument(
        "--durable",
        action="store_true",
        help="both targets wait for the disk at every commit: replication does so for "
        "every single row, and the ratio says more about the disk than about the work",
    )
    parser.add_argument(
        "--memory", type=int, metavar="MILLIONS", help="only work off so many transactions of a million rows, for the peak memory"
    )
    options = parser.parse_args()
    with exiting_clearly():
        if options.lag:
            report = measure_behind(options)
        else:
            report = measure_memory(options.memory) if options.memory else measure(options)
        finish(report, as_json=options.json)


if __name__ == "__main__":
    main()
