"""The fault mix of ``chaos.py``: what goes wrong between a program and two servers, done for real and counted.

Each fault is a method that breaks something and mends it again before it returns, so a run can end after any of them.
"""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pymysql

from dbmigrate.throwaway.local_servers import LocalServer
from dbmigrate.throwaway.tcp_proxy import TcpProxy

SHORT_SECONDS, LONG_SECONDS = 0.2, 3.0
SERVER_AWAY_SECONDS = 1.0
PROXIED_ACCOUNT = "mover"

Fault = Callable[[], None]


class Faults:
    """Picks faults at random by weight and counts what was done under the name of its kind.

    ``find_runner`` gives the program's process as it is now, or None between two of them.
    """

    def __init__(
        self,
        servers: dict[str, LocalServer],
        proxies: dict[str, TcpProxy],
        find_runner: Callable[[], subprocess.Popen[Any] | None],
        chance: random.Random,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._servers, self._proxies = servers, proxies
        self._find_runner = find_runner
        self._chance = chance
        mix: dict[Fault, int] = {
            self.kill_runner: 30,
            self.freeze_runner: 6,
            self.kill_server: 8,
            self.restart_server: 4,
            self.cut_network: 14,
            self.reset_network: 12,
            self.stall_network: 8,
            self.kill_connection: 14,
            self.rotate_binlog: 10,
            self.lock_a_table: 6,
            self.leave_a_transaction_open: 6,
        }
        self._faults, self._weights = list(mix), list(mix.values())

    def do_one(self) -> str:
        """Do one fault of the mix to its end; returns its name."""
        fault = self._chance.choices(self._faults, self._weights)[0]
        fault()
        return fault.__name__

    # --- the program ---

    def kill_runner(self) -> None:
        """kill -9."""
        runner = self._find_runner()
        if runner is not None and runner.poll() is None:
            runner.kill()
            runner.wait()
            self.counts["kills"] += 1

    def freeze_runner(self) -> None:
        """Stop the program for a while, as a machine that swaps or is suspended does."""
        runner = self._find_runner()
        if runner is not None and runner.poll() is None:
            runner.send_signal(signal.SIGSTOP)
            self._pause()
            runner.send_signal(signal.SIGCONT)
            self.counts["freezes"] += 1

    # --- the servers ---

    def kill_server(self) -> None:
        """kill -9 of a server, and its recovery."""
        server = self._some_server()
        server.kill()
        time.sleep(self._chance.uniform(0, SERVER_AWAY_SECONDS))
        server.start()
        self.counts["restarts"] += 1
        self.counts["servers killed"] += 1

    def restart_server(self) -> None:
        """An orderly restart."""
        self._some_server().restart()
        self.counts["restarts"] += 1

    # --- the network between the program and a server, or both ---

    def cut_network(self) -> None:
        """No connection holds and none opens for a while."""
        proxies = self._some_proxies()
        for proxy in proxies:
            proxy.cut()
        self._pause()
        for proxy in proxies:
            proxy.restore()
        self.counts["cuts"] += 1

    def reset_network(self) -> None:
        """All connections break; new ones open at once."""
        for proxy in self._some_proxies():
            proxy.reset_connections()
        self.counts["cuts"] += 1

    def stall_network(self) -> None:
        """Connections stay open and carry nothing for a while."""
        proxies = self._some_proxies()
        for proxy in proxies:
            proxy.stall()
        self._pause()
        for proxy in proxies:
            proxy.restore()
        self.counts["stalls"] += 1

    # --- what other people do on a server ---

    def kill_connection(self) -> None:
        """KILL one of the program's connections, the binlog's too."""
        with self._administering() as cursor:
            cursor.execute("SELECT id FROM information_schema.processlist WHERE user = %s", (PROXIED_ACCOUNT,))
            if ids := cursor.fetchall():
                cursor.execute(f"KILL {self._chance.choice(ids)[0]}")
                self.counts["connections killed"] += 1

    def rotate_binlog(self) -> None:
        """A new binlog file."""
        with self._administering() as cursor:
            cursor.execute("FLUSH BINARY LOGS")
            self.counts["rotations"] += 1

    def lock_a_table(self) -> None:
        """Somebody holds a table for a while."""
        with self._administering() as cursor:
            cursor.execute("SET SESSION lock_wait_timeout = 2")
            cursor.execute("LOCK TABLES shop.orders READ")
            self._pause()
            self.counts["tables locked"] += 1

    def leave_a_transaction_open(self) -> None:
        """Somebody reads for long with a change not committed, and rolls back."""
        with self._administering() as cursor:
            cursor.execute("SET SESSION innodb_lock_wait_timeout = 2")
            cursor.execute("START TRANSACTION")
            cursor.execute("UPDATE shop.accounts SET owner = CONCAT(owner, '!') WHERE id = 1")
            self._pause()
            cursor.execute("ROLLBACK")
            self.counts["open transactions"] += 1

    # --- choices ---

    @contextlib.contextmanager
    def _administering(self) -> Any:
        """A cursor on one of the servers; a server that is away or refuses makes it no fault at all."""
        with contextlib.suppress(pymysql.err.MySQLError):
            connection = self._some_server().connect()
            try:
                with connection.cursor() as cursor:
                    yield cursor
            finally:
                connection.close()

    def _some_server(self) -> LocalServer:
        return self._chance.choice(list(self._servers.values()))

    def _some_proxies(self) -> list[TcpProxy]:
        everyone = list(self._proxies.values())
        return everyone if self._chance.random() < 0.3 else [self._chance.choice(everyone)]

    def _pause(self) -> None:
        time.sleep(self._chance.uniform(SHORT_SECONDS, LONG_SECONDS))
