"""How the speed grows: rows per second of the whole move up to catch_up, and of verification, against the number of
workers, the size of a table, and the number of tables. No step may be slower than linear.
"""

from __future__ import annotations

import os
import sys

sys.path.pop(0)  # this directory: its copy.py would hide the library's
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import argparse
import itertools
import time
from dataclasses import replace
from typing import Any

from bench.arithmetic import Report, Spread, Target
from bench.harness import (
    SCHEMA,
    TABLE,
    build_parser,
    describe_machine,
    drop_everything,
    exiting_clearly,
    finish,
    let_rest,
    read_checksum,
    relax,
    reset_binlog,
    run_mover,
    running_servers,
    say,
    write_config,
)
from bench.shapes import SHAPES, fill_shape
from dbmigrate.throwaway.local_servers import LocalServer

WORKERS = (1, 2, 4, 8)
SIZES = (50_000, 200_000, 800_000, 3_200_000)
QUICK_SIZES = (20_000, 80_000)
TABLES = (1, 100, 1_000, 5_000)
QUICK_TABLES = (1, 50)
ROWS_A_TABLE = 20
ROOMY = {
    "table_open_cache": "12000", "table_definition_cache": "12000", "open_files_limit": "60000",
    "innodb_buffer_pool_size": "2G", "innodb_log_file_size": "2G",
}  # fmt: skip
MOST_SLOWDOWN = 1.25
"""Time for each further unit (a row, a table) of the largest point, as a multiple of that of the point before."""


def measure_workers(options: argparse.Namespace) -> tuple[list[dict[str, Any]], str]:
    """One table, more and more workers."""
    rows = options.rows or (60_000 if options.quick else 800_000)
    points = []
    with running_servers("source", "target") as (source, target):
        fill_shape(source, replace(SHAPES["shop"]), rows)
        for workers in WORKERS[: 2 if options.quick else None]:
            points.append(_move(source, target, workers, workers=workers, rows=rows, repeats=options.repeats))
    return points, "workers"


def measure_sizes(options: argparse.Namespace) -> tuple[list[dict[str, Any]], str]:
    """One table that grows, on servers whose pools hold it: past them a disk decides."""
    points = []
    with running_servers("source", "target", **ROOMY) as (source, target):
        for rows in QUICK_SIZES if options.quick else SIZES:
            fill_shape(source, SHAPES["shop"], rows)
            point = _move(source, target, rows, workers=2, rows=rows, repeats=options.repeats)
            point["checksum_seconds"] = [round(_time_checksum(source), 3) for _ in range(options.repeats)]
            points.append(point)
    return points, "rows in the table"


def measure_tables(options: argparse.Namespace) -> tuple[list[dict[str, Any]], str]:
    """More and more small tables, on servers that hold them all: what grows faster than they do is ours."""
    points = []
    with running_servers("source", "target", **ROOMY) as (source, target):
        for tables in QUICK_TABLES if options.quick else TABLES:
            say(f"making {tables:,} tables of {ROWS_A_TABLE} rows")
            drop_everything(source, schemas=[SCHEMA])
            relax(source)
            source.execute(f"CREATE DATABASE {SCHEMA} CHARACTER SET utf8mb4")
            for number in range(tables):
                source.execute(
                    f"CREATE TABLE {SCHEMA}.{TABLE}_{number} (id INT PRIMARY KEY, note VARCHAR(40), KEY note (note))",
                    f"INSERT INTO {SCHEMA}.{TABLE}_{number} SELECT seq, CONCAT('note ', seq) FROM {SCHEMA}.seq_1_to_{ROWS_A_TABLE}",
                )
            rows = tables * ROWS_A_TABLE
            points.append(_move(source, target, tables, workers=2, rows=rows, repeats=options.repeats))
    return points, "tables"


def _time_checksum(server: LocalServer) -> float:
    """Of the server's own reading of the whole table: how that grows is not ours."""
    began = time.monotonic()
    read_checksum(server)
    return time.monotonic() - began


def _move(
    source: LocalServer, target: LocalServer, x: int, *, workers: int, rows: int, repeats: int
) -> dict[str, Any]:
    """Copy and catch up, then compare, as often as asked; the target is emptied between."""
    config = write_config(source, target, threads=workers, more=f"[verify]\nworkers = {workers}\n")
    phases: list[dict[str, float]] = []
    verified: list[float] = []
    peak = 0.0
    for _ in range(repeats):
        relax(source, target)
        figures = run_mover(config, source, target, "move", "catch_up")
        phases.append(figures["phases"])
        peak = max(peak, figures["peak_memory_mb"])
        verified.append(run_mover(config, source, target, "verify")["verify_seconds"])
        say(f"{x:,}: {sum(phases[-1].values()):.2f} s, compared in {verified[-1]:.2f} s")
        drop_everything(source, schemas=["_dbmigrate"])
        drop_everything(target, schemas=["_dbmigrate", SCHEMA])
        reset_binlog(target)
        let_rest(source, target)
    best = min(phases, key=lambda found: sum(found.values()))
    return {
        "x": x, "rows": rows, "seconds": [round(sum(found.values()), 3) for found in phases],
        "rows_per_second": [round(rows / sum(found.values())) for found in phases],
        "verify_seconds": [round(value, 3) for value in verified],
        "phases": {name: round(value, 3) for name, value in best.items()}, "peak_memory_mb": round(peak, 1),
    }  # fmt: skip


def judge_linear(points: list[dict[str, Any]]) -> dict[str, Spread]:
    """Seconds for each further unit at the largest point, as a multiple of those at the point before, by step.

    The first point is left out of the differences but for being subtracted: it holds what a move costs at least.
    """
    ratios: dict[str, Spread] = {}
    for name in ("seconds", "verify_seconds", "checksum_seconds"):
        if name not in points[0]:
            continue
        best = [(point["x"], min(point[name])) for point in points]
        if len(best) >= 3:
            slopes = [(t2 - t1) / (x2 - x1) for (x1, t1), (x2, t2) in itertools.pairwise(best)]
            ratios[f"{name} for each further one, largest / before"] = Spread.of([slopes[-1] / max(slopes[-2], 1e-9)])
    return ratios


WAYS = {"workers": measure_workers, "size": measure_sizes, "tables": measure_tables}


def main() -> None:
    """The command line."""
    parser = build_parser("Rows per second against workers, table size and number of tables.")
    parser.add_argument("--of", choices=sorted(WAYS), default="size", help="what grows")
    parser.add_argument("--rows", type=int, default=0, help="size of the table, for workers")
    parser.add_argument("--repeats", type=int, default=2, help="moves at each point; the fastest counts")
    options = parser.parse_args()
    with exiting_clearly():
        with running_servers("source") as (server,):
            machine = describe_machine(server)
        points, axis = WAYS[options.of](options)
        rates = {f"{point['x']:,} {axis}": [float(rate) for rate in point["rows_per_second"]] for point in points}
        most = max(max(values) for values in rates.values())
        ratios = {f"rows/s at {name} / most": Spread.of([max(values) / most]) for name, values in rates.items()}
        linear = judge_linear(points) if options.of != "workers" else {}
        report = Report(
            f"growth of {options.of}", "quick" if options.quick else "full", machine, ratios | linear,
            {f"{point['x']:,} {axis}": point["seconds"] for point in points},
            targets=dict.fromkeys((name for name in linear if "checksum" not in name), Target(MOST_SLOWDOWN, is_upper=True)), details={"axis": axis, "points": points},
        )  # fmt: skip
        finish(report, as_json=options.json)


if __name__ == "__main__":
    main()
