"""Connections to one server: how they are opened, set up, pooled and closed.

Apart from the modules that use them because the session settings are part of the protocol: the exactness of every
literal and the safety of every write depend on them, so no other module opens a connection of its own.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pymysql
from pymysql.connections import Connection, MySQLResult
from pymysql.constants import CLIENT, COMMAND

from dbmigrate.config import ServerSection, TlsMode
from dbmigrate.domain.errors import ConfigurationError, FatalError, RefusedError
from dbmigrate.mysql.extended_connection import ExtendedConnection
from dbmigrate.mysql.faults import CONNECTING, ConnectionLostError, translate_fault

log = logging.getLogger(__name__)

EXACT_SQL_MODE = "NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES,STRICT_ALL_TABLES"
"""Strict, and keeps id 0 and zero dates: what is read is what is written."""

WAIT_TIMEOUT_SECONDS = 90
"""How long a server keeps the transaction and the locks of a client that says nothing more (frozen, or cut off), between two
statements, in the middle of a load, whose next piece the source has to give within that time, or of a row that is read.
Longer than ``lock_wait_timeout``: one session may hold the lease while another waits for a table."""
_IDLE_SECONDS = 45.0

_LOAD_PACKET_BYTES = 48 * 1024  # any max_allowed_packet that is in use takes it

_DEPRECATED = b"1287"  # ER_WARN_DEPRECATED_SYNTAX

DATA_SESSION = (
    "SET time_zone = '+00:00', foreign_key_checks = 0, "
    f"sql_mode = '{EXACT_SQL_MODE}', group_concat_max_len = 1073741824, "
    f"lock_wait_timeout = 60, innodb_lock_wait_timeout = 10, wait_timeout = {WAIT_TIMEOUT_SECONDS}, "
    f"net_read_timeout = {WAIT_TIMEOUT_SECONDS}, net_write_timeout = {WAIT_TIMEOUT_SECONDS}",
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
)
"""READ COMMITTED keeps deletes of absent keys from locking gaps, so parallel batches do not deadlock."""

_ALL_ROWS = "SET SESSION sql_select_limit = 18446744073709551615"
"""A server may give its sessions a limit, which cuts results without a word: tables would not be seen, and rows that are not
read again would count as deleted."""

SHOW_ALL_WARNINGS = "SET max_error_count = 65535"
"""MySQL keeps it for accounts with SESSION_VARIABLES_ADMIN. Without it a statement with more warnings than are shown
counts as one that changed values; ``check`` asks for the privilege where harmless warnings can be that many."""



@dataclass(frozen=True, slots=True)
class Result:
    """What one statement returned: raw bytes for each value, None for NULL."""

    rows: tuple[tuple[bytes | None, ...], ...]
    affected: int
    message: str
    warnings: int


class ServerWarnedError(FatalError):
    """The server carried out a statement, but not exactly: values would change."""


@dataclass(frozen=True)
class Endpoint:
    """Where a server is and how to log in. The password is read again for every connection."""

    role: str
    section: ServerSection = field(repr=False)

    @property
    def place(self) -> str:
        """How messages name this server: role, host and port, never a secret."""
        return f"{self.role} {self.section.host}:{self.section.port}"

    def connect(self, *, schema: str | None = None, raw: bool = False, **overrides: Any) -> Connection[Any]:
        """A fresh autocommit connection. ``raw`` ones return bytes for every value.

        Raises:
            ConfigurationError: the server does not let the account in, or a secret is missing.
            ConnectionLostError: it cannot be reached.
        """
        section = self.section
        options: dict[str, Any] = {
            "host": section.host,
            "port": section.port,
            "user": section.user,
            "password": section.read_password(),
            "database": schema,
            "charset": "utf8mb4",
            "autocommit": True,
            "client_flag": CLIENT.LOCAL_FILES,  # only ``Session.load`` answers; the driver refuses to read files
            "connect_timeout": max(1, int(section.connect_timeout_seconds)),
            "unix_socket": section.unix_socket,
            "program_name": "dbmigrate",
            "init_command": _ALL_ROWS,
            **_tls_options(section),
        }
        if raw:
            options |= {"use_unicode": False, "conv": {}}
        try:
            connection = ExtendedConnection(**(options | overrides)) if raw else pymysql.connect(**(options | overrides))
        except (pymysql.err.MySQLError, OSError) as fault:
            raise translate_fault(fault, place=self.place, doing=CONNECTING) from fault
        _keep_alive(connection)
        return connection


def _tls_options(section: ServerSection) -> dict[str, Any]:
    """PyMySQL's arguments for the TLS mode asked for by name; an explicit context makes TLS mandatory."""
    mode = section.tls_mode
    if mode is TlsMode.OFF:
        return {"ssl_disabled": True}
    tls = section.tls
    try:
        context = ssl.create_default_context(cafile=str(tls.ca) if tls and tls.ca else None)
        if tls and tls.cert:
            context.load_cert_chain(str(tls.cert), keyfile=str(tls.key) if tls.key else None)
    except (OSError, ssl.SSLError) as fault:
        raise ConfigurationError(
            "the TLS files cannot be used", place="tls", cause=str(fault), hint="check the paths ca, cert and key"
        ) from fault
    context.check_hostname = mode is TlsMode.VERIFY_IDENTITY
    context.verify_mode = ssl.CERT_REQUIRED if mode in (TlsMode.VERIFY_CA, TlsMode.VERIFY_IDENTITY) else ssl.CERT_NONE
    return {"ssl": context}


