"""Reading a row whose last value is large, part by part: it is never held as a whole.

PyMySQL gives a value when all of it is there, as a copy of a copy: fresh memory for each megabyte, which costs more CPU
time than the bytes themselves (measured: a copy of blobs of 1 MB, our share of all CPU time 16 % so, 11 % where memory
was kept). Apart from ``sessions`` because it reads the protocol's packets itself (protocol::ResultsetRow).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Final, NoReturn

from pymysql.constants import COMMAND
from pymysql.err import InternalError
from pymysql.protocol import EOFPacketWrapper, MysqlPacket

from dbmigrate.mysql.pipes import Pipe, PipedPart, can_splice
from dbmigrate.mysql.sessions import Result, Session

PART_BYTES = 256 * 1024
"""Larger ones cost less (600 MB passed on: CPU time 0.37 s by 48 kB, 0.28 by 256)."""
_WHOLE_PACKET = 0xFFFFFF  # a packet of this length is followed by the rest of the payload
_NULL, _TWO_BYTES, _THREE_BYTES, _EIGHT_BYTES, _ERROR = 0xFB, 0xFC, 0xFD, 0xFE, 0xFF
_LENGTHS: Final = {_TWO_BYTES: 2, _THREE_BYTES: 3, _EIGHT_BYTES: 8}


class StreamedRow:
    """The only row of a statement: its first value as it is, and the second, of ``size`` bytes, to be read in ``parts``.

    The session can be used again once all parts were read; ``result`` then tells how many warnings there were.
    """

    def __init__(self, session: Session, sql: str, *, doing: str) -> None:
        """Ask for the row, and wait until the server begins to send it.

        Raises:
            DbmigrateError: as ``Session.execute``.
        """
        self._session, self._doing = session, doing
        connection: Any = session.driver_connection
        self._connection = connection
        self._left, self._is_last = 0, True
        self.result = Result((), 0, "", 0)
        with session.asking(doing):
            connection._execute_command(COMMAND.COM_QUERY, sql)
            columns = connection._read_packet().read_length_encoded_integer()
            for _ in range(columns + 1):  # their definitions, and the packet that ends them
                connection._read_packet()
            self._begin_packet()
            self.first = self._read_small_value()
            size = self._read_length()
            self.is_null, self.size = size is None, size or 0
            if not self.size:
                self._end()

    def parts(self) -> Iterator[memoryview]:
        """The second value, front to back, once. A part is overwritten by the next.

        Raises:
            ConnectionLostError: the server is gone; what came before is incomplete.
        """
        missing = self.size
        if not missing:
            return
        part = memoryview(bytearray(min(PART_BYTES, missing)))
        with self._session.asking(self._doing):
            while missing:
                if not self._left:
                    self._begin_packet()
                filled = part[: min(len(part), missing, self._left)]
                self._fill(filled)
                missing -= len(filled)
                yield filled
            self._end()

    def piped_parts(self) -> Iterator[memoryview | PipedPart]:
        """As ``parts``, and whatever can is left to the kernel. A part must have been passed on before the next is asked for.

        Raises:
            ConnectionLostError: as ``parts``.
        """
        sock = self._connection._sock
        if self.size < PART_BYTES or not can_splice(sock):
            yield from self.parts()
            return
        missing = self.size
        with ExitStack() as stack:
            pipe = stack.enter_context(Pipe())
            stack.enter_context(self._session.asking(self._doing))
            while missing:
                if not self._left:
                    self._begin_packet()
                buffered = min(len(self._connection._rfile.peek()), self._left, missing)
                yield memoryview(self._read(buffered))  # after which the buffer is empty, and the rest still in the socket
                missing -= buffered
                while rest := min(self._left, missing):
                    part = pipe.fill(sock, rest)
                    self._left -= len(part)
                    missing -= len(part)
                    yield part
            self._end()

    def _end(self) -> None:
        if not self._is_last:
            self._begin_packet()  # the empty one that says so
        self.result = Result((), 0, "", EOFPacketWrapper(self._connection._read_packet()).warning_count)

    def _begin_packet(self) -> None:
        header = self._connection._read_bytes(4)
        if header[3] != self._connection._next_seq_id:
            self._give_up("a packet is out of order")
        self._connection._next_seq_id = (header[3] + 1) % 256
        self._left = int.from_bytes(header[:3], "little")
        self._is_last = self._left < _WHOLE_PACKET

    def _read(self, size: int) -> bytes:
        self._left -= size
        return bytes(self._connection._read_bytes(size))

    def _fill(self, part: memoryview) -> None:
        if self._connection._rfile.readinto(part) != len(part):
            raise EOFError("the server closed the connection")
        self._left -= len(part)

    def _read_length(self) -> int | None:
        """A length-encoded integer; None where the value is NULL."""
        kind = self._read(1)[0]
        if kind == _ERROR:
            error = MysqlPacket(bytes([kind]) + self._read(self._left), self._connection.encoding)
            error.raise_for_error()
        if self._left < _LENGTHS.get(kind, 0):  # what ends a result looks like the beginning of a long value
            self._give_up("there is no row")
        if kind == _NULL:
            return None
        return int.from_bytes(self._read(_LENGTHS[kind]), "little") if kind in _LENGTHS else kind

    def _give_up(self, why: str) -> NoReturn:
        self._session.is_broken = True
        raise InternalError(why)

    def _read_small_value(self) -> bytes | None:
        size = self._read_length()
        return None if size is None else self._read(size)
