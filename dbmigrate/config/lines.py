"""On which line of a TOML text each key stands.

Apart from loading because ``tomllib`` keeps no positions and this is only a reading aid: where the text is
too clever for it (a key in a nested inline table), the caller falls back to the line of the table around it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

_HEADER = re.compile(r"\s*\[\[?(?P<name>[^\[\]]+)\]\]?\s*(?:#.*)?$")
_KEY_PART = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_KEY = re.compile(rf"\s*(?P<name>{_KEY_PART}(?:\s*\.\s*{_KEY_PART})*)\s*=")
_PART = re.compile(r"""([A-Za-z0-9_-]+)|"((?:[^"\\]|\\.)*)"|'([^']*)'""")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"|\'[^\']*\'')
_INLINE_KEY = re.compile(r"[{,]\s*([A-Za-z0-9_-]+)\s*=")
_LONG_QUOTES = ('"""', "'''")
_QUOTES_OR_COMMENT = re.compile(rf"{'|'.join(_LONG_QUOTES)}|{_STRING.pattern}|#.*")


def find_lines(text: str) -> Mapping[tuple[str, ...], int]:
    """The first line (from 1) of every table and key that can be found, by path."""
    found: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in _lines_outside_long_strings(text):
        if header := _HEADER.match(line):
            table = _split(header["name"])
            found.setdefault(table, number)
        elif key := _KEY.match(line):
            path = (*table, *_split(key["name"]))
            found.setdefault(path, number)
            for inner in _INLINE_KEY.findall(_STRING.sub("", line[key.end() :])):
                found.setdefault((*path, inner), number)
    for path, number in tuple(found.items()):
        for length in range(1, len(path)):
            found.setdefault(path[:length], number)  # [tables.orders] also begins [tables]
    return found


def _split(dotted: str) -> tuple[str, ...]:
    return tuple(bare or double or single for bare, double, single in _PART.findall(dotted))


def _lines_outside_long_strings(text: str) -> Iterator[tuple[int, str]]:
    inside = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if not inside:
            yield number, line
        inside = _quotes_left_open(line, inside)


def _quotes_left_open(line: str, inside: str) -> str:
    """The long quotes that are open at the end of ``line``, where ``inside`` were at its beginning."""
    at = 0
    while True:
        if inside:
            end = line.find(inside, at)
            if end < 0:
                return inside
            at = end + len(inside)
        found = _QUOTES_OR_COMMENT.search(line, at)
        if found is None:
            return ""
        at, inside = found.end(), found[0] if found[0] in _LONG_QUOTES else ""
