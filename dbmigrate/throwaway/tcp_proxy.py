"""A network between the program and a server that can be cut and stalled: one small TCP proxy per server.

Faults of the network are not faults of the server: after a cut the server still runs the statement that the program
never heard of again, and during a stall both believe in a connection that carries nothing.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from types import TracebackType

_PIECE_BYTES = 65_536
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER without waiting: the peer sees a reset, not an orderly end


class TcpProxy:
    """Forwards connections to ``host:port`` from a free port of this machine; a context manager.

    All methods may be called from any thread. ``cuts`` and ``stalls`` count what was done.
    """

    host = "127.0.0.1"

    def __init__(self, host: str, port: int) -> None:
        self._upstream = (host, port)
        self._flowing = threading.Event()
        self._flowing.set()
        self._refusing = False
        self._closed = False
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server((self.host, 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self.cuts = 0
        self.stalls = 0
        threading.Thread(target=self._accept, name=f"proxy-{self.port}", daemon=True).start()

    def __enter__(self) -> TcpProxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def cut(self) -> None:
        """Reset all connections, and every new one until ``restore``."""
        self._refusing = True
        self.cuts += 1
        self._reset_all()

    def reset_connections(self) -> None:
        """Reset all connections; new ones are welcome at once."""
        self.cuts += 1
        self._reset_all()

    def redirect(self, host: str, port: int) -> None:
        """New connections go there from now on; open ones stay where they are (see ``reset_connections``)."""
        self._upstream = (host, port)

    def stall(self) -> None:
        """Carry nothing from now on: connections stay open, new ones are accepted, no byte arrives."""
        self.stalls += 1
        self._flowing.clear()

    def restore(self) -> None:
        """Carry everything again; bytes held back by a stall are delivered."""
        self._refusing = False
        self._flowing.set()

    def close(self) -> None:
        """Reset all connections and free the port."""
        self._closed = self._refusing = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._reset_all()
        self._flowing.set()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                if self._is_refusing():
                    raise ConnectionRefusedError
                server = socket.create_connection(self._upstream, timeout=10)
            except OSError:
                _reset(client)
                continue
            server.settimeout(None)
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._sockets |= {client, server}
            if self._is_refusing():  # cut between the question above and here
                self._reset_all()
                continue
            threading.Thread(target=self._serve, args=(client, server), daemon=True).start()

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        back = threading.Thread(target=self._forward, args=(server, client), daemon=True)
        back.start()
        self._forward(client, server)
        back.join()
        with self._lock:
            self._sockets -= {client, server}
        client.close()
        server.close()

    def _forward(self, origin: socket.socket, destination: socket.socket) -> None:
        """Carry one direction until either end closes; the end is passed on in order."""
        with contextlib.suppress(OSError):
            while piece := origin.recv(_PIECE_BYTES):
                self._flowing.wait()
                destination.sendall(piece)
            self._flowing.wait()
            with self._lock:
                if origin in self._sockets:  # else it did not end, it was reset
                    destination.shutdown(socket.SHUT_WR)
                    return
        for end in (origin, destination):
            _reset(end)

    def _is_refusing(self) -> bool:
        return self._refusing

    def _reset_all(self) -> None:
        with self._lock:
            sockets, self._sockets = self._sockets, set()
        for end in sockets:
            _reset(end)


def _reset(end: socket.socket) -> None:
    """Close with a reset.

    Shutting the reading side wakes a thread that waits in ``recv``, which closing alone would not; shutting both would
    end the connection in order.
    """
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        end.shutdown(socket.SHUT_RD)
    with contextlib.suppress(OSError):
        end.close()
