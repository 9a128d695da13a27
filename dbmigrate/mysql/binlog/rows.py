"""The hot part: table maps, and row events turned into keys.

A row image is walked by a function generated for one table map, one set of present columns and one null
bitmap: runs of fixed-width columns become one addition, only key columns are looked at. Interpreting the
columns one by one is 5 times slower. Everything here fails closed: an image that does not end where its event
ends is an error.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from dbmigrate.domain.errors import FatalError
from dbmigrate.domain.keys import MovedKey
from dbmigrate.domain.schema import Column, Table, TableName
from dbmigrate.mysql.binlog import literals
from dbmigrate.mysql.binlog.events import (
    DELETE_EVENTS,
    ROW_EVENTS,
    MalformedEvent,
    read_length_coded,
    uncompress_mariadb,
)
from dbmigrate.mysql.literals import INTEGERS

# Binlog type code -> bytes of metadata in a table map; a code that is missing stops the reader.
_METADATA_BYTES = {
    1: 0, 2: 0, 3: 0, 4: 1, 5: 1, 6: 0, 7: 0, 8: 0, 9: 0, 10: 0, 11: 0, 12: 0, 13: 0, 14: 0, 15: 2, 16: 2,
    17: 1, 18: 1, 19: 1, 140: 1, 141: 2, 242: 1, 245: 1, 246: 2, 247: 2, 248: 2, 249: 1, 250: 1, 251: 1,
    252: 1, 253: 2, 254: 2, 255: 1,
}  # fmt: skip
_FIXED_BYTES = {1: 1, 2: 2, 3: 4, 4: 4, 5: 8, 6: 0, 7: 4, 8: 8, 9: 3, 10: 3, 11: 3, 12: 8, 13: 1, 14: 3}
_TIMESTAMP2, _DATETIME2, _TIME2 = 17, 18, 19
_VARCHAR, _BIT, _DECIMAL, _ENUM, _SET, _VAR_STRING, _STRING, _JSON = 15, 16, 246, 247, 248, 253, 254, 245
_LONGLONG = 8
_VARCHAR_LIKE = frozenset({_VARCHAR, 141, _VAR_STRING})
_BLOB_LIKE = frozenset({140, 242, _JSON, 249, 250, 251, 252, 255})
_BLOBS = frozenset({249, 250, 251, 252})

# Schema type -> binlog types that its values may arrive in. FLOAT and DOUBLE are never keys; TIME, DATETIME
# and TIMESTAMP only in the form that MySQL 5.6 introduced.
_KEY_TYPES: dict[str, frozenset[int]] = {
    "tinyint": frozenset({1}), "smallint": frozenset({2}), "mediumint": frozenset({9}), "int": frozenset({3}),
    "bigint": frozenset({8}), "year": frozenset({13}), "bit": frozenset({_BIT}), "enum": frozenset({_ENUM}),
    "set": frozenset({_SET}), "decimal": frozenset({_DECIMAL}),
    "char": frozenset({_STRING}), "binary": frozenset({_STRING}),
    "varchar": frozenset({_VARCHAR, _VAR_STRING}), "varbinary": frozenset({_VARCHAR, _VAR_STRING}),
    "tinytext": _BLOBS, "text": _BLOBS, "mediumtext": _BLOBS, "longtext": _BLOBS,
    "tinyblob": _BLOBS, "blob": _BLOBS, "mediumblob": _BLOBS, "longblob": _BLOBS,
    "date": frozenset({10, 14}), "time": frozenset({_TIME2}), "datetime": frozenset({_DATETIME2}),
    "timestamp": frozenset({_TIMESTAMP2}),
    "uuid": frozenset({_STRING}), "inet4": frozenset({_STRING}), "inet6": frozenset({_STRING}),
}  # fmt: skip

_UNPACKED = {
    ("tinyint", False): "b", ("tinyint", True): "B", ("smallint", False): "<h", ("smallint", True): "<H",
    ("int", False): "<i", ("int", True): "<I", ("bigint", False): "<q", ("bigint", True): "<Q",
}  # fmt: skip

_MOST_VARIANTS = 64  # generated functions per image shape; beyond, one that looks at the null bitmap itself


@dataclass(frozen=True, slots=True)
class ColumnShape:
    """How one column lies in a row image: ``fixed_bytes`` wide, or led by a length of ``length_bytes``."""

    type_code: int
    metadata: bytes
    fixed_bytes: int
    length_bytes: int

    @property
    def declared_bytes(self) -> int:
        """The longest value of a character or binary string, as the event declares it."""
        if self.type_code == _STRING:
            first, second = self.metadata
            return second if first & 0x30 == 0x30 else second | ((first & 0x30) ^ 0x30) << 4
        return int.from_bytes(self.metadata, "little")


@dataclass(frozen=True, slots=True)
class TableMap:
    """What a TABLE_MAP event says: the table and the layout of its columns."""

    name: TableName
    columns: tuple[ColumnShape, ...]


def parse_table_name(body: bytes) -> TableName:
    """Only the name, from the body of a TABLE_MAP event."""
    end = 9 + body[8]
    return TableName(body[9:end].decode(), body[end + 2 : end + 2 + body[end + 1]].decode())


def parse_table_map(body: bytes) -> TableMap:
    """The whole layout, from the body of a TABLE_MAP event.

    Raises:
        MalformedEvent: a column type that is not known.
    """
    name = parse_table_name(body)
    position = 8 + 2 + body[8]
    position += body[position] + 2
    count, position = read_length_coded(body, position)
    types = body[position : position + count]
    metadata_bytes, position = read_length_coded(body, position + count)
    end = position + metadata_bytes
    columns = []
    for code in types:
        if code not in _METADATA_BYTES:
            raise MalformedEvent(f"table {name} has a column of the unknown binlog type {code}")
        size = _METADATA_BYTES[code]
        columns.append(_column_shape(code, body[position : position + size]))
        position += size
    if position != end or len(types) != count:
        raise MalformedEvent(f"the metadata of table {name} does not add up")
    return TableMap(name, tuple(columns))


def _column_shape(code: int, metadata: bytes) -> ColumnShape:
    fixed, length = 0, 0
    if code in _FIXED_BYTES:
        fixed = _FIXED_BYTES[code]
    elif code in (_TIMESTAMP2, _DATETIME2, _TIME2):
        fixed = {_TIMESTAMP2: 4, _DATETIME2: 5, _TIME2: 3}[code] + literals.fraction_bytes(metadata[0])
    elif code == _BIT:
        fixed = metadata[1] + (metadata[0] > 0)
    elif code == _DECIMAL:
        fixed = literals.decimal_bytes(metadata[0], metadata[1])
    elif code in _BLOB_LIKE:
        length = metadata[0]
    elif code in _VARCHAR_LIKE:
        length = 2 if int.from_bytes(metadata, "little") > 255 else 1
    elif metadata[0] in (_ENUM, _SET):  # STRING: the real type is in the metadata
        return ColumnShape(metadata[0], metadata, metadata[1], 0)
    else:
        length = 2 if ColumnShape(code, metadata, 0, 0).declared_bytes > 255 else 1
    return ColumnShape(code, metadata, fixed, length)


def key_literal(column: Column, shape: ColumnShape) -> literals.Literal:
    """The function from a key column's stored bytes to its literal.

    Raises:
        MalformedEvent: the event's type is not what the schema says, or cannot be a key.
    """
    kind = column.data_type
    if shape.type_code not in _KEY_TYPES.get(kind, frozenset()):
        raise MalformedEvent(f"column {column.name} is {column.column_type}, but binlog type {shape.type_code}")
    _require_width(column, shape)
    if kind in INTEGERS:
        return literals.format_integer(is_signed=not column.is_unsigned)
    if kind in ("enum", "set"):
        return literals.format_integer(is_signed=False)
    if kind == "decimal":
        return literals.format_decimal(shape.metadata[0], shape.metadata[1])
    if kind in ("time", "datetime", "timestamp"):
        build = {"time": literals.format_time, "datetime": literals.format_datetime}
        return build.get(kind, literals.format_timestamp)(shape.metadata[0])
    if kind == "binary":
        return literals.format_bytes(shape.declared_bytes)
    simple = {
        "bit": literals.format_bits, "year": literals.format_year, "date": literals.format_date,
        "uuid": literals.format_uuid, "inet4": literals.format_inet4, "inet6": literals.format_inet6,
    }  # fmt: skip
    if kind in simple:
        return simple[kind]
    is_text = kind.endswith("text") or kind in ("char", "varchar")
    return literals.format_characters(column) if is_text else literals.format_bytes()


def _require_width(column: Column, shape: ColumnShape) -> None:
    """The declared width, precision or fraction of the event equals the schema's."""
    kind = column.data_type
    expected: object = None
    found: object = None
    if kind in ("char", "binary", "varchar", "varbinary"):
        expected, found = column.octet_length, shape.declared_bytes
    elif kind == "decimal" and column.precision is not None:
        expected, found = (column.precision, column.scale or 0), tuple(shape.metadata)
    elif kind in ("time", "datetime", "timestamp"):
        expected, found = column.fraction_digits, shape.metadata[0]
    if expected is not None and expected != found:
        raise MalformedEvent(f"column {column.name} is {column.column_type}, but its width in the binlog is {found}")


