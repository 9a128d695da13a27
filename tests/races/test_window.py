"""The window between a commit's arrival in the binlog and its visibility, held open; and what closes it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from databases import Pair
from fake_replica import FakeReplica, open_window

from dbmigrate.config import load_config
from dbmigrate.domain.flavours import Flavour
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.schema import TableName
from dbmigrate.mysql.binlog import BinlogReader, read_current_position
from dbmigrate.mysql.fence import create_fence_tables
from dbmigrate.mysql.heartbeat import Heartbeat
from dbmigrate.mysql.introspection import read_schema
from dbmigrate.workflow.migration import Migration

from .racing import Moment, Race

CHANGES = 20
PATIENCE_SECONDS = 60.0


@pytest.fixture(params=["mariadb", pytest.param("mysql", marks=pytest.mark.mysql)])
def plain_pair(request: pytest.FixtureRequest, pair_factory: Callable[..., Pair]) -> Pair:
    """Two servers of one flavour."""
    return pair_factory(*[Flavour[request.param.upper()]] * 2)


@pytest.fixture
def migration(plain_pair: Pair, race_factory: Callable[..., Race]) -> Iterator[Migration]:
    """The product's own servers and heartbeat on the pair."""
    found = Migration(load_config(race_factory(plain_pair).path))
    with found.source.pool.borrow() as session:
        create_fence_tables(session)
    found.source.heartbeat.ensure_row()
    yield found
    found.close()


def _build_reader(migration: Migration, pair: Pair, tmp_path: Path) -> BinlogReader:
    source = migration.source
    with pair.source.connect() as connection:
        tables = read_schema(connection, source.version, pair.source.schema).tables
        start = read_current_position(connection, source.version)
    return BinlogReader(
        source.endpoint.connect, version=source.version, start=start, tables={t.name: t for t in tables}, server_id=77
    )


def _await_key(reader: BinlogReader, pair: Pair, key: int) -> None:
    table = TableName(pair.source.schema, "item")
    for _ in range(int(PATIENCE_SECONDS * 4)):
        delivery = reader.read(timeout_seconds=0.25)
        if delivery is not None and str(key).encode() in delivery.keys.get(table, ()):
            return
    raise AssertionError(f"the event of {key} did not arrive")


def _change_while_held(
    replica: FakeReplica, pair: Pair, key: int, look: Callable[[], object]
) -> tuple[object, threading.Thread]:
    """Commit a change that nobody acknowledges yet, and look meanwhile."""
    writer = threading.Thread(
        target=lambda: pair.source.execute(f"UPDATE item SET note = 'changed' WHERE id = {key}"), daemon=True
    )
    with replica.holding():
        writer.start()
        return look(), writer


def _read_note(migration: Migration, pair: Pair, key: int) -> Any:
    with migration.source.pool.borrow() as session:
        return session.fetch_value(f"SELECT note FROM `{pair.source.schema}`.item WHERE id = {key}")


def test_whoever_reads_when_the_event_arrives_reads_the_row_as_it_was(
    migration: Migration, plain_pair: Pair, tmp_path: Path
) -> None:
    reader = _build_reader(migration, plain_pair, tmp_path)
    seen = []
    with open_window(plain_pair.source.server, delay_seconds=0.0) as replica:
        for key in range(2, 2 + 2 * CHANGES, 2):

            def look(key: int = key) -> object:
                _await_key(reader, plain_pair, key)
                return _read_note(migration, plain_pair, key)

            found, writer = _change_while_held(replica, plain_pair, key, look)
            writer.join(PATIENCE_SECONDS)
            seen.append((found, _read_note(migration, plain_pair, key)))
    reader.close()
    assert seen == [(f"note {key}".encode(), b"changed") for key in range(2, 2 + 2 * CHANGES, 2)]


def test_whoever_passes_the_barrier_first_reads_the_change(
    migration: Migration, plain_pair: Pair, tmp_path: Path
) -> None:
    reader = _build_reader(migration, plain_pair, tmp_path)
    seen = []
    with open_window(plain_pair.source.server, delay_seconds=0.05):
        for key in range(2, 2 + 2 * CHANGES, 2):
            statement = f"UPDATE item SET note = 'changed' WHERE id = {key}"
            writer = threading.Thread(target=plain_pair.source.execute, args=(statement,), daemon=True)
            writer.start()
            _await_key(reader, plain_pair, key)
            migration.source.heartbeat.pass_barrier()
            seen.append(_read_note(migration, plain_pair, key))
            writer.join(PATIENCE_SECONDS)
    reader.close()
    assert seen == [b"changed"] * CHANGES


