"""Looking at SQL text without being fooled by what stands in strings, comments and quoted names.

The rewriting of definitions is done on text whose strings are set aside, so a comment that reads like a clause is never
taken for one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

_STRING = r"'(?:[^'\\]|\\.|'')*'"
_NAME = r"`(?:[^`]|``)*`"
_DOUBLE_QUOTED = r'"(?:[^"\\]|\\.|"")*"'
_COMMENT = r"/\*(?!!|M!).*?\*/|--[ \t][^\n]*|--(?=\n)|#[^\n]*"
_SET_ASIDE = re.compile(f"{_NAME}|({_STRING})", re.DOTALL)
_NOT_CODE = re.compile(f"({_STRING}|{_DOUBLE_QUOTED}|{_COMMENT})", re.DOTALL)
_NOT_KEYWORDS = re.compile(f"({_STRING}|{_DOUBLE_QUOTED}|{_NAME}|{_COMMENT})", re.DOTALL)
_INTRODUCER = re.compile(r"(?<![\w`])_utf8mb4(?=')")
_MARK = re.compile("'\0(\\d+)\0'")

MARK = "'\0\\d+\0'"
"""What stands for a string that is set aside, as part of a regular expression."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """SQL text whose strings are replaced by marks; ``restore`` puts them back into any text made from it."""

    text: str
    strings: tuple[str, ...]

    def restore(self, text: str) -> str:
        """``text`` with its marks replaced by the strings they stand for."""
        return _MARK.sub(lambda mark: self.strings[int(mark[1])], text)


def set_strings_aside(text: str) -> SetAside:
    """``text`` with every single-quoted string replaced by a mark."""
    strings: list[str] = []

    def keep(found: re.Match[str]) -> str:
        if found[1] is None:
            return found[0]  # a name, which may hold a quote
        strings.append(found[0])
        return f"'\0{len(strings) - 1}\0'"

    return SetAside(_SET_ASIDE.sub(keep, text), tuple(strings))


def rewrite_code(text: str, rewrite: Callable[[str], str]) -> str:
    """``rewrite`` applied to everything but strings and comments."""
    return "".join(part if i % 2 else rewrite(part) for i, part in enumerate(_NOT_CODE.split(text)))


def rewrite_keywords(text: str, rewrite: Callable[[str], str]) -> str:
    """``rewrite`` applied to everything but strings, comments and names in backticks."""
    return "".join(part if i % 2 else rewrite(part) for i, part in enumerate(_NOT_KEYWORDS.split(text)))


def drop_introducers(text: str) -> str:
    """``_utf8mb4'x'`` as ``'x'``, which a utf8mb4 session takes for the same.

    MariaDB (10.11) prints and keeps an introduced string in views and expressions without its escapes, so that the quote
    in ``_utf8mb4'it\\'s'`` ends it and what follows becomes SQL.
    """
    aside = set_strings_aside(text)
    return aside.restore(_INTRODUCER.sub("", aside.text))


def find_closing(text: str, opening: int) -> int:
    """The index of the parenthesis that closes the one at ``opening``; names in backticks are stepped over."""
    depth, quoted = 0, False
    for place in range(opening, len(text)):
        if text[place] == "`":
            quoted = not quoted
        elif not quoted:
            depth += (text[place] == "(") - (text[place] == ")")
            if depth == 0:
                return place
    raise ValueError(f"no closing parenthesis in {text[opening:]!r}")
