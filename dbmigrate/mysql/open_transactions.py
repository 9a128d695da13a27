"""Transactions of others that stand in the way, as an operator needs them to find their owners."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dbmigrate.mysql.faults import RolledBackError, ServerRefusedError
from dbmigrate.mysql.processlist import Connection, hide_values, read_connections
from dbmigrate.mysql.sessions import Session

_CANNOT_CONVERT = 3854
_ASK_AGAIN_SECONDS, _PAUSE_SECONDS = 0.05, 0.005
_MOST_LISTED = 200
_BEYOND_UTF8MB3 = re.compile("[\U00010000-\U0010ffff]")
_STATUS_ENTRY = re.compile(r"^---TRANSACTION (\d+), ACTIVE(?: \(PREPARED\))? (\d+) sec", re.MULTILINE)
_STATUS_CHANGES = re.compile(r"\bundo log entries (\d+)$", re.MULTILINE)
_STATUS_CONNECTION = re.compile(r"^MySQL thread id (\d+),", re.MULTILINE)
_STATUS_CUT_OFF = "... truncated..."


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
    """Open transactions of other connections, those with changes first, then the oldest; at most 200.

    Needs PROCESS; without it only our own are seen. MySQL cannot list them (error 3854) while one of them runs a
    statement with characters that utf8mb3 lacks, such as emoji. Such statements are short as a rule: it is asked again
    for 50 ms. After that those with changes are read from InnoDB's status, and such statements from the process list;
    idle transactions that only read are not seen then.

    Raises:
        RolledBackError: InnoDB's status was too long for the server to print whole; asking again may do.
    """
    until = time.monotonic() + _ASK_AGAIN_SECONDS
    while True:
        try:
            found = _read_listed(session)
            break
        except ServerRefusedError as refused:
            if refused.number != _CANNOT_CONVERT:
                raise
        if time.monotonic() >= until:
            found = _read_status(session)
            break
        time.sleep(_PAUSE_SECONDS)
    old = (one for one in found if one.seconds >= at_least_seconds and one.connection_id != session.connection_id)
    return tuple(sorted(old, key=lambda one: (not one.rows_changed, -one.seconds))[:_MOST_LISTED])


def _read_listed(session: Session) -> list[OpenTransaction]:
    rows = session.execute(
        "SELECT trx_id, trx_mysql_thread_id, TIMESTAMPDIFF(SECOND, trx_started, NOW()), trx_rows_modified "
        "FROM information_schema.innodb_trx WHERE trx_mysql_thread_id > 0 OR trx_rows_modified > 0",
        doing="reading open transactions",
    ).rows
    if not rows:
        return []
    connections = read_connections(session, whole_statements=True)
    return [
        _describe((number or b"").decode(), int(connection or 0), int(seconds or 0), int(changes or 0), connections)
        for number, connection, seconds, changes in rows
    ]


def _read_status(session: Session) -> list[OpenTransaction]:
    status = session.execute("SHOW ENGINE INNODB STATUS", doing="reading open transactions").rows[0][2] or b""
    text = status.decode("utf-8", "replace")
    if _STATUS_CUT_OFF in text:
        raise RolledBackError(
            "open transactions cannot be listed now", place=session.place,
            cause="MySQL cannot show a statement with emoji while it runs, and InnoDB's status is too long to be whole",
            hint="it is tried again",
        )  # fmt: skip
    connections = read_connections(session, whole_statements=True)
    changing = [
        _describe(one.id, one.connection_id, one.seconds, one.rows_changed, connections)
        for one in parse_status(text)
        if one.rows_changed
    ]
    seen = {one.connection_id for one in changing}
    return changing + [
        _describe("", one.id, one.seconds, 0, connections)
        for one in connections.values()
        if one.id not in seen and _BEYOND_UTF8MB3.search(one.statement)
    ]


def parse_status(text: str) -> Iterable[OpenTransaction]:
    """The transactions in the text of SHOW ENGINE INNODB STATUS, without what the process list tells.

    A running statement is printed as it is, so one that imitates an entry adds one; it cannot hide any.
    """
    entries = list(_STATUS_ENTRY.finditer(text))
    ends = [*(entry.start() for entry in entries[1:]), len(text)]
    for entry, end in zip(entries, ends, strict=False):
        body = text[entry.end() : end]
        changes, connection = _STATUS_CHANGES.search(body), _STATUS_CONNECTION.search(body)
        yield OpenTransaction(
            entry[1], int(connection[1]) if connection else 0, "", int(entry[2]), "",
            rows_changed=int(changes[1]) if changes else 0,
        )  # fmt: skip


def _describe(
    number: str, connection_id: int, seconds: int, changes: int, connections: Mapping[int, Connection]
) -> OpenTransaction:
    connection = connections.get(connection_id)
    if connection is None:
        return OpenTransaction(number, connection_id, "?@?", seconds, "", rows_changed=changes)
    return OpenTransaction(
        number, connection_id, connection.account, seconds, connection.command, hide_values(connection.statement), changes
    )
