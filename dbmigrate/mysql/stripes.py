"""The control table of stripes: how far the copy of each table has come, and who may go on with it.

Apart from ``control`` because a stripe is written from two sides: here by the runner, and by whoever copies a chunk, in the
transaction that writes its rows (``build_cursor_save``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from dbmigrate.domain.keys import Key
from dbmigrate.domain.schema import TableName
from dbmigrate.mysql.control_tables import ASCII, NAME, TEXT, declare_table
from dbmigrate.mysql.heartbeat import CONTROL_SCHEMA
from dbmigrate.mysql.identifiers import quote_identifier, quote_string

STRIPE = declare_table(
    "stripe",
    sa.Column("migration_id", ASCII, primary_key=True),
    sa.Column("table_schema", NAME, primary_key=True),
    sa.Column("table_name", NAME, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("lower_key", TEXT),
    sa.Column("upper_key", TEXT),
    sa.Column("cursor_key", TEXT),
    sa.Column("copied_rows", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("is_done", sa.Boolean, nullable=False, server_default="0"),
    sa.Column("claim", sa.BigInteger, nullable=False, server_default="0"),
)


@dataclass(frozen=True, slots=True)
class StripeState:
    """How far the copy of one stripe of one table has come. Rows above ``cursor`` up to ``upper`` are missing.

    ``claim`` counts how often whoever was copying it was told that it may not any more.
    """

    table: TableName
    number: int
    lower: Key | None
    upper: Key | None
    cursor: Key | None
    rows: int
    is_done: bool
    claim: int = 0


def load_stripes(connection: sa.Connection, migration_id: str) -> tuple[StripeState, ...]:
    """Every planned stripe with its progress."""
    query = sa.select(STRIPE).where(STRIPE.c.migration_id == migration_id).order_by(
        STRIPE.c.table_schema, STRIPE.c.table_name, STRIPE.c.number
    )  # fmt: skip
    return tuple(map(_read_stripe, connection.execute(query)))


def claim_stripe(connection: sa.Connection, migration_id: str, stripe: StripeState) -> StripeState:
    """Take a stripe from whoever may still be copying it, and return how far it is: waits for a transaction that has
    saved its cursor, and lets none that has not do so any more."""
    is_it = sa.and_(
        STRIPE.c.migration_id == migration_id, STRIPE.c.table_schema == stripe.table.schema,
        STRIPE.c.table_name == stripe.table.name, STRIPE.c.number == stripe.number,
    )  # fmt: skip
    connection.execute(STRIPE.update().where(is_it).values(claim=STRIPE.c.claim + 1))
    return _read_stripe(connection.execute(sa.select(STRIPE).where(is_it)).one())


def save_stripes(connection: sa.Connection, migration_id: str, stripes: Sequence[StripeState]) -> None:
    """Record the plan of whole tables' stripes, at once; planning twice keeps the first plan."""
    rows = [
        {
            "migration_id": migration_id, "table_schema": s.table.schema, "table_name": s.table.name,
            "number": s.number, "lower_key": _encode(s.lower), "upper_key": _encode(s.upper),
            "cursor_key": _encode(s.cursor), "copied_rows": s.rows, "is_done": s.is_done,
        }
        for s in stripes
    ]  # fmt: skip
    if rows:
        connection.execute(STRIPE.insert().prefix_with("IGNORE").values(rows))


def _encode(key: Key | None) -> str | None:
    return None if key is None else key.decode("ascii")


def _decode(text: str | None) -> Key | None:
    return None if text is None else text.encode("ascii")


def _read_stripe(row: Any) -> StripeState:
    return StripeState(
        TableName(row.table_schema, row.table_name), row.number, _decode(row.lower_key), _decode(row.upper_key),
        _decode(row.cursor_key), row.copied_rows, bool(row.is_done), row.claim,
    )  # fmt: skip


def build_cursor_save(migration_id: str, stripe: StripeState, *, before: StripeState) -> str:
    """The statement that records a stripe's progress inside the transaction that writes its rows.

    It changes one row, or none where the stripe is not as it was ``before``: then the rows must not be committed.
    """
    return (
        f"UPDATE {quote_identifier(CONTROL_SCHEMA)}.`stripe` SET cursor_key = {_quote_key(stripe.cursor)}, "
        f"copied_rows = {stripe.rows}, is_done = {int(stripe.is_done)} "
        f"WHERE migration_id = {quote_string(migration_id)} AND table_schema = {quote_string(stripe.table.schema)} "
        f"AND table_name = {quote_string(stripe.table.name)} AND number = {stripe.number} "
        f"AND claim = {before.claim} AND cursor_key <=> {_quote_key(before.cursor)} AND NOT is_done"
    )


def _quote_key(key: Key | None) -> str:
    return "NULL" if key is None else quote_string(key.decode("ascii"))