def test_the_barrier_waits_as_long_as_the_window_is_open(
    migration: Migration, plain_pair: Pair, tmp_path: Path
) -> None:
    reader = _build_reader(migration, plain_pair, tmp_path)
    passed = threading.Event()

    def pass_barrier() -> None:
        migration.source.heartbeat.pass_barrier()
        passed.set()

    with open_window(plain_pair.source.server, delay_seconds=0.0) as replica:

        def look() -> object:
            _await_key(reader, plain_pair, 10)
            threading.Thread(target=pass_barrier, daemon=True).start()
            return passed.wait(0.5)

        was_early, writer = _change_while_held(replica, plain_pair, 10, look)
        assert not was_early
        assert passed.wait(PATIENCE_SECONDS)
        assert _read_note(migration, plain_pair, 10) == b"changed"
        writer.join(PATIENCE_SECONDS)
    reader.close()


BARRIER = pytest.mark.parametrize("barrier", ["with-the-barrier", "without-it"])


def _take_barrier_away(monkeypatch: pytest.MonkeyPatch, *threads: str) -> None:
    """For these threads only: the stream's own marks are beats, too."""
    commit = Heartbeat.pass_barrier

    def pass_barrier(self: Heartbeat) -> int:
        is_meant = any(part in threading.current_thread().name for part in threads)
        return self._beat if is_meant else commit(self)

    monkeypatch.setattr(Heartbeat, "pass_barrier", pass_barrier)


def _require_lost(race: Race, barrier: str) -> None:
    """The suite's own test: with a product that passes no barrier, the comparison must speak up."""
    if barrier == "with-the-barrier":
        race.require_equal()
        race.require_everywhere("SELECT note FROM item WHERE id = 150", ("changed",))
        return
    with pytest.raises(AssertionError, match="'note 150'"):
        race.require_equal()


class _HeldCommit:
    """A commit in the binlog that nobody acknowledges until ``release``."""

    def __init__(self, race: Race, windows: contextlib.ExitStack) -> None:
        self._race, self._windows = race, windows
        self._held = contextlib.ExitStack()
        self._writer = threading.Thread(
            target=race.write_source, args=("UPDATE item SET note = 'changed' WHERE id = 150",), daemon=True
        )

    def begin(self) -> None:
        """Write; the row is not visible on return, nor later."""
        replica = self._windows.enter_context(open_window(self._race.pair.source.server, delay_seconds=0.0))
        self._held.enter_context(replica.holding())
        self._writer.start()

    def release(self) -> None:
        """Let the commit become visible, and wait until it is."""
        self._held.close()
        self._writer.join(PATIENCE_SECONDS)

    def release_soon(self) -> None:
        """Let it become visible while whoever passes a barrier now waits for it."""
        threading.Timer(0.3, self.release).start()


@BARRIER
def test_a_flush_loses_a_change_that_is_not_visible_yet_exactly_if_it_passes_no_barrier(
    barrier: str, plain_pair: Pair, race_factory: Callable[..., Race], monkeypatch: pytest.MonkeyPatch
) -> None:
    race = race_factory(plain_pair)
    with contextlib.ExitStack() as windows:
        commit = _HeldCommit(race, windows)
        if barrier == "without-it":
            _take_barrier_away(monkeypatch, "flush_forever")
            race.provoke(commit.begin, "flush.batch.read", commit.release)
        else:
            race.provoke(commit.begin, "flush.chunks_done", commit.release_soon)
        race.move(Phase.CATCH_UP)  # the verification would find it, and end the run
    _require_lost(race, barrier)


@BARRIER
def test_a_chunk_loses_a_change_that_is_not_visible_yet_exactly_if_it_passes_no_barrier(
    barrier: str, plain_pair: Pair, race_factory: Callable[..., Race], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The chunk begins after the flush has asked for those in flight, reads too early and writes too late."""
    race = race_factory(plain_pair)
    flushed = threading.Event()

    def hold_until_asked_for() -> None:
        commit.begin()
        in_flight = race.migration.in_flight
        while not in_flight._condition._waiters:  # type: ignore[attr-defined]  # the flush waits for this chunk
            time.sleep(0.005)

    def write_late() -> None:
        commit.release()
        assert flushed.wait(PATIENCE_SECONDS)

    with contextlib.ExitStack() as windows:
        commit = _HeldCommit(race, windows)
        race.at("copy.chunk.committed", hold_until_asked_for)
        if barrier == "without-it":
            _take_barrier_away(monkeypatch, "copy")
        else:
            race.at(Moment("copy.chunk.begin", 2), commit.release_soon)
        race.at(Moment("copy.chunk.read", 2), write_late)
        race.at("flush.batch.committed", flushed.set)
        race.move(Phase.COPY)
    _require_lost(race, barrier)
