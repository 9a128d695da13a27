"""The fence row: who owns the data, on both sides, and what keeps other writers out.

The row ``(migration_id, epoch, owner, phase, ...)`` exists on source and target. The source's row is the authority
until the switch commits, then the target's; after a crash the two rows together say which. Server-side fences for
writers that do not know the row (``read_only``, ``lock_tables``) live here as well: they are the other half of the
same promise, that nobody writes to the side that does not own the data.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence

from dbmigrate.domain.ownership import FenceRow
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Side
from dbmigrate.domain.schema import TableName
from dbmigrate.mysql.faults import RolledBackError
from dbmigrate.mysql.heartbeat import CONTROL_SCHEMA, CREATE_HEARTBEAT
from dbmigrate.mysql.identifiers import quote_identifier, quote_string, quote_table
from dbmigrate.mysql.sessions import Session
from dbmigrate.mysql.tenure import CREATE_RUNNER

_BETWEEN_TRIES_SECONDS = 0.001

log = logging.getLogger(__name__)

FENCE_TABLE = TableName(CONTROL_SCHEMA, "fence")
GUARD_PREFIX = "dbmigrate_guard_"
GUARD_MESSAGE = "dbmigrate: this database has moved; write to the other server"

_ROW_COLUMNS = ("epoch", "owner", "phase", "mirror", "read_share", "shadow_share")

_ON_BOTH_SIDES = frozenset({"heartbeat", "fence", "runner"})

_CREATE_FENCE = (
    f"CREATE TABLE IF NOT EXISTS {quote_table(FENCE_TABLE)} ("
    "migration_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY, "
    "epoch BIGINT NOT NULL, owner VARCHAR(16) CHARACTER SET ascii NOT NULL, "
    "phase VARCHAR(32) CHARACTER SET ascii NOT NULL, mirror BOOLEAN NOT NULL DEFAULT 0, "
    "read_share DECIMAL(5,2) NOT NULL DEFAULT 0, shadow_share DECIMAL(5,2) NOT NULL DEFAULT 0) ENGINE=InnoDB"
)


def create_fence_tables(session: Session) -> None:
    """Create the schema, heartbeat and fence tables on a side where they are missing."""
    present = _read_control_tables(session)
    if present >= _ON_BOTH_SIDES:
        return  # MySQL would log the statements below, and the stream reads that log
    session.execute(
        f"CREATE DATABASE IF NOT EXISTS {quote_identifier(CONTROL_SCHEMA)} CHARACTER SET utf8mb4",
        doing="control schema",
    )
    session.execute(CREATE_HEARTBEAT, doing="heartbeat table")
    session.execute(_CREATE_FENCE, doing="fence table")
    session.execute(CREATE_RUNNER, doing="runner table")


def forget_migration(session: Session, migration_id: str) -> None:
    """Remove one migration's fence, heartbeat and runner rows from a side, where there are any."""
    for table in _read_control_tables(session) & _ON_BOTH_SIDES:
        session.execute(
            f"DELETE FROM {quote_table(TableName(CONTROL_SCHEMA, table))} "
            f"WHERE migration_id = {quote_string(migration_id)}",
            doing="removing control rows",
        )


def drop_control_schema(session: Session) -> None:
    """Remove the control schema from a side, unless another migration still uses it. What else is kept there, as the
    lanes' journal is, stays."""
    present = _read_control_tables(session)
    if "fence" in present:
        others = session.fetch_value(f"SELECT COUNT(*) FROM {quote_table(FENCE_TABLE)}")
        if others != b"0":
            return
    if kept := present - _ON_BOTH_SIDES:
        log.info("schema %s stays: it holds %s", CONTROL_SCHEMA, ", ".join(sorted(kept)))
        for table in sorted(present & _ON_BOTH_SIDES):
            name = quote_table(TableName(CONTROL_SCHEMA, table))
            session.execute(f"DROP TABLE IF EXISTS {name}", doing="dropping a control table")
        return
    session.execute(f"DROP DATABASE IF EXISTS {quote_identifier(CONTROL_SCHEMA)}", doing="dropping the control schema")


def _read_control_tables(session: Session) -> set[str]:
    rows = session.execute(
        f"SELECT table_name FROM information_schema.tables WHERE table_schema = {quote_string(CONTROL_SCHEMA)}"
    ).rows
    return {(row[0] or b"").decode() for row in rows}


def load_fence_row(session: Session, migration_id: str, *, is_final: bool = False) -> FenceRow | None:
    """The side's row, or None where the side has none (or no fence table yet).

    ``is_final`` reads with a lock: a COMMIT of a client that is gone may still be under way (behind a semi-sync
    acknowledgement, say), and a plain read would show the row as it was before.
    """
    present = session.fetch_value(
        "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = "
        f"{quote_string(CONTROL_SCHEMA)} AND table_name = 'fence'"
    )
    if present != b"1":
        return None
    rows = session.execute(
        f"SELECT {', '.join(_ROW_COLUMNS)} FROM {quote_table(FENCE_TABLE)} "
        f"WHERE migration_id = {quote_string(migration_id)}"
        + (" LOCK IN SHARE MODE" if is_final else ""),
        doing="reading the fence row",
    ).rows
    if not rows:
        return None
    epoch, owner, phase, mirror, read_share, shadow_share = ((value or b"").decode() for value in rows[0])
    return FenceRow(
        int(epoch), Side(owner), Phase(phase), mirror=mirror != "0", read_share=float(read_share),
        shadow_share=float(shadow_share),
    )  # fmt: skip


