"""The fences for writers that do not know the fence row, as a switch uses them: prepare, close, lift, keep.

Each closes one side for everybody but this program. Closing waits for writers that are in the middle of something;
the switch limits that wait by its budget.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from typing import Protocol

from dbmigrate.config import FenceKind
from dbmigrate.domain.errors import RefusedError, TransientError
from dbmigrate.domain.routes import Side
from dbmigrate.domain.schema import TableName
from dbmigrate.mysql.activity import OpenTransaction, read_open_transactions
from dbmigrate.mysql.fence import (
    build_fence_lock,
    build_guard_drop,
    build_guards,
    build_lock_tables,
    build_read_only,
    read_guards,
    read_is_read_only,
)
from dbmigrate.mysql.servers import Server
from dbmigrate.mysql.sessions import Session

log = logging.getLogger(__name__)

GUARD_WAIT_SECONDS = 1


class Fence(Protocol):
    """What holds other writers back on the side that gives up ownership."""

    def prepare(self) -> None:
        """Everything slow, before the write pause."""

    def close(self, session: Session) -> None:
        """Wait for writers in the middle of something and let no other commit. Opens the transaction in which the
        fence row will change."""

    def find_unfinished(self, session: Session) -> tuple[OpenTransaction, ...]:
        """Transactions with changes that were open when the fence closed and that it has not waited for."""

    def lift(self, session: Session) -> None:
        """Undo ``close``: writers go on as before."""

    def keep(self, session: Session) -> None:
        """Ownership has changed: leave this side closed to everybody else, and release who waits."""

    def open_other(self, other: Server) -> None:
        """Let writers in on the side that owns the data now."""


class ReadOnlyFence:
    """``SET GLOBAL read_only``: the whole server refuses ordinary accounts, at COMMIT at the latest."""

    def __init__(self, migration_id: str, server: Server) -> None:
        self._migration_id = migration_id
        self._is_mariadb = server.version.is_mariadb

    def prepare(self) -> None:
        """Nothing is slow here."""

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
        self, migration_id: str, server: Server, tables: Sequence[TableName], *, closed_when_owner: Side, account: str
    ) -> None:
        self._migration_id = migration_id
        self._server = server
        self._tables = tables
        self._closed_when_owner = closed_when_owner
        self._account = account

    def prepare(self) -> None:
        """Arm the guards: they let everybody pass until the fence row names the other owner."""
        with self._server.pool.borrow() as session:
            # A trigger waits for the table's open transactions, and whoever comes later waits behind it.
            session.execute(f"SET SESSION lock_wait_timeout = {GUARD_WAIT_SECONDS}")
            present = set().union(*(read_guards(session, schema) for schema in {t.schema for t in self._tables}))
            try:
                for table in self._tables:
                    self._arm(session, table, present)
            finally:
                session.execute("SET SESSION lock_wait_timeout = 60")

    def _arm(self, session: Session, table: TableName, present: set[str]) -> None:
        for statement in build_guards(
            table, self._migration_id, closed_when_owner=self._closed_when_owner, account=self._account
        ):
            name = statement.split("`.`", 1)[1].split("`", 1)[0]
            if name not in present:
                session.execute(statement, doing=f"arming {table}")

    def close(self, session: Session) -> None:
        # START TRANSACTION would release the table locks; with autocommit off the fence row can still be committed.
        session.execute("SET autocommit = 0")
        session.execute(build_lock_tables(self._tables), doing="locking the tables")

    def find_unfinished(self, session: Session) -> tuple[OpenTransaction, ...]:
        return ()  # the locks were granted after all of them

    def lift(self, session: Session) -> None:
        session.execute("ROLLBACK")
        session.execute("UNLOCK TABLES", doing="unlocking the tables")
        session.execute("SET autocommit = 1")

    def keep(self, session: Session) -> None:
        session.execute("UNLOCK TABLES", doing="unlocking the tables")
        session.execute("SET autocommit = 1")

    def open_other(self, other: Server) -> None:
        """The other side's guards look at its fence row, which names it as the owner."""


def build_fence(
    kind: FenceKind, migration_id: str, server: Server, tables: Sequence[TableName], *, gives_up_to: Side
) -> Fence:
    """The configured fence for the side that gives up ownership to ``gives_up_to``.

    Raises:
        RefusedError: a fence that this version cannot run.
    """
    if kind is FenceKind.READ_ONLY:
        return ReadOnlyFence(migration_id, server)
    if kind is FenceKind.LOCK_TABLES:
        account = server.endpoint.section.user
        return LockTablesFence(migration_id, server, tables, closed_when_owner=gives_up_to, account=account)
    raise RefusedError(
        f'the fence "{kind.value}" is not available in this version', place="[cutover] fence",
        hint='use "read_only" or "lock_tables"',
    )  # fmt: skip


def remove_guards(server: Server, schema: str) -> None:
    """Drop every guard trigger of a schema."""
    with server.pool.borrow() as session:
        for name in read_guards(session, schema):
            session.execute(build_guard_drop(schema, name), doing="dropping a guard")


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
