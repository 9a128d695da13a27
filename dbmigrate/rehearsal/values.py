"""Made-up values by column type, as SQL literals, the same for the same seed. Pure; no value comes from anybody's data.

Used for generated rows and by the generic workload. ``number`` makes values distinct where they must be: values of
different numbers differ as long as the type has room.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from random import Random

from dbmigrate.domain.schema import Column
from dbmigrate.mysql.identifiers import quote_string

_WORDS = ["amber", "birch", "cedar", "delta", "ember", "fable", "grove", "harbor", "indigo", "jasmine", "kernel", "lumen", "meadow", "nectar", "orbit", "prism", "quartz", "ridge", "solar", "timber", "umber", "velvet", "willow", "xenon", "yonder", "zephyr"]
_BITS = {"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "bigint": 64}
_LONGEST_TEXT = 200
_LONGEST_BYTES = 64
_EPOCH = datetime(2020, 1, 1)
_POINTS = {"geometry", "point"}
_SHAPES = {
    "linestring": "LINESTRING(0 0,{n} 1)", "polygon": "POLYGON((0 0,{n} 0,{n} {n},0 0))", "multipoint": "MULTIPOINT(0 0,{n} 1)",
    "multilinestring": "MULTILINESTRING((0 0,{n} 1))", "multipolygon": "MULTIPOLYGON(((0 0,{n} 0,{n} {n},0 0)))",
    "geometrycollection": "GEOMETRYCOLLECTION(POINT({n} 1))", "geomcollection": "GEOMETRYCOLLECTION(POINT({n} 1))",
}  # fmt: skip


def make_value(column: Column, random: Random, number: int, *, distinct: bool = False) -> str:
    """A literal that the column takes (a CHECK may still refuse it).

    Raises:
        ValueError: the type is not known.
    """
    make = _MAKERS.get(column.data_type)
    if make is None:
        raise ValueError(f"no values for columns of type {column.column_type}")
    return make(column, random, number, distinct)


def find_range(column: Column) -> tuple[int, int]:
    """The whole numbers that an integer column holds; positive ones, where there are enough."""
    bits = _BITS[column.data_type]
    return 1, (2**bits if column.is_unsigned else 2 ** (bits - 1)) - 1


def _whole(column: Column, random: Random, number: int, distinct: bool) -> str:
    low, high = find_range(column)
    return str(low + number % (high - low + 1)) if distinct else str(random.randint(low, min(high, 100_000)))


def _decimal(column: Column, random: Random, number: int, distinct: bool) -> str:
    digits, scale = column.precision or 10, column.scale or 0
    whole = 10 ** min(digits - scale, 6) or 1
    value = number % 10**digits if distinct else random.randrange(whole * 10**scale)
    text = str(value).rjust(scale + 1, "0")
    return f"{text[:-scale]}.{text[-scale:]}" if scale else text


def _float(column: Column, random: Random, number: int, distinct: bool) -> str:
    # DOUBLE(5,2) and the like: a small number fits all of them, and quarters are exact.
    return str(number) if distinct else str(random.randrange(40) / 4)


def _text(column: Column, random: Random, number: int, distinct: bool) -> str:
    length = min(column.character_length or column.octet_length or _LONGEST_TEXT, _LONGEST_TEXT)
    if column.is_json:
        return _json(column, random, number, distinct)
    mark = _in_letters(number) if distinct else ""
    words = [mark] if mark else []
    wanted = random.randint(1, length) if length else 0
    while sum(map(len, words)) + len(words) < wanted:
        words.append(random.choice(_WORDS))
    return quote_string(" ".join(words)[:length].strip())


def _in_letters(number: int) -> str:
    """Lower-case letters and digits, so that no collation takes two for equal."""
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    text = ""
    while True:
        number, rest = divmod(number, 36)
        text = digits[rest] + text
        if not number:
            return text


def _binary(column: Column, random: Random, number: int, distinct: bool) -> str:
    length = min(column.octet_length or _LONGEST_BYTES, _LONGEST_BYTES)
    if column.data_type == "vector":
        raise ValueError("no values for columns of type vector")
    tail = number.to_bytes(8, "big")[-min(8, length) :] if distinct else b""
    return f"X'{(random.randbytes(length - len(tail)) + tail).hex()}'"


def _enum(column: Column, random: Random, number: int, distinct: bool) -> str:
    members = column.members or ("",)
    return quote_string(members[number % len(members)] if distinct else random.choice(members))


def _date(column: Column, random: Random, number: int, distinct: bool) -> str:
    days = number % 3_000_000 if distinct else random.randrange(2_000)
    return f"'{date(1000, 1, 1) + timedelta(days=days)}'" if distinct else f"'{_EPOCH.date() + timedelta(days=days)}'"


def _datetime(column: Column, random: Random, number: int, distinct: bool) -> str:
    seconds = number % 500_000_000 if distinct else random.randrange(150_000_000)
    return f"'{_EPOCH + timedelta(seconds=seconds)}'"


def _time(column: Column, random: Random, number: int, distinct: bool) -> str:
    seconds = number % 86_400 if distinct else random.randrange(86_400)
    return f"'{timedelta(seconds=seconds)}'"


def _year(column: Column, random: Random, number: int, distinct: bool) -> str:
    return str(1901 + (number % 255 if distinct else random.randrange(100, 125)))


def _bit(column: Column, random: Random, number: int, distinct: bool) -> str:
    width = column.precision or 1
    return f"b'{(number if distinct else random.getrandbits(width)) % 2**width:b}'"


def _json(column: Column, random: Random, number: int, distinct: bool) -> str:
    return quote_string(f'{{"n": {number}, "word": "{random.choice(_WORDS)}"}}')


def _printed(column: Column, random: Random, number: int, distinct: bool) -> str:
    if column.data_type == "uuid":
        text = f"{random.getrandbits(64):016x}{number % 2**64:016x}"
        return f"'{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}'"
    value = number % 2**24 if distinct else random.getrandbits(24)
    octets = ".".join(str(part) for part in value.to_bytes(3, "big"))
    return f"'10.{octets}'" if column.data_type == "inet4" else f"'::10.{octets}'"


def _geometry(column: Column, random: Random, number: int, distinct: bool) -> str:
    n = 1 + (number if distinct else random.randrange(80)) % 80
    text = f"POINT({n} 1)" if column.data_type in _POINTS else _SHAPES[column.data_type].format(n=n)
    return f"ST_GeomFromText('{text}')"


Maker = Callable[[Column, Random, int, bool], str]
_MAKERS: dict[str, Maker] = {
    **dict.fromkeys(_BITS, _whole),
    "decimal": _decimal, "float": _float, "double": _float,
    **dict.fromkeys(("char", "varchar", "tinytext", "text", "mediumtext", "longtext"), _text),
    **dict.fromkeys(("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob", "vector"), _binary),
    "enum": _enum, "set": _enum, "date": _date, "datetime": _datetime, "timestamp": _datetime, "time": _time,
    "year": _year, "bit": _bit, "json": _json,
    **dict.fromkeys(("uuid", "inet4", "inet6"), _printed),
    **dict.fromkeys((*_POINTS, *_SHAPES), _geometry),
}  # fmt: skip