def build_fence_save(migration_id: str, row: FenceRow) -> str:
    """The statement that makes a side's row say ``row``, unless it already says something later."""
    values = (
        str(row.epoch), quote_string(row.owner.value), quote_string(row.phase.value), str(int(row.mirror)),
        f"{row.read_share:.2f}", f"{row.shadow_share:.2f}",
    )  # fmt: skip
    # The epoch last: assignments are made from left to right, and the conditions before it mean what it was.
    columns = [*zip(_ROW_COLUMNS, values, strict=True)]
    newer = ", ".join(f"{name} = IF(epoch <= {row.epoch}, {value}, {name})" for name, value in columns[1:] + columns[:1])
    return (
        f"INSERT INTO {quote_table(FENCE_TABLE)} (migration_id, {', '.join(_ROW_COLUMNS)}) "
        f"VALUES ({quote_string(migration_id)}, {', '.join(values)}) ON DUPLICATE KEY UPDATE {newer}"
    )


def build_fence_lock(migration_id: str) -> str:
    """The locking read that waits for writers of this epoch and holds back those of the next."""
    return f"SELECT epoch FROM {quote_table(FENCE_TABLE)} WHERE migration_id = {quote_string(migration_id)} FOR UPDATE"


def seize_fence_row(
    session: Session, migration_id: str, *, seconds: float, pause: Callable[[float], object], clock: Callable[[], float]
) -> bool:
    """Lock the row, as ``build_fence_lock`` does, at a moment at which nobody holds it; in the caller's transaction.

    Whoever waits for the row holds back every writer behind him; who only asks again and again holds back nobody.
    False where no such moment came within ``seconds``: writers overlap without a gap.
    """
    statement, until = f"{build_fence_lock(migration_id)} NOWAIT", clock() + seconds
    while True:
        try:
            session.execute(statement, doing="locking the fence row")
            return True
        except RolledBackError:
            if clock() >= until:
                return False
        pause(_BETWEEN_TRIES_SECONDS)


# --- fences for writers that do not read the row ------------------------------------------------------------------


def build_read_only(is_on: bool) -> str:
    """Refuse writes of ordinary accounts; ours holds the privilege that passes."""
    return f"SET GLOBAL read_only = {int(is_on)}"


def read_is_read_only(session: Session) -> bool:
    """Whether the server refuses ordinary writers now. MariaDB 11+ also shows words."""
    value = (session.fetch_value("SELECT @@GLOBAL.read_only") or b"0").decode().upper()
    return value not in ("0", "OFF", "FALSE")


def build_lock_tables(tables: Sequence[TableName]) -> str:
    """Wait for open writers of these tables and hold new ones back; the fence row stays writable to the holder."""
    reads = [f"{quote_table(table)} READ" for table in tables]
    return "LOCK TABLES " + ", ".join([*reads, f"{quote_table(FENCE_TABLE)} WRITE"])


def _guard_name(table: TableName, verb: str, migration_id: str) -> str:
    # Trigger names are limited to 64 characters and unique per schema: number by a digest of the table's name.
    digest = hashlib.sha256(f"{migration_id}/{table.name}".encode()).hexdigest()[:24]
    return f"{GUARD_PREFIX}{verb.lower()}_{digest}"


def build_guards(table: TableName, migration_id: str, *, closed_when_owner: Side, account: str) -> tuple[str, ...]:
    """Triggers that refuse writes of everybody but ``account`` while the other side owns the data.

    They read the fence row with a lock, so a writer that waited for the fence to end, or whose snapshot is older than
    the switch, is refused too; and the switch, which locks the row, waits for every writer that has passed one. A
    session whose ``@dbmigrate_epoch`` is not older than the row's epoch passes: mirrored writes of the application
    library, which has read the owner's row in a transaction that is still open. That row is saved first, so for a
    moment a mirror may be of an epoch that this side has not heard of yet. Made before the cutover, dropped when the
    move is over.
    """
    condition = (
        f"SUBSTRING_INDEX(USER(), '@', 1) <> {quote_string(account)} AND "
        f"(SELECT owner = {quote_string(closed_when_owner.value)} AND epoch > COALESCE(@dbmigrate_epoch, -1) "
        f"FROM {quote_table(FENCE_TABLE)} WHERE migration_id = {quote_string(migration_id)} LOCK IN SHARE MODE)"
    )
    return tuple(
        f"CREATE TRIGGER {quote_identifier(table.schema)}.{quote_identifier(_guard_name(table, verb, migration_id))} "
        f"BEFORE {verb} ON {quote_table(table)} FOR EACH ROW BEGIN IF {condition} THEN "
        f"SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = {quote_string(GUARD_MESSAGE)}; END IF; END"
        for verb in ("INSERT", "UPDATE", "DELETE")
    )


def read_guards(session: Session, schema: str) -> list[str]:
    """Names of the guard triggers that exist in a schema."""
    rows = session.execute(
        f"SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = {quote_string(schema)} "
        f"AND trigger_name LIKE {quote_string(GUARD_PREFIX.replace('_', '|_') + '%')} ESCAPE '|'"
    ).rows
    return [(row[0] or b"").decode() for row in rows]


def build_guard_drop(schema: str, name: str) -> str:
    """Remove one guard trigger."""
    return f"DROP TRIGGER IF EXISTS {quote_identifier(schema)}.{quote_identifier(name)}"
