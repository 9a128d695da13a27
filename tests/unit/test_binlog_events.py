"""Hand-made events: framing, transactions, resume points and everything that must stop the stream."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable

import pytest
import zstandard

from dbmigrate.domain.errors import DbmigrateError, FatalError, TransientError
from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.domain.positions import Position
from dbmigrate.domain.schema import Column, Index, Table, TableName
from dbmigrate.mysql.binlog import Delivery, PositionLost, SchemaChanged, Truncated, has_reached
from dbmigrate.mysql.binlog.events import MalformedEvent, uncompress_mariadb
from dbmigrate.mysql.binlog.gtids import MariadbGtids, MysqlGtids, parse_tagged_gtid
from dbmigrate.mysql.binlog.packets import PacketStream, ServerError, StreamEnded
from dbmigrate.mysql.binlog.reader import explain_read_failure
from dbmigrate.mysql.binlog.transactions import Changes

MYSQL, MARIADB = ServerVersion.parse("8.4.0"), ServerVersion.parse("10.11.6-MariaDB")
NAME = TableName("shop", "t")
COLUMNS = (Column("id", 0, "int", "int", False), Column("v", 1, "varchar", "varchar(9)", True))
TABLE = Table(NAME, "InnoDB", COLUMNS, (), (), Index("PRIMARY", ("id",), True, True), "")
UUID = bytes(range(16))
START = Position("bin.000001", 4, "")
TABLE_MAP = b"\x15\0\0\0\0\0\1\0" + b"\4shop\0\1t\0" + b"\2\x03\x0f\2\x24\0\2"
OTHER_MAP = b"\x16\0\0\0\0\0\1\0" + b"\4shop\0\5other\0" + b"\1\x03\0\0"


def event(kind: int, body: bytes, log_pos: int = 100, flags: int = 0, *, checksum: bool = True) -> bytes:
    size = 19 + len(body) + 4 * checksum
    data = struct.pack("<IBIIIH", 1, kind, 7, size, log_pos, flags) + body
    return data + struct.pack("<I", zlib.crc32(data)) * checksum


def packet(*events: bytes) -> bytes:
    """Events as the server sends them; from 16 MiB on in several packets."""
    out = []
    for data in events:
        payload, sequence = b"\0" + data, 0
        while True:
            part, payload = payload[:0xFFFFFF], payload[0xFFFFFF:]
            out.append(struct.pack("<I", len(part))[:3] + bytes((sequence,)) + part)
            if len(part) < 0xFFFFFF:
                break
            sequence += 1
    return b"".join(out)


def format_description(*, checksums: bool = True, version: int = 4) -> bytes:
    lengths = bytearray(60)
    for kind, length in {2: 13, 4: 8, 19: 8, 23: 8, 24: 8, 25: 8, 30: 10, 31: 10, 32: 10}.items():
        lengths[kind - 1] = length
    body = struct.pack("<H50sIB", version, b"8.4.0", 0, 19) + bytes(lengths) + bytes((checksums,))
    return event(15, body, 0)


def query(statement: str, log_pos: int = 100, schema: bytes = b"shop") -> bytes:
    return event(
        2, struct.pack("<IIBHH", 1, 0, len(schema), 0, 3) + b"abc" + schema + b"\0" + statement.encode(), log_pos
    )


def gtid(number: int) -> bytes:
    return event(33, b"\1" + UUID + struct.pack("<Q", number) + b"\2" + b"\0" * 16)


def mariadb_gtid(number: int, flags: int = 0) -> bytes:
    return event(162, struct.pack("<QIB", number, 0, flags) + b"\0" * 6)


def insert(*ids: int, extra: bytes = b"") -> bytes:
    rows = b"".join(b"\0" + struct.pack("<i", id_) + b"\1x" for id_ in ids)
    return event(30, b"\x15\0\0\0\0\0\1\0" + struct.pack("<H", 2 + len(extra)) + extra + b"\2\x03" + rows)


def update(before: int, after: int | None) -> bytes:
    """MINIMAL: the key before, and after it the key only if it changed."""
    image = b"\0\1y" if after is None else b"\0" + struct.pack("<i", after)
    head = b"\x15\0\0\0\0\0\1\0\2\0\2\x01" + (b"\x02" if after is None else b"\x01")
    return event(31, head + b"\0" + struct.pack("<i", before) + image)


def xid(log_pos: int) -> bytes:
    return event(16, struct.pack("<Q", 9), log_pos)


def transaction(number: int, *rows: bytes, ends_at: int) -> list[bytes]:
    return [gtid(number), query("BEGIN"), event(19, TABLE_MAP), *rows, xid(ends_at)]


class FakeSocket:
    """Gives the bytes in pieces of a fixed size, then nothing in time."""

    def __init__(self, data: bytes, piece: int = 1 << 20) -> None:
        self.data = data
        self.piece = piece

    def settimeout(self, value: float | None, /) -> None:
        pass

    def recv(self, size: int, /) -> bytes:
        if not self.data:
            raise TimeoutError
        part, self.data = self.data[: min(size, self.piece)], self.data[min(size, self.piece) :]
        return part


def decode(
    events: Iterable[bytes], version: ServerVersion = MYSQL, start: Position = START, piece: int = 1 << 20
) -> tuple[list[Delivery], Changes]:
    """All deliveries of a stream that begins with a format description."""
    stream = PacketStream(FakeSocket(packet(format_description(), *events), piece))
    changes, deliveries = Changes(version, start, {NAME: TABLE}), []
    while stream.receive(0):
        while (batch := stream.take()) is not None:
            index = 0
            while index < len(batch.frames):
                index = changes.decode(batch, index)
                while changes.payload is not None:
                    inner = changes.payload.take()
                    if inner is None:
                        changes.payload = None
                    else:
                        assert changes.decode(inner, 0) == len(inner.frames)
                if changes.has_events:
                    deliveries.append(changes.take_delivery())
    deliveries.append(changes.take_delivery())
    return [d for d in deliveries if d is not None], changes


def keys(deliveries: Iterable[Delivery]) -> list[bytes]:
    return [key for d in deliveries for key in d.keys.get(NAME, [])]


@pytest.mark.parametrize("piece", [1, 7, 100, 1 << 20])
def test_pieces_of_the_stream_do_not_matter(piece: int) -> None:
    """However the bytes arrive, the same keys and the same position."""
    events = [*transaction(1, insert(1, 2), ends_at=300), *transaction(2, update(2, None), update(1, 5), ends_at=500)]
    deliveries, _ = decode(events, piece=piece)
    assert keys(deliveries) == [b"1", b"2", b"2", b"1", b"5"]
    assert (deliveries[-1].position.offset, deliveries[-1].rows, deliveries[-1].is_boundary) == (500, 4, True)


def test_position_stays_before_an_unfinished_transaction() -> None:
    deliveries, changes = decode(
        [*transaction(1, ends_at=300), gtid(2), query("BEGIN"), event(19, TABLE_MAP), insert(7)]
    )
    (delivery,) = deliveries
    assert (delivery.position.offset, delivery.is_boundary, keys(deliveries)) == (300, False, [b"7"])
    assert changes.take_delivery() is None


def test_gtids_are_kept_up_to_date() -> None:
    known = "00010203-0405-0607-0809-0a0b0c0d0e0f:1-4"
    events = [*transaction(5, ends_at=300), *transaction(7, ends_at=400)]
    deliveries, _ = decode(events, start=Position("bin.000001", 4, known))
    assert deliveries[-1].position.gtids == "00010203-0405-0607-0809-0a0b0c0d0e0f:1-5:7"


def test_a_set_that_began_in_the_middle_is_not_trusted() -> None:
    """Until the head of a file lists what came before."""
    deliveries, _ = decode(transaction(5, ends_at=300))
    assert deliveries[-1].position.gtids == ""
    head = MysqlGtids("00010203-0405-0607-0809-0a0b0c0d0e0f:1-5").encode()
    rotate = event(4, struct.pack("<Q", 4) + b"bin.000002", 350)
    events = [*transaction(5, ends_at=300), rotate, event(35, head), *transaction(6, ends_at=200)]
    deliveries, _ = decode(events)
    assert deliveries[-1].position == Position("bin.000002", 200, "00010203-0405-0607-0809-0a0b0c0d0e0f:1-6")


def test_mariadb_groups() -> None:
    """A group ends with its XID or, standing alone, with its statement."""
    events = [
        mariadb_gtid(5), event(19, TABLE_MAP), insert(1), xid(300),
        mariadb_gtid(6, flags=1), query("CREATE TABLE x (id INT)", 350), mariadb_gtid(7), query("COMMIT", 400),
    ]  # fmt: skip
    deliveries, _ = decode(events, MARIADB, Position("bin.000001", 4, "0-7-4,1-1-1"))
    assert deliveries[-1].position == Position("bin.000001", 400, "0-7-7,1-1-1")


def test_other_tables_only_move_the_position() -> None:
    events = [gtid(1), query("BEGIN"), event(19, OTHER_MAP), event(30, b"\x16" + b"\0" * 20), xid(300)]
    (delivery,) = decode(events)[0]
    assert (dict(delivery.keys), delivery.position.offset) == ({}, 300)


def test_extra_data_and_hidden_heads_change_nothing() -> None:
    rows = [insert(1), insert(2, extra=b"\1\2\3"), insert(3, extra=b"\4\5\6"), insert(4)]
    assert keys(decode(transaction(1, *rows, ends_at=300))[0]) == [b"1", b"2", b"3", b"4"]


@pytest.mark.parametrize("compression", [0, 255])
def test_transaction_payload(compression: int) -> None:
    """A whole transaction in one event, compressed or not; its end is the payload's end."""
    inner = b"".join(
        data[:9] + struct.pack("<I", len(data) - 4) + data[13:-4]
        for data in (query("BEGIN"), event(19, TABLE_MAP), *[insert(n) for n in range(500)], xid(0))
    )
    data = zstandard.compress(inner) if compression == 0 else inner
    fields = b"\2\1\0" if compression == 0 else b"\2\3\xfc\xff\0"
    size = b"\xfd" + struct.pack("<I", len(data))[:3]
    payload = event(40, fields + b"\1\4" + size + b"\0" + data, 700)
    deliveries, _ = decode([gtid(1), payload, *transaction(2, insert(900), ends_at=800)])
    assert keys(deliveries) == [*(b"%d" % n for n in range(500)), b"900"]
    assert deliveries[-1].position.offset == 800


