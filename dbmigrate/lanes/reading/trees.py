"""The parser's trees: one statement each, and the names in them.

Apart from the readers because all of them ask the parser alike, and refuse alike what it cannot tell.
"""

from __future__ import annotations

import logging
import re
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from dbmigrate.lanes.reading.columns import NotUnderstood

_EXECUTED_COMMENT = re.compile(r"/\*M?!")
_SECRET = re.compile(
    r"(\bidentified\s+(?:(?:with|via)\s+\S+\s+)?(?:by|as|using)\s+(?:password\s*\(\s*)?|password`?\s*[=(]?\s*)"
    r"(?:'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.|\"\")*\")", re.IGNORECASE,
)  # fmt: skip
STRING = re.compile(r"'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.|\"\")*\"|`(?:[^`]|``)*`", re.DOTALL)


def hide_secrets(sql: str) -> str:
    """``sql`` without the passwords of accounts, for people and machines to read."""
    return _SECRET.sub(r"\1'***'", sql)


def shorten(sql: str, most: int = 100) -> str:
    """A statement as messages name it, on one line, without passwords."""
    line = " ".join(hide_secrets(sql).split())
    return line if len(line) <= most else line[: most - 3] + "..."


def parse_single(sql: str) -> exp.Expression:
    """The tree of one statement.

    Raises:
        NotUnderstood: it cannot be parsed, or is not one statement.
    """
    if _EXECUTED_COMMENT.search(STRING.sub("''", sql)):
        raise NotUnderstood("a comment that the server executes")
    logger = logging.getLogger("sqlglot")
    level, logger.level = logger.level, logging.ERROR  # its warning repeats the statement; it is refused anyway
    try:
        trees: list[Any] = [tree for tree in sqlglot.parse(sql, dialect="mysql") if tree is not None]
    except SqlglotError as fault:
        first = str(fault).split("\n")[0]
        raise NotUnderstood(f"the parser says: {first}") from fault
    finally:
        logger.level = level
    if len(trees) != 1:
        raise NotUnderstood("it is not one statement")
    tree: exp.Expression = trees[0]
    return tree


def table_name(node: exp.Expression | None) -> str:
    """``schema.table`` or ``table``, as it was written.

    Raises:
        NotUnderstood: it is none.
    """
    if not isinstance(node, exp.Table) or not node.name:
        raise NotUnderstood("a table without a plain name")
    return f"{node.db}.{node.name}" if node.db else node.name
