"""When two values of one column are the same value, though two servers or drivers print them differently.

Pure, and apart from the comparison of results: every value is brought to one form that can be hashed, so that results
can be compared as multisets. Only DOUBLE needs more, because a tolerance is no equivalence: see ``Snapper``.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from bisect import bisect_left, insort
from collections.abc import Hashable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any

STORED_TOLERANCE = 2e-15
"""Relative. A stored DOUBLE has 15 digits that every server prints alike; the 16th and 17th may differ."""
SUMMED_TOLERANCE = 1e-12
"""Relative. Servers add rows up in different orders, and each addition may round."""

_LONGEST_NUMBER = 400


class Kind(Enum):
    """How the values of a column are compared."""

    PLAIN = "plain"
    FLOAT = "float"
    DOUBLE = "double"
    TEMPORAL = "temporal"
    JSON = "json"
    BIT = "bit"
    SET = "set"


_BY_CODE = {
    4: Kind.FLOAT, 5: Kind.DOUBLE, 16: Kind.BIT, 245: Kind.JSON, 248: Kind.SET,
    7: Kind.TEMPORAL, 10: Kind.TEMPORAL, 11: Kind.TEMPORAL, 12: Kind.TEMPORAL, 14: Kind.TEMPORAL,
    17: Kind.TEMPORAL, 18: Kind.TEMPORAL, 19: Kind.TEMPORAL,
}  # fmt: skip
"""By the type numbers of the client protocol."""
_PRECEDENCE = (Kind.JSON, Kind.FLOAT, Kind.DOUBLE, Kind.TEMPORAL, Kind.BIT, Kind.SET, Kind.PLAIN)


def kind_of(control: int | None, candidate: int | None) -> Kind:
    """How to compare a column, by its type on both sides; the rarer type decides.

    JSON is compared as JSON only if a side says that it is: MariaDB's is LONGTEXT, so there, on both sides, it is
    compared as the text that it is. That never calls different values equal.
    """
    found = {_BY_CODE.get(code, Kind.PLAIN) for code in (control, candidate) if code is not None}
    return next((kind for kind in _PRECEDENCE if kind in found), Kind.PLAIN)


def canonical(kind: Kind, value: Any, *, fold: bool = False) -> Hashable:
    """The form in which equal values are equal. ``fold`` makes text equal that differs in case or accents only."""
    if value is None:
        return None
    if kind is not Kind.PLAIN:
        found = _CANONICAL[kind](value)
        return fold_text(found) if fold and isinstance(found, str) and kind is not Kind.TEMPORAL else found
    plain = _plain(value)
    return fold_text(plain) if fold and isinstance(plain, str) else plain


def fold_text(text: str) -> str:
    """The text as a case-, accent- and pad-insensitive collation sees it, nearly: coarser than all of them."""
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return "".join(char for char in decomposed if not unicodedata.combining(char)).rstrip(" ")


def _plain(value: Any) -> Hashable:
    """Numbers compare by value whatever their type, and text that came as bytes compares as text."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _decoded(bytes(value))
    if isinstance(value, (set, frozenset)):
        return _set(value)
    if isinstance(value, (date, time, timedelta)):  # the driver knew the type though it did not say so
        return _temporal(value)
    if isinstance(value, (float, Decimal)) and value != value:
        return "NaN"
    if isinstance(value, Hashable):
        return value
    return repr(value)


