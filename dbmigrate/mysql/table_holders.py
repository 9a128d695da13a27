"""Who holds a table, so that a statement which needs it alone would wait, and everybody else behind that statement.

Exact where the server tells who holds metadata locks: MySQL does unless it was switched off, MariaDB with its plugin
``metadata_lock_info``. Elsewhere every long transaction may be the one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dbmigrate.domain.errors import DbmigrateError, TransientError
from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.domain.schema import TableName
from dbmigrate.mysql.identifiers import quote_string
from dbmigrate.mysql.open_transactions import OpenTransaction, read_open_transactions
from dbmigrate.mysql.sessions import Session

_MYSQL_WATCHES = (
    "SELECT COUNT(*) FROM performance_schema.setup_instruments WHERE name = 'wait/lock/metadata/sql/mdl' "
    "AND enabled = 'YES'"
)
_MYSQL_HOLDERS = (
    "SELECT DISTINCT t.processlist_id FROM performance_schema.metadata_locks m "
    "JOIN performance_schema.threads t ON t.thread_id = m.owner_thread_id WHERE m.object_type = 'TABLE' "
    "AND m.lock_status = 'GRANTED' AND t.processlist_id <> CONNECTION_ID() AND (m.object_schema, m.object_name) IN ({})"
)
_MARIADB_WATCHES = (
    "SELECT COUNT(*) FROM information_schema.plugins WHERE plugin_name = 'METADATA_LOCK_INFO' AND plugin_status = 'ACTIVE'"
)
_MARIADB_HOLDERS = (
    "SELECT DISTINCT thread_id FROM information_schema.metadata_lock_info WHERE thread_id <> CONNECTION_ID() "
    "AND (table_schema, table_name) IN ({})"
)


@dataclass(frozen=True, slots=True)
class Holders:
    """Transactions that hold a table. Not ``is_exact``: long ones that may be."""

    is_exact: bool
    transactions: tuple[OpenTransaction, ...]


def read_holders(
    session: Session, version: ServerVersion, tables: Sequence[TableName], *, at_least_seconds: int
) -> Holders:
    """Transactions of others, at least so old, that hold one of ``tables``.

    Raises:
        TransientError: the server cannot be asked now.
    """
    transactions = read_open_transactions(session, at_least_seconds=at_least_seconds)
    if not transactions or not tables:
        return Holders(True, ())
    holding = _read_connections(session, version, tables)
    if holding is None:
        return Holders(False, transactions)
    # Who has prepared an XA transaction and gone has no connection any more, and may hold anything.
    return Holders(True, tuple(one for one in transactions if one.connection_id in holding or not one.connection_id))


def is_held(session: Session, version: ServerVersion, tables: Sequence[TableName]) -> bool | None:
    """Whether anybody holds one of the tables at this moment; None where the server does not tell."""
    holding = _read_connections(session, version, tables)
    return None if holding is None else bool(holding)


def _read_connections(session: Session, version: ServerVersion, tables: Sequence[TableName]) -> frozenset[int] | None:
    """The connections that hold one of the tables; None where the server does not tell."""
    watches, holders = (
        (_MARIADB_WATCHES, _MARIADB_HOLDERS) if version.is_mariadb else (_MYSQL_WATCHES, _MYSQL_HOLDERS)
    )
    pairs = ", ".join(f"({quote_string(table.schema)}, {quote_string(table.name)})" for table in tables)
    try:
        if session.fetch_value(watches, doing="asking for metadata locks") != b"1":
            return None
        rows = session.execute(holders.format(pairs), doing="reading metadata locks").rows
    except TransientError:
        raise
    except DbmigrateError:  # the account may not read them
        return None
    return frozenset(int(row[0] or 0) for row in rows)
