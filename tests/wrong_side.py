"""Proof from the binlogs: every write was executed by the server that owned the data at that moment.

Reads each server's whole binlog with python-mysql-replication, which shares nothing with the program's own reader. A row
of the journal names the server that executed it; mirrored and streamed copies keep that name. So on each server, between
a fence row that says who owns the data and the next one, its own executions are legal only while it is the owner.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pymysqlreplication import BinLogStreamReader
from pymysqlreplication.row_event import UpdateRowsEvent, WriteRowsEvent

from dbmigrate.domain.flavours import Flavour


@dataclass(frozen=True)
class Verdict:
    """``legal`` executions were found on the owner; ``wrong`` are tokens executed by a server that was not."""

    legal: int
    wrong: tuple[str, ...]
    switches: int


def judge_binlog(database: Any, side: str, migration_id: str) -> Verdict:
    """What one server's binlog says about the journal of its schema."""
    own_id = database.execute("SELECT @@server_id")[0][0]
    owner, legal, switches, wrong = "source", 0, 0, []
    for table, values in _rows(database):
        if table == "fence":
            if values["migration_id"] == migration_id:
                switches += values["owner"] != owner
                owner = values["owner"]
        elif values["executed_on"] == own_id:
            if owner == side:
                legal += 1
            else:
                wrong.append(values["token"])
    return Verdict(legal, tuple(wrong), switches)


def _rows(database: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    server = database.server
    stream = BinLogStreamReader(
        connection_settings={"host": "127.0.0.1", "port": server.port, "user": "root", "password": server.password, "passwd": server.password},
        server_id=987_654, only_events=[WriteRowsEvent, UpdateRowsEvent], only_schemas=["_dbmigrate", database.schema],
        only_tables=["fence", "journal"], blocking=False, is_mariadb=database.server.flavour is Flavour.MARIADB,
    )  # fmt: skip
    try:
        for event in stream:
            for row in event.rows:
                yield event.table, row.get("after_values") or row["values"]
    finally:
        stream.close()