def test_mariadb_compressed_rows() -> None:
    rows = b"".join(b"\0" + struct.pack("<i", n) + b"\1x" for n in range(300))
    compressed = b"\x82" + struct.pack(">H", len(rows)) + zlib.compress(rows)
    body = b"\x15\0\0\0\0\0\1\0\2\x03" + compressed
    events = [mariadb_gtid(1), event(19, TABLE_MAP), event(166, body), xid(300)]
    assert keys(decode(events, MARIADB)[0]) == [b"%d" % n for n in range(300)]
    with pytest.raises(MalformedEvent):
        uncompress_mariadb(compressed[:-9])


def _xa(number: int, name: str, key: int, *, one_phase: bool = False) -> list[bytes]:
    prepare = struct.pack("<BiII", one_phase, 1, len(name), 0) + name.encode()
    begin = query(f"XA START X'{name.encode().hex()}',X'',1")
    return [gtid(number), begin, event(19, TABLE_MAP), insert(key), query("XA END X'',X'',1"), event(38, prepare, 300)]


def test_xa_holds_the_position_until_it_is_decided() -> None:
    prepared = [*transaction(1, insert(1), ends_at=200), *_xa(2, "a", 77), *transaction(3, insert(3), ends_at=400)]
    (delivery,) = decode(prepared)[0]
    assert keys([delivery]) == [b"1", b"3"]
    assert (delivery.position.offset, delivery.is_boundary, delivery.rows) == (200, False, 2)
    commit = [gtid(4), query("XA COMMIT X'61',X'',1", 500)]
    (delivery,) = decode([*prepared, *commit])[0]
    assert (keys([delivery]), delivery.position.offset, delivery.rows) == ([b"1", b"3", b"77"], 500, 3)
    assert delivery.is_boundary
    (delivery,) = decode([*prepared, gtid(4), query("XA ROLLBACK X'61',X'',1", 500)])[0]
    assert (keys([delivery]), delivery.position.offset, delivery.rows) == ([b"1", b"3"], 500, 2)
    assert keys(decode(_xa(1, "a", 8, one_phase=True))[0]) == [b"8"]


