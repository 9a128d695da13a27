"""The journal of the lanes: each step of a revision, before it begins and after it is done.

In the control schema of the server where the steps run, because their state must be saved with them; a table of its
own, made when first needed, so that lanes can run where no move ever was. The state of a step that changes rows is
saved in the transaction of the rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from dbmigrate.domain.schema import TableName
from dbmigrate.mysql.heartbeat import CONTROL_SCHEMA
from dbmigrate.mysql.identifiers import quote_identifier, quote_string, quote_table
from dbmigrate.mysql.sessions import Session

LANE_STEP = TableName(CONTROL_SCHEMA, "lane_step")
_NAME = "VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL"
_CREATE = (
    f"CREATE TABLE IF NOT EXISTS {quote_table(LANE_STEP)} (table_schema {_NAME}, revision {_NAME}, number INT NOT NULL, "
    f"migration_id {_NAME}, lane {_NAME}, kind {_NAME}, statement LONGTEXT NOT NULL, digest CHAR(64) NOT NULL, "
    f"state {_NAME}, print CHAR(64) NOT NULL DEFAULT '', rung {_NAME} DEFAULT '', attempts INT NOT NULL DEFAULT 0, "
    "seconds DOUBLE, longest_stall_seconds DOUBLE, cursor_key LONGTEXT, row_count BIGINT NOT NULL DEFAULT 0, "
    "saved LONGTEXT, begun_at DATETIME(6), done_at DATETIME(6), PRIMARY KEY (table_schema, revision, number)) "
    "ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin"
)


class StepState(Enum):
    """How far a step is. ``applied``: its whole revision is, and the step is history."""

    BEGUN = "begun"
    DONE = "done"
    APPLIED = "applied"


@dataclass(frozen=True, slots=True)
class StepIdentity:
    """Which step: ``statement`` is what it does, and decides whether the revision is still the one that was begun."""

    revision: str
    number: int
    lane: str
    kind: str
    statement: str

    @property
    def digest(self) -> str:
        """Of kind and statement."""
        return hashlib.sha256(f"{self.kind}\n{self.statement}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class JournalledStep:
    """One row. ``done_seconds_ago`` is by the server's clock; None before the step is done."""

    revision: str
    number: int
    lane: str
    kind: str
    statement: str
    digest: str
    state: StepState
    print: str
    rung: str
    attempts: int
    seconds: float | None
    longest_stall_seconds: float | None
    cursor: bytes | None
    rows: int
    saved: str
    begun_at: str
    done_at: str
    done_seconds_ago: float | None


_COLUMNS = (
    "revision, number, lane, kind, statement, digest, state, print, rung, attempts, seconds, longest_stall_seconds, "
    "cursor_key, row_count, saved, begun_at, done_at, TIMESTAMPDIFF(MICROSECOND, done_at, UTC_TIMESTAMP(6)) / 1e6"
)


