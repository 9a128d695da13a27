"""The binlog's wire format: event types, and parsers of the events that are rare.

Pure functions over bytes. Row events and table maps are hot and live in ``rows``; the order of events is
judged in ``transactions``. python-mysql-replication's classes for these events need a control connection and
an open packet to be built, so each body is read here in the few lines that its layout takes.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum

HEADER_BYTES = 19
CHECKSUM_BYTES = 4
FLAG_ARTIFICIAL = 0x20
FLAG_IGNORABLE = 0x80


class EventType(IntEnum):
    """The event types that this reader knows; any other stops it unless it is flagged as ignorable."""

    QUERY = 2
    STOP = 3
    ROTATE = 4
    INTVAR = 5
    APPEND_BLOCK = 9
    DELETE_FILE = 11
    RAND = 13
    USER_VAR = 14
    FORMAT_DESCRIPTION = 15
    XID = 16
    BEGIN_LOAD_QUERY = 17
    EXECUTE_LOAD_QUERY = 18
    TABLE_MAP = 19
    WRITE_ROWS_V1 = 23
    UPDATE_ROWS_V1 = 24
    DELETE_ROWS_V1 = 25
    INCIDENT = 26
    HEARTBEAT = 27
    IGNORABLE = 28
    ROWS_QUERY = 29
    WRITE_ROWS = 30
    UPDATE_ROWS = 31
    DELETE_ROWS = 32
    GTID = 33
    ANONYMOUS_GTID = 34
    PREVIOUS_GTIDS = 35
    VIEW_CHANGE = 37
    XA_PREPARE = 38
    PARTIAL_UPDATE_ROWS = 39
    TRANSACTION_PAYLOAD = 40
    HEARTBEAT_V2 = 41
    GTID_TAGGED = 42
    MARIADB_ANNOTATE_ROWS = 160
    MARIADB_BINLOG_CHECKPOINT = 161
    MARIADB_GTID = 162
    MARIADB_GTID_LIST = 163
    MARIADB_START_ENCRYPTION = 164
    MARIADB_QUERY_COMPRESSED = 165
    MARIADB_WRITE_ROWS_COMPRESSED_V1 = 166
    MARIADB_UPDATE_ROWS_COMPRESSED_V1 = 167
    MARIADB_DELETE_ROWS_COMPRESSED_V1 = 168
    MARIADB_WRITE_ROWS_COMPRESSED = 169
    MARIADB_UPDATE_ROWS_COMPRESSED = 170
    MARIADB_DELETE_ROWS_COMPRESSED = 171


# What each row event is written as: (is an update, has the v2 post-header, is partial, is compressed).
ROW_EVENTS: dict[int, tuple[bool, bool, bool, bool]] = {
    EventType.WRITE_ROWS_V1: (False, False, False, False),
    EventType.UPDATE_ROWS_V1: (True, False, False, False),
    EventType.DELETE_ROWS_V1: (False, False, False, False),
    EventType.WRITE_ROWS: (False, True, False, False),
    EventType.UPDATE_ROWS: (True, True, False, False),
    EventType.DELETE_ROWS: (False, True, False, False),
    EventType.PARTIAL_UPDATE_ROWS: (True, True, True, False),
    EventType.MARIADB_WRITE_ROWS_COMPRESSED_V1: (False, False, False, True),
    EventType.MARIADB_UPDATE_ROWS_COMPRESSED_V1: (True, False, False, True),
    EventType.MARIADB_DELETE_ROWS_COMPRESSED_V1: (False, False, False, True),
    EventType.MARIADB_WRITE_ROWS_COMPRESSED: (False, True, False, True),
    EventType.MARIADB_UPDATE_ROWS_COMPRESSED: (True, True, False, True),
    EventType.MARIADB_DELETE_ROWS_COMPRESSED: (False, True, False, True),
}

DELETE_EVENTS = frozenset(
    {
        EventType.DELETE_ROWS_V1,
        EventType.DELETE_ROWS,
        EventType.MARIADB_DELETE_ROWS_COMPRESSED_V1,
        EventType.MARIADB_DELETE_ROWS_COMPRESSED,
    }
)

# Understood, and of no consequence for keys. The parts of LOAD DATA and the variables of a statement precede
# the query event that decides about it.
SKIPPED_EVENTS = frozenset(
    {
        EventType.STOP,
        EventType.INTVAR,
        EventType.APPEND_BLOCK,
        EventType.DELETE_FILE,
        EventType.RAND,
        EventType.USER_VAR,
        EventType.BEGIN_LOAD_QUERY,
        EventType.HEARTBEAT,
        EventType.HEARTBEAT_V2,
        EventType.IGNORABLE,
        EventType.ROWS_QUERY,
        EventType.VIEW_CHANGE,
        EventType.MARIADB_ANNOTATE_ROWS,
        EventType.MARIADB_BINLOG_CHECKPOINT,
        EventType.MARIADB_START_ENCRYPTION,
    }
)


class MalformedEvent(Exception):  # noqa: N818 - a fact about the event; the reader turns it into a FatalError
    """The bytes of an event contradict its layout."""


@dataclass(frozen=True, slots=True)
class FormatDescription:
    """What the head of a binlog file says about the events in it."""

    server_version: str
    has_checksums: bool


# Event type -> post-header length that the parsers here rely on.
_POST_HEADERS = {
    EventType.QUERY: 13,
    EventType.ROTATE: 8,
    EventType.TABLE_MAP: 8,
    EventType.WRITE_ROWS_V1: 8,
    EventType.UPDATE_ROWS_V1: 8,
    EventType.DELETE_ROWS_V1: 8,
    EventType.WRITE_ROWS: 10,
    EventType.UPDATE_ROWS: 10,
    EventType.DELETE_ROWS: 10,
}


def parse_format_description(body: bytes) -> FormatDescription:
    """From the body with its checksum, which this event always carries.

    Raises:
        MalformedEvent: another binlog version, or event headers of another length than the parsers expect.
    """
    binlog_version, version, _created, header_bytes = struct.unpack_from("<H50sIB", body)
    if binlog_version != 4 or header_bytes != HEADER_BYTES:
        raise MalformedEvent(f"binlog version {binlog_version} with event headers of {header_bytes} bytes")
    lengths = body[57 : -CHECKSUM_BYTES - 1]
    for event_type, expected in _POST_HEADERS.items():
        if event_type <= len(lengths) and lengths[event_type - 1] not in (expected, 0):  # 0: never written
            raise MalformedEvent(f"{event_type.name} events have a head of {lengths[event_type - 1]} bytes")
    algorithm = body[-CHECKSUM_BYTES - 1]
    if algorithm not in (0, 1):
        raise MalformedEvent(f"unknown checksum algorithm {algorithm}")
    return FormatDescription(version.rstrip(b"\0").decode("utf-8", "replace"), algorithm == 1)


def parse_rotate(body: bytes) -> tuple[str, int]:
    """The file that follows, and the offset in it."""
    return body[8:].decode(), int.from_bytes(body[:8], "little")


@dataclass(frozen=True, slots=True)
class Query:
    """A statement in the binlog. ``schema`` is the session's default database, empty if it had none."""

    schema: str
    statement: str


