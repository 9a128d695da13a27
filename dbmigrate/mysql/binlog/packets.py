"""From the socket to framed events: nothing here knows what an event means.

The protocol's own packet reader costs more per event than everything after it, so bytes are taken from the
socket in large pieces and events are found by their headers. A timeout never loses part of a packet: what has
arrived stays in the buffer. Compressed transactions are unfolded into the same frames.
"""

from __future__ import annotations

import io
import ssl
import struct
import zlib
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import zstandard

from dbmigrate.mysql.binlog.events import (
    CHECKSUM_BYTES,
    FLAG_ARTIFICIAL,
    HEADER_BYTES,
    EventType,
    MalformedEvent,
    TransactionPayload,
    parse_format_description,
)

_RECEIVE_BYTES = 128 * 1024
_LARGEST_PACKET = 0xFFFFFF
_ERROR_PACKET, _END_PACKET = 0xFF, 0xFE

# Packet header, OK byte and event header: packet length (low, high), OK byte, type, event length, log_pos,
# flags.
_PACKET = struct.Struct("<HBxB4xB4xIIH")
_EVENT = struct.Struct("<4xB4xIIH")

_CHECKSUM_HOLDS = 0x2144DF1C  # CRC32 of any bytes followed by their own CRC32
# The server makes heartbeats up, and format descriptions carry a checksum always.
_SELF_DESCRIBED = frozenset({int(EventType.FORMAT_DESCRIPTION), int(EventType.HEARTBEAT), int(EventType.HEARTBEAT_V2)})

Frame: TypeAlias = tuple[int, int, int, int, int]  # body's start and end, event type, end in the file, flags


class ServerSocket(Protocol):
    """What is used of a plain, Unix or TLS socket."""

    def recv(self, size: int, /) -> bytes:
        """Up to ``size`` bytes; none when the peer has closed."""

    def settimeout(self, value: float | None, /) -> None:
        """0 for a socket that does not block."""


class StreamEnded(ConnectionError):  # noqa: N818 - an end, not a mistake
    """The server closed the connection or ended the dump."""


