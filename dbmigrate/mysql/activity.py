"""What else is going on at a server: running threads, replica lag, transactions that stand in the way.

Also the means to end a statement of our own that waits too long, because both read the process list.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dbmigrate.domain.errors import DbmigrateError
from dbmigrate.mysql.faults import ServerRefusedError
from dbmigrate.mysql.sessions import Session, SessionPool

log = logging.getLogger(__name__)


_LONGEST_STATEMENT = 160
_NAME_OR_VALUE = re.compile(
    r"""(?P<name>`(?:[^`]|``)*`|[A-Za-z_@$\x80-\U0010ffff][\w@$]*(?!['\w]))
      | (?P<comment>/\*.*?(?:\*/|\Z)|\#[^\n]*|--\s[^\n]*)
      | (?P<value>\w*'(?:[^'\\]|\\.|'')*(?:'|\Z)|"(?:[^"\\]|\\.|"")*(?:"|\Z)|\d[\w.]*)""",
    re.DOTALL | re.VERBOSE,
)


def hide_values(statement: str) -> str:
    """A statement on one line with ``?`` for each value and without comments: fit for a message."""
    text = _NAME_OR_VALUE.sub(
        lambda found: found.group() if found.lastgroup == "name" else "?" if found.lastgroup == "value" else " ",
        statement,
    )
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_STATEMENT else f"{text[:_LONGEST_STATEMENT]}..."


@dataclass(frozen=True, slots=True)
class OpenTransaction:
    """A transaction of somebody else, as an operator needs it to find its owner. ``statement`` holds no values.

    ``connection_id`` is 0 for an XA transaction that is prepared and whose session has ended.
    """

    id: str
    connection_id: int
    account: str
    seconds: int
    state: str
    statement: str = ""
    rows_changed: int = 0

    def __str__(self) -> str:
        changed = f", {self.rows_changed} rows changed" if self.rows_changed else ""
        if not self.connection_id:
            return f"an XA transaction prepared and not decided, open for {self.seconds} s{changed} (XA RECOVER lists it)"
        doing = f"{self.state}: {self.statement}" if self.statement else self.state
        return f"connection {self.connection_id} of {self.account}, open for {self.seconds} s{changed} ({doing})"


def read_open_transactions(session: Session, *, at_least_seconds: int = 0) -> tuple[OpenTransaction, ...]:
    """Open transactions of other connections, those with changes first, then the oldest.

    Needs PROCESS; without it only our own are seen.
    """
    rows = session.execute(
        "SELECT t.trx_id, t.trx_mysql_thread_id, CONCAT(COALESCE(p.user, '?'), '@', COALESCE(p.host, '?')), "
        "TIMESTAMPDIFF(SECOND, t.trx_started, NOW()), COALESCE(p.command, ''), COALESCE(p.info, ''), "
        "t.trx_rows_modified FROM information_schema.innodb_trx t "
        "LEFT JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id AND t.trx_mysql_thread_id > 0 "
        "WHERE t.trx_mysql_thread_id <> CONNECTION_ID() AND (t.trx_mysql_thread_id > 0 OR t.trx_rows_modified > 0) "
        f"AND t.trx_started <= NOW() - INTERVAL {int(at_least_seconds)} SECOND "
        "ORDER BY t.trx_rows_modified = 0, t.trx_started LIMIT 200",
        doing="reading open transactions",
    ).rows
    texts = [[(field or b"").decode("utf-8", "replace") for field in row] for row in rows]
    return tuple(
        OpenTransaction(r[0], int(r[1] or 0), r[2], int(r[3] or 0), r[4], hide_values(r[5]), int(r[6] or 0))
        for r in texts
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


@contextmanager
def interrupting_lock_waits(seconds: float, pool: SessionPool, session: Session) -> Iterator[None]:
    """End the session's running statement when it is found waiting for a table, by a look every ``seconds``; one that
    works is left alone, however long it takes.

    The statement then raises InterruptedQueryError, or has just taken effect all the same.
    """
    finished = threading.Event()

    def look(watcher: Session) -> bool:
        state = watcher.fetch_value(
            f"SELECT state FROM information_schema.processlist WHERE id = {session.connection_id}",
            doing="watching a statement",
        )
        return b"metadata lock" in (state or b"")

    def watch() -> None:
        try:
            with pool.borrow() as watcher:
                while not finished.wait(seconds):
                    if look(watcher):
                        watcher.execute(f"KILL QUERY {session.connection_id}", doing="interrupting a statement")
                        return
        except DbmigrateError as fault:
            log.warning("a waiting statement could not be interrupted: %s", fault.message)

    thread = threading.Thread(target=watch, name="lock-wait", daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()


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