def _keep_alive(connection: Connection[Any]) -> None:
    """Let the kernel notice a dead peer within about a minute, also while a long statement runs."""
    sock = getattr(connection, "_sock", None)
    if sock is None or sock.family == getattr(socket, "AF_UNIX", None):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 4), ("TCP_USER_TIMEOUT", 60_000)):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


class Session:
    """One connection on the data path: statements in, raw bytes out, faults translated. Used by one thread."""

    def __init__(self, connection: Connection[Any], place: str) -> None:
        self._connection = connection
        self.place = place
        self.is_broken = False
        self.vouched_for_by: object = None

    @property
    def connection_id(self) -> int:
        """The server's id of this connection, for KILL."""
        return int(self._connection.thread_id())  # type: ignore[no-untyped-call]  # the stubs leave it out

    @property
    def takes_bulk(self) -> bool:
        """Whether the server takes the parameters of many rows in one command."""
        return isinstance(self._connection, ExtendedConnection) and self._connection.takes_bulk

    @property
    def driver_connection(self) -> Connection[Any]:
        """The PyMySQL connection, for the modules of this layer."""
        return self._connection

    def execute(self, sql: str | bytes, *, doing: str = "a statement") -> Result:
        """Run one statement and return everything it gave back.

        Raises:
            DbmigrateError: see ``faults.translate_fault``; after a lost connection the session is broken.
        """
        with self.asking(doing):
            self._connection.query(sql)
        return result_of(self._connection._result)  # type: ignore[attr-defined]  # a cursor would decode and copy

    def load(self, sql: str, pieces: Iterable[bytes | memoryview], *, doing: str) -> Result:
        """Run a LOAD DATA LOCAL statement and answer the server's question for its file with ``pieces``, one after the other.

        No file is read: what the server calls it is of no interest.

        Raises:
            DbmigrateError: as ``execute``.
        """
        connection: Any = self._connection
        with self.asking(doing):
            connection._execute_command(COMMAND.COM_QUERY, sql)
            if not connection._read_packet().is_load_local_packet():
                raise FatalError(f"{doing}: the server asked for no rows", place=self.place, hint="report this")
            for piece in pieces:
                for start in range(0, len(piece), _LOAD_PACKET_BYTES):
                    connection.write_packet(piece[start : start + _LOAD_PACKET_BYTES])
            connection.write_packet(b"")
            answer = connection._result = MySQLResult(connection)
            answer.read()
        return result_of(answer)

    @contextmanager
    def asking(self, doing: str) -> Iterator[None]:
        """Between a request and its answer: faults of the server are ours, and whoever is interrupted leaves a session whose
        stream of packets is unusable. For the modules of this layer."""
        try:
            yield
        except (pymysql.err.MySQLError, OSError, EOFError) as fault:
            error = translate_fault(fault, place=self.place, doing=doing)
            self.is_broken = self.is_broken or isinstance(error, ConnectionLostError)
            raise error from fault
        except BaseException:
            self.is_broken = True
            raise

    @contextmanager
    def speaking_bytes(self) -> Iterator[None]:
        """Literals in the block are bytes, of no character set; the server takes their text as it is. After an error the
        session is broken: nobody may go on with it."""
        self.execute("SET NAMES binary", doing="setting up a session")
        try:
            yield
        except BaseException:
            self.is_broken = True
            raise
        self.execute("SET NAMES utf8mb4", doing="setting up a session")

    def execute_exactly(self, sql: str | bytes, *, doing: str) -> Result:
        """Like ``execute``, but a warning is an error: on the data path a warning means a changed value.

        Raises:
            ServerWarnedError: see ``require_no_warnings``.
        """
        result = self.execute(sql, doing=doing)
        self.require_no_warnings(result, doing=doing)
        return result

    def require_no_warnings(self, result: Result, *, doing: str) -> None:
        """After the statement that gave ``result``.

        Raises:
            ServerWarnedError: its first warnings are the cause (values are not shown by servers beyond the first bytes).
        """
        if warnings := self.read_warnings(result):
            raise ServerWarnedError(
                f"{doing} gave warnings", place=self.place, cause="; ".join(warnings[:3]), hint="values would change"
            )

    def read_warnings(self, result: Result) -> list[str]:
        """What the server warned of in the statement just executed, but for names that it calls deprecated.

        MySQL does so for every literal in utf8mb3 or UCS-2, and keys are such literals. A warning that the server counted
        but does not show counts as one.
        """
        if not result.warnings:
            return []
        rows = self.execute("SHOW WARNINGS").rows
        warnings = [
            f"{(text or b'').decode('utf8', 'replace')} ({(number or b'').decode()})"
            for _, number, text in rows
            if number != _DEPRECATED
        ]
        if len(rows) < result.warnings:
            warnings.append(f"{result.warnings - len(rows)} more")
        return warnings

    def fetch_value(self, sql: str | bytes, *, doing: str = "a query") -> bytes | None:
        """The first column of the first row, or None."""
        rows = self.execute(sql, doing=doing).rows
        return rows[0][0] if rows else None

    def ping(self) -> None:
        """Go to the server and back, which costs it next to nothing.

        Raises:
            ConnectionLostError: it is gone.
        """
        with self.asking("a ping"):
            self._connection.ping(reconnect=False)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """BEGIN ... COMMIT; on any error ROLLBACK (or a broken session, which the server rolls back)."""
        self.execute("START TRANSACTION", doing="opening a transaction")
        try:
            yield
        except BaseException:
            if not self.is_broken:
                with contextlib.suppress(Exception):
                    self.execute("ROLLBACK")
            raise
        self.execute("COMMIT", doing="commit")

    def read_insert_id(self) -> int:
        """What LAST_INSERT_ID was set to by the last statement."""
        return int(self._connection.insert_id())  # type: ignore[no-untyped-call]  # the stubs leave it out

    def close(self) -> None:
        """Close without asking the server's opinion; open transactions are rolled back by it."""
        with contextlib.suppress(Exception):
            self._connection._force_close()  # type: ignore[attr-defined]  # close() would wait for the server


