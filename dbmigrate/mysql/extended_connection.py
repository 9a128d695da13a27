"""A connection that offers MariaDB what PyMySQL leaves out: to send the parameters of many rows in one command.

MariaDB says that it is none of MySQL's servers by leaving out the lowest capability, and has 32 more in what MySQL fills
with zeros, in its greeting and in the answer to it.
"""

from __future__ import annotations

from typing import Any

from pymysql.connections import Connection

_IS_MYSQL = 1
_BULK_OPERATIONS = 1 << 2  # of the further ones
_GREETING_REST = 1 + 2 + 2 + 1 + 6
"""Of charset, status, upper capabilities, length of the salt and zeros, between the lower capabilities and the further ones."""
_FURTHER = slice(28, 32)
"""Where an answer to a greeting has them: after capabilities, packet size, charset and zeros."""


class ExtendedConnection(Connection):
    """As its parent otherwise."""

    takes_bulk = False
    """Whether the server takes COM_STMT_BULK_EXECUTE over this connection."""

    def _get_server_information(self) -> None:
        """Read the greeting."""
        read_packet: Any = self._read_packet

        def keep() -> Any:
            packet = read_packet()
            self.takes_bulk = _offers_bulk(packet.get_all_data())
            return packet

        vars(self)["_read_packet"] = keep
        try:
            super()._get_server_information()  # type: ignore[misc]
        finally:
            del vars(self)["_read_packet"]

    def _request_authentication(self) -> None:
        """Answer the greeting, and log in."""
        if not self.takes_bulk:
            super()._request_authentication()  # type: ignore[misc]
            return
        write_packet = self.write_packet

        def extend(payload: bytes) -> None:
            answer = bytearray(payload)
            answer[0] &= ~_IS_MYSQL & 0xFF
            answer[_FURTHER] = _BULK_OPERATIONS.to_bytes(4, "little")
            if len(payload) > _FURTHER.stop:  # the other one, before it, asks for TLS
                del vars(self)["write_packet"]
            write_packet(bytes(answer))

        vars(self)["write_packet"] = extend
        super()._request_authentication()  # type: ignore[misc]


def _offers_bulk(greeting: bytes) -> bool:
    """From protocol version, server version, connection id and salt on, each of them in every greeting."""
    lower = greeting.index(b"\0", 1) + 1 + 4 + 8 + 1
    further = lower + 2 + _GREETING_REST
    if greeting[lower] & _IS_MYSQL:
        return False
    return bool(int.from_bytes(greeting[further : further + 4], "little") & _BULK_OPERATIONS)
