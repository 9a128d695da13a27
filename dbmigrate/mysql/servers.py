"""One server as the engines see it: what it is, its pool of data sessions, its heartbeat.

Binds what flavour, settings and account say about a server to the connections to it, so that no engine asks twice.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pymysql.connections import Connection
from pymysql.err import MySQLError

from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.mysql.bulk_load import read_load_settings
from dbmigrate.mysql.faults import Retry
from dbmigrate.mysql.heartbeat import Heartbeat
from dbmigrate.mysql.introspection import read_server_version
from dbmigrate.mysql.sessions import DATA_SESSION, Endpoint, SessionPool
from dbmigrate.mysql.transfer import read_max_packet


class Server:
    """A reachable server of a supported flavour. Thread-safe."""

    def __init__(self, endpoint: Endpoint, migration_id: str, *, clock: Callable[[], float], retry: Retry) -> None:
        connection = endpoint.connect()
        try:
            self.version: ServerVersion = read_server_version(connection)
        finally:
            connection.close()
        # MariaDB turns IN lists of over 1,000 values into a join with a temporary table, which loses the key's index.
        extra = ("SET in_predicate_conversion_threshold = 0",) if self.version.is_mariadb else ()
        self.endpoint = endpoint
        self.retry = retry
        self.pool = SessionPool(endpoint, statements=(*DATA_SESSION, *extra))
        self.heartbeat = Heartbeat(self.pool, migration_id, clock=clock, retry=retry)
        self._control: Connection[Any] | None = None
        self._control_lock = threading.Lock()
        with self.pool.borrow() as session:
            self.max_packet_bytes = read_max_packet(session)
            self.load_settings = read_load_settings(session, self.version)

    @property
    def place(self) -> str:
        """How messages name this server."""
        return self.endpoint.place

    @contextmanager
    def control_connection(self) -> Iterator[Connection[Any]]:
        """A plain connection for the rare question, kept open because the write pause asks one, too."""
        with self._control_lock:
            connection = self._control
            if connection is None:
                connection = self._control = self.endpoint.connect()
            try:
                connection.ping(reconnect=False)
            except (MySQLError, OSError):
                connection = self._control = self.endpoint.connect()
            yield connection

    def close(self) -> None:
        """Close idle sessions."""
        self.pool.close()
        if self._control is not None:
            self._control.close()
            self._control = None
