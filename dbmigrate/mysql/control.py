"""The control tables: everything the program must remember, in schema ``_dbmigrate`` on the target.

SQLAlchemy Core, apart from the data path, because here clarity counts and speed does not. The transition, evidence
and approval tables are append-only; a change of phase and its audit row are one transaction. The cursor of a copied
chunk is the one exception: it is written by the data session that writes the rows, in the same transaction
(``stripes.build_cursor_save``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.pool import QueuePool

from dbmigrate.domain.errors import FatalError, RefusedError
from dbmigrate.domain.keys import Key
from dbmigrate.domain.phases import Phase, may_follow
from dbmigrate.domain.positions import Position
from dbmigrate.domain.routes import Direction, Side
from dbmigrate.domain.schema import TableName
from dbmigrate.mysql.application_rules import APPLICATION
from dbmigrate.mysql.control_tables import ASCII, AT, METADATA, NAME, TEXT, declare_table
from dbmigrate.mysql.evidence import INSTANCE, MISMATCH
from dbmigrate.mysql.faults import Retry, translate_fault
from dbmigrate.mysql.heartbeat import CONTROL_SCHEMA
from dbmigrate.mysql.identifiers import quote_identifier
from dbmigrate.mysql.mappings import MAPPING
from dbmigrate.mysql.mirror_plan import MIRROR_PLAN
from dbmigrate.mysql.sessions import Endpoint
from dbmigrate.mysql.stripes import STRIPE

T = TypeVar("T")

FORMAT_VERSION = 2
"""Of the control tables; a program that finds another number refuses by name."""

_migration = declare_table(
    "migration",
    sa.Column("id", ASCII, primary_key=True),
    sa.Column("format_version", sa.Integer, nullable=False),
    sa.Column("source", TEXT, nullable=False),
    sa.Column("target", TEXT, nullable=False),
    sa.Column("phase", ASCII, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("is_paused", sa.Boolean, nullable=False, server_default="0"),
    sa.Column("requested", ASCII, nullable=False, server_default=""),
    sa.Column("configuration", TEXT, nullable=False),
    sa.Column("created_at", AT, nullable=False),
    sa.Column("lease_holder", NAME, nullable=False, server_default=""),
    sa.Column("lease_generation", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("lease_since", AT),
    sa.Column("lease_until", AT),
    sa.Column("progress", TEXT, nullable=False),
)
_transition = declare_table(
    "transition",
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=True),
    sa.Column("migration_id", ASCII, nullable=False, index=True),
    sa.Column("at", AT, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("from_phase", ASCII, nullable=False),
    sa.Column("to_phase", ASCII, nullable=False),
    sa.Column("actor", NAME, nullable=False),
    sa.Column("reason", TEXT, nullable=False),
)
_checkpoint = declare_table(
    "checkpoint",
    sa.Column("migration_id", ASCII, primary_key=True),
    sa.Column("direction", ASCII, primary_key=True),
    sa.Column("position", TEXT, nullable=False),
    sa.Column("beat", sa.BigInteger, nullable=False),
    sa.Column("saved_at", AT, nullable=False),
)
_evidence = declare_table(
    "evidence",
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=True),
    sa.Column("migration_id", ASCII, nullable=False, index=True),
    sa.Column("at", AT, nullable=False),
    sa.Column("kind", ASCII, nullable=False),
    sa.Column("content", TEXT, nullable=False),
)
_approval = declare_table(
    "approval",
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=True),
    sa.Column("migration_id", ASCII, nullable=False, index=True),
    sa.Column("at", AT, nullable=False),
    sa.Column("phase", ASCII, nullable=False),
    sa.Column("evidence_id", sa.BigInteger, nullable=False),
    sa.Column("approver", NAME, nullable=False),
)
_repair = declare_table(
    "repair",
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=True),
    sa.Column("migration_id", ASCII, nullable=False, index=True),
    sa.Column("table_schema", NAME, nullable=False),
    sa.Column("table_name", NAME, nullable=False),
    sa.Column("row_key", TEXT, nullable=False),
)


@dataclass(frozen=True, slots=True)
class MigrationState:
    """One migration's row. Times are aware UTC."""

    id: str
    phase: Phase
    epoch: int
    is_paused: bool
    requested: str
    created_at: datetime
    lease_holder: str
    lease_generation: int
    lease_since: datetime | None
    lease_until: datetime | None
    configuration: str
    progress: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Transition:
    """One audit row."""

    at: datetime
    epoch: int
    from_phase: Phase
    to_phase: Phase
    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """One recorded fact that gates read; ``content`` is JSON-ready."""

    id: int
    at: datetime
    kind: str
    content: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Approval:
    """A person's yes, bound to the evidence that person saw."""

    at: datetime
    phase: Phase
    evidence_id: int
    approver: str


