"""One server as the engines see it: what it is, its pool of data sessions, its heartbeat.

Binds what flavour, settings and account say about a server to the connections to it, so that no engine asks twice.
"""

from __future__ import annotations

from collections.abc import Callable

from dbmigrate.domain.flavours import ServerVersion
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
        with self.pool.borrow() as session:
            self.max_packet_bytes = read_max_packet(session)

    @property
    def place(self) -> str:
        """How messages name this server."""
        return self.endpoint.place

    def close(self) -> None:
        """Close idle sessions."""
        self.pool.close()
