"""Backlogs of different mixes of changes, committed by concurrent clients as fast as the source takes them."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from bench.harness import COLUMNS, SCHEMA, TABLE, make_durable, relax
from dbmigrate.throwaway.local_servers import LocalServer

WRITERS = 4
HOT_ROWS = 100
BULK_ROWS = 10_000
BULK_SCALE = 4

_UPDATE = f"UPDATE {SCHEMA}.{TABLE} SET quantity = quantity + 1, note = CONCAT('changed ', i), status = 1 + MOD(i, 4)"
_INSERT = (
    f"INSERT INTO {SCHEMA}.{TABLE} ({COLUMNS}) VALUES (i, MD5(i), 1 + MOD(i, 4), 1, i / 100, i / 7, 'new order', NOW(6), NOW(3))"
)


@dataclass(frozen=True, slots=True)
class Mix:
    """One way of changing ``changes`` rows. ``loop`` is the body of a procedure's loop over ``i``, from 0, in which
    ``first_id`` and ``step`` give every writer rows of its own. ``scale``: so many times the changes that are asked for, where
    the servers are through them in half a second."""

    name: str
    says: str
    loop: str
    rows_a_turn: int = 1
    scale: int = 1


MIXES = {
    mix.name: mix
    for mix in (
        Mix(
            "single", "single-row transactions, six updates to four inserts",
            f"IF MOD(i, 10) < 6 THEN {_UPDATE} WHERE id = first_id + i * step; ELSE {_INSERT}; END IF;",
        ),
        Mix(
            "ten", "transactions of ten rows, six updates to four inserts",
            f"IF MOD(i, 10) = 0 THEN START TRANSACTION; END IF; "
            f"IF MOD(i, 10) < 6 THEN {_UPDATE} WHERE id = first_id + i * step; ELSE {_INSERT}; END IF; "
            "IF MOD(i, 10) = 9 THEN COMMIT; END IF;",
        ),
        Mix(
            "hot", f"single-row updates of {HOT_ROWS} rows",
            f"{_UPDATE} WHERE id = first_id + MOD(i, {HOT_ROWS // WRITERS}) * step;",
        ),
        Mix(
            "bulk", f"updates of {BULK_ROWS:,} rows in a statement, the same ones again and again",
            f"{_UPDATE} WHERE id BETWEEN 1 + first_id * {BULK_ROWS} AND (first_id + 1) * {BULK_ROWS};", BULK_ROWS, BULK_SCALE,
        ),
        Mix(
            "sweep", f"updates of {BULK_ROWS:,} rows in a statement, every row once",
            f"{_UPDATE} WHERE id BETWEEN 1 + (first_id - 1 + i * step) * {BULK_ROWS} AND (first_id + i * step) * {BULK_ROWS};",
            BULK_ROWS, BULK_SCALE,
        ),
    )
}  # fmt: skip


def create_procedures(source: LocalServer) -> None:
    """Statements of a procedure commit one by one in autocommit: as fast as a server can be written to."""
    source.execute("CREATE DATABASE IF NOT EXISTS bench")
    for mix in MIXES.values():
        source.execute(
            f"CREATE OR REPLACE PROCEDURE bench.write_{mix.name}(IN first_id INT, IN step INT, IN amount INT) BEGIN "
            f"DECLARE i INT DEFAULT 0; WHILE i < amount DO {mix.loop} SET i = i + 1; END WHILE; END"
        )


def make_backlog(source: LocalServer, mix: Mix, changes: int) -> float:
    """Let concurrent clients change so many rows; returns the seconds it took."""
    turns = changes // WRITERS // mix.rows_a_turn
    relax(source)

    def write(number: int) -> None:
        with source.connect() as connection, connection.cursor() as cursor:
            cursor.execute("SET sql_mode = ''")
            cursor.execute(f"CALL bench.write_{mix.name}({number + 1}, {WRITERS}, {turns})")

    began = time.monotonic()
    with ThreadPoolExecutor(WRITERS) as executor:
        list(executor.map(write, range(WRITERS)))
    make_durable(source)
    return time.monotonic() - began
