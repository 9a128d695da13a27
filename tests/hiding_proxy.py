"""A proxy between the program and MariaDB that answers as proxies do that know MySQL's protocol alone."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType


class HidingProxy:
    """Forwards connections from a free port, and says in the server's name that it is MySQL's; a context manager."""

    def __init__(self, host: str, port: int) -> None:
        self._upstream = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> HidingProxy:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._upstream)
                greeting = bytearray(server.recv(4096))
                greeting[greeting.index(b"\0", 5) + 1 + 4 + 8 + 1] |= 1  # the lowest capability, after version, number and salt
                client.sendall(greeting)
                for one, other in ((client, server), (server, client)):
                    threading.Thread(target=_forward, args=(one, other), daemon=True).start()


def _forward(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := one.recv(65536):
            other.sendall(data)
    for end in (one, other):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