def test_xa_of_unknown_origin_is_position_lost() -> None:
    with pytest.raises(PositionLost, match="prepared before"):
        decode([gtid(4), query("XA COMMIT X'61',X'',1", 500)])
    assert keys(decode([gtid(4), query("XA ROLLBACK X'61',X'',1", 500)])[0]) == []


def test_truncate_and_ddl_are_last_in_their_delivery() -> None:
    events = [
        *transaction(1, insert(1), ends_at=200), gtid(2), query("TRUNCATE t", 250),
        *transaction(3, insert(3), ends_at=300), gtid(4), query("ALTER TABLE t ADD x INT", 350),
        *transaction(5, insert(5), ends_at=400),
    ]  # fmt: skip
    first, second, third = decode(events)[0]
    assert (keys([first]), first.events) == ([b"1"], (Truncated(NAME, first.position),))
    assert keys([second]) == [b"3"]
    assert second.events == (SchemaChanged("ALTER TABLE t ADD x INT", "shop", (NAME,), second.position),)
    assert [d.position.offset for d in (first, second, third)] == [250, 350, 400]


def test_crash_in_a_transaction_forgets_it() -> None:
    """The next file begins, made up by the server, where a transaction was cut."""
    rotate = event(4, struct.pack("<Q", 4) + b"bin.000002", 0, flags=0x20)
    events = [gtid(1), query("BEGIN"), event(19, TABLE_MAP), insert(1), rotate, format_description()]
    deliveries, _ = decode([*events, *transaction(1, insert(2), ends_at=200)])
    assert deliveries[-1].position.file == "bin.000002"
    assert b"2" in keys(deliveries)


