"""A semi-synchronous replica that keeps nothing and acknowledges late.

With the wait point AFTER_SYNC, a commit is sent to binlog readers at once and becomes visible to plain reads only when a
replica has acknowledged it. So this one opens, for as long as a test likes, the window that is otherwise open for
microseconds: a change that the stream has seen and that a re-read does not find.
"""

from __future__ import annotations

import contextlib
import re
import struct
import threading
from collections.abc import Iterator
from typing import Any

from dbmigrate.domain.flavours import Flavour
from dbmigrate.throwaway.local_servers import LocalServer

_COM_REGISTER, _COM_DUMP = 0x15, 0x12
_MAGIC = 0xEF  # precedes every event, and every acknowledgement
_ROTATE = 4
_EVENT_HEADER_BYTES = 19
_FILE_NAME = re.compile(rb"[^.]+\.[0-9]{6}")
_PATIENCE_MILLISECONDS = 600_000  # a server that waits longer gives up semi-synchronous replication
_TERMS = "rpl_semi_sync"
_SOURCE = {Flavour.MARIADB: "master", Flavour.MYSQL: "source"}
_REPLICA = {Flavour.MARIADB: "slave", Flavour.MYSQL: "replica"}


class FakeReplica:
    """Reads a server's binlog from its present end and acknowledges each commit ``delay_seconds`` after its arrival."""

    def __init__(self, server: LocalServer, *, server_id: int, delay_seconds: float) -> None:
        self.delay_seconds = delay_seconds
        self.acknowledged = 0
        self.failure: BaseException | None = None
        self._server, self._server_id = server, server_id
        self._free, self._stopping = threading.Event(), threading.Event()
        self._free.set()
        self._connection: Any = None
        self._file = b""
        self._thread = threading.Thread(target=self._work, name="fake-replica", daemon=True)

    def start(self) -> None:
        """Register with the server; from the return on every commit waits for this replica."""
        connection = self._server.connect()
        own = _REPLICA[self._server.flavour]
        is_mariadb = self._server.flavour is Flavour.MARIADB
        with connection.cursor() as cursor:
            cursor.execute("SHOW MASTER STATUS" if is_mariadb else "SHOW BINARY LOG STATUS")
            file, offset = cursor.fetchone()[:2]
            for prefix in ("master",) if is_mariadb else ("master", "source"):
                cursor.execute(f"SET @{prefix}_binlog_checksum = @@GLOBAL.binlog_checksum")
                cursor.execute(f"SET @{prefix}_heartbeat_period = 1000000000")
            cursor.execute(f"SET @{_TERMS}_{own} = 1")
            if is_mariadb:
                cursor.execute("SET @mariadb_slave_capability = 4")
        self._connection, self._file = connection, str(file).encode()
        self._send(struct.pack("<BI", _COM_REGISTER, self._server_id) + b"\0\0\0" + struct.pack("<HII", 0, 0, 0))
        connection._read_packet()
        self._send(struct.pack("<BIHI", _COM_DUMP, int(offset), 0, self._server_id) + self._file)
        connection._sock.settimeout(None)
        self._thread.start()

    def stop(self) -> None:
        """Disconnect."""
        self._stopping.set()
        self._free.set()
        if self._connection is not None:
            self._connection._force_close()
        self._thread.join(30)
        if self.failure is not None:
            raise self.failure

    @contextlib.contextmanager
    def holding(self) -> Iterator[None]:
        """Inside the block nothing is acknowledged: every commit is in the binlog and none is visible."""
        self._free.clear()
        try:
            yield
        finally:
            self._free.set()

    def _send(self, payload: bytes) -> None:
        # Each command and each acknowledgement is the first packet of its own exchange: sequence number 0.
        self._connection._write_bytes(struct.pack("<I", len(payload)) + payload)
        self._connection._next_seq_id = 1

    def _work(self) -> None:
        try:
            while not self._stopping.is_set():
                self._follow(self._read_packet())
        except (OSError, EOFError, AttributeError) as error:
            if not self._stopping.is_set():
                self.failure = error

    def _read_packet(self) -> bytes:
        size = int.from_bytes(self._read_exactly(4)[:3], "little")
        return self._read_exactly(size)

    def _read_exactly(self, size: int) -> bytes:
        # From the buffered file that PyMySQL reads its packets from, so that nothing it holds is missed.
        data: bytes = self._connection._rfile.read(size)
        if len(data) < size:
            raise EOFError(f"the server closed the connection: {data!r}")
        return data

    def _follow(self, packet: bytes) -> None:
        if packet[0] != 0 or packet[1] != _MAGIC:
            raise EOFError(f"the server does not take this for a semi-synchronous replica: {packet[:120]!r}")
        is_asked, event = packet[2] & 1, packet[3:]
        if event[4] == _ROTATE:
            found = _FILE_NAME.match(event, _EVENT_HEADER_BYTES + 8)  # a checksum may follow
            self._file = found.group() if found else self._file
        if is_asked:
            self._stopping.wait(self.delay_seconds)
            self._free.wait()
            position = int.from_bytes(event[13:17], "little")
            self._send(struct.pack("<BQ", _MAGIC, position) + self._file)
            self.acknowledged += 1


@contextlib.contextmanager
def open_window(server: LocalServer, *, delay_seconds: float) -> Iterator[FakeReplica]:
    """Inside the block every commit on the server is in the binlog ``delay_seconds`` before plain reads see it."""
    term = _SOURCE[server.flavour]
    if server.flavour is Flavour.MYSQL:
        found = server.execute("SELECT 1 FROM information_schema.plugins WHERE plugin_name = 'rpl_semi_sync_source'")
        if not found:
            server.execute("INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'")
    server.execute(
        f"SET GLOBAL {_TERMS}_{term}_wait_point = AFTER_SYNC",
        f"SET GLOBAL {_TERMS}_{term}_timeout = {_PATIENCE_MILLISECONDS}",
        f"SET GLOBAL {_TERMS}_{term}_enabled = ON",
    )
    replica = FakeReplica(server, server_id=0x30000000 + server.server_id, delay_seconds=delay_seconds)
    try:
        replica.start()
        yield replica
    finally:
        server.execute(f"SET GLOBAL {_TERMS}_{term}_enabled = OFF")  # who still waits is let go
        replica.stop()