@dataclass(frozen=True, slots=True)
class StreamCheckpoint:
    """Where a stream resumes: older than every key not yet equal. ``beat`` had been reached when it was saved."""

    position: Position
    beat: int


def _aware(value: datetime | None) -> datetime | None:
    return value.replace(tzinfo=UTC) if value is not None else None


class ControlStore:
    """Reads and writes the control tables of one migration. Thread-safe; one short transaction a call.

    Lost connections are retried; every write here is either idempotent or guarded by the lease generation.
    """

    def __init__(self, endpoint: Endpoint, migration_id: str, *, retry: Retry) -> None:
        self._endpoint = endpoint
        self._id = migration_id
        self._retry = retry
        self._engine = sa.create_engine(
            "mysql+pymysql://",
            creator=lambda: endpoint.connect(),
            poolclass=QueuePool,
            pool_size=2,
            max_overflow=20,
            pool_pre_ping=True,
            hide_parameters=True,
        )

    @property
    def migration_id(self) -> str:
        """The migration whose rows these are."""
        return self._id

    def close(self) -> None:
        """Close the pooled connections."""
        self._engine.dispose()

    # --- plumbing ---

    def _run(self, statement: sa.Executable, *, idempotent: bool = True) -> Sequence[Any]:
        """Execute in a transaction of its own; rows if it returns any."""

        def verb(connection: sa.Connection) -> Sequence[Any]:
            result = connection.execute(statement)
            return result.fetchall() if result.returns_rows else (result.rowcount,)

        return self.call(verb, idempotent=idempotent)

    def call(self, work: Callable[[sa.Connection], T], *, idempotent: bool = True) -> T:
        """Do ``work`` in a transaction of its own."""

        def verb() -> T:
            try:
                with self._engine.begin() as connection:
                    return work(connection)
            except sa.exc.DBAPIError as fault:
                original = fault.orig if isinstance(fault.orig, Exception) else fault
                raise translate_fault(original, place=self._endpoint.place, doing="a control table") from None

        return self._retry.retrying(verb, idempotent=idempotent)

    def create_tables(self) -> None:
        """Create schema and tables where they are missing; existing rows stay."""
        if not self.exists():
            schema = quote_identifier(CONTROL_SCHEMA)
            self._run(sa.text(f"CREATE DATABASE IF NOT EXISTS {schema} CHARACTER SET utf8mb4"))
        elif self._has_format_1():
            self._run(sa.schema.DropTable(INSTANCE, if_exists=True))  # nothing ever wrote to it
        elif self._has_table(MAPPING.name):
            self._add_claims()
            return
        for table in sorted(METADATA.sorted_tables, key=lambda table: table is _migration):  # last: then all are there
            self._run(sa.schema.CreateTable(table, if_not_exists=True))
        self._add_claims()

    def _add_claims(self) -> None:
        """Stripes of a migration that began before they could be claimed get the column, at its default."""
        if not self._has_column(STRIPE.name, "claim"):
            self._run(
                sa.text(
                    f"ALTER TABLE {quote_identifier(CONTROL_SCHEMA)}.`stripe` ADD COLUMN claim BIGINT NOT NULL DEFAULT 0"
                )
            )

    def _has_format_1(self) -> bool:
        """Whether another, older migration has left its tables here: format 2 added what instances say."""
        return self._has_column("instance", "description")

    def _has_column(self, table: str, column: str) -> bool:
        query = "SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = :s AND table_name = :t AND column_name = :c"
        return bool(self._run(sa.text(query).bindparams(s=CONTROL_SCHEMA, t=table, c=column))[0][0])

    def _has_table(self, name: str) -> bool:
        query = "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = :s AND table_name = :t"
        return bool(self._run(sa.text(query).bindparams(s=CONTROL_SCHEMA, t=name))[0][0])

    def exists(self) -> bool:
        """Whether the control tables are there."""
        return self._has_table(_migration.name)

    # --- migration ---

    def create_migration(self, *, source: str, target: str, configuration: str) -> None:
        """Add the migration's row in phase ``plan`` unless it is there."""
        row = {
            "id": self._id, "format_version": FORMAT_VERSION, "source": source, "target": target,
            "phase": Phase.PLAN.value, "epoch": 1, "configuration": configuration,
            "created_at": sa.func.utc_timestamp(6), "progress": "{}",
        }  # fmt: skip
        self._run(_migration.insert().prefix_with("IGNORE").values(row))

    def load_state(self) -> MigrationState | None:
        """The migration's row, or None.

        Raises:
            RefusedError: the row was written by a version of the program with other control tables.
        """
        self._require_format()
        rows = self._run(sa.select(_migration).where(_migration.c.id == self._id))
        if not rows:
            return None
        row = rows[0]
        created = _aware(row.created_at)
        if created is None:
            raise FatalError("created_at is missing", place=f"migration {self._id}")
        return MigrationState(
            row.id, Phase(row.phase), row.epoch, bool(row.is_paused), row.requested, created,
            row.lease_holder, row.lease_generation, _aware(row.lease_since), _aware(row.lease_until),
            row.configuration, json.loads(row.progress or "{}"),
        )  # fmt: skip

    def load_phases(self) -> dict[str, Phase]:
        """Every migration's id that has left its tables here, and where it stands."""
        rows = self._run(sa.select(_migration.c.id, _migration.c.phase))
        return {row.id: Phase(row.phase) for row in rows}

    def _require_format(self) -> None:
        """By a query of its own: another format may lack the other columns, or have more."""
        rows = self._run(sa.select(_migration.c.format_version).where(_migration.c.id == self._id))
        if rows and rows[0].format_version != FORMAT_VERSION:
            raise RefusedError(
                f"the control tables have format {rows[0].format_version}, this program reads {FORMAT_VERSION}",
                place=f"migration {self._id}", hint="continue with the version of dbmigrate that started it",
            )  # fmt: skip

    def save_phase(self, state: MigrationState, phase: Phase, *, actor: str, reason: str) -> MigrationState:
        """Move to ``phase`` and write its audit row, in one transaction, if nobody else has moved since ``state``
        and the lease is still the one that ``state`` was loaded under.

        Raises:
            RefusedError: the table of transitions forbids it, or the row has changed meanwhile.
        """
        if not may_follow(state.phase, phase):
            raise RefusedError(
                f"{state.phase.value} cannot lead to {phase.value}", place=f"migration {self._id}",
                hint="`dbmigrate status` shows the phase; docs/phases.md shows what may follow",
            )  # fmt: skip

        return self._save_transition(state, phase, actor=actor, reason=reason)

    def save_step(self, state: MigrationState, *, actor: str, reason: str) -> MigrationState:
        """Begin a new epoch within the phase and write its audit row, under the conditions of ``save_phase``.

        Raises:
            RefusedError: the row has changed meanwhile.
        """
        return self._save_transition(state, state.phase, actor=actor, reason=reason)

    def _save_transition(self, state: MigrationState, phase: Phase, *, actor: str, reason: str) -> MigrationState:
        def verb() -> None:
            with self._engine.begin() as connection:
                changed = connection.execute(
                    _migration.update()
                    .where(
                        _migration.c.id == self._id,
                        _migration.c.epoch == state.epoch,
                        _migration.c.lease_generation == state.lease_generation,
                    )
                    .values(phase=phase.value, epoch=state.epoch + 1)
                ).rowcount
                if changed:
                    connection.execute(
                        _transition.insert().values(
                            migration_id=self._id,
                            at=sa.func.utc_timestamp(6),
                            epoch=state.epoch + 1,
                            from_phase=state.phase.value,
                            to_phase=phase.value,
                            actor=actor,
                            reason=reason,
                        )
                    )

        try:
            verb()
        except sa.exc.DBAPIError:
            self._retry.retrying(lambda: self._require_reachable(), idempotent=True)
            if (now := self.load_state()) is not None and now.epoch == state.epoch:
                verb()
        now = self.load_state()
        is_ours = now is not None and now.epoch == state.epoch + 1 and now.lease_generation == state.lease_generation
        if now is None or now.phase is not phase or not is_ours:
            raise RefusedError(
                "the phase changed meanwhile, or another runner has taken over", place=f"migration {self._id}",
                cause=f"now in {now.phase.value if now else 'no phase'}", hint="run again",
            )  # fmt: skip
        return now

    def _require_reachable(self) -> None:
        self._run(sa.text("SELECT 1"))

    def load_transitions(self) -> tuple[Transition, ...]:
        """The audit rows, oldest first."""
        query = sa.select(_transition).where(_transition.c.migration_id == self._id).order_by(_transition.c.id)
        return tuple(
            Transition(r.at.replace(tzinfo=UTC), r.epoch, Phase(r.from_phase), Phase(r.to_phase), r.actor, r.reason)
            for r in self._run(query)
        )

    def save_request(self, requested: str) -> None:
        """Ask the runner for something (``abort``, ``revert``, ``cutover``); empty withdraws it."""
        self._run(_migration.update().where(_migration.c.id == self._id).values(requested=requested))

    def save_paused(self, is_paused: bool) -> None:
        """Pause or resume the data path of the running migration."""
        self._run(_migration.update().where(_migration.c.id == self._id).values(is_paused=is_paused))

    def save_progress(self, progress: Mapping[str, Any]) -> None:
        """What ``status`` and ``watch`` show from another process."""
        text = json.dumps(progress, default=str)
        self._run(_migration.update().where(_migration.c.id == self._id).values(progress=text))

    def delete_migration(self) -> None:
        """Forget stripes, checkpoints and what instances said (after an abort); audit rows stay."""
        for table in (STRIPE, _checkpoint, _repair, INSTANCE, MAPPING, MISMATCH, MIRROR_PLAN, APPLICATION):
            self._run(table.delete().where(table.c.migration_id == self._id))

    def restart_migration(self, state: MigrationState, *, actor: str) -> None:
        """Plan anew after an abort: a fresh row under the same id, the audit rows kept."""
        self._run(
            _migration.update()
            .where(_migration.c.id == self._id, _migration.c.phase == Phase.ABORTED.value)
            .values(phase=Phase.PLAN.value, epoch=state.epoch + 1, requested="", is_paused=False)
        )
        self._run(
            _transition.insert().values(
                migration_id=self._id,
                at=sa.func.utc_timestamp(6),
                epoch=state.epoch + 1,
                from_phase=Phase.ABORTED.value,
                to_phase=Phase.PLAN.value,
                actor=actor,
                reason="planned anew",
            )
        )

    # --- lease ---

    def acquire_lease(self, holder: str, *, seconds: float) -> int:
        """Become the single runner and return the lease's generation. Expiry is by the target's clock.

        Raises:
            RefusedError: another runner holds it: who, and since when.
        """
        now = sa.func.utc_timestamp(6)
        generation = _migration.c.lease_generation
        until = sa.func.timestampadd(sa.text("MICROSECOND"), int(seconds * 1e6), now)
        free = sa.or_(_migration.c.lease_until.is_(None), _migration.c.lease_until < now)
        taken = self._run(
            _migration.update()
            .where(_migration.c.id == self._id, sa.or_(free, _migration.c.lease_holder == holder))
            .values(lease_generation=generation + 1, lease_holder=holder, lease_since=now, lease_until=until)
        )[0]
        state = self.load_state()
        if state is None:
            raise FatalError("the migration's row is gone", place=f"migration {self._id}")
        if not taken or state.lease_holder != holder:
            since = state.lease_since.isoformat(timespec="seconds") if state.lease_since else "unknown"
            raise RefusedError(
                "another runner works on this migration", place=f"migration {self._id}",
                cause=f"held by {state.lease_holder} since {since}",
                hint="use it, stop it, or wait until its lease has expired (15 s after it died)",
            )  # fmt: skip
        return state.lease_generation

    def renew_lease(self, generation: int, *, seconds: float) -> bool:
        """Extend the lease; False when it belongs to somebody else by now."""
        until = sa.func.timestampadd(sa.text("MICROSECOND"), int(seconds * 1e6), sa.func.utc_timestamp(6))
        self._run(
            _migration.update()
            .where(_migration.c.id == self._id, _migration.c.lease_generation == generation)
            .values(lease_until=until)
        )
        state = self.load_state()
        return state is not None and state.lease_generation == generation

    def release_lease(self, generation: int) -> None:
        """Give the lease up so that the next runner need not wait."""
        self._run(
            _migration.update()
            .where(_migration.c.id == self._id, _migration.c.lease_generation == generation)
            .values(lease_until=None, lease_holder="")
        )

    def is_leased(self) -> bool:
        """Whether a live runner holds the lease."""
        query = sa.select(_migration.c.id).where(
            _migration.c.id == self._id, _migration.c.lease_until >= sa.func.utc_timestamp(6)
        )
        return bool(self._run(query))

    # --- checkpoints ---

    def save_checkpoint(self, direction: Direction, checkpoint: StreamCheckpoint) -> None:
        """Record where the stream of this direction resumes."""
        values = {
            "position": checkpoint.position.to_json(), "beat": checkpoint.beat, "saved_at": sa.func.utc_timestamp(6)
        }  # fmt: skip
        insert = sa.dialects.mysql.insert(_checkpoint).values(
            migration_id=self._id, direction=direction.value, **values
        )
        self._run(insert.on_duplicate_key_update(**values))

    def load_checkpoint(self, direction: Direction) -> StreamCheckpoint | None:
        """Where the stream of this direction resumes, or None if it never started.

        Raises:
            RefusedError: it was written by another version of the program, or by a person.
        """
        rows = self._run(
            sa.select(_checkpoint).where(
                _checkpoint.c.migration_id == self._id, _checkpoint.c.direction == direction.value
            )
        )
        if not rows:
            return None
        try:
            return StreamCheckpoint(Position.from_json(rows[0].position), rows[0].beat)
        except (ValueError, TypeError) as fault:
            raise RefusedError(
                f"the checkpoint of the {direction.value} stream cannot be read", place=f"migration {self._id}",
                cause=str(fault), hint="continue with the version that wrote it, or stream from now and repair: "
                "`dbmigrate run --resync`",
            ) from fault  # fmt: skip

    def delete_checkpoint(self, direction: Direction) -> None:
        """Forget a stream that will not be resumed."""
        self._run(
            _checkpoint.delete().where(
                _checkpoint.c.migration_id == self._id, _checkpoint.c.direction == direction.value
            )
        )

    # --- evidence and approval ---

    def save_evidence(self, kind: str, content: Mapping[str, Any]) -> int:
        """Append a fact and return its id."""
        self._run(
            _evidence.insert().values(
                migration_id=self._id, at=sa.func.utc_timestamp(6), kind=kind, content=json.dumps(content, default=str)
            )
        )
        latest = self.load_evidence(kind)
        if latest is None:
            raise FatalError("evidence could not be read back", place=f"migration {self._id}")
        return latest.id

    def load_evidence(self, kind: str) -> Evidence | None:
        """The latest fact of a kind."""
        rows = self._run(
            sa.select(_evidence)
            .where(_evidence.c.migration_id == self._id, _evidence.c.kind == kind)
            .order_by(_evidence.c.id.desc())
            .limit(1)
        )
        if not rows:
            return None
        return Evidence(rows[0].id, rows[0].at.replace(tzinfo=UTC), rows[0].kind, json.loads(rows[0].content))

    def load_all_evidence(self, kind: str) -> tuple[Evidence, ...]:
        """Every fact of a kind, oldest first."""
        query = sa.select(_evidence).where(_evidence.c.migration_id == self._id, _evidence.c.kind == kind)
        return tuple(
            Evidence(r.id, r.at.replace(tzinfo=UTC), r.kind, json.loads(r.content))
            for r in self._run(query.order_by(_evidence.c.id))
        )

    def read_age_seconds(self, evidence: Evidence) -> float:
        """How old a fact is, by the target's clock."""
        now = self._run(sa.text("SELECT UTC_TIMESTAMP(6)"))[0][0].replace(tzinfo=UTC)
        return max(0.0, float((now - evidence.at) / timedelta(seconds=1)))

    def save_approval(self, phase: Phase, *, evidence_id: int, approver: str) -> None:
        """Append an approval of ``phase`` on that evidence."""
        self._run(
            _approval.insert().values(
                migration_id=self._id,
                at=sa.func.utc_timestamp(6),
                phase=phase.value,
                evidence_id=evidence_id,
                approver=approver,
            )
        )

    def load_approval(self, phase: Phase) -> Approval | None:
        """The latest approval of a phase."""
        rows = self._run(
            sa.select(_approval)
            .where(_approval.c.migration_id == self._id, _approval.c.phase == phase.value)
            .order_by(_approval.c.id.desc())
            .limit(1)
        )
        if not rows:
            return None
        return Approval(rows[0].at.replace(tzinfo=UTC), Phase(rows[0].phase), rows[0].evidence_id, rows[0].approver)

    # --- repair ---

    def save_repairs(self, keys: Mapping[TableName, Sequence[Key]]) -> None:
        """Hand keys to the live runner, which makes them equal."""
        rows = [
            {
                "migration_id": self._id, "table_schema": table.schema, "table_name": table.name,
                "row_key": key.decode("ascii"),
            }
            for table, found in keys.items()
            for key in found
        ]  # fmt: skip
        for start in range(0, len(rows), 500):
            self._run(_repair.insert().values(rows[start : start + 500]))

    def take_repairs(self) -> tuple[int, dict[TableName, list[Key]]]:
        """Keys handed over by ``verify --repair``, and the id to pass to ``finish_repairs`` once they are equal."""
        rows = self._run(
            sa.select(_repair).where(_repair.c.migration_id == self._id).order_by(_repair.c.id).limit(10_000)
        )
        taken: dict[TableName, list[Key]] = {}
        for row in rows:
            taken.setdefault(TableName(row.table_schema, row.table_name), []).append(row.row_key.encode("ascii"))
        return (rows[-1].id if rows else 0), taken

    def finish_repairs(self, last_id: int) -> None:
        """Remove repairs that have been flushed."""
        self._run(_repair.delete().where(_repair.c.migration_id == self._id, _repair.c.id <= last_id))

    def has_repairs(self) -> bool:
        """Whether handed-over keys are still waiting."""
        return bool(self._run(sa.select(_repair.c.id).where(_repair.c.migration_id == self._id).limit(1)))


def parse_side(text: str) -> Side:
    """The side a fence row names as owner.

    Raises:
        ValueError: it names neither.
    """
    return Side(text)
