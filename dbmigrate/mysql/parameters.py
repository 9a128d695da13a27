"""Sending many rows as parameters of one prepared statement, which MariaDB alone understands (COM_STMT_BULK_EXECUTE).

Apart from ``streamed_statements``, which sends the packets, because what is in them is another command's business.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from types import TracebackType
from typing import Any, Self

from pymysql.constants import COMMAND, FIELD_TYPE

from dbmigrate.mysql.sessions import Session
from dbmigrate.mysql.streamed_statements import Part, StreamedStatement

_BULK_EXECUTE = 0xFA
_SENDS_TYPES = (128).to_bytes(2, "little")
_BYTES = bytes([FIELD_TYPE.BLOB, 0])
"""A parameter's type: bytes of no character set, whose meaning is the column's."""


class RowParameters:
    """A prepared statement that takes rows of ``count`` parameters each, all of them bytes; to be used in a ``with``."""

    def __init__(self, session: Session, statement: str, count: int, *, doing: str) -> None:
        self._session, self._text, self._doing = session, statement, doing
        self._types = _BYTES * count
        self._connection: Any = session.driver_connection
        self._id = b""

    def __enter__(self) -> Self:
        """Prepare it.

        Raises:
            DbmigrateError: as ``Session.execute``.
        """
        with self._session.asking(self._doing):
            self._connection._execute_command(COMMAND.COM_STMT_PREPARE, self._text)
            self._id = self._connection._read_packet().get_all_data()[1:5]
            for _ in range(len(self._types) // len(_BYTES) + 1):  # definitions of the parameters, and the packet that ends them
                self._connection._read_packet()
        return self

    def send(self, size: int, parts: Iterable[Part]) -> StreamedStatement:
        """Run it for the rows whose parameters are ``size`` bytes, as they come."""
        head = self._id + _SENDS_TYPES + self._types
        return StreamedStatement(
            self._session, len(head) + size, chain((head,), parts), doing=self._doing, command=_BULK_EXECUTE
        )

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None) -> None:
        if not self._session.is_broken:
            with self._session.asking(self._doing):
                self._connection._execute_command(COMMAND.COM_STMT_CLOSE, self._id)  # which is not answered