_QUERY_HEAD = struct.Struct("<8xB2xH")
_LOAD_QUERY_EXTRA_BYTES = 13


def parse_query(body: bytes, *, is_load: bool = False, is_compressed: bool = False) -> Query:
    """From a QUERY, EXECUTE_LOAD_QUERY or MariaDB's QUERY_COMPRESSED event."""
    schema_bytes, status_bytes = _QUERY_HEAD.unpack_from(body)
    start = 13 + (_LOAD_QUERY_EXTRA_BYTES if is_load else 0) + status_bytes
    end = start + schema_bytes
    if end >= len(body):
        raise MalformedEvent("a statement's head is longer than its event")
    statement = body[end + 1 :]
    if is_compressed:
        statement = uncompress_mariadb(statement)
    return Query(body[start:end].decode("utf-8", "replace"), statement.decode("utf-8", "replace"))


def uncompress_mariadb(data: bytes) -> bytes:
    """MariaDB's compressed part of an event: algorithm and size of the length, the length, a zlib stream."""
    length_bytes = data[0] & 0x07
    if data[0] & 0x70:
        raise MalformedEvent(f"unknown compression algorithm {(data[0] & 0x70) >> 4}")
    length = int.from_bytes(data[1 : 1 + length_bytes], "big")
    try:
        plain = zlib.decompress(data[1 + length_bytes :])
    except zlib.error as error:
        raise MalformedEvent(f"compressed part is damaged: {error}") from error
    if len(plain) != length:
        raise MalformedEvent(f"compressed part holds {len(plain)} bytes, not {length}")
    return plain


def parse_xa_prepare(body: bytes) -> tuple[str, bool]:
    """The transaction's name as XA COMMIT will spell it, and whether it commits at once (one phase)."""
    one_phase, format_id, first, second = struct.unpack_from("<BiII", body)
    return format_xid(format_id, body[13 : 13 + first], body[13 + first : 13 + first + second]), bool(one_phase)


def format_xid(format_id: int, gtrid: bytes, bqual: bytes) -> str:
    """An XA transaction's name as the servers write it into XA COMMIT and XA ROLLBACK."""
    return f"X'{gtrid.hex()}',X'{bqual.hex()}',{format_id}"


@dataclass(frozen=True, slots=True)
class TransactionPayload:
    """A whole transaction in one event; ``data`` is its events one after the other, without checksums."""

    is_compressed: bool
    uncompressed_bytes: int
    data: bytes


def parse_transaction_payload(body: bytes) -> TransactionPayload:
    """From MySQL's TRANSACTION_PAYLOAD event.

    Raises:
        MalformedEvent: an unknown compression, or no end of the header.
    """
    position, size, compression, uncompressed = 0, -1, -1, 0
    while True:
        field, position = read_length_coded(body, position)
        if field == 0:
            break
        length, position = read_length_coded(body, position)
        value, _ = read_length_coded(body, position)
        position += length
        if field == 1:
            size = value
        elif field == 2:
            compression = value
        elif field == 3:
            uncompressed = value
    data = body[position:]
    if compression not in (0, 255) or size != len(data):
        raise MalformedEvent(f"transaction payload of {size} bytes in compression {compression}")
    return TransactionPayload(compression == 0, uncompressed or size, data)


def read_length_coded(data: bytes, position: int) -> tuple[int, int]:
    """A length-coded integer and the position behind it.

    Raises:
        MalformedEvent: the data ends before it.
    """
    try:
        first = data[position]
        if first < 251:
            return first, position + 1
        size = {252: 2, 253: 3, 254: 8}[first]
    except (IndexError, KeyError) as error:
        raise MalformedEvent(f"no length-coded integer at byte {position}") from error
    end = position + 1 + size
    if end > len(data):
        raise MalformedEvent(f"no length-coded integer at byte {position}")
    return int.from_bytes(data[position + 1 : end], "little"), end
