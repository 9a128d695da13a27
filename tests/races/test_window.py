"""The window between a commit's arrival in the binlog and its visibility, held open; and what closes it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from databases import Pair
from fake_replica import FakeReplica, open_window

from dbmigrate.config import load_config
from dbmigrate.domain.flavours import Flavour
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


MUTANT = pytest.mark.parametrize("barrier", ["with", "without"])


def _disable_barrier(monkeypatch: pytest.MonkeyPatch, allowed: threading.Event) -> None:
    """The barrier returns at once: the beats go on, since the stream's own marks depend on them."""
    commit = Heartbeat.pass_barrier

    def pass_barrier(self: Heartbeat) -> int:
        name = threading.current_thread().name
        if not allowed.is_set() and (name.endswith("flush_forever") or name.startswith("copy")):
            return self._beat
        return commit(self)

    monkeypatch.setattr(Heartbeat, "pass_barrier", pass_barrier)


@MUTANT
def test_a_flush_loses_a_change_in_the_window_exactly_if_it_passes_no_barrier(
    barrier: str, plain_pair: Pair, race_factory: Callable[..., Race], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The suite's own test: on real servers, a product without the barrier is caught by the comparison."""
    race = race_factory(plain_pair)
    if barrier == "without":
        _disable_barrier(monkeypatch, threading.Event())
    writers: list[threading.Thread] = []

    def change_late() -> None:
        # In a thread of its own: the commit returns only after the flush that must not lose it.
        statement = "UPDATE item SET note = 'changed' WHERE id = 10"
        writers.append(threading.Thread(target=race.write_source, args=(statement,), daemon=True))
        writers[0].start()

    with open_window(plain_pair.source.server, delay_seconds=1.0):
        race.provoke(change_late, "flush.batch.committed", lambda: None)
        # Stop before the verification, which would find the row and end the run.
        from dbmigrate.domain.phases import Phase

        race.move(Phase.CATCH_UP)
        writers[0].join(PATIENCE_SECONDS)
    if barrier == "with":
        race.require_equal()
        return
    with pytest.raises(AssertionError, match="'note 10'"):
        race.require_equal()


@MUTANT
def test_a_chunk_loses_a_change_in_the_window_exactly_if_it_passes_no_barrier(
    barrier: str, plain_pair: Pair, race_factory: Callable[..., Race], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The change is flushed before the chunk begins, and the chunk overwrites it with what it read too early."""
    pytest.skip("written below")
    assert Moment