Walk = Callable[[bytes, int], tuple[Any, int]]


class ImageShape:
    """The row images of one table map that hold the same columns, walked by generated functions.

    ``walk(nulls)`` gives the function for one null bitmap. It takes the buffer and where the image starts,
    and returns the key (bytes; or a tuple of literals by key column, None where absent, for ``as_parts``; or
    None where ``key_indexes`` is empty) and where the image ends.
    """

    def __init__(self, decoder: TableDecoder, present: bytes, *, wants_key: bool, as_parts: bool = False) -> None:
        columns = [i for i in range(len(decoder.map.columns)) if present[i >> 3] & 1 << (i & 7)]
        self._decoder = decoder
        self._columns = columns
        self._wants_key = wants_key
        self._as_parts = as_parts
        self.null_bytes = (len(columns) + 7) // 8
        self.variants: dict[bytes, Walk] = {}
        missing = decoder.key_positions - set(columns)
        if wants_key and missing and not as_parts:
            raise MalformedEvent(f"the row image lacks key columns of {decoder.name}")

    def walk_for(self, nulls: bytes) -> Walk:
        """The function for this null bitmap, generated now if it is new."""
        walk = self.variants.get(nulls)
        if walk is None:
            if len(self.variants) >= _MOST_VARIANTS:
                return self._any_nulls
            walk = self.variants[nulls] = self._generate(nulls)
        return walk

    @cached_property
    def _any_nulls(self) -> Walk:
        return self._generate(None)

    def _generate(self, nulls: bytes | None) -> Walk:
        """A walk for this null bitmap, or for any if it is None."""
        code = _WalkCode(self._decoder, wants_key=self._wants_key, null_bytes=self.null_bytes)
        for place, index in enumerate(self._columns):
            byte, mask = place >> 3, 1 << (place & 7)
            if nulls is not None and nulls[byte] & mask:
                if self._wants_key and index in self._decoder.key_positions:
                    raise MalformedEvent(f"a key column of {self._decoder.name} is NULL")
                continue
            code.add_column(index, None if nulls is not None else (byte, mask))
        return code.compile(as_parts=self._as_parts)


