"""The tokens of a statement, as both flavours read them: what is a keyword, what is a quoted name, what is a comment.

Apart from those who read statements (the stream, the lanes) so that comments, strings and quoted names deceive neither.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""(?P<space>\s+|--(?=\s|$)[^\n]*|\#[^\n]*|/\*(?!M?!)(?:.*?\*/|.*))
      | (?P<executable>/\*M?!\d*|\*/)
      | (?P<quoted>`(?:[^`]|``)*`)
      | (?P<string>'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*")
      | (?P<word>[\w$@\x80-\U0010ffff]+)
      | (?P<other>.)""",
    re.DOTALL | re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Token:
    """One word, name, string or mark."""

    text: str
    is_quoted: bool = False

    @property
    def keyword(self) -> str:
        """The word in upper case; nothing for a quoted name."""
        return "" if self.is_quoted else self.text.upper()


def split_statement(statement: str) -> list[Token]:
    """The tokens of a statement without comments; executable comments count as the text they hold."""
    tokens = []
    for match in _TOKEN.finditer(statement):
        kind, text = match.lastgroup, match.group()
        if kind == "quoted":
            tokens.append(Token(text[1:-1].replace("``", "`"), is_quoted=True))
        elif kind == "string":
            tokens.append(Token(text[1:-1], is_quoted=True))
        elif kind in ("word", "other"):
            tokens.append(Token(text))
    return tokens
