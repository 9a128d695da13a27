"""GTID sets of both flavours: kept up to date as transactions pass, and sent when a dump starts.

Apart because MySQL's sets must carry tags (8.3 and newer), which python-mysql-replication cannot parse, and
because adding the next transaction of a server has to cost next to nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from dbmigrate.mysql.binlog.events import MalformedEvent

Source = tuple[bytes, str]  # a server's UUID in 16 bytes, and the tag ("" for none)


class MysqlGtids:
    """A mutable set of MySQL GTIDs: half-open intervals for each server UUID and tag."""

    def __init__(self, text: str = "") -> None:
        """From the server's notation. Raises ValueError when it is not one."""
        self._intervals: dict[Source, list[list[int]]] = {}
        for part in filter(None, (p.strip() for p in text.split(","))):
            self._add_text(part)

    def _add_text(self, part: str) -> None:
        uuid, *fields = (field.strip() for field in part.split(":"))
        source = bytes.fromhex(uuid.replace("-", ""))
        if len(source) != 16 or not fields:
            raise ValueError(f"not a GTID set: {part!r}")
        tag = ""
        for field in fields:
            if field[:1].isdigit():
                first, _, last = field.partition("-")
                self._add_interval((source, tag), int(first), int(last or first) + 1)
            else:
                tag = field.lower()

    def add(self, source: bytes, number: int, tag: str = "") -> None:
        """One more transaction; known ones change nothing."""
        intervals = self._intervals.get((source, tag))
        if intervals and intervals[-1][1] == number:
            intervals[-1][1] = number + 1
        else:
            self._add_interval((source, tag), number, number + 1)

    def _add_interval(self, source: Source, start: int, end: int) -> None:
        merged: list[list[int]] = []
        for low, high in sorted([*self._intervals.get(source, []), [start, end]]):
            if merged and low <= merged[-1][1]:
                merged[-1][1] = max(merged[-1][1], high)
            else:
                merged.append([low, high])
        self._intervals[source] = merged

    def _sorted(self) -> Iterable[tuple[Source, list[list[int]]]]:
        return sorted(self._intervals.items())

    def __str__(self) -> str:
        parts: dict[bytes, str] = {}
        for (source, tag), intervals in self._sorted():
            numbers = ":".join(f"{a}" if b == a + 1 else f"{a}-{b - 1}" for a, b in intervals)
            hexed = source.hex()
            uuid = "-".join((hexed[:8], hexed[8:12], hexed[12:16], hexed[16:20], hexed[20:]))
            parts[source] = parts.get(source, uuid) + (f":{tag}" if tag else "") + f":{numbers}"
        return ",".join(parts.values())

    def __contains__(self, other: object) -> bool:
        """Whether every transaction of ``other`` (a MysqlGtids) is in this set."""
        if not isinstance(other, MysqlGtids):
            return False
        return all(
            any(low <= start and end <= high for low, high in self._intervals.get(source, []))
            for source, intervals in other._intervals.items()
            for start, end in intervals
        )

    @classmethod
    def decode(cls, data: bytes) -> MysqlGtids:
        """From the body of a PREVIOUS_GTIDS event, the inverse of ``encode``.

        Raises:
            MalformedEvent: the bytes are in another format.
        """
        gtids = cls()
        (head,) = struct.unpack_from("<Q", data)
        is_tagged, position = bool(head >> 56), 8
        if head >> 56 not in (0, 1):
            raise MalformedEvent(f"GTID set in the unknown format {head >> 56}")
        for _ in range((head & 0xFFFFFFFFFFFFFF) >> 8 if is_tagged else head):
            source, tag = data[position : position + 16], ""
            position += 16
            if is_tagged:
                length = data[position] >> 1
                tag = data[position + 1 : position + 1 + length].decode()
                position += 1 + length
            (count,) = struct.unpack_from("<Q", data, position)
            position += 8
            for start, end in struct.iter_unpack("<QQ", data[position : position + 16 * count]):
                gtids._add_interval((source, tag), start, end)
            position += 16 * count
        if position != len(data):
            raise MalformedEvent("GTID set does not end with its event")
        return gtids

    def encode(self) -> bytes:
        """As COM_BINLOG_DUMP_GTID sends it; the tagged format only if there is a tag."""
        is_tagged = any(tag for _, tag in self._intervals)
        count = len(self._intervals)
        encoded = [struct.pack("<Q", 1 << 56 | count << 8 | 1 if is_tagged else count)]
        for (source, tag), intervals in self._sorted():
            encoded.append(source)
            if is_tagged:
                encoded.append(bytes((len(tag) << 1,)) + tag.encode())  # a tag has at most 32 characters
            encoded.append(struct.pack("<Q", len(intervals)))
            encoded += [struct.pack("<QQ", start, end) for start, end in intervals]
        return b"".join(encoded)