def test_ignorable_events_may_be_unknown() -> None:
    deliveries, _ = decode([event(99, b"new", flags=0x80), *transaction(1, insert(1), ends_at=200)])
    assert keys(deliveries) == [b"1"]


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ([event(99, b"new", 1234)], "bin.000001:1234: binlog event type 99 is not understood"),
        ([event(26, b"\1\0\0", 1234)], "incident"),
        ([gtid(1), query("BEGIN"), insert(1)], "no table map"),
        ([gtid(1), query("BEGIN"), gtid(2)], "before the last one has ended"),
        ([*transaction(1, event(30, b"\x15\0\0\0\0\0\1\0\2\0\2\x03\0\1\0\0\0\5x"), ends_at=9)], "ends behind"),
        ([*transaction(1, event(30, b"\x15\0\0\0\0\0\1\0\2\0\3\x07\0\1\0\0\0"), ends_at=9)], "3 columns"),
        ([*transaction(1, event(30, b"\x15\0\0\0\0\0\1\0\2\0\2\x02\0\1x"), ends_at=9)], "lacks key columns of shop.t"),
        ([*transaction(1, event(30, b"\x15\0\0\0\0\0\1\0\2\0\2\x03\1\1x"), ends_at=9)], "is NULL"),
        ([gtid(1), query("INSERT INTO t VALUES (1)", 77)], "binlog_format"),
        ([gtid(1), event(19, TABLE_MAP.replace(b"\x03\x0f", b"\x08\x0f"))], "look for DDL"),
        ([gtid(1), event(19, TABLE_MAP.replace(b"\2\x03\x0f\2", b"\1\x03\0"))], "look for DDL"),
        ([gtid(1), event(19, TABLE_MAP.replace(b"\x03\x0f", b"\x03\x77"))], "unknown binlog type 119"),
        ([gtid(1), event(19, TABLE_MAP.replace(b"\1t", b"\1T"))], "differs only in case"),
        ([gtid(1), event(40, b"\2\1\7\1\1\1\0x")], "compression 7"),
        ([gtid(1), event(40, b"\2\1\0\1\1\3\0abc")], "damaged"),
    ],
)  # fmt: skip
def test_what_is_not_understood_stops_the_stream(events: list[bytes], message: str) -> None:
    with pytest.raises((FatalError, MalformedEvent)) as caught:
        decode(events)
    assert message in str(caught.value)


