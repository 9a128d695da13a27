"""The connection to a server's binlog: start, follow, resume.

The server's dump protocol is spoken over a plain PyMySQL connection. A lost connection is the caller's to
retry: the next read resumes at the last delivered boundary.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeAlias

import pymysql

from dbmigrate.domain.errors import DbmigrateError, FatalError, TransientError
from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.domain.positions import Position
from dbmigrate.domain.schema import Table, TableName
from dbmigrate.mysql.binlog.deliveries import Delivery, PositionLost
from dbmigrate.mysql.binlog.events import MalformedEvent
from dbmigrate.mysql.binlog.gtids import MariadbGtids, MysqlGtids
from dbmigrate.mysql.binlog.packets import Batch, PacketStream, ServerError
from dbmigrate.mysql.binlog.transactions import Changes
from dbmigrate.mysql.faults import translate_fault

Connection: TypeAlias = Any
"""A ``pymysql.connections.Connection``; typed loosely because its socket is not part of the published types.
"""

_COM_BINLOG_DUMP, _COM_BINLOG_DUMP_GTID = 0x12, 0x1E
_BINLOG_THROUGH_GTID = 0x04
_MARIADB_GTID_CAPABILITY = 4
_READ_FAILED = 1236
_SAME_SERVER_ID = 4052  # MariaDB; MySQL says it with 1236
_OWN_IDS = 0x40000000  # ids that we choose are above it
_MOST_ROWS = 5_000  # small, so that a flush has something to do at once; a delivery itself costs next to nothing
_MOST_BATCHES = 64  # of 128 KiB: how much other traffic is passed over before keys found so far are delivered
_SILENT_SECONDS_AT_LEAST = 30.0
_SILENT_HEARTBEATS = 10


class BinlogReader:
    """Follows the binlog from a position and delivers the keys of followed tables.

    ``connect`` gives a fresh autocommit connection each time. ``server_id`` must be unique among the server's
    replicas. Keys inserted into ``marks_inserts`` come as ``MovedKey``. Not for use by two threads at once.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        *,
        version: ServerVersion,
        start: Position,
        tables: Mapping[TableName, Table],
        server_id: int,
        marks_inserts: Collection[TableName] = (),
        heartbeat_seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connect = connect
        self._version = version
        self._server_id = server_id
        self._heartbeat_seconds = heartbeat_seconds
        self._clock = clock
        self._changes = Changes(version, start, tables, marks_inserts=marks_inserts)
        self._connection: Connection | None = None
        self._stream: PacketStream | None = None
        self._batch: Batch | None = None
        self._index = 0
        self._outer: tuple[Batch, int] | None = None
        self._heard_at = 0.0

    def read(self, *, timeout_seconds: float) -> Delivery | None:
        """Everything decoded so far, about 5,000 rows at most; None when nothing arrived in time.

        Connects first if there is no connection. Transactions of other tables alone give a delivery without
        keys, so that the position moves on.

        Raises:
            PositionLost: the server no longer has what comes after the last delivered position.
            TransientError: the connection was lost; the next call resumes at the last delivered position.
            FatalError: the stream holds something that must not be passed over.
        """
        try:
            if self._stream is None:
                self._open()
            return self._read_until(self._clock() + timeout_seconds)
        except DbmigrateError:
            self.close()
            raise
        except ServerError as error:
            self.close()
            if _is_same_id(error.text):
                # Whoever connects last under an id wins; under another one there is nothing to fight over.
                self._server_id = _OWN_IDS | random.getrandbits(30)
            raise self._explain(error) from error
        except MalformedEvent as error:
            self.close()
            raise FatalError(
                "the binlog stream is damaged",
                place=str(self._changes.delivered),
                cause=str(error),
                hint="run again; if it happens at the same place, check the server's binlog with mysqlbinlog, then "
                "`dbmigrate run --resync`, which streams from now and repairs what was missed",
            ) from error
        except (pymysql.err.MySQLError, OSError, EOFError) as error:
            self.close()
            raise translate_fault(error, place="binlog stream", doing="reading the binlog") from error

    def close(self) -> None:
        """End the connection. Reading again would resume at the last delivered position."""
        connection, self._connection, self._stream = self._connection, None, None
        if connection is not None:
            connection._force_close()  # a dump has no polite end: the server ignores COM_QUIT while it sends

    def interrupt(self) -> None:
        """Let a read in another thread return at once, as if the connection were lost."""
        connection = self._connection
        if connection is not None:
            with contextlib.suppress(OSError, AttributeError):  # closed meanwhile
                connection._sock.shutdown(socket.SHUT_RDWR)

    def _open(self) -> None:
        position = self._changes.delivered
        self._changes.restart(position)
        self._batch, self._outer, self._index = None, None, 0
        self._connection = self._connect()
        start_dump(
            self._connection,
            version=self._version,
            position=position,
            server_id=self._server_id,
            heartbeat_seconds=self._heartbeat_seconds,
        )
        self._stream = PacketStream(self._connection._sock)
        self._heard_at = self._clock()

    def _read_until(self, deadline: float) -> Delivery | None:
        changes, batches = self._changes, 0
        while True:
            while not changes.has_events and self._next_batch():
                batches += 1
                assert self._batch is not None  # noqa: S101  # for mypy: _next_batch was true
                self._index = changes.decode(self._batch, self._index)
                if changes.rows >= _MOST_ROWS or batches >= _MOST_BATCHES:
                    break
            is_full = changes.has_events or changes.rows >= _MOST_ROWS or batches >= _MOST_BATCHES
            if not is_full and self._receive(0.0):
                continue
            delivery = changes.take_delivery()
            if delivery is not None or self._clock() >= deadline:
                return delivery
            if not is_full:
                self._receive(max(0.001, min(deadline - self._clock(), self._heartbeat_seconds)))
            batches = 0

    def _next_batch(self) -> bool:
        """Whether there are events to decode in ``_batch`` from ``_index`` on."""
        if self._changes.payload is not None:
            if self._outer is None:
                assert self._batch is not None  # noqa: S101  # for mypy: the payload came from it
                self._outer = self._batch, self._index
                self._batch = None
            if self._batch is not None and self._index < len(self._batch.frames):
                return True
            self._batch, self._index = self._changes.payload.take(), 0
            if self._batch is not None:
                return True
            self._changes.payload = None
            (self._batch, self._index), self._outer = self._outer, None
        if self._batch is not None and self._index < len(self._batch.frames):
            return True
        assert self._stream is not None  # noqa: S101  # for mypy: read has opened it
        self._batch, self._index = self._stream.take(), 0
        return self._batch is not None

    def _receive(self, timeout_seconds: float) -> bool:
        assert self._stream is not None  # noqa: S101  # for mypy: read has opened it
        if self._stream.receive(timeout_seconds):
            self._heard_at = self._clock()
            return True
        silent = self._clock() - self._heard_at
        if silent > max(_SILENT_SECONDS_AT_LEAST, _SILENT_HEARTBEATS * self._heartbeat_seconds):
            raise TransientError(
                f"the server has sent nothing for {silent:.0f} s, not even a heartbeat",
                place="binlog stream",
                hint="run again",
            )
        return False

    def _explain(self, error: ServerError) -> DbmigrateError:
        """What an error packet of the dump means."""
        cause = f"{error.text} (error {error.number})"
        if error.number in (_READ_FAILED, _SAME_SERVER_ID):
            return explain_read_failure(self._changes.delivered, cause)
        fault = pymysql.err.OperationalError(error.number, error.text)
        return translate_fault(fault, place="binlog stream", doing="reading the binlog")


