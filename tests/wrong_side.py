"""Proof from the binlogs: every write was executed by the server that owned the data at that moment.

Reads each server's binlog files with the server's own ``mariadb-binlog``, which shares nothing with the program's reader.
A row of the journal names the server that executed it; mirrored and streamed copies keep that name. So on each server,
between a fence row that says who owns the data and the next one, its own executions are legal only while it is the owner.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_ROW = re.compile(r"### (INSERT INTO|UPDATE|DELETE FROM) `([^`]+)`\.`([^`]+)`")
_VALUE = re.compile(r"###   @(\d+)=(.*?)(?: /\*.*)?$")
_FENCE = {"migration_id": 1, "owner": 3}
_JOURNAL = {"token": 2, "executed_on": 5}


@dataclass(frozen=True)
class Verdict:
    """``legal`` executions were found on the owner; ``wrong`` are tokens executed by a server that was not."""

    legal: int
    wrong: tuple[str, ...]
    switches: int


def judge_binlog(database: Any, side: str, migration_id: str) -> Verdict:
    """What one server's binlog says about the journal of its schema."""
    own_id = str(database.execute("SELECT @@server_id")[0][0])
    owner, legal, switches = "source", 0, 0
    wrong: list[str] = []
    for schema, table, values in _rows(database.server):
        if (schema, table) == ("_dbmigrate", "fence") and values[_FENCE["migration_id"]] == migration_id:
            switches += values[_FENCE["owner"]] != owner
            owner = values[_FENCE["owner"]]
        elif (schema, table) == (database.schema, "journal") and values[_JOURNAL["executed_on"]] == own_id:
            if owner == side:
                legal += 1
            else:
                wrong.append(values[_JOURNAL["token"]])
    return Verdict(legal, tuple(wrong), switches)


def _rows(server: Any) -> Iterator[tuple[str, str, dict[int, str]]]:
    """After-images of inserted and updated rows, in the order of the binlog: schema, table, values by position."""
    server.execute("FLUSH BINARY LOGS")
    (basename,) = server.execute("SELECT @@log_bin_basename")[0]
    files = [f"{basename.rpartition('/')[0]}/{row[0]}" for row in server.execute("SHOW BINARY LOGS")]
    text = subprocess.run(
        ["mariadb-binlog", "--base64-output=decode-rows", "--verbose", *files], capture_output=True, text=True, check=True
    ).stdout  # fmt: skip
    verb, place, values = "", ("", ""), dict[int, str]()
    for line in [*text.splitlines(), ""]:
        if row := _ROW.match(line):
            if verb:
                yield *place, values
            verb, place, values = ("" if row[1] == "DELETE FROM" else row[1]), (row[2], row[3]), {}
        elif line == "### SET":
            values = {}
        elif value := _VALUE.match(line):
            values[int(value[1])] = value[2].strip("'")
        elif not line.startswith("###") and verb:
            yield *place, values
            verb = ""
