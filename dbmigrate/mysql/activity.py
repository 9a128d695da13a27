"""What else is going on at a server: running threads, replica lag, transactions that stand in the way.

Also the means to end a statement of our own that waits too long, because both read the process list.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dbmigrate.domain.errors import DbmigrateError
from dbmigrate.mysql.faults import ServerRefusedError
from dbmigrate.mysql.sessions import Session, SessionPool

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OpenTransaction:
    """A transaction of somebody else, as an operator needs it to find its owner. The statement is not shown."""

    connection_id: int
    account: str
    seconds: int
    state: str

    def __str__(self) -> str:
        return f"connection {self.connection_id} of {self.account}, open for {self.seconds} s ({self.state})"


def read_open_transactions(session: Session, *, at_least_seconds: int = 0) -> tuple[OpenTransaction, ...]:
    """Open transactions of other connections, oldest first. Needs PROCESS; without it only our own are seen."""
    rows = session.execute(
        "SELECT t.trx_mysql_thread_id, CONCAT(COALESCE(p.user, '?'), '@', COALESCE(p.host, '?')), "
        "TIMESTAMPDIFF(SECOND, t.trx_started, NOW()), COALESCE(p.command, '') "
        "FROM information_schema.innodb_trx t LEFT JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id "
        f"WHERE t.trx_mysql_thread_id NOT IN (0, CONNECTION_ID()) "
        f"AND t.trx_started <= NOW() - INTERVAL {int(at_least_seconds)} SECOND ORDER BY t.trx_started LIMIT 20",
        doing="reading open transactions",
    ).rows
    return tuple(
        OpenTransaction(int(r[0] or 0), (r[1] or b"").decode(), int(r[2] or 0), (r[3] or b"").decode()) for r in rows
    )


def read_threads_running(pool: SessionPool) -> int:
    """Statements that run on the server now."""
    with pool.borrow() as session:
        rows = session.execute("SHOW GLOBAL STATUS LIKE 'Threads_running'", doing="reading the load").rows
    return int(rows[0][1] or 0)


@contextmanager
def interrupting_after(seconds: float, pool: SessionPool, session: Session) -> Iterator[None]:
    """End the session's running statement if the block takes longer than ``seconds``.

    The statement then raises InterruptedQueryError; the session stays usable.
    """
    finished = threading.Event()

    def interrupt() -> None:
        if finished.wait(max(0.0, seconds)):
            return
        try:
            with pool.borrow() as killer:
                killer.execute(f"KILL QUERY {session.connection_id}", doing="interrupting a statement")
        except DbmigrateError as fault:
            log.warning("a waiting statement could not be interrupted: %s", fault.message)

    watcher = threading.Thread(target=interrupt, name="budget", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        finished.set()
        watcher.join()


def end_connection(pool: SessionPool, connection_id: int) -> None:
    """End a connection of ours whose client has gone, so that nothing of it that is still under way takes effect.

    The server rolls its transaction back soon, not at once: wait for its locks. A restarted server gives its numbers
    anew, so a connection of another account is left alone.
    """
    with pool.borrow() as session:
        is_ours = session.fetch_value(
            f"SELECT COUNT(*) FROM information_schema.processlist WHERE id = {connection_id} "
            "AND user = SUBSTRING_INDEX(USER(), '@', 1) AND id <> CONNECTION_ID()",
            doing="looking for a lost connection",
        )
        if is_ours == b"1":
            with contextlib.suppress(ServerRefusedError):  # it has just ended by itself
                session.execute(f"KILL {connection_id}", doing="ending a lost connection")
