"""The times of day in which rows may be copied.

Apart from the section that lists them because a window past midnight has rules of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

_WINDOW = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-(?:([01]\d|2[0-3]):([0-5]\d)|24:00)")
_DAY_MINUTES = 24 * 60


@dataclass(frozen=True, slots=True)
class TimeWindow:
    """A stretch of every day in UTC, in minutes after midnight; may run past midnight. The end is outside."""

    start_minute: int
    end_minute: int

    def __str__(self) -> str:
        minutes = (self.start_minute, self.end_minute)
        return "-".join(f"{minute // 60:02}:{minute % 60:02}" for minute in minutes)

    @classmethod
    def parse(cls, text: str) -> TimeWindow:
        """From ``HH:MM-HH:MM``; ``24:00`` may end it.

        Raises:
            ValueError: it is not of that form, or begins where it ends.
        """
        found = _WINDOW.fullmatch(text)
        if not found:
            raise ValueError('is not a window such as "22:00-06:00"')
        start = int(found[1]) * 60 + int(found[2])
        end = _DAY_MINUTES if found[3] is None else int(found[3]) * 60 + int(found[4])
        if start == end:
            raise ValueError('begins where it ends; "00:00-24:00" is the whole day')
        return cls(start, end)

    def contains(self, at: datetime) -> bool:
        """Whether the aware time ``at`` lies inside."""
        utc = at.astimezone(UTC)
        minute = utc.hour * 60 + utc.minute
        if self.start_minute < self.end_minute:
            return self.start_minute <= minute < self.end_minute
        return minute >= self.start_minute or minute < self.end_minute
