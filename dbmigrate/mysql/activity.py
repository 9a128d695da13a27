"""How busy a server is, and the means to end a statement of our own that waits too long."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from dbmigrate.domain.errors import DbmigrateError
from dbmigrate.mysql.faults import ServerRefusedError
from dbmigrate.mysql.processlist import read_connections
from dbmigrate.mysql.sessions import Session, SessionPool

log = logging.getLogger(__name__)


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
        watched = read_connections(watcher).get(session.connection_id)
        return watched is not None and "metadata lock" in watched.state

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
        connections = read_connections(session)
        lost = connections.get(connection_id)
        if lost and connection_id != session.connection_id and lost.user == connections[session.connection_id].user:
            with contextlib.suppress(ServerRefusedError):  # it has just ended by itself
                session.execute(f"KILL {connection_id}", doing="ending a lost connection")