class _WalkCode:
    """Writes the source of one walk: ``p`` moves over columns of varying width, ``ahead`` over fixed ones."""

    def __init__(self, decoder: TableDecoder, *, wants_key: bool, null_bytes: int) -> None:
        self._decoder = decoder
        self._wants_key = wants_key
        self._ahead = null_bytes
        self._lines: list[str] = []
        self._names: dict[str, object] = {"from_bytes": int.from_bytes}
        self._values: dict[int, tuple[str, str]] = {}  # key place -> (format, expression)

    def add_column(self, index: int, null_test: tuple[int, int] | None) -> None:
        """Step over one column; take its literal if it belongs to the key."""
        shape = self._decoder.map.columns[index]
        place = self._decoder.key_places.get(index) if self._wants_key else None
        indent = ""
        if null_test is not None and place is None:
            self._settle()
            self._lines.append(f"if not buf[start + {null_test[0]}] & {null_test[1]}:")
            indent = "    "
        if shape.length_bytes:
            self._add_varying(shape, place, indent)
        else:
            if place is not None:
                self._take_fixed(index, place, shape.fixed_bytes)
            self._ahead += shape.fixed_bytes
        if indent:
            self._settle(indent)

    def _settle(self, indent: str = "") -> None:
        if self._ahead or indent:
            self._lines.append(f"{indent}p += {self._ahead}")
            self._ahead = 0

    def _add_varying(self, shape: ColumnShape, place: int | None, indent: str) -> None:
        at, size = self._ahead, shape.length_bytes
        if size == 1:
            length = f"buf[p + {at}]"
        elif size == 2:
            length = f"buf[p + {at}] + (buf[p + {at + 1}] << 8)"
        else:
            length = f"from_bytes(buf[p + {at}:p + {at + size}], 'little')"
        self._lines.append(f"{indent}n = {length}")
        if place is not None:
            self._lines.append(f"k{place} = literal{place}(buf[p + {at + size}:p + {at + size} + n])")
            self._names[f"literal{place}"] = self._decoder.key_literals[place]
            self._values[place] = ("%b", f"k{place}")
        self._lines.append(f"{indent}p += n + {at + size}")
        self._ahead = 0

    def _take_fixed(self, index: int, place: int, size: int) -> None:
        column = self._decoder.table.columns[index]
        unpacked = _UNPACKED.get((column.data_type, column.is_unsigned))
        if unpacked:
            self._lines.append(f"k{place}, = unpack{place}(buf, p + {self._ahead})")
            self._names[f"unpack{place}"] = struct.Struct(unpacked).unpack_from
            self._values[place] = ("%d", f"k{place}")
        else:
            self._lines.append(f"k{place} = literal{place}(buf[p + {self._ahead}:p + {self._ahead + size}])")
            self._names[f"literal{place}"] = self._decoder.key_literals[place]
            self._values[place] = ("%b", f"k{place}")

    def compile(self, *, as_parts: bool) -> Walk:
        """The finished function."""
        key = "None"
        if as_parts:
            count = len(self._decoder.key_literals)
            parts = [self._part(place) for place in range(count)]
            key = f"({', '.join(parts)},)"
        elif self._wants_key:
            values = [self._values[place] for place in sorted(self._values)]
            pattern = ",".join(kind for kind, _ in values)
            key = f"b'{pattern}' % ({', '.join(name for _, name in values)},)"
            if pattern == "%b":
                key = values[0][1]
        body = "\n    ".join(["start = p", *self._lines, f"return {key}, p + {self._ahead}"])
        namespace = dict(self._names)
        exec(f"def walk(buf, p):\n    {body}\n", namespace)  # noqa: S102 - only numbers and fixed names get in
        walk: Walk = namespace["walk"]  # type: ignore[assignment]  # a namespace holds objects
        return walk

    def _part(self, place: int) -> str:
        if place not in self._values:
            return "None"
        kind, name = self._values[place]
        return f"b'%d' % {name}" if kind == "%d" else name


