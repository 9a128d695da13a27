"""The network that tests cut: what it does to a connection is what the tests of faults rely on."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from dbmigrate.throwaway.tcp_proxy import TcpProxy


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that sends back what it gets."""

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=repeat, args=(connection,), daemon=True).start()

    def repeat(connection: socket.socket) -> None:
        with connection, contextlib.suppress(ConnectionError):
            while piece := connection.recv(4096):
                connection.sendall(piece)

    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def _connect(proxy: TcpProxy) -> socket.socket:
    return socket.create_connection((proxy.host, proxy.port), timeout=5)


def _ask(connection: socket.socket, text: bytes) -> bytes:
    connection.sendall(text)
    return connection.recv(4096)


def test_carries_both_directions_and_the_end(echo: int) -> None:
    with TcpProxy("127.0.0.1", echo) as proxy, _connect(proxy) as connection:
        assert _ask(connection, b"one") == b"one"
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(4096) == b""


def test_a_cut_resets_what_is_open_and_what_comes_until_restored(echo: int) -> None:
    with TcpProxy("127.0.0.1", echo) as proxy:
        with _connect(proxy) as connection:
            assert _ask(connection, b"one") == b"one"
            proxy.cut()
            with pytest.raises(ConnectionResetError):
                connection.recv(4096)
        with pytest.raises(ConnectionResetError):
            _ask(_connect(proxy), b"two")
        proxy.restore()
        with _connect(proxy) as connection:
            assert _ask(connection, b"three") == b"three"


def test_a_stall_holds_the_bytes_and_delivers_them_later(echo: int) -> None:
    with TcpProxy("127.0.0.1", echo) as proxy, _connect(proxy) as connection:
        assert _ask(connection, b"one") == b"one"
        proxy.stall()
        connection.sendall(b"two")
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(4096)
        proxy.restore()
        connection.settimeout(5)
        assert connection.recv(4096) == b"two"


def test_connections_after_a_reset_are_welcome(echo: int) -> None:
    with TcpProxy("127.0.0.1", echo) as proxy:
        with _connect(proxy) as connection:
            assert _ask(connection, b"one") == b"one"
            proxy.reset_connections()
            with pytest.raises(ConnectionResetError):
                connection.recv(4096)
        with _connect(proxy) as connection:
            assert _ask(connection, b"two") == b"two"
