"""Rows read part by part: every length that the protocol writes differently, and what a server can say instead of one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from databases import Pair

from dbmigrate.domain.errors import DbmigrateError
from dbmigrate.mysql.faults import ConnectionLostError
from dbmigrate.mysql.pipes import PipedPart
from dbmigrate.mysql.sessions import Session
from dbmigrate.mysql.streamed_rows import StreamedRow

PACKET = 1 << 26


@pytest.fixture
def session(flavour_pair: Pair) -> Iterator[Session]:
    server = flavour_pair.source.server
    ((before,),) = server.execute("SELECT @@GLOBAL.max_allowed_packet")
    server.execute(f"SET GLOBAL max_allowed_packet = {PACKET}")
    raw = {"use_unicode": False, "conv": {}, "autocommit": True}
    session = Session(flavour_pair.source.connect(**raw), "here")
    yield session
    session.close()
    server.execute(f"SET GLOBAL max_allowed_packet = {before}")


def take(part: memoryview | PipedPart) -> bytes:
    if isinstance(part, memoryview):
        return bytes(part)
    return b"".join(iter(lambda: part.take(100_000), b""))


def read(session: Session, sql: str, *, piped: bool = False) -> tuple[bytes | None, bytes | None]:
    row = StreamedRow(session, sql, doing="reading")
    text = b"".join(map(take, row.piped_parts() if piped else row.parts()))
    assert len(text) == row.size
    return row.first, None if row.is_null else text


AT_AN_EDGE = (0, 1, 250, 251, 252, 255, 256, 65_535, 65_536, 49_151, 49_152, 49_153, 1_000_000)
PACKETS_END = (0xFFFFFF - 7, 0xFFFFFF - 6, 0xFFFFFF - 5, 0xFFFFFF, 2 * 0xFFFFFF - 6, 2 * 0xFFFFFF + 5)


@pytest.mark.parametrize("piped", [False, True], ids=["copied", "piped"])
@pytest.mark.parametrize("size", [*AT_AN_EDGE, *PACKETS_END])
def test_values_of_every_length_are_those_of_an_ordinary_read(session: Session, size: int, piped: bool) -> None:
    sql = f"SELECT 7, LEFT(REPEAT('0123456789abcdef-', {size // 17 + 1}), {size})"
    assert read(session, sql, piped=piped) == session.execute(sql).rows[0]
    assert session.fetch_value("SELECT 5") == b"5"


def test_nulls_and_warnings(session: Session) -> None:
    assert read(session, "SELECT NULL, NULL") == read(session, "SELECT NULL, NULL", piped=True) == (None, None)
    row = StreamedRow(session, "SELECT 1, CONCAT('x', CAST('1b' AS SIGNED))", doing="reading")
    assert [bytes(part) for part in row.parts()] == [b"x1"]
    assert len(session.read_warnings(row.result)) == 1


def test_a_refusal_is_the_servers_and_leaves_the_session_usable(session: Session) -> None:
    for sql in ("SELECT 1, v FROM nowhere", "SELECT 1, (SELECT 1 UNION SELECT 2)"):
        with pytest.raises(DbmigrateError, match="reading"):
            StreamedRow(session, sql, doing="reading")
        assert session.fetch_value("SELECT 5") == b"5"


def test_a_statement_without_a_row_is_not_waited_for(session: Session) -> None:
    with pytest.raises(DbmigrateError, match="there is no row"):
        StreamedRow(session, "SELECT 1, 'x' FROM DUAL WHERE FALSE", doing="reading")
    assert session.is_broken


def test_a_row_given_up_half_way_ends_the_session(session: Session) -> None:
    """The rest of it is still on the way."""
    parts = StreamedRow(session, "SELECT 1, REPEAT('x', 1000000)", doing="reading").parts()
    next(parts)
    parts.close()  # type: ignore[attr-defined]  # a generator
    assert session.is_broken


def test_a_connection_that_ends_in_the_middle_is_a_lost_one(session: Session, flavour_pair: Pair) -> None:
    row = StreamedRow(session, f"SELECT 1, REPEAT('x', {PACKET - 1000})", doing="reading")
    parts = row.parts()
    next(parts)
    threading.Timer(0.5, lambda: flavour_pair.source.execute(f"KILL {session.connection_id}")).start()
    slowly = (time.sleep(0.01) for _ in parts)
    with pytest.raises(ConnectionLostError):
        list(slowly)
    assert session.is_broken
