"""Which runner may write rows: a guard against writes of the dead.

A statement can outlive the client that sent it: after kill -9 of a runner, or a cut network, the server may still be
executing its last REPLACE and would overwrite rows that the next runner has already made newer. So every write
transaction first takes a shared lock on its runner's row, on the server that it writes to, and a new runner (or a
worker that lost its connection) takes that row exclusively before it goes on: it thereby waits until every earlier
write has ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dbmigrate.domain.errors import FatalError
from dbmigrate.domain.schema import TableName
from dbmigrate.mysql.faults import ConnectionLostError, Retry
from dbmigrate.mysql.heartbeat import CONTROL_SCHEMA
from dbmigrate.mysql.identifiers import quote_string, quote_table
from dbmigrate.mysql.sessions import Session, SessionPool

RUNNER_TABLE = TableName(CONTROL_SCHEMA, "runner")

CREATE_RUNNER = (
    f"CREATE TABLE IF NOT EXISTS {quote_table(RUNNER_TABLE)} ("
    "migration_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY, "
    "generation BIGINT NOT NULL) ENGINE=InnoDB"
)


class Tenure:
    """One runner's right to write rows to one server, for as long as its lease generation is the newest."""

    def __init__(self, pool: SessionPool, migration_id: str, generation: int, *, retry: Retry) -> None:
        self._pool = pool
        self._retry = retry
        self._id = quote_string(migration_id)
        self._generation = generation

    def begin(self) -> None:
        """Take over: on return no write of an earlier runner is under way or can still begin."""
        table = quote_table(RUNNER_TABLE)
        statement = (
            f"INSERT INTO {table} (migration_id, generation) VALUES ({self._id}, {self._generation}) "
            f"ON DUPLICATE KEY UPDATE generation = GREATEST(generation, {self._generation})"
        )
        self._retry.retrying(lambda: self._run(statement), idempotent=True)

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
                self._require_newest(session)
                yield
        except ConnectionLostError:
            self._quiesce()
            raise

    def _require_newest(self, session: Session) -> None:
        newest = session.fetch_value(
            f"SELECT generation FROM {quote_table(RUNNER_TABLE)} WHERE migration_id = {self._id} LOCK IN SHARE MODE",
            doing="checking the lease",
        )
        if newest is None or int(newest) != self._generation:
            raise FatalError(
                "another runner has taken over", place=session.place, hint="nothing is lost; let the other one work"
            )
