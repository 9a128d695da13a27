"""The heartbeat row on an origin: barrier for readers, clock for the lag, end mark for a drain.

A server shows a transaction to binlog readers before plain reads can see it. Commits become visible in binlog order
(checked by the preflight), so once a heartbeat committed *after* an event was delivered has returned, everything
delivered before it is visible. One commit serves every thread that asked before it started.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable

from dbmigrate.domain.keys import Key
from dbmigrate.domain.schema import TableName
from dbmigrate.mysql.faults import Retry
from dbmigrate.mysql.identifiers import quote_string, quote_table
from dbmigrate.mysql.sessions import Session, SessionPool

CONTROL_SCHEMA = "_dbmigrate"
HEARTBEAT_TABLE = TableName(CONTROL_SCHEMA, "heartbeat")

CREATE_HEARTBEAT = (
    f"CREATE TABLE IF NOT EXISTS {quote_table(HEARTBEAT_TABLE)} ("
    "migration_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, beat BIGINT NOT NULL, "
    "beaten_at DATETIME(6) NOT NULL, PRIMARY KEY (migration_id, beat)) ENGINE=InnoDB"
)

_KEPT_COMMITS = 500
COMMIT_WINDOW_SECONDS = 2.0


def parse_beat(key: Key, migration_id: str) -> int | None:
    """The beat in a heartbeat row's key, or None for another migration's row."""
    owner, _, beat = key.rpartition(b",")
    hexed = migration_id.encode("ascii").hex().upper().encode()
    return int(beat) if hexed in owner else None


class Heartbeat:
    """Commits beats on one server for one migration. Thread-safe."""

    def __init__(self, pool: SessionPool, migration_id: str, *, clock: Callable[[], float], retry: Retry) -> None:
        self._pool = pool
        self._clock = clock
        self.retry = retry
        self._id = quote_string(migration_id)
        self._condition = threading.Condition()
        self._started = 0
        self._finished = 0
        self._running = False
        self._beat = 0
        self._beaten_at: OrderedDict[int, float] = OrderedDict()
        self._commits: deque[tuple[float, float]] = deque(maxlen=_KEPT_COMMITS)

    def ensure_row(self) -> None:
        """Create this migration's row if it is not there."""
        table = quote_table(HEARTBEAT_TABLE)
        with self._pool.borrow() as session:
            found = session.fetch_value(f"SELECT MAX(beat) FROM {table} WHERE migration_id = {self._id}")
            if found is None:
                session.execute(f"INSERT INTO {table} VALUES ({self._id}, 1, UTC_TIMESTAMP(6))", doing="heartbeat")

    def pass_barrier(self) -> int:
        """Commit a beat that starts after this call and return its number.

        On return every change that the stream had delivered before the call is visible to plain reads.
        """
        with self._condition:
            wanted = self._started + 1
            while self._finished < wanted:
                if not self._running:
                    self._running = True
                    self._started += 1
                    break
                self._condition.wait()
            else:
                return self._beat
            mine = self._started
        beat = 0
        try:
            beat = self.retry.retrying(self._commit_beat, idempotent=True)
        finally:
            with self._condition:
                self._running = False
                if beat:
                    self._finished, self._beat = mine, beat
                else:
                    self._started -= 1  # failed: whoever waited for it becomes the next to try
                self._condition.notify_all()
        return beat

    def _commit_beat(self) -> int:
        began = self._clock()
        beat = int(self._pool.call(self._update))
        ended = self._clock()
        with self._condition:
            self._beaten_at[beat] = began
            self._commits.append((ended, ended - began))
            while len(self._beaten_at) > 10_000:
                self._beaten_at.popitem(last=False)
        return beat

    def _update(self, session: Session) -> int:
        session.execute(
            f"UPDATE {quote_table(HEARTBEAT_TABLE)} SET beat = LAST_INSERT_ID(beat + 1), "
            f"beaten_at = UTC_TIMESTAMP(6) WHERE migration_id = {self._id}",
            doing="heartbeat",
        )
        return session.read_insert_id()

    def measure_commit_seconds(self) -> float:
        """How long small writes take on this server now: all but the slowest twentieth of the beats of the last two
        seconds, of which one is committed for the purpose."""
        self.pass_barrier()
        with self._condition:
            since = self._clock() - COMMIT_WINDOW_SECONDS
            recent = sorted(seconds for at, seconds in self._commits if at >= since)
        return recent[(len(recent) * 19 - 1) // 20] if recent else 0.0

    def time_commit(self) -> float:
        """Commit one beat now, beside any others, and return its seconds.

        Raises:
            DbmigrateError: the server says no or is gone.
        """
        began = self._clock()
        self._commit_beat()
        return self._clock() - began

    def lag_seconds(self, reached: int) -> float:
        """How far behind a stream is that has worked off everything up to beat ``reached``.

        The age of the oldest beat it has not reached; 0.0 when it has reached them all. One clock, so server
        clocks do not matter, and true on an idle source as long as somebody beats.
        """
        with self._condition:
            while self._beaten_at and next(iter(self._beaten_at)) <= reached:
                self._beaten_at.popitem(last=False)
            oldest = next(iter(self._beaten_at.values()), None)
        return 0.0 if oldest is None else max(0.0, self._clock() - oldest)
