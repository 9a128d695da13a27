"""Guard triggers: what refuses writers that do not know the fence row, created and dropped under a running application.

Apart from the fences because when to do it is a matter of its own. A statement that changes triggers waits for every
transaction that has used the table, and who comes later waits behind it: a transaction that has read the table and then
writes to it is rolled back as a deadlock (error 1213), the application's own mostly. So such statements are executed in
moments in which no such write can come: while the fence row is held, every write transaction of the application
either has ended or waits at its first step, which locks that row.
"""

from __future__ import annotations

import contextlib
import logging
import random
import time
from collections.abc import Callable, Iterator, Sequence

from dbmigrate.domain.errors import TransientError
from dbmigrate.domain.routes import Side
from dbmigrate.domain.schema import TableName
from dbmigrate.mysql.activity import interrupting_after
from dbmigrate.mysql.faults import InterruptedQueryError, RolledBackError, ServerRefusedError
from dbmigrate.mysql.fence import build_fence_lock, build_guard_drop, build_guards, read_guards, seize_fence_row
from dbmigrate.mysql.open_transactions import read_open_transactions
from dbmigrate.mysql.servers import Server
from dbmigrate.mysql.sessions import Session

log = logging.getLogger(__name__)

GUARD_WAIT_SECONDS = 1
SEIZE_SECONDS = 0.5
"""How long a moment is looked out for at which nobody holds the row: nobody is held back meanwhile."""
ROW_WAIT_SECONDS = 0.1
"""How long the row is waited for where there was none: who writes is held back behind the wait."""
STATEMENT_SECONDS = 0.03
"""How long one statement waits for readers: who reads is held back behind it, and who waits for the row may be one."""
MOMENT_SECONDS = 0.06
"""How long a moment lasts; a statement that has begun is ended after ``STATEMENT_SECONDS``."""
BETWEEN_SECONDS = 0.1
PATIENCE_SECONDS = 10.0
"""How long it goes on without a statement that succeeds."""
ABORT_PATIENCE_SECONDS = 60.0
_EXISTS = 1359
MOST_NAMED = 3


def find_missing(
    server: Server, tables: Sequence[TableName], migration_id: str, *, closed_when_owner: Side
) -> list[str]:
    """The statements that create the guards which are not there yet."""
    account = server.endpoint.section.user
    with server.pool.borrow() as session:
        present = set().union(*(read_guards(session, schema) for schema in {table.schema for table in tables}))
    guards = [
        statement
        for table in tables
        for statement in build_guards(table, migration_id, closed_when_owner=closed_when_owner, account=account)
    ]
    return [statement for statement in guards if statement.split("`.`", 1)[1].split("`", 1)[0] not in present]


def find_removals(server: Server, schema: str) -> list[str]:
    """The statements that drop every guard of a schema."""
    with server.pool.borrow() as session:
        return [build_guard_drop(schema, name) for name in read_guards(session, schema)]


def arm_at_once(server: Server, statements: Sequence[str]) -> None:
    """Create guards where no application follows the fence row.

    Raises:
        RolledBackError: a table is in use for longer than others can be made to wait behind the trigger.
    """
    with server.pool.borrow() as session:
        # A trigger waits for the table's open transactions, and whoever comes later waits behind it.
        session.execute(f"SET SESSION lock_wait_timeout = {GUARD_WAIT_SECONDS}")
        try:
            for statement in statements:
                session.execute(statement, doing="arming the guards")
        finally:
            session.execute("SET SESSION lock_wait_timeout = 60")


class QuietMoments:
    """Short moments in which the application's write transactions wait at the fence row of the side that owns the data.

    ``pause`` waits between them.
    """

    def __init__(
        self,
        owner: Server,
        migration_id: str,
        pause: Callable[[float], object],
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._owner, self._migration_id = owner, migration_id
        self._pause, self._patience, self._clock = pause, patience_seconds, clock

    def execute(self, server: Server, statements: Sequence[str], *, doing: str) -> None:
        """Execute statements that wait for the users of a table, in any order. Repeatable ones only: a statement that
        is ended may have taken effect.

        Raises:
            RolledBackError: none of them succeeded for the patience; who may be in the way is named.
        """
        left = list(statements)
        if not left:
            return
        until = self._clock() + self._patience
        with self._owner.pool.borrow() as holder, server.pool.borrow() as session:
            while True:
                count = len(left)
                with self._moment(holder) as is_quiet:
                    if is_quiet:
                        left = self._execute_some(server, session, left, doing)
                if not left:
                    return
                if len(left) < count:
                    until = self._clock() + self._patience
                elif self._clock() >= until:
                    raise self._give_up(server, session)
                self._pause(BETWEEN_SECONDS * (0.5 + random.random()))  # noqa: S311  # out of step, not secret

    @contextlib.contextmanager
    def _moment(self, holder: Session) -> Iterator[bool]:
        """Hold the row, if it is to be had soon."""
        holder.execute("START TRANSACTION")
        try:
            yield self._seize(holder) or self._wait_for_row(holder)
        finally:
            holder.execute("ROLLBACK")

    def _seize(self, holder: Session) -> bool:
        return seize_fence_row(
            holder, self._migration_id, seconds=SEIZE_SECONDS, pause=self._pause, clock=self._clock
        )

    def _wait_for_row(self, holder: Session) -> bool:
        try:
            with interrupting_after(ROW_WAIT_SECONDS, self._owner.pool, holder):
                holder.execute(build_fence_lock(self._migration_id), doing="waiting for a quiet moment")
        except (InterruptedQueryError, RolledBackError):
            return False
        return True

    def _execute_some(self, server: Server, session: Session, statements: Sequence[str], doing: str) -> list[str]:
        """What is left after this moment; what was in somebody's way comes last."""
        left, delayed = list(statements), []
        until = self._clock() + MOMENT_SECONDS
        while left and self._clock() < until:
            statement = left.pop(0)
            try:
                with interrupting_after(STATEMENT_SECONDS, server.pool, session):
                    session.execute(statement, doing=doing)
            except (InterruptedQueryError, RolledBackError):
                delayed.append(statement)
            except ServerRefusedError as refused:
                if refused.number != _EXISTS:  # it was ended so late that it had taken effect
                    raise
        return left + delayed

    def _give_up(self, server: Server, session: Session) -> TransientError:
        found = read_open_transactions(session, at_least_seconds=int(self._patience))
        return RolledBackError(
            "tables are in use without a pause", place=server.place,
            cause="; ".join(map(str, found[:MOST_NAMED])) or "transactions that read follow one another",
            hint="it is tried again",
        )  # fmt: skip
