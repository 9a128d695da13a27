"""Rows of random layouts, encoded as the servers do, give their keys back whatever lies around them."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbmigrate.domain.schema import Column, Index, Table, TableName
from dbmigrate.mysql.binlog import literals
from dbmigrate.mysql.binlog.events import EventType, MalformedEvent
from dbmigrate.mysql.binlog.gtids import MysqlGtids
from dbmigrate.mysql.binlog.rows import KeySink, TableDecoder, parse_table_map

NAME = TableName("shop", "t")


@dataclass(frozen=True)
class Kind:
    """A column type: its code and metadata in a table map, and how the schema shows it."""

    code: int
    metadata: bytes
    data_type: str
    is_unsigned: bool = False
    octets: int | None = None
    integer_bytes: int = 0
    length_bytes: int = 0


KEY_KINDS = [
    *(Kind(code, b"", name, unsigned, integer_bytes=size)
      for code, name, size in ((1, "tinyint", 1), (2, "smallint", 2), (9, "mediumint", 3), (3, "int", 4), (8, "bigint", 8))
      for unsigned in (False, True)),
    Kind(15, struct.pack("<H", 40), "varchar", octets=40, length_bytes=1),
    Kind(15, struct.pack("<H", 900), "varbinary", octets=900, length_bytes=2),
    Kind(254, bytes((254, 20)), "binary", octets=20, length_bytes=1),
    Kind(254, bytes((0xFE ^ 0x30, 0x2C)), "char", octets=0x32C, length_bytes=2),
]  # fmt: skip
OTHER_KINDS = [
    *KEY_KINDS,
    Kind(252, b"\1", "tinytext", length_bytes=1),
    Kind(252, b"\2", "text", length_bytes=2),
    Kind(252, b"\3", "mediumblob", length_bytes=3),
    Kind(245, b"\4", "json", length_bytes=4),
    Kind(5, b"\x08", "double", integer_bytes=8),
    Kind(18, b"\6", "datetime", integer_bytes=8),
    Kind(16, b"\4\1", "bit", integer_bytes=2),
]


@st.composite
def values(draw: st.DrawFn, kind: Kind) -> tuple[bytes, str]:
    """Stored bytes, and the literal they stand for."""
    if kind.integer_bytes:
        raw = draw(st.binary(min_size=kind.integer_bytes, max_size=kind.integer_bytes))
        return raw, str(int.from_bytes(raw, "little", signed=not kind.is_unsigned))
    data = draw(st.binary(max_size=min(kind.octets or 60, 60)))
    if kind.data_type == "binary":
        data = data.rstrip(b"\0")
    padded = data.ljust(20, b"\0") if kind.data_type == "binary" else data
    prefix = "_utf8mb4 " if kind.data_type in ("char", "varchar") else ""
    return len(data).to_bytes(kind.length_bytes, "little") + data, f"{prefix}X'{padded.hex().upper()}'"


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[Kind], list[int]]:
    """Columns, and which of them are the key in its order."""
    kinds = draw(st.lists(st.sampled_from(OTHER_KINDS), min_size=1, max_size=20))
    kinds += draw(st.lists(st.sampled_from(KEY_KINDS), min_size=1, max_size=3))
    usable = [i for i, kind in enumerate(kinds) if kind in KEY_KINDS]
    key = draw(st.lists(st.sampled_from(usable), min_size=1, max_size=3, unique=True))
    return kinds, key


def build_decoder(kinds: list[Kind], key: list[int]) -> TableDecoder:
    columns = tuple(
        Column(f"c{i}", i, k.data_type, k.data_type, i not in key, charset="utf8mb4", octet_length=k.octets,
               is_unsigned=k.is_unsigned)
        for i, k in enumerate(kinds)
    )  # fmt: skip
    table = Table(NAME, "InnoDB", columns, (), (), Index("PRIMARY", tuple(f"c{i}" for i in key), True, True), "")
    metadata = b"".join(kind.metadata for kind in kinds)
    body = b"\x15\0\0\0\0\0\1\0\4shop\0\1t\0" + bytes((len(kinds),)) + bytes(kind.code for kind in kinds)
    body += bytes((len(metadata),)) + metadata + bytes((len(kinds) + 7) // 8)
    return TableDecoder(parse_table_map(body), KeySink(table), hides_hashes=False)


def bitmap(flags: list[bool]) -> bytes:
    return sum(1 << i for i, flag in enumerate(flags) if flag).to_bytes((len(flags) + 7) // 8, "little")


@st.composite
def images(draw: st.DrawFn, kinds: list[Kind], key: list[int], present: list[bool]) -> tuple[bytes, dict[int, str]]:
    """One row image, and the literals of the key columns in it."""
    nulls, data, found = [], b"", {}
    for index, kind in enumerate(kinds):
        if not present[index]:
            continue
        is_null = index not in key and draw(st.booleans())
        nulls.append(is_null)
        if not is_null:
            stored, literal = draw(values(kind))
            data += stored
            if index in key:
                found[index] = literal
    return bitmap(nulls) + data, found


HEAD = b"\x15\0\0\0\0\0\1\0\2\0"


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_inserted_keys_come_back(data: st.DataObject) -> None:
    """Any columns present beside the key, any NULLs, any number of rows in one event."""
    kinds, key = data.draw(tables())
    decoder = build_decoder(kinds, key)
    for _ in range(2):
        present = [i in key or data.draw(st.booleans()) for i in range(len(kinds))]
        rows = data.draw(st.lists(images(kinds, key, present), min_size=1, max_size=4))
        event = HEAD + bytes((len(kinds),)) + bitmap(present) + b"".join(image for image, _ in rows)
        decoder.sink.keys = []
        buffer = b"before" + event + b"behind"
        assert decoder.decode(EventType.WRITE_ROWS, buffer, 6, 6 + len(event)) == len(rows)
        assert decoder.sink.keys == [",".join(found[i] for i in key).encode() for _, found in rows]


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_updated_keys_are_merged(data: st.DataObject) -> None:
    """The after-image holds some of the key's columns; those it lacks kept their value."""
    kinds, key = data.draw(tables())
    decoder = build_decoder(kinds, key)
    before = [i in key or data.draw(st.booleans()) for i in range(len(kinds))]
    after = [data.draw(st.booleans()) for _ in kinds]
    pairs = data.draw(
        st.lists(st.tuples(images(kinds, key, before), images(kinds, key, after)), min_size=1, max_size=3)
    )
    event = HEAD + bytes((len(kinds),)) + bitmap(before) + bitmap(after)
    event += b"".join(old + new for (old, _), (new, _) in pairs)
    expected = []
    for (_, old), (_, new) in pairs:
        both = [",".join({**old, **new}[i] for i in key), ",".join(old[i] for i in key)]
        expected += list(dict.fromkeys(reversed(both)))
    assert decoder.decode(EventType.UPDATE_ROWS, event, 0, len(event)) == len(pairs)
    assert [k.decode() for k in decoder.sink.keys] == expected


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_cut_events_are_refused(data: st.DataObject) -> None:
    """An event that lost bytes at its end never passes for a whole one."""
    kinds, key = data.draw(tables())
    decoder = build_decoder(kinds, key)
    image, _ = data.draw(images(kinds, key, [True] * len(kinds)))
    event = HEAD + bytes((len(kinds),)) + bitmap([True] * len(kinds)) + image
    cut = data.draw(st.integers(1, len(image) - 1)) if len(image) > 1 else 1
    with pytest.raises((MalformedEvent, IndexError, struct.error)):
        decoder.decode(EventType.WRITE_ROWS, event[:-cut], 0, len(event) - cut)


