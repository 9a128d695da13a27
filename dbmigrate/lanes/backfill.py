"""What a revision declares beside its operations: rows to be given values before a rule over them is made.

Plain values, so that a revision's file can be read without anything else of this program.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dbmigrate.domain.errors import ConfigurationError


@dataclass(frozen=True)
class Backfill:
    """Set columns of the rows that still need it, in batches, while the application writes.

    ``set`` maps columns to SQL expressions over the row; ``where`` is the SQL condition of the rows that are not done
    yet, and must be false for a row once it was set: it proves that the backfill is complete. ``batch_rows`` is how
    many rows one batch looks at; ``pause_seconds`` is the time between two.

        backfill = Backfill("customer", set={"first_name": "SUBSTRING_INDEX(name, ' ', 1)"}, where="first_name IS NULL")
    """

    table: str
    set: Mapping[str, str]
    where: str
    batch_rows: int = 1000
    pause_seconds: float = 0.0

    def __post_init__(self) -> None:
        wrong = [
            message
            for is_wrong, message in (
                (not self.table, "table is empty"),
                (not self.set or not all(self.set) or not all(self.set.values()), "set must name columns and expressions"),
                (not self.where.strip(), "where is empty: it must say which rows are not done yet"),
                (not 1 <= self.batch_rows <= 100_000, "batch_rows must be from 1 to 100000"),
                (not 0 <= self.pause_seconds <= 3600, "pause_seconds must be from 0 to 3600"),
            )
            if is_wrong
        ]
        if wrong:
            raise ConfigurationError("; ".join(wrong), place=f"backfill of {self.table or 'no table'}")
