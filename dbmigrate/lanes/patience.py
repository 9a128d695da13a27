"""Statements that need a table alone, without anybody piling up behind them for long, or being rolled back.

Whoever comes after a statement that waits for a table waits behind it; and a transaction that has read the table and then
writes to it is rolled back as a deadlock: the server always spares the DDL. So at first a statement does not wait: it is
tried in moments between two transactions, many times a second (MySQL waits some milliseconds all the same). Where no such moment comes, it waits for a second or
two, gives up, lets the queue pass and tries again. And where the server tells that a long transaction holds the table,
it does not even ask.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

from dbmigrate.domain.errors import TransientError
from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.domain.schema import TableName
from dbmigrate.mysql.activity import interrupting_lock_waits
from dbmigrate.mysql.faults import InterruptedQueryError, RolledBackError
from dbmigrate.mysql.sessions import Session, SessionPool
from dbmigrate.mysql.table_holders import Holders, is_held, read_holders

log = logging.getLogger(__name__)

T = TypeVar("T")

MOST_NAMED = 3
MOST_PAUSE_SECONDS = 10.0
QUICK_PAUSE_SECONDS = 0.03
LOOK_SECONDS = 0.003
"""MySQL cannot be told not to wait at all: whether the statement waits is looked at so often, and a wait is ended."""


@dataclass(frozen=True, slots=True)
class Patience:
    """For ``quick_seconds`` moments are looked for; then one attempt waits ``lock_wait_seconds`` (whole ones) for a table,
    ``max_attempts`` times, with pauses that double from ``retry_seconds`` on."""

    lock_wait_seconds: int = 1
    max_attempts: int = 10
    retry_seconds: float = 0.5
    quick_seconds: float = 10.0


class Patient:
    """Executes on one session. ``pause`` waits between attempts, ``pool`` gives the session that ends a wait;
    ``attempts`` counts those of the last statement."""

    def __init__(
        self, session: Session, version: ServerVersion, patience: Patience, pause: Callable[[float], object],
        *, pool: SessionPool, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._session, self._version, self._patience, self._pause = session, version, patience, pause
        self._pool, self._clock = pool, clock
        self.attempts = 0

    def execute(
        self, sql: str, tables: Sequence[TableName], *, doing: str, is_done: Callable[[], bool] = lambda: False
    ) -> None:
        """Run a statement that locks ``tables``. ``is_done`` tells of one that was ended whether it took effect.

        Raises:
            TransientError: they were in use at every attempt; who held them, or may have, is named.
        """
        quick = self._try_in_moments(sql, tables, doing, is_done) if tables else 0
        if quick is not None:
            self.attempt(lambda: self._session.execute(sql, doing=doing), tables, doing=doing)
            self.attempts += quick

    def _try_in_moments(
        self, sql: str, tables: Sequence[TableName], doing: str, is_done: Callable[[], bool]
    ) -> int | None:
        """None when it succeeded, else how often it was tried in vain."""
        until, self.attempts = self._clock() + self._patience.quick_seconds, 0
        self._session.execute(f"SET SESSION lock_wait_timeout = {0 if self._version.is_mariadb else 1}")
        while self._clock() < until:
            if self._is_blocked(tables):
                break
            if not is_held(self._session, self._version, tables):
                self.attempts += 1
                try:
                    with self._ending_waits():
                        self._session.execute(sql, doing=doing)
                    return None
                except InterruptedQueryError:
                    if is_done():
                        return None
                except RolledBackError:
                    pass
            self._pause(QUICK_PAUSE_SECONDS * random.uniform(0.2, 1.0))  # noqa: S311  # jitter, not a secret
        return self.attempts

    def _ending_waits(self) -> AbstractContextManager[None]:
        if self._version.is_mariadb:  # lock_wait_timeout = 0 does not wait
            return nullcontext()
        return interrupting_lock_waits(LOOK_SECONDS, self._pool, self._session)

    def _is_blocked(self, tables: Sequence[TableName]) -> bool:
        seen = self._look(tables)
        return seen.is_exact and bool(seen.transactions)

    def attempt(self, verb: Callable[[], T], tables: Sequence[TableName], *, doing: str) -> T:
        """``verb``, again after each lock wait timeout or deadlock, as often as the patience allows."""
        patience, self.attempts = self._patience, 0
        self._session.execute(
            f"SET SESSION lock_wait_timeout = {patience.lock_wait_seconds}, "
            f"innodb_lock_wait_timeout = {patience.lock_wait_seconds}"
        )
        seen = Holders(True, ())
        while self.attempts < patience.max_attempts:
            self.attempts += 1
            seen = self._look(tables)
            if not (seen.is_exact and seen.transactions):
                try:
                    return verb()
                except RolledBackError:
                    seen = self._look(tables)
            log.info("%s: attempt %d of %d waits", doing, self.attempts, patience.max_attempts)
            if self.attempts < patience.max_attempts:
                self._pause(self._next_pause())
        raise self._give_up(seen, tables, doing)

    def _look(self, tables: Sequence[TableName]) -> Holders:
        return read_holders(
            self._session, self._version, tables, at_least_seconds=self._patience.lock_wait_seconds
        )

    def _next_pause(self) -> float:
        """Doubling, with jitter: out of step with whoever holds the table now and then."""
        pause: float = self._patience.retry_seconds * 2 ** (self.attempts - 1)
        return min(pause, MOST_PAUSE_SECONDS) * random.uniform(0.5, 1.0)  # noqa: S311  # jitter, not a secret

    def _give_up(self, seen: Holders, tables: Sequence[TableName], doing: str) -> TransientError:
        named = "; ".join(map(str, seen.transactions[:MOST_NAMED]))
        whose = "held by" if seen.is_exact else "long transactions, one of which may hold it:"
        return TransientError(
            f"{doing}: the table was in use at each of {self.attempts} attempts",
            place=", ".join(map(str, tables)) or self._session.place,
            cause=f"{whose} {named}" if named else "transactions follow one another without a pause",
            hint="let the transaction end, or KILL its connection, and run again; nothing was changed by this step",
        )  # fmt: skip
