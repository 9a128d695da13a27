"""What plain SQL text may do, judged by its leading verb.

Not a parser: it errs towards "may write". A SELECT that calls a function which writes is taken for a read; nothing on
this side of the server can know.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache

_LEADING = re.compile(r"(?:\s+|--[ \t][^\n]*(?:\n|$)|--\n|\#[^\n]*(?:\n|$)|/\*(?![!M])(?s:.*?)\*/|\()+")
_VERSIONED = re.compile(r"/\*(?:!|M!)\d*")
_WORD = re.compile(r"[A-Za-z_]+")
_READS = frozenset(
    {"SELECT", "SHOW", "EXPLAIN", "DESCRIBE", "DESC", "SET", "USE", "VALUES", "TABLE", "BEGIN", "START", "COMMIT", "ROLLBACK",
     "SAVEPOINT", "RELEASE", "KILL", "HELP", "LOCK", "UNLOCK", "FLUSH", "ANALYZE", "CHECK"}
)  # fmt: skip
_LOCKS = re.compile(
    r"\b(?:FOR\s+UPDATE|FOR\s+SHARE|LOCK\s+IN\s+SHARE\s+MODE|INTO\s+(?:OUTFILE|DUMPFILE))\b", re.IGNORECASE
)
_WRITES_AFTER_WITH = re.compile(r"\)\s*(?:INSERT|UPDATE|DELETE|REPLACE)\b", re.IGNORECASE)
_LITERAL = re.compile(r"'(?:[^'\\]|''|\\.)*'|\"(?:[^\"\\]|\"\"|\\.)*\"|\b\d+(?:\.\d+)?\b")


def leading_verb(sql: str) -> str:
    """The first word in capitals, behind comments and parentheses; empty where there is none."""
    position = 0
    while True:
        if (found := _LEADING.match(sql, position)) or (found := _VERSIONED.match(sql, position)):
            position = found.end()
        else:
            break
    word = _WORD.match(sql, position)
    return word[0].upper() if word else ""


def may_write(sql: str) -> bool:
    """Whether the text may change rows."""
    verb = leading_verb(sql)
    if verb == "WITH":
        return _WRITES_AFTER_WITH.search(sql) is not None
    return verb not in _READS


@lru_cache(maxsize=1000)
def only_reads(sql: str) -> bool:
    """Whether the text changes nothing, locks nothing and takes nothing from a sequence."""
    return not may_write(sql) and _LOCKS.search(sql) is None


def digest(sql: str) -> str:
    """The statement without its values, abbreviated: for messages and counts, never with what users entered."""
    bare = " ".join(_LITERAL.sub("?", sql).split())
    return f"{bare[:120]} [{hashlib.sha256(bare.encode()).hexdigest()[:8]}]"
