"""What may be set of shadow reads in one process.

Apart from the reader, so that what fills it from the configuration needs neither threads nor a parser of SQL.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class ShadowSettings:
    """Limits and rules of the repeated reads of one process. Times are in seconds.

    ``timeout_seconds`` bounds one statement, ``stream_timeout_seconds`` one wait for the stream. ``rechecks`` is in
    how many rounds a difference is read again, on both sides, before it is called real (and ``watch_reads`` how many more
    times after them); ``recheck_pause_seconds`` the first pause between two rounds, which grows. Results of more than ``max_rows`` rows or about ``max_bytes`` are not compared.
    ``ignore_columns`` are patterns ``table.column`` (``*`` and ``?``); ``table.*`` ignores whatever a statement that
    reads the table returns. ``ignore_statements`` are digests, or regular expressions that match somewhere in the
    statement without its literals. At most ``recorded_per_minute`` mismatches of one statement and kind are recorded.
    ``may_store_values`` leaves keys and values readable; otherwise they are hashed.
    """

    threads: int = 2
    queue: int = 100
    timeout_seconds: float = 2.0
    max_rows: int = 1000
    max_bytes: int = 256 * 1024
    breaker_failures: int = 5
    breaker_pause_seconds: float = 5.0
    stream_timeout_seconds: float = 10.0
    rechecks: int = 5
    watch_reads: int = 10
    recheck_pause_seconds: float = 0.1
    recorded_per_minute: int = 10
    may_store_values: bool = False
    ignore_columns: tuple[str, ...] = ()
    ignore_statements: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        counts = ("threads", "queue", "max_rows", "max_bytes", "breaker_failures", "rechecks")
        wrong = [name for name in counts if getattr(self, name) < 1]
        wrong += [name for name in ("timeout_seconds", "stream_timeout_seconds") if getattr(self, name) <= 0]
        if wrong:
            raise ValueError(f"{', '.join(wrong)} must be above 0")
        for pattern in self.ignore_statements:
            try:
                re.compile(pattern)
            except re.error as fault:
                raise ValueError(f"ignore_statements: {pattern!r} is no regular expression: {fault}") from fault

    def ignores_table(self, table: str) -> bool:
        """Whether nothing that a statement reads of this table counts."""
        return any(
            column == "*" and _matches(table, pattern) for pattern, column in map(_split_rule, self.ignore_columns)
        )

    def ignores_column(self, table: str, column: str) -> bool:
        """Whether differences of this column do not count."""
        return any(
            _matches(table, of_table) and _matches(column, of_column)
            for of_table, of_column in map(_split_rule, self.ignore_columns)
        )

    def ignores_statement(self, digest: str, statement: str) -> bool:
        """Whether a statement is not compared, by its digest or by its text without literals."""
        return any(
            rule == digest or re.search(rule, statement, re.IGNORECASE) is not None for rule in self.ignore_statements
        )


@lru_cache(maxsize=1000)
def _split_rule(rule: str) -> tuple[str, str]:
    """``table.column``; a bare word is a table."""
    table, _, column = rule.rpartition(".")
    return (table.casefold(), column.casefold()) if table else (rule.casefold(), "*")


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name.casefold(), pattern)
