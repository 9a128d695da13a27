"""What a server's error number means for us, and the one retry loop.

The single mapping point from the driver's exceptions to the project's error tree: nothing above this layer sees a
PyMySQL exception. Classification is by server error number, because texts change and are translated.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import TypeVar

import pymysql

from dbmigrate.domain.errors import (
    ConfigurationError,
    DbmigrateError,
    FatalError,
    RefusedError,
    TransientError,
)

T = TypeVar("T")

CONNECTING = "connecting"
MAY_NOT_CONNECT = frozenset({1044, 1045, 1049, 1130, 1251, 1698, 1862, 2059, 3118})
LACKS_PRIVILEGE = frozenset({1044, 1142, 1143, 1227, 1370, 1410, 1419})
ROLLED_BACK = frozenset({1205, 1213, 1020, 3572})
"""The engine undid the transaction (or the statement, and we undo the rest): repeating it is always safe.
1020 is MariaDB 11.6+: a snapshot-isolation conflict."""
CONNECTION_LOST = frozenset(
    {0, 1040, 1053, 1077, 1078, 1079, 1152, 1158, 1159, 1160, 1161, 1184, 1203, 1226, 1927, 2003, 2006, 2013, 2014,
     2055, 3169, 4031}
)  # fmt: skip
INTERRUPTED = frozenset({1317, 1969, 3024})
READ_ONLY = frozenset({1209, 1290, 1792, 1836})
NO_SPACE = frozenset({3, 28, 1021, 1026, 1114, 1534, 3098})
TOO_LARGE = frozenset({1153, 1301})

_HINTS = {
    "read_only": "the server is read-only for this account: grant the privilege that `dbmigrate check` names, "
    "or make it writable, then run again",
    "space": "free disk space (or raise the table-space limit) on that server, then run again",
    "privilege": "`dbmigrate check` prints the GRANT that is missing",
    "large": "raise max_allowed_packet on both servers to at least the size of the largest row, then run again",
}


class ConnectionLostError(TransientError):
    """The connection is gone; whether the last statement took effect is unknown."""


class RolledBackError(TransientError):
    """The server undid the transaction (deadlock, lock wait timeout); nothing of it took effect."""


class InterruptedQueryError(TransientError):
    """The statement was ended by KILL or a time limit; nothing of it took effect."""


class TooLargeError(FatalError):
    """A row or result does not fit max_allowed_packet."""


class ServerRefusedError(FatalError):
    """The server rejected a statement. ``number`` is its error number."""

    def __init__(self, message: str, *, number: int, place: str = "", cause: str = "", hint: str = "") -> None:
        super().__init__(message, place=place, cause=cause, hint=hint)
        self.number = number


def translate_fault(fault: Exception, *, place: str, doing: str) -> DbmigrateError:
    """The project's error for a driver's exception; ``place`` names the server, ``doing`` the attempt.

    Never includes the statement itself: it may hold row values.
    """
    if isinstance(fault, DbmigrateError):
        return fault
    number, text = _number_and_text(fault)
    cause = f"{text} (error {number})" if number else text
    if number in MAY_NOT_CONNECT and doing == CONNECTING:
        return ConfigurationError(
            f"{doing} failed: the server does not let this account in", place=place, cause=cause,
            hint="check user, password_env/password_file, database and the account's host in the configuration",
        )  # fmt: skip
    if number == 2003:
        return ConnectionLostError(
            f"{doing} failed: the server cannot be reached", place=place, cause=cause,
            hint="check host and port in the configuration, and that the server runs and accepts connections",
        )  # fmt: skip
    if number in CONNECTION_LOST or isinstance(fault, OSError | EOFError):
        return ConnectionLostError(f"{doing} failed: connection lost", place=place, cause=cause, hint="run again")
    if number in ROLLED_BACK:
        return RolledBackError(f"{doing} was rolled back by the server", place=place, cause=cause, hint="run again")
    if number in INTERRUPTED:
        return InterruptedQueryError(f"{doing} was interrupted", place=place, cause=cause, hint="run again")
    if number in LACKS_PRIVILEGE:
        return RefusedError(f"{doing} is not allowed", place=place, cause=cause, hint=_HINTS["privilege"])
    if number in TOO_LARGE:
        return TooLargeError(f"{doing} is too large", place=place, cause=cause, hint=_HINTS["large"])
    hint = _HINTS["read_only"] if number in READ_ONLY else _HINTS["space"] if number in NO_SPACE else ""
    return ServerRefusedError(f"{doing} failed", number=number, place=place, cause=cause, hint=hint)


def _number_and_text(fault: Exception) -> tuple[int, str]:
    """The server's error number (0 where there is none) and its text."""
    if isinstance(fault, pymysql.err.MySQLError) and fault.args and isinstance(fault.args[0], int):
        return fault.args[0], str(fault.args[1]) if len(fault.args) > 1 else ""
    return 0, f"{type(fault).__name__}: {fault}"


class Retry:
    """The one retry loop, with jittered exponential pauses, ended early by ``stop``.

    ``give_up_seconds`` is how long the pauses may add up to: long enough for a server to restart.
    """

    def __init__(
        self, *, stop: threading.Event | None = None, give_up_seconds: float = 120.0, first_pause_seconds: float = 0.05
    ) -> None:
        self._stop = stop or threading.Event()
        self._give_up_seconds = give_up_seconds
        self._first_pause_seconds = first_pause_seconds

    def retrying(self, verb: Callable[[], T], *, idempotent: bool) -> T:
        """Call ``verb`` until it succeeds.

        A transaction that the server rolled back is always repeated. A lost connection is repeated only where
        ``idempotent`` says that a second effect is harmless.

        Raises:
            TransientError: it kept failing, or ``stop`` was set, or repeating it would not be safe.
        """
        pause, paused = self._first_pause_seconds, 0.0
        while True:
            try:
                return verb()
            except RolledBackError:
                if paused >= self._give_up_seconds:
                    raise
            except TransientError:
                if not idempotent or paused >= self._give_up_seconds:
                    raise
            wait = pause * random.uniform(0.5, 1.0)  # noqa: S311  # jitter, not a secret
            if self._stop.wait(wait):
                return verb()
            paused += wait
            pause = min(pause * 2, 2.0)
