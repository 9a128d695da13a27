"""From the bytes of a key column in a row image to its canonical SQL literal.

The forms are fixed in ``dbmigrate.domain.keys``; the servers write the same ones by ``mysql.literals``, and
an integration test holds the two together. Signedness, charset and width come from the schema: row images
under minimal metadata do not carry them.
"""

from __future__ import annotations

from binascii import hexlify
from collections.abc import Callable
from datetime import datetime, timedelta

from dbmigrate.domain.schema import Column

Literal = Callable[[bytes], bytes]

_EPOCH = datetime(1970, 1, 1)  # naive on purpose: these are UTC digits, not an instant to convert
_DIGIT_BYTES = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)  # bytes that hold 0 to 9 decimal digits


def format_integer(*, is_signed: bool) -> Literal:
    """Little-endian integers of any width; also ENUM and SET by number."""

    def literal(data: bytes) -> bytes:
        return b"%d" % int.from_bytes(data, "little", signed=is_signed)

    return literal


def format_bits(data: bytes) -> bytes:
    """BIT, which is stored with its highest byte first."""
    return b"%d" % int.from_bytes(data, "big")


def format_year(data: bytes) -> bytes:
    """YEAR; 0 is the zero year."""
    return b"%d" % (data[0] + 1900 if data[0] else 0)


def format_characters(column: Column) -> Literal:
    """CHAR, VARCHAR and TEXT: the bytes as stored, introduced by the column's charset."""
    prefix = f"_{column.charset} X'".encode()

    def literal(data: bytes) -> bytes:
        return prefix + hexlify(data).upper() + b"'"

    return literal


def format_bytes(width: int = 0) -> Literal:
    """VARBINARY and BLOB; with a ``width`` BINARY, whose trailing zeros the binlog leaves out."""

    def literal(data: bytes) -> bytes:
        return b"X'" + hexlify(data.ljust(width, b"\0")).upper() + b"'"

    return literal


def decimal_bytes(precision: int, scale: int) -> int:
    """How many bytes a DECIMAL takes."""
    whole = precision - scale
    return whole // 9 * 4 + _DIGIT_BYTES[whole % 9] + scale // 9 * 4 + _DIGIT_BYTES[scale % 9]


def format_decimal(precision: int, scale: int) -> Literal:
    """DECIMAL as the server prints it: no leading zeros but one, all digits of the scale."""
    whole = precision - scale
    groups = [whole % 9, *[9] * (whole // 9)]
    fraction_groups = [*[9] * (scale // 9), scale % 9]

    def literal(data: bytes) -> bytes:
        is_negative = not data[0] & 0x80
        value = bytes((data[0] ^ 0x80,)) + data[1:]
        if is_negative:
            value = bytes(byte ^ 0xFF for byte in value)
        position, digits = 0, []
        for count in (*groups, *fraction_groups):
            size = _DIGIT_BYTES[count]
            if size:
                number = int.from_bytes(value[position : position + size], "big")
                digits.append(f"{number:0{count}d}")
            position += size
        text = "".join(digits)
        printed = text[:whole].lstrip("0") or "0"
        if scale:
            printed += "." + text[whole:]
        return (f"-{printed}" if is_negative and printed.strip("0.") else printed).encode()

    return literal


def fraction_bytes(digits: int) -> int:
    """How many bytes the fraction of a temporal value takes."""
    return (digits + 1) // 2


def _fraction(value: int, digits: int) -> str:
    """The fraction as text: ``value`` counts in units of the stored pairs of digits."""
    return f".{value:0{2 * fraction_bytes(digits)}d}"[: digits + 1] if digits else ""


def format_date(data: bytes) -> bytes:
    """DATE: year, month and day in 15, 4 and 5 bits."""
    value = int.from_bytes(data, "little")
    return b"'%04d-%02d-%02d'" % (value >> 9, value >> 5 & 15, value & 31)


def format_time(digits: int) -> Literal:
    """TIME, negative ones included."""
    fraction_bits = 8 * fraction_bytes(digits)
    zero = 0x800000 << fraction_bits

    def literal(data: bytes) -> bytes:
        value = int.from_bytes(data, "big") - zero
        sign, value = ("-", -value) if value < 0 else ("", value)
        clock, fraction = value >> fraction_bits, value & (1 << fraction_bits) - 1
        text = f"{sign}{clock >> 12 & 1023:02d}:{clock >> 6 & 63:02d}:{clock & 63:02d}"
        return f"'{text}{_fraction(fraction, digits)}'".encode()

    return literal


def format_datetime(digits: int) -> Literal:
    """DATETIME, zero dates included."""
    fraction_bits = 8 * fraction_bytes(digits)

    def literal(data: bytes) -> bytes:
        value = int.from_bytes(data, "big")
        whole, fraction = (value >> fraction_bits) - 0x8000000000, value & (1 << fraction_bits) - 1
        clock, days = whole & 0x1FFFF, whole >> 17
        year, month = divmod(days >> 5, 13)
        text = f"{year:04d}-{month:02d}-{days & 31:02d} {clock >> 12:02d}:{clock >> 6 & 63:02d}:{clock & 63:02d}"
        return f"'{text}{_fraction(fraction, digits)}'".encode()

    return literal


def format_timestamp(digits: int) -> Literal:
    """TIMESTAMP in UTC; second 0 is the zero date."""

    def literal(data: bytes) -> bytes:
        seconds, fraction = int.from_bytes(data[:4], "big"), int.from_bytes(data[4:], "big")
        text = str(_EPOCH + timedelta(seconds=seconds)) if seconds or fraction else "0000-00-00 00:00:00"
        return f"'{text}{_fraction(fraction, digits)}'".encode()

    return literal


def format_uuid(data: bytes) -> bytes:
    """MariaDB's UUID; the binlog carries it in its printed order, without trailing zero bytes."""
    digits = data.ljust(16, b"\0").hex()
    return f"'{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}'".encode()


def format_inet4(data: bytes) -> bytes:
    """MariaDB's INET4, in the binlog without trailing zero bytes."""
    return b"'%d.%d.%d.%d'" % tuple(data.ljust(4, b"\0"))


def format_inet6(data: bytes) -> bytes:
    """MariaDB's INET6, in the binlog without trailing zero bytes.

    It prints a single zero group as ``::`` too, where inet_ntop and RFC 5952 write ``0``.
    """
    address = data.ljust(16, b"\0")
    groups = [int.from_bytes(address[i : i + 2], "big") for i in range(0, 16, 2)]
    start, length = _longest_zeros(groups)
    tail = [f"{group:x}" for group in groups[start + length :]]
    if start == 0 and (length == 6 or (length == 5 and groups[5] == 0xFFFF)):
        tail[-2:] = [".".join(str(byte) for byte in address[12:])]
    if not length:
        return f"'{':'.join(tail)}'".encode()
    head = [f"{group:x}" for group in groups[:start]]
    return f"'{':'.join(head)}::{':'.join(tail)}'".encode()


def _longest_zeros(groups: list[int]) -> tuple[int, int]:
    """Start and length of the first of the longest runs of zero groups."""
    best, start = (0, 0), 0
    for place, group in enumerate([*groups, -1]):
        if group:
            best = max(best, (start, place - start), key=lambda run: run[1])
            start = place + 1
    return best
