"""How fast both sides are compared in full: our verification against CHECKSUM TABLE on both servers at once.

CHECKSUM TABLE is the fastest thing a server offers, and the least: one number for a whole table that stands still.
Ours works under traffic and can name the row that differs. pt-table-checksum is what people run against a replica: it
repeats every checksum on the replica through the binlog, so it gets one here, which replicates natively.
"""

from __future__ import annotations

import os
import sys

sys.path.pop(0)  # this directory: its copy.py would hide the library's
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import argparse
import time
from concurrent.futures import ThreadPoolExecutor

from bench.arithmetic import Report, Target, alternate, ratios_of, significant
from bench.harness import (
    SCHEMA,
    TABLE,
    BenchError,
    build_parser,
    describe_machine,
    exiting_clearly,
    fill_table,
    finish,
    let_rest,
    read_checksum,
    require_tools,
    run_mover,
    run_peer,
    running_servers,
    say,
    write_config,
    write_login_file,
)
from bench.replication import start_replica
from dbmigrate.throwaway.local_servers import LocalServer

OURS, CHECKSUM, PERCONA = "ours", "CHECKSUM TABLE", "pt-table-checksum"
MOST_OF_CHECKSUM, MOST_OF_PERCONA = 2.5, 1 / 3
FULL_ROWS, QUICK_ROWS = 1_000_000, 250_000


def checksum_both(servers: list[LocalServer]) -> float:
    """Seconds of CHECKSUM TABLE on all servers at once. Raises BenchError when the sums differ."""
    began = time.monotonic()
    with ThreadPoolExecutor(len(servers)) as executor:
        sums = set(executor.map(read_checksum, servers))
    if len(sums) != 1:
        raise BenchError("the copies differ")
    return time.monotonic() - began


class Percona:
    """pt-table-checksum on a server and a replica of it that is known by a table of addresses."""

    def __init__(self, source: LocalServer, replica: LocalServer) -> None:
        self._source, self._replica = source, replica
        start_replica(source, replica)
        replica.execute("SET GLOBAL replicate_do_db = ''", "START SLAVE")
        address = f"h={replica.host},P={replica.port},u={replica.user},p={replica.password}"
        source.execute(
            "CREATE DATABASE IF NOT EXISTS percona", "CREATE TABLE percona.dsns (id INT PRIMARY KEY, parent_id INT, dsn VARCHAR(255))",
            f"INSERT INTO percona.dsns VALUES (1, NULL, '{address}')",
        )  # fmt: skip
        self._login_file = write_login_file(source)
        self._login_file.write_text(f"[client]\npassword={source.password}\n")

    def run(self) -> float:
        """Seconds until every chunk has been compared on the replica."""
        return run_peer(
            [
                "pt-table-checksum", f"h={self._source.host},P={self._source.port},u={self._source.user},F={self._login_file}",
                f"--databases={SCHEMA}", f"--tables={TABLE}", "--replicate=percona.checksums", "--no-check-binlog-format",
                "--no-check-replication-filters", "--no-version-check", "--quiet",
                f"--recursion-method=dsn=h={self._source.host},P={self._source.port},D=percona,t=dsns",
            ]
        )  # fmt: skip


def measure(options: argparse.Namespace) -> Report:
    """The whole benchmark."""
    rows = options.rows or (QUICK_ROWS if options.quick else FULL_ROWS)
    repeats = options.repeats or (3 if options.quick else 5)
    require_tools("pt-table-checksum", "mariadb-dump")
    seconds: dict[str, list[float]] = {OURS: [], CHECKSUM: [], PERCONA: []}
    cpu: list[float] = []
    with running_servers(
        "source", "target", "replica", innodb_buffer_pool_size="512M", gtid_strict_mode="OFF",
        replicate_wild_ignore_table="\\_dbmigrate.%",
    ) as (source, target, replica):  # fmt: skip
        machine = describe_machine(source)
        fill_table(source, rows)
        config = write_config(source, target)
        say("copying")
        run_mover(config, source, target, "move", "catch_up")
        percona = Percona(target, replica)  # not on the source: our stream refuses its statements, as it must
        let_rest(source, target, replica)
        for _, contender in alternate((OURS, CHECKSUM, PERCONA), repeats):
            if contender == OURS:
                figures = run_mover(config, source, target, "verify")
                if figures["rows"] != rows:
                    raise BenchError(f"{figures['rows']} of {rows} rows were compared")
                seconds[OURS].append(figures["verify_seconds"])
                cpu.append(significant(figures["cpu_seconds"]))
            elif contender == CHECKSUM:
                seconds[CHECKSUM].append(checksum_both([source, target]))
            else:
                seconds[PERCONA].append(percona.run())
            say(f"{contender}: {seconds[contender][-1]:.2f} s")
    return Report(
        "verify", "quick" if options.quick else "full", machine,
        {f"{OURS} / {peer}": ratios_of(seconds[OURS], seconds[peer]) for peer in (CHECKSUM, PERCONA)}, seconds,
        targets={
            f"{OURS} / {CHECKSUM}": Target(MOST_OF_CHECKSUM, is_upper=True),
            f"{OURS} / {PERCONA}": Target(MOST_OF_PERCONA, is_upper=True),
        },
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
