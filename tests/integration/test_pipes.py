"""Values that the kernel passes on from one server to the other: the bytes are those that were read, whichever side is under
TLS, and a server that goes away in the middle is named, with nothing left open."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from certificates import create_certificate

from dbmigrate.config import ServerSection
from dbmigrate.mysql.faults import ConnectionLostError
from dbmigrate.mysql.pipes import Pipe, PipedPart, can_splice
from dbmigrate.mysql.sessions import Endpoint, Session, SessionPool
from dbmigrate.mysql.streamed_rows import PART_BYTES, StreamedRow
from dbmigrate.mysql.streamed_statements import Part, StreamedStatement
from dbmigrate.throwaway.local_servers import LocalServer

WHOLE_PACKET = 0xFFFFFF
BEFORE, AFTER = b"SELECT SHA1('", b"')"
Opening = Callable[[str, bool], Session]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    options = {"max_allowed_packet": "64M", **create_certificate(tmp_path_factory.mktemp("certificate"))}
    with LocalServer.mariadb(tmp_path_factory.mktemp("server"), name="server", options=options) as server:
        server.execute("CREATE DATABASE IF NOT EXISTS test")
        yield server


@pytest.fixture
def opening(server: LocalServer, tmp_path: Path) -> Iterator[Opening]:
    secret = tmp_path / "password"
    secret.write_text(server.password)
    secret.chmod(0o600)
    opened: list[Session] = []

    def open_session(place: str, tls: bool) -> Session:
        section = ServerSection(url=server.url("test"), password_file=secret, tls="required" if tls else "off")
        opened.append(SessionPool(Endpoint(place, section)).open())
        assert can_splice(opened[-1].driver_connection._sock) is not tls  # type: ignore[attr-defined]
        return opened[-1]

    yield open_session
    for session in opened:
        session.close()


def ask(session: Session, size: int) -> StreamedRow:
    return StreamedRow(session, f"SELECT 7, LEFT(REPEAT('0123456789abcdef-', {size // 17 + 1}), {size})", doing="reading")


def pass_on(row: StreamedRow, destination: Session, seen: list[int] | None = None) -> bytes:
    """What the destination makes of the value."""

    def parts() -> Iterator[Part]:
        yield BEFORE
        for part in row.piped_parts():
            if isinstance(part, PipedPart) and seen is not None:
                seen.append(len(part))
            yield part
        yield AFTER

    size = len(BEFORE) + row.size + len(AFTER)
    ((digest,),) = StreamedStatement(destination, size, parts(), doing="writing").finish().rows
    assert digest
    return digest


@pytest.mark.parametrize("size", [1, PART_BYTES - 1, PART_BYTES, 1_000_003, WHOLE_PACKET - 15, WHOLE_PACKET - 14, 2 * WHOLE_PACKET + 9])
def test_values_arrive_as_they_are(opening: Opening, size: int) -> None:
    """Of lengths at which the packets of either side end in the other's middle."""
    origin, destination = opening("source", False), opening("target", False)
    piped: list[int] = []
    wanted = origin.fetch_value(f"SELECT SHA1(LEFT(REPEAT('0123456789abcdef-', {size // 17 + 1}), {size}))")
    assert pass_on(ask(origin, size), destination, piped) == wanted
    assert sum(piped) >= (size * 0.9 if size >= PART_BYTES else 0)
    assert origin.fetch_value("SELECT 5") == destination.fetch_value("SELECT 5") == b"5"


@pytest.mark.parametrize(("origin_tls", "destination_tls"), [(True, False), (False, True), (True, True)])
def test_either_side_may_be_under_tls(opening: Opening, origin_tls: bool, destination_tls: bool) -> None:
    origin, destination = opening("source", origin_tls), opening("target", destination_tls)
    piped: list[int] = []
    wanted = origin.fetch_value("SELECT SHA1(LEFT(REPEAT('0123456789abcdef-', 1000000), 17000000))")
    assert pass_on(ask(origin, 17_000_000), destination, piped) == wanted
    assert bool(piped) is not origin_tls


@pytest.mark.parametrize("lost", ["source", "target"])
def test_a_server_that_goes_away_in_the_middle_is_named(server: LocalServer, opening: Opening, lost: str) -> None:
    sessions = {place: opening(place, False) for place in ("source", "target")}
    row = ask(sessions["source"], 60_000_000)
    piped = row.piped_parts()
    open_files = len(os.listdir("/proc/self/fd"))

    def parts() -> Iterator[Part]:
        yield BEFORE
        for number, part in enumerate(piped):
            if number == 3:
                threading.Thread(target=server.execute, args=(f"KILL {sessions[lost].connection_id}",)).start()
            time.sleep(0.02)
            yield part
        yield AFTER

    with pytest.raises(ConnectionLostError) as caught:
        StreamedStatement(sessions["target"], len(BEFORE) + row.size + len(AFTER), parts(), doing="passing on").finish()
    assert caught.value.place.split()[0] == lost
    piped.close()  # type: ignore[attr-defined]  # a generator
    assert sessions["source"].is_broken
    assert sessions["target"].is_broken
    assert len(os.listdir("/proc/self/fd")) <= open_files


def test_a_socket_that_must_not_wait_is_left_alone() -> None:
    one, other = socket.socketpair()
    assert can_splice(one)
    one.settimeout(1.0)
    assert not can_splice(one)
    with Pipe() as pipe:
        other.close()
        one.settimeout(None)
        with pytest.raises(EOFError):
            pipe.fill(one, 10)
    one.close()
