"""The fences as a switch uses them: prepare, close, lift, keep.

Each closes one side for everybody but this program. Closing waits for writers that are in the middle of something;
the switch limits that wait by its budget.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from dbmigrate.config import FenceKind
from dbmigrate.domain.errors import RefusedError, TransientError
from dbmigrate.domain.routes import Side
from dbmigrate.domain.schema import TableName
from dbmigrate.mysql.activity import interrupting_after
from dbmigrate.mysql.fence import (
    build_fence_lock,
    build_lock_tables,
    build_read_only,
    read_is_read_only,
    seize_fence_row,
)
from dbmigrate.mysql.open_transactions import OpenTransaction, read_open_transactions
from dbmigrate.mysql.servers import Server
from dbmigrate.mysql.sessions import Session
from dbmigrate.workflow.guards import QuietMoments, arm_at_once, find_missing

log = logging.getLogger(__name__)

MOST_NAMED = 3
SEIZE_SECONDS = 2.0


class Fence(Protocol):
    """What holds other writers back on the side that gives up ownership."""

    def prepare(self) -> None:
        """Everything slow, before the write pause."""

    def seize(self, session: Session) -> bool:
        """Close at a moment at which no writer is in the middle of something, so that nobody is held back before it.
        False where the fence cannot do that, or no such moment comes soon: then ``close``, which waits."""

    def close(self, session: Session) -> None:
        """Wait for writers in the middle of something and let no other commit. Opens the transaction in which the
        fence row will change."""

    def find_unfinished(self, session: Session) -> tuple[OpenTransaction, ...]:
        """Transactions with changes that were open when the fence closed and that it has not waited for."""

    def lift(self, session: Session) -> None:
        """Undo ``close``: writers go on as before."""

    def keep(self, session: Session) -> None:
        """Ownership has changed: leave this side closed to everybody else, and release who waits."""

    def wait_for_mirrors(self, seconds: float) -> None:
        """On the closed side nothing can begin any more: wait until what its writers mirror to the other side is
        decided there, too."""

    def open_other(self, other: Server) -> None:
        """Let writers in on the side that owns the data now."""


class ReadOnlyFence:
    """``SET GLOBAL read_only``: the whole server refuses ordinary accounts, at COMMIT at the latest."""

    def __init__(self, migration_id: str, server: Server, other: Server) -> None:
        self._migration_id = migration_id
        self._other = other
        self._is_mariadb = server.version.is_mariadb

    def prepare(self) -> None:
        """Nothing is slow here."""

    def seize(self, session: Session) -> bool:
        return False

    def close(self, session: Session) -> None:
        # In this order: a session with an open transaction may not change read_only (error 1192).
        session.execute(build_read_only(True), doing="making the server read-only")
        session.execute("START TRANSACTION")
        session.execute(build_fence_lock(self._migration_id), doing="locking the fence row")

    def find_unfinished(self, session: Session) -> tuple[OpenTransaction, ...]:
        # MySQL lets XA PREPARE and XA COMMIT pass read_only, and an XA transaction cannot be told from another: each has
        # to end. MariaDB refuses every COMMIT, so only those are spared that would lose long work, or a promise.
        found = [one for one in read_open_transactions(session) if one.rows_changed]
        return tuple(one for one in found if not self._is_mariadb or one.seconds >= 1 or not one.connection_id)

    def wait_for_mirrors(self, seconds: float) -> None:
        _await_mirrors(self._other, self._migration_id, seconds)

    def lift(self, session: Session) -> None:
        session.execute("ROLLBACK")
        session.execute(build_read_only(False), doing="lifting read_only")

    def keep(self, session: Session) -> None:
        """The server stays read-only."""

    def open_other(self, other: Server) -> None:
        with other.pool.borrow() as session:
            session.execute(build_read_only(False), doing="lifting read_only")


class LockTablesFence:
    """``LOCK TABLES ... READ`` for the pause, and guard triggers that refuse writers from the switch on."""

    def __init__(
        self, migration_id: str, server: Server, other: Server, tables: Sequence[TableName], *, closed_when_owner: Side
    ) -> None:
        self._migration_id = migration_id
        self._server, self._other = server, other
        self._tables = tables
        self._closed_when_owner = closed_when_owner

    def prepare(self) -> None:
        """Arm the guards: they let everybody pass until the fence row names the other owner."""
        guards = find_missing(self._server, self._tables, self._migration_id, closed_when_owner=self._closed_when_owner)
        arm_at_once(self._server, guards)

    def seize(self, session: Session) -> bool:
        return False

    def close(self, session: Session) -> None:
        # START TRANSACTION would release the table locks; with autocommit off the fence row can still be committed.
        session.execute("SET autocommit = 0")
        session.execute(build_lock_tables(self._tables), doing="locking the tables")

    def find_unfinished(self, session: Session) -> tuple[OpenTransaction, ...]:
        return ()  # the locks were granted after all of them

    def wait_for_mirrors(self, seconds: float) -> None:
        _await_mirrors(self._other, self._migration_id, seconds)

    def lift(self, session: Session) -> None:
        session.execute("ROLLBACK")
        session.execute("UNLOCK TABLES", doing="unlocking the tables")
        session.execute("SET autocommit = 1")

    def keep(self, session: Session) -> None:
        session.execute("UNLOCK TABLES", doing="unlocking the tables")
        session.execute("SET autocommit = 1")

    def open_other(self, other: Server) -> None:
        """The other side's guards look at its fence row, which names it as the owner."""