def _images(shape: ImageShape, buf: bytes, position: int, end: int, keys: list[bytes]) -> int:
    """The keys of all images of a write or delete; returns how many."""
    variants, null_bytes = shape.variants, shape.null_bytes
    append, rows = keys.append, 0
    while position < end:
        nulls = buf[position : position + null_bytes]
        key, position = (variants.get(nulls) or shape.walk_for(nulls))(buf, position)
        append(key)
        rows += 1
    if position != end:
        raise MalformedEvent("a row image ends behind its event")
    return rows


class UpdateShape:
    """The pairs of images of an update. Columns missing in the after-image kept their value."""

    def __init__(self, decoder: TableDecoder, before: bytes, after: bytes, *, is_partial: bool) -> None:
        positions = decoder.key_positions
        in_after = {i for i in positions if after[i >> 3] & 1 << (i & 7)}
        self._merges = bool(in_after) and in_after != positions
        self._before = ImageShape(decoder, before, wants_key=True, as_parts=self._merges)
        self._after = ImageShape(decoder, after, wants_key=bool(in_after), as_parts=self._merges)
        if self._merges and not all(before[i >> 3] & 1 << (i & 7) for i in positions):
            raise MalformedEvent(f"the row image lacks key columns of {decoder.name}")
        self._has_partial_values = is_partial
        self._partial_bytes = (sum(c.type_code == _JSON for c in decoder.map.columns) + 7) // 8

    def decode(self, buf: bytes, position: int, end: int, keys: list[bytes]) -> int:
        """Append both keys of each row (one where they are equal); returns how many rows."""
        before, after, is_partial, merges = self._before, self._after, self._has_partial_values, self._merges
        find_before, find_after = before.variants.get, after.variants.get
        before_bytes, after_bytes = before.null_bytes, after.null_bytes
        append, rows = keys.append, 0
        while position < end:
            nulls = buf[position : position + before_bytes]
            old, position = (find_before(nulls) or before.walk_for(nulls))(buf, position)
            if is_partial:
                position = self._skip_partial_bits(buf, position)
            nulls = buf[position : position + after_bytes]
            new, position = (find_after(nulls) or after.walk_for(nulls))(buf, position)
            if merges:
                new = b",".join(o if n is None else n for o, n in zip(old, new, strict=True))
                old = b",".join(old)
            if new is None or new == old:
                append(old)
            else:
                append(MovedKey(old))
                append(MovedKey(new))
            rows += 1
        if position != end:
            raise MalformedEvent("a row image ends behind its event")
        return rows

    def _skip_partial_bits(self, buf: bytes, position: int) -> int:
        options, position = read_length_coded(buf, position)
        if options & ~1:
            raise MalformedEvent(f"unknown value options {options} in a partial update")
        return position + (self._partial_bytes if options & 1 else 0)