def _decoded(value: bytes) -> str | bytes:
    """UTF-8 decodes in one way only, so different bytes stay different."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value


def _float(value: Any) -> Hashable:
    """Six digits, as FLOAT is printed; -0.0 is 0."""
    number = _number(value)
    return _plain(value) if number is None else float(f"{number:.6g}") + 0.0


def _double(value: Any) -> Hashable:
    number = _number(value)
    return _plain(value) if number is None else number + 0.0


def _number(value: Any) -> float | None:
    if isinstance(value, (bytes, bytearray)):
        value = _decoded(bytes(value))
    if isinstance(value, str) and len(value) > _LONGEST_NUMBER:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


_TIME_TEXT = re.compile(r"(-?)(\d{1,3}):(\d\d):(\d\d)(?:\.(\d{1,6}))?")
_DATE_TEXT = re.compile(r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?)?")


def _temporal(value: Any) -> Hashable:
    """``YYYY-MM-DD[ HH:MM:SS[.f]]`` without zeros at the end of fractions and without midnight; durations in
    microseconds. Text is for what the driver's types cannot hold, such as zero dates."""
    if isinstance(value, timedelta):
        return ("microseconds", value // timedelta(microseconds=1))
    if isinstance(value, time):
        clock = value.replace(tzinfo=None)
        return _temporal(datetime.combine(date.min, clock) - datetime.combine(date.min, time.min))
    if isinstance(value, datetime):
        value = value.replace(tzinfo=None).isoformat(sep=" ")
    elif isinstance(value, date):
        value = value.isoformat()
    text = _plain(value)
    if not isinstance(text, str):
        return text
    return _temporal_text(text)


def _temporal_text(text: str) -> Hashable:
    if found := _TIME_TEXT.fullmatch(text):
        sign, hours, minutes, seconds, fraction = found.groups()
        whole = int(hours) * 3600 + int(minutes) * 60 + int(seconds)
        microseconds = whole * 1_000_000 + int((fraction or "0").ljust(6, "0"))
        return ("microseconds", -microseconds if sign else microseconds)
    if found := _DATE_TEXT.fullmatch(text):
        day, clock, fraction = found.groups()
        fraction = (fraction or "").rstrip("0")
        if not fraction and clock in (None, "00:00:00"):
            return day
        return f"{day} {clock}.{fraction}" if fraction else f"{day} {clock}"
    return text


def _json(value: Any) -> Hashable:
    """As a value; text that is no JSON stays text."""
    text = _plain(value) if isinstance(value, (str, bytes, bytearray)) else None
    if not isinstance(text, str):
        return ("json", _frozen(value)) if isinstance(value, (dict, list)) else _plain(value)
    try:
        return ("json", _frozen(json.loads(text)))
    except (ValueError, RecursionError):
        return text


def _frozen(value: Any) -> Hashable:
    """``true`` is not 1, but 1.0 is 1: the servers print whole numbers in either way."""
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, dict):
        return ("object", frozenset((key, _frozen(each)) for key, each in value.items()))
    if isinstance(value, list):
        return ("array", tuple(_frozen(each) for each in value))
    return value  # type: ignore[no-any-return]  # text, a number or None: hashable all


def _bit(value: Any) -> Hashable:
    """The number that the bits are, whether a driver gives bytes, a bool or an integer."""
    if isinstance(value, (bytes, bytearray)):
        return int.from_bytes(value, "big")
    return _plain(value)


def _set(value: Any) -> Hashable:
    """The members, without the order in which the column's definition lists them."""
    text = _plain(value) if isinstance(value, (str, bytes, bytearray)) else value
    if isinstance(text, str):
        return frozenset(text.split(",")) if text else frozenset()
    return frozenset(str(each) for each in text) if isinstance(text, (set, frozenset)) else _plain(text)


_CANONICAL = {
    Kind.FLOAT: _float, Kind.DOUBLE: _double, Kind.TEMPORAL: _temporal, Kind.JSON: _json,
    Kind.BIT: _bit, Kind.SET: _set,
}  # fmt: skip


class Snapper:
    """Makes doubles equal that are equal within a relative tolerance, so that they can be hashed.

    Rounding could not: wherever it cuts, two neighbours fall on different sides. Each number becomes the nearest one
    seen before, if that is near enough, or is remembered itself.
    """

    def __init__(self, tolerance: float) -> None:
        self._tolerance = tolerance
        self._known: list[float] = []

    def snap(self, number: float) -> float:
        """The number that stands for this one."""
        place = bisect_left(self._known, number)
        near = min(self._known[max(0, place - 1) : place + 1], key=lambda known: abs(known - number), default=None)
        if near is not None and abs(near - number) <= self._tolerance * max(abs(near), abs(number)):
            return near
        insort(self._known, number)
        return number
