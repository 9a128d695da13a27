"""Which runner may write rows: a guard against writes of the dead.

A statement can outlive the client that sent it: after kill -9 of a runner, or a cut network, the server may still be
executing its last REPLACE and would overwrite rows that the next runner has already made newer. So every write
transaction first takes a shared lock on its runner's row, on the server that it writes to, and a new runner (or a
worker that lost its connection) takes that row exclusively before it goes on: it thereby waits until every earlier
write has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dbmigrate.domain.errors import FatalError
from dbmigrate.domain.schema import TableName
from dbmigrate.mysql.faults import ConnectionLostError, Retry
from dbmigrate.mysql.heartbeat import CONTROL_SCHEMA
from dbmigrate.mysql.identifiers import quote_string, quote_table
from dbmigrate.mysql.sessions import Session, SessionPool

_CLOCKS_DIFFER_SECONDS = 2.5  # uptime comes in whole seconds

RUNNER_TABLE = TableName(CONTROL_SCHEMA, "runner")

CREATE_RUNNER = (
    f"CREATE TABLE IF NOT EXISTS {quote_table(RUNNER_TABLE)} ("
    "migration_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY, "
    "generation BIGINT NOT NULL) ENGINE=InnoDB"
)


class Tenure:
    """One runner's right to write rows to one server, for as long as its lease generation is the newest."""

    def __init__(
        self, pool: SessionPool, migration_id: str, generation: int, *, retry: Retry, clock: Callable[[], float]
    ) -> None:
        self._pool = pool
        self._retry = retry
        self._id = quote_string(migration_id)
        self._generation = generation
        self._clock = clock
        self._up_since = 0.0

    def begin(self) -> None:
        """Take over: on return no write of an earlier runner is under way or can still begin."""
        self._up_since, _ = self._retry.retrying(lambda: self._pool.call(self._read_life), idempotent=True)
        table = quote_table(RUNNER_TABLE)
        statement = (
            f"INSERT INTO {table} (migration_id, generation) VALUES ({self._id}, {self._generation}) "
            f"ON DUPLICATE KEY UPDATE generation = GREATEST(generation, {self._generation})"
        )
        self._retry.retrying(lambda: self._run(statement), idempotent=True)

    @property
    def up_seconds(self) -> float:
        """For how long the server has been up without forgetting anything that this runner wrote."""
        return self._clock() - self._up_since

    def join(self, up_seconds: float) -> None:
        """Write for a runner whose tenure has begun elsewhere, where the server was last seen up for so long."""
        self._up_since = self._clock() - up_seconds

    def _run(self, statement: str) -> None:
        with self._pool.borrow() as session:
            session.execute(statement, doing="waiting for earlier writes to end")

    def _quiesce(self) -> None:
        """Wait until every write transaction that holds the row has ended, one whose client is gone included."""
        statement = f"SELECT generation FROM {quote_table(RUNNER_TABLE)} WHERE migration_id = {self._id} FOR UPDATE"
        self._retry.retrying(lambda: self._run(statement), idempotent=True)

    @contextmanager
    def transaction(self, session: Session) -> Iterator[None]:
        """A write transaction of this runner. When the connection is lost, the block ends only after the server
        has ended the transaction, one way or the other.

        Raises:
            FatalError: a newer runner has taken over.
        """
        try:
            with session.transaction():
                self.require_newest(session)
                self._require_same_life(session)
                yield
        except ConnectionLostError:
            self._quiesce()
            raise

    def require_newest(self, session: Session) -> None:
        """Hold the row in the session's transaction: until it ends, no newer runner can begin.

        Raises:
            FatalError: a newer runner has taken over.
        """
        newest = session.fetch_value(
            f"SELECT generation FROM {quote_table(RUNNER_TABLE)} WHERE migration_id = {self._id} LOCK IN SHARE MODE",
            doing="checking the lease",
        )
        if newest is None or int(newest) != self._generation:
            raise FatalError(
                "another runner has taken over", place=session.place, hint="nothing is lost; let the other one work"
            )

    def _require_same_life(self, session: Session) -> None:
        """Refuse to go on from memory where the server may have forgotten what was written: what is known of chunks
        and flushes is then ahead of its rows. Its own checkpoint and cursors are not: they went in the same order.

        Raises:
            FatalError: a server that does not keep every commit through a crash has been restarted.
        """
        if session.vouched_for_by is self:
            return
        up_since, is_durable = self._read_life(session)
        if up_since > self._up_since + _CLOCKS_DIFFER_SECONDS:
            if not is_durable:
                raise FatalError(
                    "the server has been restarted and may have forgotten its last transactions", place=session.place,
                    cause="innodb_flush_log_at_trx_commit and sync_binlog are not both 1",
                    hint="run again: it goes on from what the server still has",
                )  # fmt: skip
            self._up_since = up_since
        session.vouched_for_by = self

    def _read_life(self, session: Session) -> tuple[float, bool]:
        """When the server started, by our clock, and whether its commits survive a crash."""
        rows = session.execute("SHOW GLOBAL STATUS LIKE 'Uptime'", doing="reading the server's uptime").rows
        up_since = self._clock() - int(rows[0][1] or 0)
        durability = session.fetch_value(
            "SELECT @@GLOBAL.innodb_flush_log_at_trx_commit = 1 AND (@@GLOBAL.sync_binlog = 1 OR NOT @@GLOBAL.log_bin)",
            doing="reading the server's durability",
        )
        return up_since, durability == b"1"
