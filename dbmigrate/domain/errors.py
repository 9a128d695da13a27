"""The one tree of errors, and what each means to the person who reads it.

    DbmigrateError
    |-- ConfigurationError   2  the file, an option or a secret is wrong; nothing was touched
    |-- RefusedError         3  a check, gate or lease says no; nothing was changed
    |-- TransientError       4  a server or network fault that may pass; safe to run again
    |-- FatalError           4  cannot go on as things are; nothing is lost, safe to run again once mended
    `-- AmbiguousError       5  the program cannot know what is true; a person must decide

Every error says what was attempted or found (``message``), where (``place``: a table, file, server or setting),
why (``cause``) and what to do next (``hint``). It is apart from the drivers' errors so that no layer above
``mysql`` needs to know them.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any


class ExitCode(IntEnum):
    """What the process returns; the contract of DESIGN section 8."""

    DONE = 0
    DIFFERENCES = 1
    CONFIGURATION = 2
    REFUSED = 3
    FAILED = 4
    UNDECIDED = 5


class DbmigrateError(Exception):
    """Base of everything this program raises on purpose. Never holds a secret."""

    exit_code = ExitCode.FAILED

    def __init__(self, message: str, *, place: str = "", cause: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.place = place
        self.cause = cause
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors travel between processes as they are, whatever their constructors want."""
        return _restore, (type(self), self.args, self.__dict__)

    def __str__(self) -> str:
        lines = [f"{self.place}: {self.message}" if self.place else self.message]
        if self.cause:
            lines.append(f"cause: {self.cause}")
        if self.hint:
            lines.append(f"next: {self.hint}")
        return "\n".join(lines)


def _restore(kind: type[DbmigrateError], args: tuple[Any, ...], state: dict[str, Any]) -> DbmigrateError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class ConfigurationError(DbmigrateError):
    """The configuration, an option or a secret is wrong; nothing was touched."""

    exit_code = ExitCode.CONFIGURATION


class RefusedError(DbmigrateError):
    """A check, a gate or the lease says no; nothing was changed."""

    exit_code = ExitCode.REFUSED


class TransientError(DbmigrateError):
    """A fault that may pass by itself: lost connection, deadlock, lock timeout."""


class FatalError(DbmigrateError):
    """The work cannot go on as things are. Nothing is lost; run again once it is mended."""


class AmbiguousError(DbmigrateError):
    """Two facts contradict each other, or an answer was lost; a person must decide."""

    exit_code = ExitCode.UNDECIDED