def explain_read_failure(position: Position, cause: str) -> DbmigrateError:
    """The meaning of error 1236, which the servers use for nearly everything that goes wrong in a dump."""
    text = cause.casefold()
    place = f"binlog position {position}"
    if any(sign in text for sign in _SIGNS_OF_LOSS):
        return PositionLost(
            "the server no longer has the binlog from this position on",
            place=place,
            cause=cause,
            hint=format_purged_hint(),
        )
    if _is_same_id(text):
        return TransientError(
            "another replica connected with the same server id; going on under another one", place=place, cause=cause,
            hint="make sure that only one process streams for this migration",
        )  # fmt: skip
    if "shutdown" in text or "killed" in text:
        return TransientError("the server ended the dump", place=place, cause=cause, hint="run again")
    return FatalError(
        "the server cannot read its binlog", place=place, cause=cause,
        hint="find the cause in the server's error log; then `dbmigrate run --resync`, which streams from now and "
        "repairs what was missed",
    )  # fmt: skip


def _is_same_id(text: str) -> bool:
    text = text.casefold()
    return "same server_uuid/server_id" in text or "same server_id" in text


# Purged or removed files, a state that was never there (another server, RESET MASTER), an offset behind the
# end of a file that a crash has cut.
_SIGNS_OF_LOSS = (
    "could not find",
    "purged",
    "impossible position",
    "not in the master's binlog",
    "not in the source's binlog",
    "has more gtids",
    "alternate history",
    "position > file size",
    "requested to start",
    "errant",
    "diverged",
)