class AppFence:
    """The fence row itself: every write transaction of the application library begins by locking it, in share mode.

    Writers that do not know the row meet the guard triggers, which lock it as well: so whoever holds the row
    exclusively knows that no writer is in the middle of something, and none begins. The other side's guards are armed
    before, too, so that nobody writes there unnoticed, and so that nothing is left to do there once the switch is
    committed: the application may complete it by itself.
    """

    def __init__(
        self, migration_id: str, sides: Mapping[Side, Server], tables: Mapping[Side, Sequence[TableName]], *,
        giving: Side, pause: Callable[[float], object],
    ) -> None:  # fmt: skip
        self._migration_id = migration_id
        self._sides = sides
        self._tables = tables
        self._giving = giving
        self._pause = pause

    def prepare(self) -> None:
        """Arm the guards of both sides, the taking one's first: it has the fewer readers."""
        quiet = QuietMoments(self._sides[self._giving], self._migration_id, self._pause)
        for side in (self._giving.other, self._giving):
            server = self._sides[side]
            missing = find_missing(server, self._tables[side], self._migration_id, closed_when_owner=side.other)
            quiet.execute(server, missing, doing="arming the guards")

    def seize(self, session: Session) -> bool:
        session.execute("START TRANSACTION")
        is_closed = seize_fence_row(
            session, self._migration_id, seconds=SEIZE_SECONDS, pause=self._pause, clock=time.monotonic
        )
        if not is_closed:
            session.execute("ROLLBACK")
        return is_closed

    def close(self, session: Session) -> None:
        session.execute("START TRANSACTION")
        session.execute(build_fence_lock(self._migration_id), doing="locking the fence row")

    def find_unfinished(self, session: Session) -> tuple[OpenTransaction, ...]:
        # XA transactions that are prepared need not hold the row any more: MariaDB gives shared locks up at XA PREPARE,
        # and both flavours do where the server was restarted since. They cannot be told from others while their session
        # lives.
        is_mariadb = self._sides[self._giving].version.is_mariadb
        if is_mariadb and not session.execute("XA RECOVER").rows:
            return ()
        found = [one for one in read_open_transactions(session) if one.rows_changed]
        return tuple(one for one in found if is_mariadb or not one.connection_id)

    def wait_for_mirrors(self, seconds: float) -> None:
        _await_mirrors(self._sides[self._giving.other], self._migration_id, seconds)

    def lift(self, session: Session) -> None:
        session.execute("ROLLBACK")

    def keep(self, session: Session) -> None:
        """The guards look at this side's fence row, which names the other owner."""

    def open_other(self, other: Server) -> None:
        """The other side's guards look at its fence row, which names it as the owner."""


def _await_mirrors(other: Server, migration_id: str, seconds: float) -> None:
    """Mirrors hold the other side's row in share mode until they are decided.

    Raises:
        TransientError: one takes longer; those that may be it are named.
    """
    with other.pool.borrow() as session:
        if seize_fence_row(session, migration_id, seconds=0, pause=time.sleep, clock=time.monotonic):
            return
        try:
            with interrupting_after(seconds, other.pool, session):
                session.execute(build_fence_lock(migration_id), doing="waiting for mirrored writes")
        except TransientError as waited:
            found = read_open_transactions(session, at_least_seconds=int(seconds))
            raise TransientError(
                "mirrored writes are not decided on the side that takes over", place=other.place,
                cause="; ".join(map(str, found[:MOST_NAMED])) or waited.message, hint="it is tried again",
            ) from waited  # fmt: skip


def build_fence(
    kind: FenceKind, migration_id: str, sides: Mapping[Side, Server], tables: Mapping[Side, Sequence[TableName]], *,
    giving: Side, pause: Callable[[float], object],
) -> Fence:  # fmt: skip
    """The configured fence for the side that gives up ownership. ``pause`` waits, and ends early where a runner stops.

    Raises:
        RefusedError: a fence that this version cannot run.
    """
    if kind is FenceKind.APP:
        return AppFence(migration_id, sides, tables, giving=giving, pause=pause)
    server, other = sides[giving], sides[giving.other]
    if kind is FenceKind.READ_ONLY:
        return ReadOnlyFence(migration_id, server, other)
    if kind is FenceKind.LOCK_TABLES:
        return LockTablesFence(migration_id, server, other, tables[giving], closed_when_owner=giving.other)
    raise RefusedError(
        f'the fence "{kind.value}" is not available in this version', place="[cutover] fence",
        hint='use "app", "read_only" or "lock_tables"',
    )  # fmt: skip


def keep_closed(server: Server, kind: FenceKind) -> None:
    """Close a side again that gave up ownership and lost its ``read_only``, as a server does when it restarts.

    Guard triggers outlive a restart, so only that fence needs it. A server that is away is left to the stream.
    """
    if kind is not FenceKind.READ_ONLY:
        return
    with contextlib.suppress(TransientError), server.pool.borrow() as session:
        if not read_is_read_only(session):
            session.execute(build_read_only(True), doing="closing the side that gave up ownership")
            log.warning(
                "%s was writable again (a restart forgets read_only) and has been closed; what was written there since "
                "is not on the other side: `dbmigrate verify` finds it", server.place,
            )  # fmt: skip


def lift_leftovers(server: Server, kind: FenceKind, *, was_read_only: bool) -> None:
    """After a crash: give a side that still owns the data back to its writers. Table locks end with their session."""
    if was_read_only or kind is not FenceKind.READ_ONLY:
        return

    def verb() -> None:
        with server.pool.borrow() as session:
            session.execute(build_read_only(False), doing="lifting read_only")

    try:
        server.retry.retrying(verb, idempotent=True)
    except RefusedError as fault:
        log.warning("read_only could not be lifted: %s", fault)