class ServerError(Exception):
    """The server ended the dump with an error packet."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(number, text)
        self.number = number
        self.text = text


@dataclass(frozen=True, slots=True)
class Batch:
    """Complete events in one buffer, in order."""

    buffer: bytes
    frames: list[Frame]


class PacketStream:
    """Events from the server's dump thread.

    Checksums are verified. Measured, that takes a sixth to a quarter of the decoding's speed, which stays above what a
    target can take in (live, single-row transactions: 87,000-114,000 rows/s), and MariaDB 10.11 sends them even to
    readers that ask for none.
    """

    def __init__(self, socket: ServerSocket) -> None:
        self._socket = socket
        self._buffer = b""
        self._position = 0
        self._arrived: list[bytes] = []
        self._missing = 1  # bytes without which no further event can be complete
        self._checksum_bytes = 0

    def receive(self, timeout_seconds: float) -> bool:
        """Wait for bytes; False when none arrived in time (0: do not wait).

        Raises:
            StreamEnded: the peer closed the connection.
            OSError: the connection broke.
        """
        self._socket.settimeout(timeout_seconds)
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
        except (TimeoutError, BlockingIOError, ssl.SSLWantReadError):
            return False
        if not data:
            raise StreamEnded("the server closed the connection")
        self._arrived.append(data)
        self._missing -= len(data)
        return True

    def take(self) -> Batch | None:
        """The complete events received so far; None if there is none.

        Raises:
            ServerError: the server sent an error packet.
            StreamEnded: the server ended the dump.
            MalformedEvent: lengths or checksums contradict each other.
        """
        if self._missing > 0:
            return None
        if self._arrived:
            self._buffer = b"".join((self._buffer[self._position :], *self._arrived))
            self._position = 0
            self._arrived.clear()
        frames = self._frame()
        if frames:
            return Batch(self._buffer, frames)
        return self._take_unusual()

    def _frame(self) -> list[Frame]:
        buffer, position, checksum = self._buffer, self._position, self._checksum_bytes
        end, last = len(buffer), len(buffer) - _PACKET.size
        unpack, crc32, view = _PACKET.unpack_from, zlib.crc32, memoryview(buffer)
        frames: list[Frame] = []
        while position <= last:
            low, high, ok, kind, size, log_pos, flags = unpack(buffer, position)
            following = position + 5 + size
            if ok or low + (high << 16) != size + 1 or following > end or size >= _LARGEST_PACKET - 1:
                break
            body_end = following - checksum
            if kind in _SELF_DESCRIBED or flags & FLAG_ARTIFICIAL:
                body_end, checksum = self._end_of_unusual(kind, view, position + 5, following)
            elif checksum and crc32(buffer[position + 5 : following]) != _CHECKSUM_HOLDS:
                raise MalformedEvent(f"checksum of the event that ends at {log_pos} is wrong")
            frames.append((position + 24, body_end, kind, log_pos, flags))
            position = following
        self._position = position
        return frames

    def _end_of_unusual(self, kind: int, view: memoryview, start: int, end: int) -> tuple[int, int]:
        """Where the body ends of an event outside the file's checksum setting, and the setting from now on."""
        if kind == EventType.FORMAT_DESCRIPTION:
            has_checksums = parse_format_description(bytes(view[start + HEADER_BYTES : end])).has_checksums
            self._checksum_bytes = CHECKSUM_BYTES if has_checksums else 0
        elif zlib.crc32(view[start:end]) == _CHECKSUM_HOLDS:
            end -= CHECKSUM_BYTES
        return end, self._checksum_bytes

    def _take_unusual(self) -> Batch | None:
        """A packet that is no plain event, one that spans several packets, or one that is not complete."""
        buffer, position = self._buffer, self._position
        available = len(buffer) - position
        if available < 5:
            self._missing = 5 - available
            return None
        length, status = int.from_bytes(buffer[position : position + 3], "little"), buffer[position + 4]
        if length < _LARGEST_PACKET and available < 4 + length:
            self._missing = 4 + length - available
            return None
        if status == _ERROR_PACKET:
            text = buffer[position + 7 : position + 4 + length].decode("utf-8", "replace")
            text = text[6:] if text.startswith("#") else text  # without the SQLSTATE
            raise ServerError(int.from_bytes(buffer[position + 5 : position + 7], "little"), text)
        if status == _END_PACKET and length < 9:
            raise StreamEnded("the server ended the dump")
        if length < _LARGEST_PACKET:
            raise MalformedEvent(f"packet of {length} bytes with status {status} is no event")
        return self._take_large(buffer, position, available)

    def _take_large(self, buffer: bytes, position: int, available: int) -> Batch | None:
        """One event in several packets, put together."""
        if available < _PACKET.size:
            self._missing = _PACKET.size - available
            return None
        _, _, _, kind, size, log_pos, flags = _PACKET.unpack_from(buffer, position)
        packets = (size + 1) // _LARGEST_PACKET + 1
        total = size + 1 + 4 * packets
        if available < total:
            self._missing = total - available
            return None
        step = _LARGEST_PACKET + 4
        parts = [
            buffer[position + i * step + 4 : min(position + (i + 1) * step, position + total)] for i in range(packets)
        ]
        event = b"".join(parts)[1:]
        self._position = position + total
        if len(event) != size:
            raise MalformedEvent(f"event of {size} bytes in packets of {len(event)}")
        body_end = size - self._checksum_bytes
        if self._checksum_bytes and zlib.crc32(event[:body_end]) != int.from_bytes(event[body_end:], "little"):
            raise MalformedEvent(f"checksum of the event that ends at {log_pos} is wrong")
        return Batch(event, [(HEADER_BYTES, body_end, kind, log_pos, flags)])


class PayloadStream:
    """The events inside a transaction payload, unfolded piece by piece; they carry no checksums."""

    def __init__(self, payload: TransactionPayload, log_pos: int) -> None:
        raw = io.BytesIO(payload.data)
        self._source: io.BytesIO | zstandard.ZstdDecompressionReader = raw
        if payload.is_compressed:
            self._source = zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)
        self._log_pos = log_pos
        self._rest = b""

    def take(self) -> Batch | None:
        """The next complete events; None at the end.

        Raises:
            MalformedEvent: the payload is damaged or ends inside an event.
        """
        wanted = 1024 * 1024
        while True:
            try:
                piece = self._source.read(wanted)
            except zstandard.ZstdError as error:
                raise MalformedEvent(f"transaction payload is damaged: {error}") from error
            buffer = self._rest + piece
            frames, position = self._frame(buffer)
            self._rest = buffer[position:]
            if frames:
                return Batch(buffer, frames)
            if not piece:
                if self._rest:
                    raise MalformedEvent("transaction payload ends inside an event")
                return None
            wanted *= 2

    def _frame(self, buffer: bytes) -> tuple[list[Frame], int]:
        position, frames = 0, []
        while position + HEADER_BYTES <= len(buffer):
            kind, size, _, flags = _EVENT.unpack_from(buffer, position)
            if size < HEADER_BYTES:
                raise MalformedEvent(f"event of {size} bytes in a transaction payload")
            if position + size > len(buffer):
                break
            frames.append((position + HEADER_BYTES, position + size, kind, self._log_pos, flags))
            position += size
        return frames, position
