"""A revision as steps that run one by one: its statements, its backfills, and what is hidden before it is dropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from dbmigrate.domain.errors import ConfigurationError, RefusedError
from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.domain.lanes import Lane
from dbmigrate.domain.schema import TableName
from dbmigrate.lanes.backfill import Backfill
from dbmigrate.lanes.backfilling import describe_backfill
from dbmigrate.lanes.recording import RecordedOperation, record_downgrade, record_upgrade
from dbmigrate.lanes.statements import Dropped, Statement, parse_statement, shorten
from dbmigrate.mysql.lane_journal import StepIdentity

if TYPE_CHECKING:
    from alembic.script.base import Script


class StepKind(Enum):
    """What a step does."""

    STATEMENT = "statement"
    BACKFILL = "backfill"
    HIDE = "hide"
    """What will be dropped is taken out of sight first, so that whoever still uses it is found while it is there."""


@dataclass(frozen=True)
class LaneStep:
    """One step. ``undo`` is the statement of ``downgrade()`` that takes it back; empty where there is none."""

    identity: StepIdentity
    kind: StepKind
    statement: Statement | None = None
    backfill: Backfill | None = None
    dropped: Dropped | None = None
    undo: str = ""

    @property
    def tables(self) -> tuple[TableName, ...]:
        """What it locks."""
        if self.statement is not None:
            return self.statement.tables
        return (self.dropped.table,) if self.dropped is not None else ()


@dataclass(frozen=True)
class RevisionPlan:
    """A revision and its steps, in order."""

    script: Script
    lane: Lane
    steps: tuple[LaneStep, ...]
    backfills: tuple[Backfill, ...] = field(default=())

    @property
    def revision(self) -> str:
        """Alembic's id."""
        return str(self.script.revision)

    @property
    def dropped(self) -> tuple[Dropped, ...]:
        """Everything that it drops."""
        return tuple(step.dropped for step in self.steps if step.kind is StepKind.HIDE and step.dropped is not None)


def find_backfills(script: Script) -> tuple[Backfill, ...]:
    """What the revision's file declares as ``backfill`` or ``backfills``.

    Raises:
        ConfigurationError: it is something else.
    """
    found: list[Any] = []
    for name in ("backfill", "backfills"):
        declared = getattr(script.module, name, ())
        found += declared if isinstance(declared, list | tuple) else [declared]
    if wrong := [one for one in found if not isinstance(one, Backfill)]:
        raise ConfigurationError(
            f"{type(wrong[0]).__name__} is no backfill", place=str(script.path),
            hint="backfill = Backfill(...), from dbmigrate.lanes import Backfill",
        )  # fmt: skip
    return tuple(found)


def plan_revision(script: Script, lane: Lane, version: ServerVersion, schema: str) -> RevisionPlan:
    """The steps of a revision on a server of this version, in the database ``schema``.

    Raises:
        ConfigurationError, RefusedError: it cannot be run as it is written.
    """
    statements = [parse_statement(text, schema) for text in _texts(record_upgrade(script, version))]
    backfills = find_backfills(script)
    if backfills and lane is Lane.CONTRACT:
        raise ConfigurationError(
            "a contract revision has no backfill", place=str(script.path), hint="declare it in the expand revision"
        )
    running = _build_running(statements, _texts(record_downgrade(script, version)))
    filling = [_Draft(StepKind.BACKFILL, describe_backfill(one), backfill=one) for one in backfills]
    ordered = {
        Lane.EXPAND: [*running, *filling],
        Lane.TIGHTEN: [*filling, *running],
        Lane.CONTRACT: [*_build_hiding(statements), *running],
    }[lane]
    steps = tuple(draft.number(script.revision, number, lane) for number, draft in enumerate(ordered, start=1))
    return RevisionPlan(script, lane, steps, backfills)


def _texts(operations: Sequence[RecordedOperation]) -> list[str]:
    return [text for operation in operations for text in operation.statements]


@dataclass(frozen=True)
class _Draft:
    """A step without its number."""

    kind: StepKind
    text: str
    statement: Statement | None = None
    backfill: Backfill | None = None
    dropped: Dropped | None = None
    undo: str = ""

    def number(self, revision: str, number: int, lane: Lane) -> LaneStep:
        identity = StepIdentity(revision, number, lane.value, self.kind.value, self.text)
        return LaneStep(identity, self.kind, self.statement, self.backfill, self.dropped, self.undo)


def _build_running(statements: Sequence[Statement], downgrade: Sequence[str]) -> list[_Draft]:
    """``downgrade()`` mirrors ``upgrade()``: its last statement takes back the first, if there are as many."""
    undoing = list(reversed(downgrade)) if len(downgrade) == len(statements) else [""] * len(statements)
    return [
        _Draft(StepKind.STATEMENT, statement.text, statement=statement, undo=undo)
        for statement, undo in zip(statements, undoing, strict=True)
    ]


def _build_hiding(statements: Sequence[Statement]) -> list[_Draft]:
    for statement in statements:
        if len(statement.dropped) > 1 and not statement.dropped[0].column:
            raise RefusedError(
                "it drops several tables at once", place=shorten(statement.text), hint="one statement for each table"
            )
    return [
        _Draft(StepKind.HIDE, f"hide {dropped}", dropped=dropped)
        for statement in statements
        for dropped in statement.dropped
    ]
