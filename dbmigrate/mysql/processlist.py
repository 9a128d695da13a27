"""The connections of a server and what each of them does now.

By SHOW PROCESSLIST on both flavours: MySQL's information_schema.processlist cannot be read at all (error 3854) while
any connection runs a statement with characters that utf8mb3 lacks, such as emoji.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from dbmigrate.mysql.sessions import Session

_LONGEST_STATEMENT, _MOST_READ = 160, 16384
_NAME_OR_VALUE = re.compile(
    r"""(?P<name>`(?:[^`]|``)*`|[A-Za-z_@$\x80-\U0010ffff][\w@$]*(?!['\w]))
      | (?P<comment>/\*.*?(?:\*/|\Z)|\#[^\n]*|--\s[^\n]*)
      | (?P<value>\w*'(?:[^'\\]|\\.|'')*(?:'|\Z)|"(?:[^"\\]|\\.|"")*(?:"|\Z)|\d[\w.]*)""",
    re.DOTALL | re.VERBOSE,
)


def hide_values(statement: str) -> str:
    """A statement on one line with ``?`` for each value and without comments: fit for a message."""
    text = _NAME_OR_VALUE.sub(
        lambda found: found.group() if found.lastgroup == "name" else "?" if found.lastgroup == "value" else " ",
        statement[:_MOST_READ],
    )
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_STATEMENT else f"{text[:_LONGEST_STATEMENT]}..."


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection as its server describes it. ``statement`` runs now and holds values: `hide_values` before it is shown.

    ``seconds``: for how long it has been doing that.
    """

    id: int
    user: str
    host: str
    command: str
    seconds: int
    state: str
    statement: str

    @property
    def account(self) -> str:
        """As an operator finds it in the server's own list."""
        return f"{self.user or '?'}@{self.host or '?'}"


def read_connections(session: Session, *, whole_statements: bool = False) -> dict[int, Connection]:
    """All connections by number; of their statements the first 100 characters, or all.

    Needs PROCESS; without it only those of our own account are seen.
    """
    full = "FULL " if whole_statements else ""
    rows = session.execute(f"SHOW {full}PROCESSLIST", doing="reading the process list").rows
    texts = [[(field or b"").decode("utf-8", "replace") for field in row] for row in rows]
    return {
        int(number): Connection(int(number), user, host, command, int(seconds or 0), state, statement)
        for number, user, host, _, command, seconds, state, statement, *_ in texts
    }
