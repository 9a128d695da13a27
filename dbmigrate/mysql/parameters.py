"""Sending many rows as parameters of one prepared statement: as many times its own as there are rows, which MariaDB alone
understands (COM_STMT_BULK_EXECUTE), or of a statement that names every row (COM_STMT_EXECUTE).

Apart from ``streamed_statements``, which sends the packets, because what is in them is another command's business.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from types import TracebackType
from typing import Any, BinaryIO, Self

from pymysql.constants import COMMAND, FIELD_TYPE

from dbmigrate.mysql.sessions import Session
from dbmigrate.mysql.streamed_statements import Part, StreamedStatement

_BULK_EXECUTE = 0xFA
_SENDS_TYPES = (128).to_bytes(2, "little")
_ONCE_WITHOUT_CURSOR = b"\0" + (1).to_bytes(4, "little")
_TYPES_FOLLOW = b"\1"
_BYTES = bytes([FIELD_TYPE.BLOB, 0])
"""A parameter's type: bytes of no character set, whose meaning is the column's."""


class RowParameters:
    """A prepared statement that takes rows of ``count`` parameters each, all of them bytes; to be used in a ``with``."""

    def __init__(self, session: Session, statement: str, count: int, *, doing: str) -> None:
        self._session, self._text, self._doing = session, statement, doing
        self._count = count
        self._id = b""

    def __enter__(self) -> Self:
        """Prepare it.

        Raises:
            DbmigrateError: as ``Session.execute``.
        """
        self._id = _prepare(self._session, self._text, self._count, self._doing)
        return self

    def send(self, size: int, parts: Iterable[Part]) -> StreamedStatement:
        """Run it for the rows whose parameters are ``size`` bytes, as they come."""
        head = self._id + _SENDS_TYPES + _BYTES * self._count
        return StreamedStatement(
            self._session, len(head) + size, chain((head,), parts), doing=self._doing, command=_BULK_EXECUTE
        )

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None) -> None:
        _close(self._session, [self._id], self._doing)


class RowPlaceholders:
    """Statements that begin alike and name rows by the same ``marks``, of ``count`` placeholders, one prepared for each number
    of rows; to be used in a ``with``."""

    def __init__(self, session: Session, prefix: str, marks: str, count: int, *, doing: str) -> None:
        self._session, self._prefix, self._marks, self._count, self._doing = session, prefix, marks, count, doing
        self._ids: dict[int, bytes] = {}

    def __enter__(self) -> Self:
        return self

    def send(self, rows: int, size: int, parts: Iterable[Part]) -> StreamedStatement:
        """Run the statement of so many rows, whose values are ``size`` bytes, as they come; none of them is NULL.

        Raises:
            DbmigrateError: as ``Session.execute``.
        """
        if rows not in self._ids:
            text = self._prefix + ",".join([self._marks] * rows)
            self._ids[rows] = _prepare(self._session, text, rows * self._count, self._doing)
        head = self._ids[rows] + _ONCE_WITHOUT_CURSOR + describe_placeholders(rows * self._count)
        return StreamedStatement(
            self._session, len(head) + size, chain((head,), parts), doing=self._doing, command=COMMAND.COM_STMT_EXECUTE
        )

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None) -> None:
        _close(self._session, self._ids.values(), self._doing)


def describe_placeholders(count: int) -> bytes:
    """What stands before the values of so many: for each a bit that says that it is not NULL, and its type."""
    return bytes((count + 7) // 8) + _TYPES_FOLLOW + _BYTES * count


def _prepare(session: Session, text: str, parameters: int, doing: str) -> bytes:
    """The statement's number."""
    connection: Any = session.driver_connection
    with session.asking(doing):
        connection._execute_command(COMMAND.COM_STMT_PREPARE, text)
        number: bytes = connection._read_packet().get_all_data()[1:5]
        _skip_packets(connection._rfile, parameters + 1)  # definitions of the parameters, and the packet that ends them
    return number


def _skip_packets(stream: BinaryIO, count: int) -> None:
    """PyMySQL would make an object of each, which for thousands takes longer than the server does."""
    for _ in range(count):
        header = stream.read(4)
        size = int.from_bytes(header[:3], "little")
        if len(header) < 4 or len(stream.read(size)) < size:
            raise EOFError("the server closed the connection")


def _close(session: Session, numbers: Iterable[bytes], doing: str) -> None:
    connection: Any = session.driver_connection
    if session.is_broken:
        return
    with session.asking(doing):
        for number in numbers:
            connection._execute_command(COMMAND.COM_STMT_CLOSE, number)  # which is not answered
