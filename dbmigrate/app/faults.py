"""What a driver's exception says, whatever the driver: for decisions, for counts, and for logs that must hold no values.

Apart from ``mysql.faults``, which turns errors of the one driver that the runner uses into ours.
"""

from __future__ import annotations

import sqlalchemy as sa

from dbmigrate.mysql.faults import CONNECTION_LOST, LACKS_PRIVILEGE, READ_ONLY

_NOT_THERE = frozenset({1049, 1146})  # no such database, no such table
_OF_THE_SERVER = (CONNECTION_LOST | READ_ONLY | {2002}) - {0}
_SIGNALLED = 1644
_OURS = "dbmigrate:"
_GRANTS = "grant what docs/runbook.md lists under \"When the application follows\""


def error_number(fault: BaseException | None) -> int:
    """The server's or client library's error number; 0 without one."""
    original = getattr(fault, "orig", None) or fault
    number = getattr(original, "errno", None)
    if isinstance(number, int):
        return number
    given = getattr(original, "args", ())
    return given[0] if given and isinstance(given[0], int) else 0


def is_missing(fault: BaseException) -> bool:
    """Whether the table, or its schema, is not there."""
    return error_number(fault) in _NOT_THERE


def is_refused(fault: BaseException) -> bool:
    """Whether the account lacks a privilege."""
    return error_number(fault) in LACKS_PRIVILEGE


def is_of_the_move(fault: BaseException) -> bool:
    """Whether a statement failed because of a server or of the move, not for what the application asked of it."""
    number = error_number(fault)
    if number == _SIGNALLED:
        return _OURS in str(getattr(fault, "orig", None) or fault)
    return number in _OF_THE_SERVER or isinstance(fault, sa.exc.TimeoutError | OSError)


def describe(fault: BaseException) -> str:
    """For a log. A server's words may quote a row's values, so of most errors only the number is told."""
    number = error_number(fault)
    name = type(fault).__name__
    if is_refused(fault):
        original = getattr(fault, "orig", None) or fault
        return f"{name} {number}: {original.args[-1]}; {_GRANTS}"
    if number:
        return f"{name} {number}"
    return name if isinstance(fault, sa.exc.DBAPIError) else f"{name}: {fault}"
