"""How fast single-row transactions are applied: our stream against MariaDB's own single-threaded replication.

Both work off the same backlog, alternately, each to its own server with the same settings. Every update of a backlog
touches another row, so nothing is won by changing a hot row once instead of ten times; and neither waits for the disk
unless ``--durable``, so nothing is won by committing a thousand rows at once where replication commits one.
"""

from __future__ import annotations

import os
import sys

sys.path.pop(0)  # this directory: its copy.py would hide the library's
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import argparse
import time
from concurrent.futures import ThreadPoolExecutor

from bench.arithmetic import Report, Spread, Target, alternate, ratios_of, significant
from bench.harness import (
    COLUMNS,
    SCHEMA,
    TABLE,
    BenchError,
    build_parser,
    describe_machine,
    exiting_clearly,
    fill_table,
    finish,
    let_rest,
    login,
    make_durable,
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

OURS, NATIVE = "ours", "native replication"
WRITERS = 4
REPLICA_SECONDS = 600
UPDATES_OF_TEN = 6
MOST_MEMORY_MB = 500

# Statements of a procedure commit one by one in autocommit: as fast as a server can be written to.
_WRITE = f"""CREATE PROCEDURE bench.write_some(IN first_id INT, IN step INT, IN amount INT)
BEGIN
  DECLARE i INT DEFAULT 0;
  WHILE i < amount DO
    IF MOD(i, 10) < {UPDATES_OF_TEN} THEN
      UPDATE {SCHEMA}.{TABLE} SET quantity = quantity + 1, note = CONCAT('changed ', i), status = 1 + MOD(i, 4)
        WHERE id = first_id + i * step;
    ELSE
      INSERT INTO {SCHEMA}.{TABLE} ({COLUMNS}) VALUES (i, MD5(i), 1 + MOD(i, 4), 1, i / 100, i / 7,
        'new order', NOW(6), NOW(3));
    END IF;
    SET i = i + 1;
  END WHILE;
END"""


def make_backlog(source: LocalServer, changes: int) -> float:
    """Let concurrent clients commit so many single-row transactions; returns the seconds it took."""
    each = changes // WRITERS
    relax(source)

    def write(number: int) -> None:
        with source.connect() as connection, connection.cursor() as cursor:
            cursor.execute("SET sql_mode = ''")
            cursor.execute(f"CALL bench.write_some({number + 1}, {WRITERS}, {each})")

    began = time.monotonic()
    with ThreadPoolExecutor(WRITERS) as executor:
        list(executor.map(write, range(WRITERS)))
    make_durable(source)
    return time.monotonic() - began


def start_replica(source: LocalServer, replica: LocalServer) -> None:
    """Give the replica the source's rows and point it at the source; it does not run yet."""
    dump = ["mariadb-dump", f"--defaults-extra-file={write_login_file(source)}", *login(source)]
    load = ["mariadb", f"--defaults-extra-file={write_login_file(replica)}", *login(replica)]
    options = "--single-transaction --master-data=1 --databases " + SCHEMA
    file, position = source.execute("SHOW MASTER STATUS")[0][:2]
    run_peer(["bash", "-o", "pipefail", "-c", f"{' '.join(dump)} {options} | {' '.join(load)}"])
    replica.execute(
        "SET GLOBAL slave_parallel_threads = 0",
        f"CHANGE MASTER TO MASTER_HOST='{source.host}', MASTER_PORT={source.port}, MASTER_USER='{source.user}', "
        f"MASTER_PASSWORD='{source.password}', MASTER_LOG_FILE='{file}', MASTER_LOG_POS={position}, "
        "MASTER_USE_GTID=no",
    )


def replicate(source: LocalServer, replica: LocalServer) -> float:
    """Seconds that the server's own replication takes for everything the source has logged by now."""
    file, position = source.execute("SHOW MASTER STATUS")[0][:2]
    began = time.monotonic()
    replica.execute("START SLAVE")
    reached = replica.execute(f"SELECT MASTER_POS_WAIT('{file}', {position}, {REPLICA_SECONDS})")[0][0]
    seconds = time.monotonic() - began
    replica.execute("STOP SLAVE")
    if reached is None or reached < 0:
        raise BenchError(f"the replica did not get there: {_read_slave_error(replica)}")
    return seconds


def _read_slave_error(replica: LocalServer) -> str:
    with replica.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SHOW SLAVE STATUS")
        names = [column[0] for column in cursor.description or ()]
        status = dict(zip(names, cursor.fetchone() or (), strict=False))
    return str(status.get("Last_Error") or status.get("Last_IO_Error") or "no error, too slow")


def measure(options: argparse.Namespace) -> Report:
    """The whole benchmark."""
    require_tools("mariadb-dump", "mariadb")
    changes = options.changes or (50_000 if options.quick else 200_000)
    repeats = options.repeats or (2 if options.quick else 5)
    seconds: dict[str, list[float]] = {OURS: [], NATIVE: [], "making the backlog": []}
    details: dict[str, list[float]] = {"our_rows_streamed": [], "our_keys_flushed": [], "our_cpu_seconds": []}
    with running_servers(
        "source", "target", "replica", gtid_strict_mode="OFF", replicate_wild_ignore_table="\\_dbmigrate.%"
    ) as servers:
        source, target, replica = servers
        machine = describe_machine(source)
        fill_table(source, max(changes, 100_000))
        source.execute("CREATE DATABASE bench", _WRITE)
        say("copying to both targets")
        relax(target, replica)
        config = write_config(source, target)
        run_mover(config, source, target, "move", "copy")
        start_replica(source, replica)
        if options.durable:
            make_durable(target, replica)
        for _, contender in alternate((OURS, NATIVE), repeats):
            if len(seconds[OURS]) == len(seconds[NATIVE]):
                say(f"{changes:,} single-row transactions")
                seconds["making the backlog"].append(make_backlog(source, changes))
                let_rest(source, target, replica)
            if contender == OURS:
                figures = run_mover(config, source, target, "backlog")
                seconds[OURS].append(figures["drain_seconds"])
                details["our_rows_streamed"].append(figures["rows"])
                details["our_keys_flushed"].append(figures["keys"])
                details["our_cpu_seconds"].append(significant(figures["drain_cpu_seconds"]))
            else:
                seconds[NATIVE].append(replicate(source, replica))
            say(f"{contender}: {seconds[contender][-1]:.2f} s, {changes / seconds[contender][-1]:,.0f} rows/s")
        require_equal(servers)
    rates = {name: [changes / value for value in seconds[name]] for name in (OURS, NATIVE)}
    name = f"{OURS} / {NATIVE} (rows/s)"
    return Report(
        "stream", "quick" if options.quick else "full", machine, {name: ratios_of(rates[OURS], rates[NATIVE])},
        seconds, targets={name: Target(2.0, is_upper=False)},
        details={
            "changes": changes, "durability": "every commit on disk" if options.durable else "relaxed",
            "rows_per_second": {name: [round(rate) for rate in found] for name, found in rates.items()}, **details,
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
    parser = build_parser("Work off a backlog of single-row transactions: our stream and native replication.")
    parser.add_argument("--changes", type=int, default=0, help="transactions in a backlog")
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
        report = measure_memory(options.memory) if options.memory else measure(options)
        finish(report, as_json=options.json)


if __name__ == "__main__":
    main()