def _take_all(data: bytes) -> None:
    stream = PacketStream(FakeSocket(data))
    while stream.receive(0):
        while stream.take() is not None:
            pass


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (b"\x21\0\0\0\xff\xd4\x04#HY000Could not find first log file", ServerError, "Could not find"),
        (b"\5\0\0\0\xfe\0\0\2\0", StreamEnded, "ended the dump"),
        (packet(format_description(version=3)), MalformedEvent, "binlog version 3"),
        (packet(format_description(), xid(9)[:-1] + b"?"), MalformedEvent, "checksum"),
        (packet(xid(9))[:10] + b"\xff" + packet(xid(9))[11:] + b"\0" * 99, MalformedEvent, "no event"),
    ],
)
def test_unusual_packets(data: bytes, error: type[Exception], message: str) -> None:
    if data[4] == 0xFF:
        data = struct.pack("<I", len(data) - 4)[:3] + data[3:]
    damaged = bytearray(data)
    if message == "no event":
        damaged[14] ^= 0x55  # the event's own length
    with pytest.raises(error, match=message):
        _take_all(bytes(damaged))


@pytest.mark.parametrize("size", [0xFFFFFF - 3, 0xFFFFFF - 2, 0xFFFFFF - 1, 0xFFFFFF, 2 * 0xFFFFFF - 1, 2 * 0xFFFFFF])
def test_large_events(size: int) -> None:
    """At and around the limits where a packet is continued by another, even an empty one."""
    big = event(29, bytes(size - 23))
    assert len(big) == size
    deliveries, _ = decode([*transaction(1, insert(1), ends_at=5), big, *transaction(2, insert(2), ends_at=6)])
    assert keys(deliveries) == [b"1", b"2"]


def test_events_without_checksums_and_made_up_ones() -> None:
    """A file without checksums; the server's own rotation carries one or not, whatever the file does."""
    rotation = struct.pack("<Q", 4) + b"bin.000001"
    for has_checksum in (True, False):
        first = event(4, rotation, 0, 0x20, checksum=has_checksum)
        data = packet(first, format_description(checksums=False), event(16, b"12345678", 50, checksum=False))
        stream, changes = PacketStream(FakeSocket(data)), Changes(MYSQL, START, {})
        stream.receive(0)
        batch = stream.take()
        assert batch is not None
        changes.decode(batch, 0)
        delivery = changes.take_delivery()
        assert delivery is not None
        assert (delivery.position.file, delivery.position.offset) == ("bin.000001", 50)