def format_purged_hint() -> str:
    """What to do when a position is gone."""
    return (
        "`dbmigrate run --resync` streams from now and repairs what was missed; to keep it from happening again, raise "
        "binlog_expire_logs_seconds (MariaDB: expire_logs_days) above the longest pause of the migration"
    )


def start_dump(
    connection: Connection,
    *,
    version: ServerVersion,
    position: Position,
    server_id: int,
    heartbeat_seconds: float,
) -> None:
    """Make the connection a binlog stream that begins at ``position``.

    By GTID where the position has any and the server can find them, so that a replica promoted in the
    meantime serves as well; else by file and offset.
    """
    nanoseconds = int(heartbeat_seconds * 1_000_000_000)
    with connection.cursor() as cursor:
        prefixes = ("master",) if version.is_mariadb else ("master", "source")
        for prefix in prefixes:  # MySQL 8.0 knows the first, later releases both
            cursor.execute(f"SET @{prefix}_binlog_checksum = @@GLOBAL.binlog_checksum")
            cursor.execute(f"SET @{prefix}_heartbeat_period = {nanoseconds}")
        if version.is_mariadb:
            cursor.execute(f"SET @mariadb_slave_capability = {_MARIADB_GTID_CAPABILITY}")
            if position.gtids:
                cursor.execute("SET @slave_connect_state = %s", (str(MariadbGtids(position.gtids)),))
                cursor.execute("SET @slave_gtid_strict_mode = 1, @slave_gtid_ignore_duplicates = 0")
        by_gtid = bool(position.gtids) and (version.is_mariadb or _has_gtid_mode(cursor))
    command = _build_command(version, position, server_id, by_gtid=by_gtid)
    connection._write_bytes(struct.pack("<I", len(command)) + command)
    connection._sock.settimeout(None)


def _has_gtid_mode(cursor: Any) -> bool:
    cursor.execute("SELECT @@GLOBAL.gtid_mode")
    return str(cursor.fetchone()[0]).upper() == "ON"


def _build_command(version: ServerVersion, position: Position, server_id: int, *, by_gtid: bool) -> bytes:
    if by_gtid and not version.is_mariadb:
        gtids = MysqlGtids(position.gtids).encode()
        head = struct.pack("<BHIIQI", _COM_BINLOG_DUMP_GTID, _BINLOG_THROUGH_GTID, server_id, 0, 4, len(gtids))
        return head + gtids
    file, offset = ("", 4) if by_gtid else (position.file, position.offset)
    if offset >= 1 << 32:
        raise PositionLost(
            "this position is too far into its file to be asked for",
            place=f"binlog position {position}",
            hint=format_purged_hint(),
        )
    return struct.pack("<BIHI", _COM_BINLOG_DUMP, offset, 0, server_id) + file.encode()


def read_current_position(connection: Connection, version: ServerVersion) -> Position:
    """The end of the server's binlog: a transaction boundary.

    On MariaDB its GTIDs may be a moment older than its offset, which costs re-reading. The exact ones
    (``BINLOG_GTID_POS``) would take the server a scan of the file, up to a second of a write pause that asks for this.

    Raises:
        FatalError: the server writes no binlog.
    """
    gtids: Any = None
    with connection.cursor() as cursor:
        if version.is_mariadb:
            cursor.execute("SELECT @@GLOBAL.gtid_binlog_pos")
            (gtids,) = cursor.fetchone() or (None,)
        cursor.execute(version.binlog_status_statement)
        row = cursor.fetchone()
        if not row:
            raise FatalError(
                "the server writes no binlog",
                place="@@log_bin",
                hint="set log_bin and a server_id on the source, and restart it",
            )
        file, offset = str(row[0]), int(row[1])
        if not version.is_mariadb:
            return Position(file, offset, str(MysqlGtids(str(row[4] or "").replace("\n", ""))))
    return Position(file, offset, str(MariadbGtids(str(gtids or ""))))


def has_reached(position: Position, wanted: Position, version: ServerVersion) -> bool:
    """Whether everything before ``wanted`` also lies before ``position``.

    By GTIDs where both have any, since files differ between servers; else by file and offset.
    """
    if position.gtids and wanted.gtids:
        if version.is_mariadb:
            return MariadbGtids(wanted.gtids) in MariadbGtids(position.gtids)
        return MysqlGtids(wanted.gtids) in MysqlGtids(position.gtids)
    return _order_of(position) >= _order_of(wanted)


def _order_of(position: Position) -> tuple[int, int]:
    """Binlog files are numbered; the number may outgrow its six digits."""
    number = position.file.rpartition(".")[2]
    return (int(number) if number.isdigit() else 0, position.offset)