class Journal:
    """The journal of one schema. Every call is one statement on ``session``; nothing is kept in memory."""

    def __init__(self, session: Session, schema: str, migration_id: str = "") -> None:
        self._session, self._schema, self._migration_id = session, schema, migration_id

    def create(self) -> None:
        """Make the control schema and the table where they are missing."""
        if self.exists():
            return
        name = quote_identifier(CONTROL_SCHEMA)
        self._session.execute(f"CREATE DATABASE IF NOT EXISTS {name} CHARACTER SET utf8mb4", doing="control schema")
        self._session.execute(_CREATE, doing="the journal of the lanes")

    def exists(self) -> bool:
        """Whether the table is there."""
        found = self._session.fetch_value(
            f"SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = {quote_string(LANE_STEP.schema)} "
            f"AND table_name = {quote_string(LANE_STEP.name)}"
        )
        return found == b"1"

    def load(self, revision: str = "") -> tuple[JournalledStep, ...]:
        """The steps of a revision, or of all, in their order."""
        only = f" AND revision = {quote_string(revision)}" if revision else ""
        rows = self._session.execute(
            f"SELECT {_COLUMNS} FROM {quote_table(LANE_STEP)} WHERE {self._is_ours}{only} ORDER BY begun_at, number",
            doing="reading the journal",
        ).rows
        return tuple(map(_build_step, rows))

    @property
    def _is_ours(self) -> str:
        return f"table_schema = {quote_string(self._schema)}"

    def _which(self, step: StepIdentity) -> str:
        return f"{self._is_ours} AND revision = {quote_string(step.revision)} AND number = {step.number}"

    def begin(self, step: StepIdentity, *, print_before: str = "", saved: str = "") -> None:
        """Note that a step is about to begin, and how its tables are defined until then."""
        values = {
            "table_schema": self._schema, "revision": step.revision, "migration_id": self._migration_id,
            "lane": step.lane, "kind": step.kind, "statement": step.statement, "digest": step.digest,
            "state": StepState.BEGUN.value, "print": print_before, "saved": saved,
        }  # fmt: skip
        names = ", ".join(values)
        texts = ", ".join(map(quote_string, values.values()))
        self._session.execute(
            f"INSERT INTO {quote_table(LANE_STEP)} (number, begun_at, {names}) "
            f"VALUES ({step.number}, UTC_TIMESTAMP(6), {texts}) ON DUPLICATE KEY UPDATE begun_at = begun_at",
            doing="noting a step",
        )

    def finish(
        self, step: StepIdentity, *, rung: str = "", attempts: int = 0, seconds: float | None = None,
        longest_stall_seconds: float | None = None,
    ) -> None:  # fmt: skip
        """Note that it is done, and what was measured."""
        self._update(step, {
            "state": quote_string(StepState.DONE.value), "done_at": "UTC_TIMESTAMP(6)", "rung": quote_string(rung),
            "attempts": str(attempts), "seconds": _number(seconds),
            "longest_stall_seconds": _number(longest_stall_seconds),
        })  # fmt: skip

    def save_progress(self, step: StepIdentity, cursor: bytes, rows: int) -> None:
        """How far a backfill is: in the transaction that writes the rows."""
        self._update(step, {"cursor_key": quote_string(cursor.decode("ascii")), "row_count": f"row_count + {rows}"})

    def restart_progress(self, step: StepIdentity) -> None:
        """A backfill looks at its table from the beginning again."""
        self._update(step, {"cursor_key": "NULL", "state": quote_string(StepState.BEGUN.value)})

    def _update(self, step: StepIdentity, values: Mapping[str, str]) -> None:
        assignments = ", ".join(f"{name} = {value}" for name, value in values.items())
        self._session.execute(
            f"UPDATE {quote_table(LANE_STEP)} SET {assignments} WHERE {self._which(step)}", doing="noting a step"
        )

    def mark_applied(self, revision: str) -> None:
        """The revision stands in Alembic's table: its steps are history."""
        self._session.execute(
            f"UPDATE {quote_table(LANE_STEP)} SET state = {quote_string(StepState.APPLIED.value)} "
            f"WHERE {self._is_ours} AND revision = {quote_string(revision)}",
            doing="closing a revision",
        )

    def forget(self, revision: str = "", *, from_number: int = 0) -> None:
        """Remove the steps of a revision that is not there any more, or of all revisions of the schema."""
        only = f" AND revision = {quote_string(revision)} AND number >= {from_number}" if revision else ""
        self._session.execute(
            f"DELETE FROM {quote_table(LANE_STEP)} WHERE {self._is_ours}{only}", doing="forgetting a revision"
        )


def _number(value: float | None) -> str:
    return "NULL" if value is None else f"{value:.6f}"


def _build_step(row: tuple[bytes | None, ...]) -> JournalledStep:
    texts = [(value or b"").decode("utf-8") for value in row]
    numbers = [float(value) if value is not None else None for value in (row[10], row[11], row[17])]
    return JournalledStep(
        texts[0], int(texts[1]), texts[2], texts[3], texts[4], texts[5], StepState(texts[6]), texts[7], texts[8],
        int(texts[9]), numbers[0], numbers[1], row[12], int(texts[13]), texts[14], texts[15], texts[16], numbers[2],
    )  # fmt: skip