class WriteShape:
    """The images of an insert or delete."""

    def __init__(self, decoder: TableDecoder, present: bytes) -> None:
        self._image = ImageShape(decoder, present, wants_key=True)

    def decode(self, buf: bytes, position: int, end: int, keys: list[bytes]) -> int:
        """Append each row's key; returns how many rows."""
        return _images(self._image, buf, position, end, keys)


class MovingShape(WriteShape):
    """The images of a delete, or of an insert into a table whose inserts count: their keys are marked as moved."""

    def decode(self, buf: bytes, position: int, end: int, keys: list[bytes]) -> int:
        """Append each row's key; returns how many rows."""
        first = len(keys)
        rows = super().decode(buf, position, end, keys)
        keys[first:] = map(MovedKey, keys[first:])
        return rows


class KeySink:
    """Where the keys of one followed table are collected; replaced list by list as deliveries leave."""

    __slots__ = ("keys", "marks_inserts", "table")

    def __init__(self, table: Table, *, marks_inserts: bool = False) -> None:
        self.table = table
        self.marks_inserts = marks_inserts
        self.keys: list[bytes] = []


class TableDecoder:
    """Decodes the row events of one table map into the keys of its table.

    Raises:
        FatalError: the table map disagrees with the schema: the table was altered unseen.
    """

    def __init__(self, table_map: TableMap, sink: KeySink, *, hides_hashes: bool) -> None:
        table = sink.table
        self.map = table_map
        self.table = table
        self.sink = sink
        self.name = table.name
        self._require_columns(hides_hashes=hides_hashes)
        self.key_places = {column.position: place for place, column in enumerate(table.key_columns)}
        self.key_positions = set(self.key_places)
        if not self.key_places:
            raise MalformedEvent(f"table {table.name} has no key")
        self.key_literals = [key_literal(c, table_map.columns[c.position]) for c in table.key_columns]
        self._bitmap_bytes = (len(table_map.columns) + 7) // 8
        self._shapes: dict[tuple[int, bytes], WriteShape | UpdateShape] = {}  # by event type and bitmaps
        count_bytes = 1 if len(table_map.columns) < 251 else 3
        # Row event type -> bytes from its flags to its first image, and shapes by those very bytes.
        self.heads: dict[int, tuple[int, dict[bytes, WriteShape | UpdateShape]]] = {
            kind: (2 * is_v2 + count_bytes + self._bitmap_bytes * (1 + is_update), {})
            for kind, (is_update, is_v2, _, _) in ROW_EVENTS.items()
        }

    def _require_columns(self, *, hides_hashes: bool) -> None:
        """As many columns as the schema has; MariaDB adds a hidden hash for each long unique index."""
        extra = self.map.columns[len(self.table.columns) :]
        allowed = len(self.table.secondary_unique_indexes) if hides_hashes else 0
        if len(self.map.columns) < len(self.table.columns) or len(extra) > allowed:
            raise MalformedEvent(f"{len(self.map.columns)} columns, but the schema has {len(self.table.columns)}")
        if any(shape.type_code != _LONGLONG for shape in extra):
            raise MalformedEvent("more columns than the schema has")

    def decode(self, event_type: int, buf: bytes, position: int, end: int) -> int:
        """Collect the keys of a row event whose body starts at ``position``; returns the number of rows.

        Raises:
            MalformedEvent: the event contradicts its table map, or lacks key columns.
        """
        position += 8  # table id and flags
        size, shapes = self.heads[event_type]
        shape = shapes.get(buf[position : position + size])
        if shape is not None:
            return shape.decode(buf, position + size, end, self.sink.keys)
        return self._decode_new_head(event_type, buf[position:end])

    def _decode_new_head(self, event_type: int, data: bytes) -> int:
        """The first event with this head, one with extra data, or a compressed one."""
        is_update, is_v2, is_partial, is_compressed = ROW_EVENTS[event_type]
        extra = int.from_bytes(data[:2], "little") if is_v2 else 0
        count, position = read_length_coded(data, extra)
        if count != len(self.map.columns):
            raise MalformedEvent(f"row event of {count} columns after a table map of {len(self.map.columns)}")
        end = position + self._bitmap_bytes * (1 + is_update)
        bitmaps = data[position:end]
        shape = self._shapes.get((event_type, bitmaps))
        if shape is None:
            shape = self._build_shape(event_type, bitmaps, is_update=is_update, is_partial=is_partial)
            self._shapes[event_type, bitmaps] = shape
        if is_compressed:
            rows = uncompress_mariadb(data[end:])
            return shape.decode(rows, 0, len(rows), self.sink.keys)
        size, shapes = self.heads[event_type]
        if size == end:  # no extra data, which differs from event to event
            shapes[data[:end]] = shape
        return shape.decode(data, end, len(data), self.sink.keys)

    def _build_shape(
        self, event_type: int, bitmaps: bytes, *, is_update: bool, is_partial: bool
    ) -> WriteShape | UpdateShape:
        if len(bitmaps) != self._bitmap_bytes * (1 + is_update):
            raise MalformedEvent("a row event ends in its head")
        if is_update:
            middle = self._bitmap_bytes
            return UpdateShape(self, bitmaps[:middle], bitmaps[middle:], is_partial=is_partial)
        is_moving = event_type in DELETE_EVENTS or self.sink.marks_inserts
        return (MovingShape if is_moving else WriteShape)(self, bitmaps)


def refuse_table(table: TableName, place: str, cause: str) -> FatalError:
    """The error for a table whose row events cannot be read with the schema at hand."""
    return FatalError(
        "row events do not fit the table as it was read at the start",
        place=f"{table} at {place}",
        cause=cause,
        hint="look for DDL on this table that was not logged; `dbmigrate abort`, then `dbmigrate run`, starts again with "
        "the schema of now",
    )
