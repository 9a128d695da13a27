"""The control tables of the application's instances: who lives, what each last said, which reads differed.

Written by the library in the application, read by the runner, and therefore apart from ``control``: every function
takes an open SQLAlchemy connection of any driver, runs in the transaction that the caller has begun and commits, and
needs no more than SELECT, INSERT, UPDATE and DELETE on these two tables. Whether an instance lives is decided by the
server's clock alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.mysql import VARCHAR
from sqlalchemy.dialects.mysql import insert as insert_into

from dbmigrate.domain.evidence import InstanceReport, Mismatch, MismatchKind
from dbmigrate.mysql.control_tables import ASCII, AT, NAME, TEXT, declare_table

_HOST = VARCHAR(255, charset="utf8mb4", collation="utf8mb4_bin")

INSTANCE = declare_table(
    "instance",
    sa.Column("migration_id", ASCII, primary_key=True),
    sa.Column("instance_id", ASCII, primary_key=True),
    sa.Column("host", _HOST, nullable=False),
    sa.Column("pid", sa.BigInteger, nullable=False),
    sa.Column("library_version", NAME, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("phase", ASCII, nullable=False),
    sa.Column("registered_at", AT, nullable=False),
    sa.Column("seen_at", AT, nullable=False),
    sa.Column("report", TEXT, nullable=False),
)
MISMATCH = declare_table(
    "mismatch",
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=True),
    sa.Column("migration_id", ASCII, nullable=False, index=True),
    sa.Column("instance_id", ASCII, nullable=False),
    sa.Column("kind", ASCII, nullable=False),
    sa.Column("statement_digest", ASCII, nullable=False),
    sa.Column("found_at", AT, nullable=False),
    sa.Column("content", TEXT, nullable=False),
)


def register_instance(connection: sa.Connection, migration_id: str, report: InstanceReport) -> None:
    """Make an instance known; its life counts from now. Again after it expired, it is known anew."""
    _save(connection, migration_id, report, registered_at=sa.func.utc_timestamp(6))


def save_report(connection: sa.Connection, migration_id: str, report: InstanceReport) -> None:
    """What an instance has to say; proves that it lives. One that the runner has forgotten is known again."""
    _save(connection, migration_id, report)


def _save(connection: sa.Connection, migration_id: str, report: InstanceReport, **more: Any) -> None:
    now = sa.func.utc_timestamp(6)
    values = {
        "host": report.host[:255], "pid": report.pid, "library_version": report.library_version[:64],
        "epoch": report.epoch, "phase": report.phase.value, "seen_at": now, "report": json.dumps(report.to_json()),
    }  # fmt: skip
    insert = insert_into(INSTANCE).values(
        migration_id=migration_id, instance_id=report.instance_id, **values, registered_at=now
    )
    connection.execute(insert.on_duplicate_key_update(**values, **more))


def load_reports(connection: sa.Connection, migration_id: str, max_age_seconds: float) -> tuple[InstanceReport, ...]:
    """The last report of every instance that was seen within ``max_age_seconds``: the live ones, by id."""
    return _load(connection, migration_id, INSTANCE.c.seen_at >= _seconds_ago(max_age_seconds))


def load_expired_reports(
    connection: sa.Connection, migration_id: str, max_age_seconds: float
) -> tuple[InstanceReport, ...]:
    """The last report of every instance that has not been seen for longer than that and was not removed, by id."""
    return _load(connection, migration_id, INSTANCE.c.seen_at < _seconds_ago(max_age_seconds))


def _seconds_ago(seconds: float) -> sa.ColumnElement[datetime]:
    return sa.func.timestampadd(sa.text("MICROSECOND"), -int(seconds * 1e6), sa.func.utc_timestamp(6))


def _load(
    connection: sa.Connection, migration_id: str, condition: sa.ColumnElement[bool]
) -> tuple[InstanceReport, ...]:
    query = (
        sa.select(INSTANCE.c.report, INSTANCE.c.seen_at)
        .where(INSTANCE.c.migration_id == migration_id, condition)
        .order_by(INSTANCE.c.instance_id)
    )
    rows = connection.execute(query).fetchall()
    return tuple(
        InstanceReport.from_json({**json.loads(row.report), "seen_at": row.seen_at.replace(tzinfo=UTC).isoformat()})
        for row in rows
    )


def remove_instance(connection: sa.Connection, migration_id: str, instance_id: str) -> None:
    """Forget an instance: it has ended, or has expired and been named."""
    connection.execute(
        INSTANCE.delete().where(INSTANCE.c.migration_id == migration_id, INSTANCE.c.instance_id == instance_id)
    )


def save_mismatch(connection: sa.Connection, migration_id: str, mismatch: Mismatch) -> None:
    """Record a read whose two answers differed."""
    found_at = mismatch.found_at.astimezone(UTC).replace(tzinfo=None)
    connection.execute(
        MISMATCH.insert().values(
            migration_id=migration_id, instance_id=mismatch.instance_id, kind=mismatch.kind.value,
            statement_digest=mismatch.statement_digest[:64], found_at=found_at, content=json.dumps(mismatch.to_json()),
        )
    )  # fmt: skip


def load_mismatches(
    connection: sa.Connection, migration_id: str, *, kinds: Sequence[MismatchKind] = tuple(MismatchKind), most: int = 100
) -> tuple[Mismatch, ...]:
    """The latest mismatches of these kinds, newest first."""
    query = (
        sa.select(MISMATCH.c.content)
        .where(MISMATCH.c.migration_id == migration_id, MISMATCH.c.kind.in_([kind.value for kind in kinds]))
        .order_by(MISMATCH.c.id.desc())
        .limit(most)
    )
    return tuple(Mismatch.from_json(json.loads(row.content)) for row in connection.execute(query))
