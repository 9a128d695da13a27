"""Shadow reads between real servers: what is equal matches, what is wrong is found, what lags or moves is told apart, and
a candidate that hangs or dies costs the user's thread nothing.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import sqlalchemy as sa
from databases import Database, Pair, list_connections

from dbmigrate.app.shadow import ControlRead, ResultColumn, ShadowReader, ShadowSettings, columns_of
from dbmigrate.domain.evidence import Mismatch, MismatchKind, ShadowCounts

QUICK = ShadowSettings(
    timeout_seconds=0.4, stream_timeout_seconds=5.0, recheck_pause_seconds=0.01, breaker_failures=3,
    breaker_pause_seconds=0.2, may_store_values=True,
)  # fmt: skip

ORDERS = (
    "CREATE TABLE orders (id INT PRIMARY KEY, customer INT NOT NULL, total DECIMAL(10,2), note VARCHAR(50))",
    "INSERT INTO orders VALUES (1, 7, 10.00, 'a'), (2, 7, 20.00, 'b'), (3, 8, 30.00, NULL)",
)


def url_of(database: Database, driver: str = "pymysql") -> sa.URL:
    """As an application spells it."""
    server = database.server
    return sa.URL.create(f"mysql+{driver}", server.user, server.password, server.host, server.port, database.schema)


@dataclass
class Stream:
    """How far the candidate follows, in the hands of the test."""

    control_engine: sa.Engine
    on_wait: Callable[[], bool] = lambda: True
    waits: int = 0

    def wait_for_stream(self, timeout_seconds: float) -> bool:
        """See ``Recheck``."""
        self.waits += 1
        return self.on_wait()


@dataclass
class Shadow:
    """A reader on a pair, and the owner's side of the session."""

    control: sa.Engine
    stream: Stream
    reader: ShadowReader
    found: list[Mismatch] = field(default_factory=list)

    def read(self, sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        """Answer on the owner, and submit."""
        began_at = time.perf_counter()
        with self.control.connect() as connection:
            result = connection.exec_driver_sql(sql, parameters)
            columns = columns_of(result.cursor.description)
            rows = [tuple(row) for row in result.fetchall()]
        self.submit(sql, parameters, columns, rows, time.perf_counter() - began_at)
        return rows

    def submit(self, sql: str, parameters: Any, columns: Any, rows: Any, seconds: float = 0.001) -> None:
        """What a session does once the owner has answered."""
        if self.reader.wants(sql, 100):
            self.reader.submit(ControlRead(sql, parameters, columns, rows, seconds))

    def settle(self, **expected: int) -> ShadowCounts:
        """Wait until so many of these have been counted, and not one more or other; a while at most."""
        names = ("matches", "ignored", "lag", "moved", "real", "errors", "timeouts", "dropped")
        until = time.monotonic() + 30
        while True:
            counts = self.reader.counts()
            seen = {name: getattr(counts, name) for name in names if getattr(counts, name)}
            if seen == expected:
                return counts
            assert time.monotonic() < until, seen
            time.sleep(0.01)

    def wait_until(self, is_so: Callable[[ShadowCounts], bool]) -> None:
        """Wait for counts."""
        until = time.monotonic() + 30
        while not is_so(self.reader.counts()):
            assert time.monotonic() < until, self.reader.counts()
            time.sleep(0.01)


Shadows = Callable[..., Shadow]


@pytest.fixture
def shadow_of() -> Iterator[Shadows]:
    """``shadow_of(control, candidate, settings)``: with a reader that is closed afterwards."""
    made: list[Shadow] = []

    def make(control: Database, candidate: Database, settings: ShadowSettings = QUICK, **options: Any) -> Shadow:
        found: list[Mismatch] = []
        engine = sa.create_engine(url_of(control))
        stream = Stream(engine)
        reader = ShadowReader(
            options.pop("engine", None) or sa.create_engine(url_of(candidate)), settings, found.append, stream, instance_id="one",
            **options,
        )  # fmt: skip
        made.append(Shadow(engine, stream, reader, found))
        return made[-1]

    yield make
    for shadow in made:
        shadow.reader.close(10)
        shadow.control.dispose()


def on_both(pair: Pair, *statements: str) -> None:
    """Run on either side."""
    pair.source.execute(*statements)
    pair.target.execute(*statements)


EVERY_TYPE = (
    """CREATE TABLE everything (id INT PRIMARY KEY, big BIGINT UNSIGNED, price DECIMAL(30,10), small FLOAT, wide DOUBLE,
    flags BIT(12), kind ENUM('a','b'), tags SET('x','y','z'), name VARCHAR(50), raw VARBINARY(20), fixed BINARY(8),
    body TEXT, blob_ BLOB, day DATE, at DATETIME(6), stamp TIMESTAMP(3) NULL, span TIME(2), year_ YEAR, doc JSON)""",
    """INSERT INTO everything VALUES (1, 18446744073709551615, 1.5, 0.1, 0.1e0 + 0.2e0, b'101', 'b', 'z,x', 'Zoë', x'00FF',
    x'01', 'text %s', x'DEADBEEF', '2024-02-29', '2024-02-29 01:02:03.000004', '2024-02-29 01:02:03.5', '-838:59:58.99', 2024,
    '{"b": [1, 2.50, null, true], "a": "\\\\u00e9"}')""",
    "INSERT INTO everything (id) VALUES (2)",
    "INSERT INTO everything (id, small, wide, price, span, doc) VALUES (3, -0.0, -0.0, -0.0, '00:00:00', '[]'), "
    "(4, 3.4e38, 1.7976931348623157e308, 99999999999999999999.9999999999, '838:59:59', '\"text\"')",
)


@pytest.mark.parametrize("pair_name", ["mariadb_pair", pytest.param("flavours", marks=pytest.mark.mysql)])
def test_equal_data_of_every_type_only_matches(
    pair_name: str, pair_factory: Any, request: pytest.FixtureRequest, shadow_of: Shadows
) -> None:
    """From MariaDB to MariaDB and to MySQL, whole rows and each column, whatever the servers make of them."""
    from dbmigrate.domain.flavours import Flavour

    pair: Pair = (
        request.getfixturevalue(pair_name)
        if pair_name == "mariadb_pair"
        else pair_factory(Flavour.MARIADB, Flavour.MYSQL)
    )
    on_both(pair, "SET sql_mode = 'STRICT_ALL_TABLES'", "SET time_zone = '+00:00'", *EVERY_TYPE)
    shadow = shadow_of(pair.source, pair.target)
    statements = [
        "SELECT * FROM everything", "SELECT * FROM everything WHERE id = %s", "SELECT * FROM everything ORDER BY id LIMIT 2",
        "SELECT SUM(wide * 0), AVG(price), MIN(at), MAX(span), COUNT(*) FROM everything WHERE id < 4",
        "SELECT name, COUNT(*) FROM everything GROUP BY name ORDER BY name", "SELECT body, id FROM everything WHERE body LIKE '%%'",
        "SELECT JSON_EXTRACT(doc, '$.b') FROM everything WHERE id = 1",
    ]  # fmt: skip
    for sql in statements:
        shadow.read(sql, (1,) if "%s" in sql else ())
    counts = shadow.settle(matches=len(statements))
    assert counts.samples == counts.candidate.samples == counts.control.samples == len(statements)
    assert shadow.found == []


def test_changed_value_is_found_with_its_key_and_column(mariadb_pair: Pair, shadow_of: Shadows) -> None:
    """As real, once; the rows beside it are not named."""
    on_both(mariadb_pair, *ORDERS)
    mariadb_pair.target.execute("UPDATE orders SET total = 20.01 WHERE id = 2")
    shadow = shadow_of(mariadb_pair.source, mariadb_pair.target)
    shadow.read("SELECT orders.id AS orders_id, orders.total AS orders_total FROM orders WHERE orders.customer = %s", (7,))
    assert shadow.settle(real=1).samples == 1
    (found,) = shadow.found
    assert (found.kind, found.tables, found.instance_id) == (MismatchKind.REAL, ("orders",), "one")
    assert (found.key_columns, found.keys, found.columns) == (("orders_id",), ("2",), ("orders_total",))
    assert shadow.stream.waits == QUICK.rechecks


def test_values_stay_hashed(mariadb_pair: Pair, shadow_of: Shadows) -> None:
    """By default nothing of a row is recorded."""
    on_both(mariadb_pair, *ORDERS)
    mariadb_pair.target.execute("UPDATE orders SET note = 'classified' WHERE id = 2")
    shadow = shadow_of(mariadb_pair.source, mariadb_pair.target, ShadowSettings(recheck_pause_seconds=0.01))
    shadow.read("SELECT id, note FROM orders")
    shadow.settle(real=1)
    assert shadow.found[0].keys[0].startswith("#")
    assert "classified" not in str(shadow.found[0])


@pytest.mark.parametrize("change", ["DELETE FROM orders WHERE id = 2", "INSERT INTO orders VALUES (4, 7, 1, 'd')"])
def test_missing_and_extra_rows_are_real(mariadb_pair: Pair, shadow_of: Shadows, change: str) -> None:
    """On the candidate."""
    on_both(mariadb_pair, *ORDERS)
    mariadb_pair.target.execute(change)
    shadow = shadow_of(mariadb_pair.source, mariadb_pair.target)
    shadow.read("SELECT * FROM orders")
    shadow.settle(real=1)
    assert shadow.found[0].keys == ("2" if "DELETE" in change else "4",)


def test_row_that_the_stream_has_not_brought_yet_is_lag(mariadb_pair: Pair, shadow_of: Shadows) -> None:
    """The wait for the stream lies before the candidate is read again."""
    on_both(mariadb_pair, *ORDERS)
    mariadb_pair.source.execute("UPDATE orders SET total = 99 WHERE id = 3")
    shadow = shadow_of(mariadb_pair.source, mariadb_pair.target)

    def catch_up() -> bool:
        mariadb_pair.target.execute("UPDATE orders SET total = 99 WHERE id = 3")
        return True

    shadow.stream.on_wait = catch_up
    shadow.read("SELECT * FROM orders")
    shadow.settle(lag=1)
    assert shadow.found[0].kind is MismatchKind.LAG
    assert shadow.stream.waits == 1


def test_difference_is_not_judged_while_the_stream_is_behind(mariadb_pair: Pair, shadow_of: Shadows) -> None:
    """It is no sample, neither good nor bad; and no reason to leave the candidate alone."""
    on_both(mariadb_pair, *ORDERS)
    mariadb_pair.target.execute("UPDATE orders SET total = 20.01 WHERE id = 2")
    shadow = shadow_of(mariadb_pair.source, mariadb_pair.target)
    shadow.stream.on_wait = lambda: False
    for _ in range(QUICK.breaker_failures + 1):
        shadow.read("SELECT * FROM orders")
    assert shadow.settle(timeouts=QUICK.breaker_failures + 1).samples == 0
    assert not shadow.reader.breaker.is_open


class HotRow:
    """Writes one row of the owner without rest; the stream copies it when it is waited for."""

    def __init__(self, pair: Pair, values: Callable[[int], int]) -> None:
        self._pair, self._values = pair, values
        self._stopping, self.writes = threading.Event(), 0
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> HotRow:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        with self._pair.source.connect() as connection, connection.cursor() as cursor:
            while not self._stopping.is_set():
                self.writes += 1
                cursor.execute("UPDATE orders SET customer = %s WHERE id = 1", (self._values(self.writes),))

    def follow(self) -> bool:
        """Bring the candidate what the owner holds at this moment."""
        ((value,),) = self._pair.source.execute("SELECT customer FROM orders WHERE id = 1")
        self._pair.target.execute(f"UPDATE orders SET customer = {value} WHERE id = 1")
        return True


@pytest.mark.parametrize("values", [lambda n: n, lambda n: n // 20 % 2], ids=["moves on", "returns"])
def test_hot_row_is_never_real(mariadb_pair: Pair, shadow_of: Shadows, values: Callable[[int], int]) -> None:
    """Lag or motion, even where its value keeps coming back."""
    on_both(mariadb_pair, *ORDERS)
    shadow = shadow_of(mariadb_pair.source, mariadb_pair.target)
    with HotRow(mariadb_pair, values) as hot:
        shadow.stream.on_wait = hot.follow
        for number in range(1, 31):
            shadow.read("SELECT * FROM orders")
            shadow.wait_until(lambda counts, number=number: counts.samples == number)
    counts = shadow.reader.counts()
    assert (counts.real, counts.errors, counts.timeouts) == (0, 0, 0)
    assert counts.lag + counts.moved > 0
    assert hot.writes > 30


def test_wrong_row_is_found_beside_a_hot_one(mariadb_pair: Pair, shadow_of: Shadows) -> None:
    """In the first read that sees it, though no two answers of the owner are the same; and in the hot row itself."""
    on_both(mariadb_pair, *ORDERS)
    mariadb_pair.target.execute("UPDATE orders SET note = 'wrong' WHERE id IN (1, 3)")
    shadow = shadow_of(mariadb_pair.source, mariadb_pair.target)
    with HotRow(mariadb_pair, lambda n: n) as hot:
        shadow.stream.on_wait = hot.follow
        shadow.read("SELECT * FROM orders")
        shadow.settle(real=1)
    assert (shadow.found[0].columns, set(shadow.found[0].keys)) == (("note",), {"1", "3"})


def test_nothing_is_written_by_a_repeated_read(mariadb_pair: Pair, shadow_of: Shadows) -> None:
    """Not even by a function that the text does not show to write: the session is read-only."""
    on_both(
        mariadb_pair, *ORDERS, "CREATE TABLE audit (id INT PRIMARY KEY)", "INSERT INTO audit VALUES (1)",
        "CREATE FUNCTION touch() RETURNS INT DETERMINISTIC MODIFIES SQL DATA BEGIN DELETE FROM audit; RETURN 1; END",
    )  # fmt: skip
    shadow = shadow_of(mariadb_pair.source, mariadb_pair.target)
    shadow.submit("SELECT touch() FROM orders WHERE id = 1", None, (ResultColumn("touch()", 3),), [(1,)])
    shadow.settle(errors=1)
    shadow.submit("SELECT * FROM orders WHERE id = 1 FOR UPDATE", None, (ResultColumn("id"),), [(1,)])
    shadow.settle(errors=1)
    assert mariadb_pair.target.execute("SELECT COUNT(*) FROM audit") == ((1,),)


def test_statement_that_the_candidate_does_not_know_is_an_error_of_its_own(
    mariadb_pair: Pair, shadow_of: Shadows
) -> None:
    """Counted each time; other statements go on being compared."""
    on_both(mariadb_pair, *ORDERS)
    mariadb_pair.source.execute("ALTER TABLE orders ADD extra INT")
    shadow = shadow_of(mariadb_pair.source, mariadb_pair.target)
    for _ in range(QUICK.breaker_failures + 1):
        shadow.read("SELECT extra FROM orders")
    shadow.read("SELECT id FROM orders")
    shadow.settle(errors=QUICK.breaker_failures + 1, matches=1)


@pytest.mark.parametrize("pair_name", ["mariadb_pair", pytest.param("mysql_pair", marks=pytest.mark.mysql)])
def test_server_ends_what_takes_too_long(
    pair_name: str, request: pytest.FixtureRequest, shadow_of: Shadows
) -> None:
    """By its own time limit: the connection lives on, and nothing is left running."""
    pair: Pair = request.getfixturevalue(pair_name)
    on_both(pair, *ORDERS)
    shadow = shadow_of(pair.source, pair.target)
    tables, ids = (" ".join(f"{form},".format(n) for n in range(25)).rstrip(",") for form in ("orders o{}", "o{}.id"))
    endless = f"SELECT COUNT(*) FROM {tables} WHERE {ids.replace(',', ' +')} = -1"
    shadow.submit(endless, None, (ResultColumn("n", 8),), [(1,)])
    shadow.settle(timeouts=1)
    shadow.wait_until(
        lambda _: not any("orders o24 WHERE" in (one.statement or "") for one in list_connections(pair.target.server))
    )
    shadow.read("SELECT * FROM orders")
    shadow.settle(timeouts=1, matches=1)


def test_frozen_candidate_costs_the_user_nothing_and_recovers(
    mariadb_pair: Pair, server_factory: Any, shadow_of: Shadows
) -> None:
    """The breaker opens, reads are dropped at once, and after the thaw they are compared again."""
    candidate = _candidate(mariadb_pair, server_factory)
    shadow = shadow_of(mariadb_pair.source, candidate)
    rows = shadow.read("SELECT * FROM orders")
    shadow.settle(matches=1)
    columns = (ResultColumn("id"), ResultColumn("customer"), ResultColumn("total"), ResultColumn("note"))
    candidate.server.freeze()
    slowest, until = 0.0, time.monotonic() + 30
    try:
        while not (shadow.reader.breaker.is_open and shadow.reader.counts().dropped > 5):
            began_at = time.thread_time()
            shadow.submit("SELECT * FROM orders", None, columns, rows)
            slowest = max(slowest, time.thread_time() - began_at)
            assert time.monotonic() < until, shadow.reader.counts()
            time.sleep(0.01)
        threads = [t for t in threading.enumerate() if t.name == "dbmigrate-shadow"]
        assert len(threads) <= 2 * QUICK.threads
    finally:
        candidate.server.thaw()
    assert slowest < 0.05
    assert shadow.reader.counts().timeouts >= QUICK.breaker_failures
    before = shadow.reader.counts().matches
    while shadow.reader.counts().matches < before + 10:
        shadow.submit("SELECT * FROM orders", None, columns, rows)
        assert time.monotonic() < until + 30, shadow.reader.counts()
        time.sleep(0.02)
    assert not shadow.reader.breaker.is_open
    assert shadow.reader.counts().real == 0


def test_close_does_not_wait_for_a_frozen_candidate(
    mariadb_pair: Pair, server_factory: Any, shadow_of: Shadows
) -> None:
    """For longer than it is told to."""
    candidate = _candidate(mariadb_pair, server_factory)
    candidate.server.freeze()
    try:
        shadow = shadow_of(mariadb_pair.source, candidate)
        shadow.read("SELECT * FROM orders")
        shadow.wait_until(lambda counts: counts.timeouts > 0)
        began_at = time.monotonic()
        shadow.reader.close(0.2)
        assert time.monotonic() - began_at < 5
        assert not shadow.reader.wants("SELECT * FROM orders", 100)
    finally:
        candidate.server.thaw()


def test_killed_candidate_is_an_error_until_it_is_back(
    mariadb_pair: Pair, server_factory: Any, shadow_of: Shadows
) -> None:
    """On the same port; no difference is made of it."""
    candidate = _candidate(mariadb_pair, server_factory)
    shadow = shadow_of(mariadb_pair.source, candidate)
    shadow.read("SELECT * FROM orders")
    shadow.settle(matches=1)
    candidate.server.kill()
    until = time.monotonic() + 30
    while not shadow.reader.breaker.is_open:
        assert time.monotonic() < until, shadow.reader.counts()
        shadow.read("SELECT * FROM orders")
        time.sleep(0.01)
    assert shadow.reader.counts().errors >= QUICK.breaker_failures
    candidate.server.start()
    until = time.monotonic() + 30
    while shadow.reader.counts().matches < 5:
        shadow.read("SELECT * FROM orders")
        assert time.monotonic() < until, shadow.reader.counts()
        time.sleep(0.02)
    assert shadow.reader.counts().real == 0


def _candidate(pair: Pair, server_factory: Any) -> Database:
    """A server that a test may freeze or kill, with the same rows as the pair's source."""
    server = server_factory()
    server.execute(f"CREATE DATABASE `{pair.source.schema}` CHARACTER SET utf8mb4")
    candidate = Database(server, pair.source.schema)
    pair.source.execute(*ORDERS)
    candidate.execute(*ORDERS)
    return candidate


def test_full_queue_drops(mariadb_pair: Pair, shadow_of: Shadows) -> None:
    """And counts what it drops; what was taken is compared."""
    on_both(mariadb_pair, *ORDERS)
    settings = ShadowSettings(threads=1, queue=3, recheck_pause_seconds=0.01)
    shadow = shadow_of(mariadb_pair.source, mariadb_pair.target, settings)
    is_held, go_on = threading.Event(), threading.Event()

    def hold() -> bool:
        is_held.set()
        return go_on.wait(9)

    shadow.stream.on_wait = hold
    columns = (ResultColumn("id", 3),)
    shadow.submit("SELECT id FROM orders", None, columns, [(1,)])
    assert is_held.wait(20)
    for _ in range(10):
        shadow.submit("SELECT id FROM orders", None, columns, [(1,), (2,), (3,)])
    assert shadow.reader.counts().dropped == 7
    submitting = threading.Thread(
        target=shadow.reader.submit, args=(ControlRead("SELECT id FROM orders", None, columns, [(1,)], 0.1),), daemon=True
    )  # what another thread sees that was told a moment ago that there is room
    submitting.start()
    submitting.join(5)
    assert not submitting.is_alive()
    assert shadow.reader.counts().dropped == 8
    go_on.set()
    shadow.settle(dropped=8, matches=3, lag=1)


def test_large_results_and_refused_statements_are_ignored(mariadb_pair: Pair, shadow_of: Shadows) -> None:
    """Counted, but no samples: a gate that wants samples is not passed by them."""
    on_both(mariadb_pair, *ORDERS)
    settings = ShadowSettings(max_rows=2, max_bytes=500)
    shadow = shadow_of(mariadb_pair.source, mariadb_pair.target, settings)
    shadow.read("SELECT * FROM orders")
    shadow.read("SELECT REPEAT('x', 1000) FROM orders WHERE id = 1")
    shadow.read("SELECT id, NOW() FROM orders WHERE id = 1")
    shadow.read("SELECT id FROM orders LIMIT 1")
    assert shadow.settle(ignored=4).samples == 0
    few = ShadowSettings(max_rows=20, max_bytes=500)
    shadow = shadow_of(mariadb_pair.source, mariadb_pair.target, few)
    rows = [*((number, 7, 1, "x") for number in range(10)), (10, 7, 1, "x" * 1000)]  # the first ones look small
    shadow.submit("SELECT * FROM orders", None, [ResultColumn(name) for name in ("id", "customer", "total", "note")], rows)
    assert shadow.settle(ignored=1).samples == 0


def test_candidate_with_far_more_rows_is_real(mariadb_pair: Pair, shadow_of: Shadows) -> None:
    """Though only a few of them are taken."""
    on_both(mariadb_pair, *ORDERS)
    mariadb_pair.target.execute("INSERT INTO orders SELECT seq, 7, 1, 'x' FROM seq_10_to_2000")
    settings = ShadowSettings(max_rows=5, recheck_pause_seconds=0.01)
    shadow = shadow_of(mariadb_pair.source, mariadb_pair.target, settings)
    shadow.read("SELECT * FROM orders")
    shadow.settle(real=1)
    assert "more rows" in shadow.found[0].detail


def test_recording_is_limited_and_counting_is_not(mariadb_pair: Pair, shadow_of: Shadows) -> None:
    """For each statement; and a recorder that fails changes nothing."""
    on_both(mariadb_pair, *ORDERS)
    mariadb_pair.target.execute("UPDATE orders SET total = total + 1")
    settings = ShadowSettings(recorded_per_minute=2, recheck_pause_seconds=0.001, rechecks=2)
    shadow = shadow_of(mariadb_pair.source, mariadb_pair.target, settings)
    for number in range(1, 5):
        shadow.read("SELECT * FROM orders WHERE id = %s", (1 + number % 3,))
        shadow.settle(real=number)
    assert len(shadow.found) == 2
    shadow.reader._record_mismatch = lambda mismatch: 1 / 0
    shadow.read("SELECT total FROM orders")
    shadow.settle(real=5)


def test_reset_counts_from_zero(mariadb_pair: Pair, shadow_of: Shadows) -> None:
    """What is in flight belongs to what was before."""
    on_both(mariadb_pair, *ORDERS)
    shadow = shadow_of(mariadb_pair.source, mariadb_pair.target)
    is_held, go_on = threading.Event(), threading.Event()
    shadow.stream.on_wait = lambda: is_held.set() or go_on.wait(9)
    shadow.submit("SELECT id FROM orders", None, (ResultColumn("id", 3),), [(1,)])
    assert is_held.wait(20)
    shadow.reader.reset()
    go_on.set()
    shadow.read("SELECT id FROM orders")
    shadow.settle(matches=1)


def test_share_decides_how_many_are_sampled(mariadb_pair: Pair, shadow_of: Shadows) -> None:
    """Drawn for each read by itself."""
    draws = iter([0.05, 0.099, 0.1, 0.5, 0.0])
    shadow = shadow_of(mariadb_pair.source, mariadb_pair.target, random=lambda: next(draws))
    assert [shadow.reader.wants("SELECT 1", 10) for _ in range(5)] == [True, True, False, False, True]
    assert not shadow.reader.wants("SELECT 1", 0)
    assert not shadow.reader.wants("SELECT 1", 100)  # the draws have ended: an error that nobody sees


def test_async_engine_is_read_from_its_own_loop(mariadb_pair: Pair, shadow_of: Shadows) -> None:
    """The session submits from its loop, which is not held up; the reader's threads have others."""
    pytest.importorskip("asyncmy")
    pytest.importorskip("greenlet")
    from sqlalchemy.ext.asyncio import create_async_engine

    on_both(mariadb_pair, *ORDERS)
    mariadb_pair.target.execute("UPDATE orders SET total = 20.01 WHERE id = 2")
    engines = [create_async_engine(url_of(each, "asyncmy")) for each in (mariadb_pair.source, mariadb_pair.target)]
    shadow = shadow_of(mariadb_pair.source, mariadb_pair.target, engine=engines[1].sync_engine)
    shadow.stream.control_engine = engines[0].sync_engine

    async def use() -> None:
        async with engines[0].connect() as connection:
            for sql in ("SELECT id, note FROM orders", "SELECT id, total FROM orders"):
                result = await connection.exec_driver_sql(sql)
                columns, rows = columns_of(result.cursor.description), [tuple(row) for row in result.fetchall()]
                shadow.submit(sql, None, columns, rows)
        await engines[0].dispose()

    asyncio.run(use())
    shadow.settle(matches=1, real=1)
    assert shadow.found[0].keys == ("2",)


def test_stuck_async_candidate_is_left_behind(mariadb_pair: Pair, server_factory: Any, shadow_of: Shadows) -> None:
    """And its thread comes back, because an async driver can be interrupted."""
    pytest.importorskip("asyncmy")
    pytest.importorskip("greenlet")
    from sqlalchemy.ext.asyncio import create_async_engine

    candidate = _candidate(mariadb_pair, server_factory)
    engine = create_async_engine(url_of(candidate, "asyncmy")).sync_engine
    shadow = shadow_of(mariadb_pair.source, candidate, engine=engine)
    candidate.server.freeze()
    try:
        for _ in range(QUICK.breaker_failures):
            shadow.read("SELECT * FROM orders")
        shadow.wait_until(lambda counts: counts.timeouts >= QUICK.breaker_failures)
        assert shadow.reader.breaker.is_open
    finally:
        candidate.server.thaw()
