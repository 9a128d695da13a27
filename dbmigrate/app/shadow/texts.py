"""What can be told of a statement from its text alone, without a parser: whether it may be repeated, and its digest.

Apart from the analysis, because it runs on the user's thread (once for each text) and must not load the parser there.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache

_SKIPPED = r"--[ \t][^\n]*|--(?=\n|$)|\#[^\n]*|/\*(?![!M])(?s:.*?)\*/"
_STRINGS = r"'(?:[^'\\]|''|\\.)*'|\"(?:[^\"\\]|\"\"|\\.)*\""
_NAMES = r"`(?:[^`]|``)*`"
_PARTS = re.compile(
    rf"(?P<skip>{_SKIPPED})|(?P<name>{_NAMES})|(?P<text>(?:\b[xXbBnN]|\b_\w+\s*)?(?:{_STRINGS}))"
    r"|(?P<mark>%s|%\(\w+\)s)|(?P<percent>%%)|(?P<number>(?<![\w.`@])(?:0x[0-9a-fA-F]+|\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)(?!\w))",
    re.DOTALL,
)
_LISTS = re.compile(r"\(\s*\?(?:\s*,\s*\?)+\s*\)")
_LONGEST_STATEMENT = 2000

_NEVER = re.compile(
    r"\bFOR\s+(?:UPDATE|SHARE)\b|\bLOCK\s+IN\s+SHARE\s+MODE\b|\bINTO\b|/\*(?:!|M!)|:="
    r"|\b(?:GET_LOCK|RELEASE_LOCK|RELEASE_ALL_LOCKS|SLEEP|BENCHMARK|NEXTVAL|SETVAL|LASTVAL"
    r"|MASTER_POS_WAIT|SOURCE_POS_WAIT|MASTER_GTID_WAIT|WAIT_FOR_EXECUTED_GTID_SET|LOAD_FILE)\s*\("
    r"|\b(?:NEXT|PREVIOUS)\s+VALUE\s+FOR\b|\b(?:INSERT|REPLACE|UPDATE|DELETE)\b(?!\s*\()|\bPROCEDURE\s+ANALYSE\b",
    re.IGNORECASE,
)
"""Locks, writes or waits, whatever the answer is."""

_VARIES = re.compile(
    r"@|\b(?:NOW|CURDATE|CURTIME|SYSDATE|UNIX_TIMESTAMP|UTC_DATE|UTC_TIME|UTC_TIMESTAMP|RAND|RANDOM_BYTES|UUID|UUID_SHORT"
    r"|UUID_V4|UUID_V7|SYS_GUID|CONNECTION_ID|LAST_INSERT_ID|FOUND_ROWS|ROW_COUNT|VERSION|USER|SESSION_USER|SYSTEM_USER"
    r"|DATABASE|SCHEMA|IS_FREE_LOCK|IS_USED_LOCK|ANY_VALUE|ROWNUM|ROLES_GRAPHML|ICU_VERSION|ENCRYPT|COERCIBILITY|COLLATION)\s*\("
    r"|\b(?:CURRENT_TIMESTAMP|CURRENT_DATE|CURRENT_TIME|CURRENT_USER|CURRENT_ROLE|LOCALTIME|LOCALTIMESTAMP"
    r"|UTC_DATE|UTC_TIME|UTC_TIMESTAMP|SQL_CALC_FOUND_ROWS|FOR\s+SYSTEM_TIME)\b",
    re.IGNORECASE,
)
"""Answers that depend on when, where or by whom they are asked."""

_READS = re.compile(r"[\s(]*(?:SELECT|WITH)\b", re.IGNORECASE)


def strip(sql: str, *, keep_numbers: bool = False) -> str:
    """The statement with ``?`` for each literal and parameter, without comments, on one line."""

    def replace(found: re.Match[str]) -> str:
        kind = found.lastgroup
        if kind == "skip":
            return " "
        if kind == "name" or (kind == "number" and keep_numbers):
            return found[0]
        return "%" if kind == "percent" else "?"

    return " ".join(_PARTS.sub(replace, sql).split()).rstrip("; ")


def without_names(bare: str) -> str:
    """The statement without quoted names, which could look like words of SQL."""
    return re.sub(_NAMES, "``", bare)


@lru_cache(maxsize=4000)
def may_be_repeated(sql: str) -> bool:
    """Whether the text is a SELECT that takes no lock, writes nothing, and does not wait."""
    bare = without_names(strip(sql))
    return _READS.match(bare) is not None and _NEVER.search(bare) is None


def find_variation(sql: str) -> str:
    """The first thing in the statement that makes its answer differ from run to run; empty without one."""
    found = _VARIES.search(without_names(strip(sql)))
    return found[0].rstrip("( ").upper() if found else ""


def normalised(sql: str) -> str:
    """The form that all statements have in common which differ in their values only."""
    return _LISTS.sub("(?)", strip(sql))[:_LONGEST_STATEMENT]


def digest_of(statement: str) -> str:
    """The name of a normalised statement: the same in every process."""
    return hashlib.sha256(statement.encode()).hexdigest()[:16]


def for_parser(sql: str) -> str:
    """The statement as the server gets it, with ``?`` for parameters; string literals become ``''``."""

    def replace(found: re.Match[str]) -> str:
        kind = found.lastgroup
        if kind == "skip":
            return " "
        return {"mark": "?", "percent": "%", "text": "''"}.get(kind or "", found[0])

    return _PARTS.sub(replace, sql)