def result_of(answer: Any) -> Result:
    message = answer.message.decode("utf8", "replace") if isinstance(answer.message, bytes) else answer.message
    return Result(answer.rows or (), answer.affected_rows, message or "", answer.warning_count or 0)


def connect_as(host: str, port: int, user: str, password: str, *, place: str, schema: str | None = None) -> Session:
    """A session in plain text with these credentials, to a throwaway server that no configuration names.

    Raises:
        DbmigrateError: it cannot be opened.
    """
    try:
        connection = pymysql.connect(
            host=host, port=port, user=user, password=password, database=schema, charset="utf8mb4", autocommit=True,
            connect_timeout=10, use_unicode=False, conv={}, ssl_disabled=True, program_name="dbmigrate",
        )  # fmt: skip
    except (pymysql.err.MySQLError, OSError) as fault:
        raise translate_fault(fault, place=place, doing=CONNECTING) from fault
    return Session(connection, place)


class SessionPool:
    """Data sessions of one server, opened when needed and handed to one thread at a time.

    Borrowing never waits: the number of sessions is bounded by the number of threads that work.
    """

    def __init__(self, endpoint: Endpoint, *, statements: tuple[str, ...] = DATA_SESSION) -> None:
        """``statements`` set up every session."""
        self.endpoint = endpoint
        self._statements = statements
        self._idle: list[tuple[Session, float]] = []  # with the time of its return
        self._lock = threading.Lock()

    def open(self) -> Session:
        """A session of the caller's own, set up like the pooled ones."""
        session = Session(self.endpoint.connect(raw=True), self.endpoint.place)
        try:
            for statement in self._statements:
                session.execute(statement, doing="setting up a session")
            with contextlib.suppress(RefusedError):  # the account may lack the privilege
                session.execute(SHOW_ALL_WARNINGS, doing="setting up a session")
        except BaseException:
            session.close()
            raise
        return session

    @contextmanager
    def borrow(self) -> Iterator[Session]:
        """A session for the length of the block; one that failed inside a transaction is not reused."""
        session = self._take_idle() or self.open()
        try:
            yield session
        except BaseException:
            session.close()
            raise
        if session.is_broken:
            session.close()
        else:
            with self._lock:
                self._idle.append((session, time.monotonic()))

    def _take_idle(self) -> Session | None:
        """The session used last, unless the server may be about to end it: then none of them is of use."""
        with self._lock:
            if not self._idle:
                return None
            if time.monotonic() - self._idle[-1][1] < _IDLE_SECONDS:
                return self._idle.pop()[0]
            expired, self._idle = self._idle, []
        for session, _ in expired:
            session.close()
        return None

    def call(self, work: Callable[[Session], Any]) -> Any:
        """``work`` on a borrowed session."""
        with self.borrow() as session:
            return work(session)

    def close(self) -> None:
        """Close the idle sessions; borrowed ones close with their borrowers."""
        with self._lock:
            idle, self._idle = self._idle, []
        for session, _ in idle:
            session.close()