def test_tagged_gtid_event() -> None:
    """As MySQL 8.3 serializes it: bytes of 128 and more take two, numbers are led by their length."""
    uuid = bytes((0, 1, 127, 128, 200, 255, *range(10)))
    encoded = b"".join(bytes((b << 1,)) if b < 128 else struct.pack("<H", b << 2 | 1) for b in uuid)
    number = struct.pack("<I", (1_000_000 << 1) << 3 | 3)[:3]
    body = b"\2\2\0" + b"\0\2" + b"\2" + encoded + b"\4" + number + b"\6" + b"\6tag"
    assert parse_tagged_gtid(body) == (uuid, 1_000_000, "tag")
    with pytest.raises(MalformedEvent):
        parse_tagged_gtid(body[:12])


def test_gtid_sets_of_mysql() -> None:
    text = "00010203-0405-0607-0809-0a0b0c0d0e0f:1-3:7:blue:5:red:1-2,10010203-0405-0607-0809-0a0b0c0d0e0f:9"
    gtids = MysqlGtids(text)
    assert str(gtids) == text
    assert str(MysqlGtids.decode(gtids.encode())) == text
    gtids.add(UUID, 4)
    gtids.add(UUID, 5)
    gtids.add(UUID, 6, "blue")
    assert str(gtids).startswith("00010203-0405-0607-0809-0a0b0c0d0e0f:1-5:7:blue:5-6:red:1-2,")
    assert MysqlGtids(text) in gtids
    assert gtids not in MysqlGtids(text)
    assert str(MysqlGtids("")) == ""
    with pytest.raises(ValueError, match="not a GTID set"):
        MysqlGtids("abcd:1")


def test_gtid_positions_of_mariadb() -> None:
    gtids = MariadbGtids("1-1-9,0-1-5")
    gtids.add(0, 2, 6)
    assert str(gtids) == "0-2-6,1-1-9"
    assert MariadbGtids("0-1-5") in gtids
    assert MariadbGtids("2-1-1") not in gtids
    listed = struct.pack("<I", 2) + struct.pack("<IIQ", 0, 1, 5) + struct.pack("<IIQ", 0, 2, 6)
    assert str(MariadbGtids.decode(listed)) == "0-2-6"


@pytest.mark.parametrize(
    ("position", "wanted", "reached"),
    [
        (Position("b.000002", 4), Position("b.000001", 900), True),
        (Position("b.999999", 4), Position("b.1000000", 4), False),
        (Position("b.000001", 900), Position("b.000001", 900), True),
        (Position("b.000009", 9, "0-1-5"), Position("b.000001", 1, "0-1-6"), False),
        (Position("b.000001", 1, "0-1-6"), Position("b.000009", 9, "0-1-5"), True),
    ],
)
def test_order_of_positions(position: Position, wanted: Position, reached: bool) -> None:
    assert has_reached(position, wanted, MARIADB) is reached


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Could not find first log file name in binary log index file", PositionLost),
        ("Could not find GTID state requested by slave in any binlog files. Probably ... purged.", PositionLost),
        ("Cannot replicate because the source purged required binary logs.", PositionLost),
        ("Client requested master to start replication from impossible position", PositionLost),
        ("The slave I/O thread requested to start at 0-1-9, which is not in the master's binlog", PositionLost),
        ("A slave with the same server_uuid/server_id as this slave has connected to the master", TransientError),
        ("log event entry exceeded max_allowed_packet", FatalError),
    ],
)
def test_meaning_of_error_1236(text: str, kind: type[DbmigrateError]) -> None:
    assert type(explain_read_failure(START, text)) is kind


def test_socket_protocol_is_small() -> None:
    """What the stream uses of a socket: waiting with a limit and taking bytes."""
    calls: list[float | None] = []
    socket = FakeSocket(b"")
    record: Callable[[float | None], None] = calls.append
    socket.settimeout = record  # type: ignore[method-assign]  # to see the limit
    assert PacketStream(socket).receive(0.5) is False
    assert calls == [0.5]