@given(st.integers(1, 65).flatmap(lambda p: st.tuples(st.just(p), st.integers(0, min(p, 38)))), st.data())
@settings(deadline=None)
def test_decimals_come_back(shape: tuple[int, int], data: st.DataObject) -> None:
    """Every precision and scale, both signs, as the servers store and print them."""
    precision, scale = shape
    digits = data.draw(st.text("0123456789", min_size=precision, max_size=precision))
    is_negative = data.draw(st.booleans()) and digits.strip("0") != ""
    whole, fraction = digits[: precision - scale], digits[precision - scale :]
    first = len(whole) % 9
    groups = [whole[:first], *(whole[i : i + 9] for i in range(first, len(whole), 9))]
    groups += [fraction[i : i + 9] for i in range(0, len(fraction), 9)]
    stored = bytearray(b"".join(int(g).to_bytes((0, 1, 1, 2, 2, 3, 3, 4, 4, 4)[len(g)], "big") for g in groups if g))
    stored[0] ^= 0x80
    data_bytes = bytes(b ^ 0xFF for b in stored) if is_negative else bytes(stored)
    assert len(data_bytes) == literals.decimal_bytes(precision, scale)
    literal = literals.format_decimal(precision, scale)(data_bytes).decode()
    assert literal == ("-" if is_negative else "") + (whole.lstrip("0") or "0") + (f".{fraction}" if scale else "")
    assert Decimal(literal) == Decimal(f"{'-' if is_negative else ''}{whole or '0'}.{fraction or '0'}")


@given(
    st.lists(st.tuples(st.binary(min_size=16, max_size=16), st.integers(1, 40), st.sampled_from(["", "blue", "x_1"])))
)
def test_gtid_sets_are_sets(transactions: list[tuple[bytes, int, str]]) -> None:
    """Added in any order and any number of times: the same set, in text and in bytes."""
    gtids, sorted_gtids = MysqlGtids(), MysqlGtids()
    for source, number, tag in transactions:
        gtids.add(source, number, tag)
    for source, number, tag in sorted(set(transactions)):
        sorted_gtids.add(source, number, tag)
    assert str(gtids) == str(sorted_gtids)
    assert str(MysqlGtids(str(gtids))) == str(gtids)
    assert str(MysqlGtids.decode(gtids.encode())) == str(gtids)
    assert gtids in sorted_gtids
