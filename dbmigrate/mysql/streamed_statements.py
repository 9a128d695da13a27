"""Sending a large statement part by part: it is never held as a whole, and its answer is asked for later.

The counterpart of ``streamed_rows``. PyMySQL takes a statement as one string and waits for its answer; here the next rows
can be asked for in between. Apart from ``sessions`` because it writes the protocol's packets itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any

from pymysql.connections import MAX_PACKET_LEN, MySQLResult
from pymysql.constants import COMMAND

from dbmigrate.mysql.pipes import PipedPart, can_splice
from dbmigrate.mysql.sessions import Result, Session, result_of

Part = bytes | memoryview | PipedPart


class StreamedStatement:
    """A statement on its way, or another ``command`` that is answered as one. The session can be used again once ``finish``
    returned; until then it counts as broken."""

    def __init__(
        self, session: Session, size: int, parts: Iterable[Part], *, doing: str, command: int = COMMAND.COM_QUERY
    ) -> None:
        """Send a statement of ``size`` bytes as its parts come.

        Raises:
            DbmigrateError: the connection is lost. An error of the parts passes through; the server has not got the whole then.
        """
        self._session, self._doing = session, doing
        self._connection: Any = session.driver_connection
        self._missing, self._room, self._packets = 1 + size, 0, 0  # in bytes: of all, of the packet that was begun
        with session.asking(doing):
            self._begin_packet()
            for part in chain((bytes([command]),), parts):
                if isinstance(part, PipedPart):
                    self._pass_on(part)
                else:
                    self._write(memoryview(part))
        session.is_broken = True

    def finish(self) -> Result:
        """Wait for the answer.

        Raises:
            DbmigrateError: as ``Session.execute``.
        """
        self._session.is_broken = False
        with self._session.asking(self._doing):
            self._connection._next_seq_id = self._packets % 256
            answer = self._connection._result = MySQLResult(self._connection)
            answer.read()
        return result_of(answer)

    def _write(self, part: memoryview) -> None:
        while part:
            taken = part[: self._room]
            self._connection._write_bytes(taken)
            part = part[len(taken) :]
            self._count(len(taken))

    def _pass_on(self, part: PipedPart) -> None:
        sock = self._connection._sock
        if not can_splice(sock):
            while part:
                self._write(memoryview(part.take(len(part))))
        while part:
            self._count(part.send(sock, self._room))

    def _count(self, sent: int) -> None:
        self._room -= sent
        if not self._room and self._is_full:
            self._begin_packet()

    def _begin_packet(self) -> None:
        """A full one is followed by another, if need be an empty one."""
        size = min(self._missing, MAX_PACKET_LEN)
        self._connection._write_bytes(size.to_bytes(3, "little") + bytes([self._packets % 256]))
        self._missing, self._room = self._missing - size, size
        self._packets += 1
        self._is_full = size == MAX_PACKET_LEN
