"""The server's own replication as a peer: a replica with the source's rows, which works off what the source has logged."""

from __future__ import annotations

import time

from bench.harness import SCHEMA, BenchError, login, run_peer, write_login_file
from dbmigrate.throwaway.local_servers import LocalServer

REPLICA_SECONDS = 600


def start_replica(source: LocalServer, replica: LocalServer, *, threads: int = 0) -> None:
    """Give a MariaDB replica the source's rows and point it at the source; it does not run yet.

    With ``threads`` it applies transactions in parallel and optimistically, the fastest that it offers.
    """
    dump = ["mariadb-dump", f"--defaults-extra-file={write_login_file(source)}", *login(source)]
    load = ["mariadb", f"--defaults-extra-file={write_login_file(replica)}", *login(replica)]
    options = "--single-transaction --master-data=1 --databases " + SCHEMA
    file, position = source.execute("SHOW MASTER STATUS")[0][:2]
    run_peer(["bash", "-o", "pipefail", "-c", f"{' '.join(dump)} {options} | {' '.join(load)}"])
    replica.execute(
        f"SET GLOBAL slave_parallel_threads = {threads}", "SET GLOBAL slave_parallel_mode = 'optimistic'",
        f"CHANGE MASTER TO MASTER_HOST='{source.host}', MASTER_PORT={source.port}, MASTER_USER='{source.user}', "
        f"MASTER_PASSWORD='{source.password}', MASTER_LOG_FILE='{file}', MASTER_LOG_POS={position}, "
        "MASTER_USE_GTID=no",
    )  # fmt: skip


def replicate(source: LocalServer, replica: LocalServer) -> float:
    """Seconds that the replica takes for everything the source has logged by now.

    Raises:
        BenchError: it stopped with an error, or took too long.
    """
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