class MariadbGtids:
    """A mutable MariaDB GTID position: the last transaction of each replication domain."""

    def __init__(self, text: str = "") -> None:
        """From the server's notation. Raises ValueError when it is not one."""
        self._last: dict[int, tuple[int, int]] = {}
        for part in filter(None, (p.strip() for p in text.split(","))):
            domain, server, sequence = part.split("-")
            self._last[int(domain)] = (int(server), int(sequence))

    @classmethod
    def decode(cls, data: bytes) -> MariadbGtids:
        """From the body of a GTID_LIST event: the last entry of a domain is its last transaction."""
        gtids = cls()
        count = int.from_bytes(data[:4], "little") & 0x0FFFFFFF  # the upper bits are flags
        for domain, server, sequence in struct.iter_unpack("<IIQ", data[4 : 4 + 16 * count]):
            gtids.add(domain, server, sequence)
        return gtids

    def add(self, domain: int, server: int, sequence: int) -> None:
        """The transaction that the domain now ends with."""
        self._last[domain] = (server, sequence)

    def __str__(self) -> str:
        return ",".join(f"{domain}-{server}-{seq}" for domain, (server, seq) in sorted(self._last.items()))

    def __contains__(self, other: object) -> bool:
        """Whether every domain of ``other`` (a MariadbGtids) has come at least as far here."""
        if not isinstance(other, MariadbGtids):
            return False
        return all(
            domain in self._last and self._last[domain][1] >= sequence for domain, (_, sequence) in other._last.items()
        )


def parse_tagged_gtid(body: bytes) -> tuple[bytes, int, str]:
    """UUID, number and tag from MySQL's GTID_TAGGED event, which is in the serialization library's format.

    Raises:
        MalformedEvent: fields in another order than that event has them.
    """
    _version, position = _read_varlen(body, 0)
    _size, position = _read_varlen(body, position)
    _last_required, position = _read_varlen(body, position)
    position = _require_field(body, position, 0)
    _flags, position = _read_varlen(body, position)
    position = _require_field(body, position, 1)
    uuid = bytearray()
    for _ in range(16):
        byte, position = _read_varlen(body, position)
        uuid.append(byte)
    position = _require_field(body, position, 2)
    number, position = _read_varlen(body, position)
    position = _require_field(body, position, 3)
    length, position = _read_varlen(body, position)
    return bytes(uuid), number >> 1, body[position : position + length].decode()  # the lowest bit is the sign


def _require_field(body: bytes, position: int, expected: int) -> int:
    field, position = _read_varlen(body, position)
    if field != expected:
        raise MalformedEvent(f"tagged GTID has field {field} where {expected} belongs")
    return position


def _read_varlen(body: bytes, position: int) -> tuple[int, int]:
    """As many more bytes follow as the first has trailing ones; the rest of the bits is the value."""
    if position >= len(body):
        raise MalformedEvent("tagged GTID ends early")
    first = body[position]
    extra = ((~first & 0xFF) & -(~first & 0xFF)).bit_length() - 1 if first != 0xFF else 8
    raw = int.from_bytes(body[position : position + 1 + extra], "little")
    return raw >> min(extra + 1, 8), position + 1 + extra
