"""The lint: every operation of every revision gets its class, against the tables as they are when it would run.

A revision is clean when each of its operations belongs into the lane whose label the revision carries. Nothing is sent to
a server but questions about it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dbmigrate.domain.errors import ConfigurationError, RefusedError
from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.domain.lanes import Lane, Placed, Refused, Stage, Undecided, Verdict
from dbmigrate.lanes import changes
from dbmigrate.lanes.changes import Change, CreateTable, Unread
from dbmigrate.lanes.environment import Environment, lane_of_revision
from dbmigrate.lanes.reading.operations import read_operation
from dbmigrate.lanes.reading.trees import hide_secrets
from dbmigrate.lanes.recording import RecordedOperation, record_upgrade
from dbmigrate.lanes.rules import judge
from dbmigrate.lanes.rules.changing_columns import merge_verdicts
from dbmigrate.lanes.rules.keys import NAMELESS
from dbmigrate.lanes.rules.rule import Rule, Surroundings
from dbmigrate.lanes.rules.tables import ALGORITHM, CREATE
from dbmigrate.lanes.tables import Tables

if TYPE_CHECKING:
    from alembic.script.base import Script

_SHAPING = (
    changes.AddColumn, changes.ModifyColumn, changes.RenameColumn, changes.DropColumn, changes.SetDefault, changes.AddKey,
    changes.DropKey, changes.RenameIndex, changes.ConvertCharset, changes.SetOption,
)  # fmt: skip

NO_LANE = Rule(
    "no-lane", "a revision without the label of one lane", None, "nothing says when it may run",
    ((Stage.EXPAND, "# in the first revision of its branch\nbranch_labels = (\"expand\",)"),),
)  # fmt: skip
WRONG_LANE = Rule(
    "wrong-lane", "a revision whose operations belong into another lane", None,
    "it carries the label {label}, and what it does belongs into {lanes}",
    ((Stage.EXPAND, '# dbmigrate lanes new {lanes} -m "..."'),),
)  # fmt: skip
MIXED = Rule(
    "mixed-lanes", "a revision with operations of several lanes", None,
    "it would run when the first of them may, and the others ({lanes}) may not yet",
    ((Stage.EXPAND, '# dbmigrate lanes new {label} -m "...", and one for each of: {lanes}'),),
)  # fmt: skip
UNRECORDED = Rule(
    "not-recordable", "a revision that reads from the database, or copies a table", None, "{cause}",
    ((Stage.BACKFILL, "rows are moved by a backfill; the revision holds operations and SQL only"),),
)  # fmt: skip

RULES = (NO_LANE, WRONG_LANE, MIXED, UNRECORDED)


@dataclass(frozen=True)
class LintedOperation:
    """One operation with its class. ``statements`` are what the server would get, but for passwords in them."""

    statements: tuple[str, ...]
    verdict: Verdict


@dataclass(frozen=True)
class LintedRevision:
    """One revision. ``is_applied``: the database has it, so it was not judged. ``faults`` are of the revision as a whole."""

    revision: str
    message: str
    path: str
    lane: Lane | None
    is_applied: bool
    operations: tuple[LintedOperation, ...] = ()
    faults: tuple[Verdict, ...] = ()

    @property
    def refusals(self) -> tuple[Verdict, ...]:
        """All that speaks against running it: refused, or not decided."""
        found = [*self.faults, *(operation.verdict for operation in self.operations)]
        return tuple(verdict for verdict in found if not isinstance(verdict, Placed))


def lint(
    environment: Environment, version: ServerVersion, *, tables: Tables | None = None, heads: Iterable[str] = ()
) -> tuple[LintedRevision, ...]:
    """Every revision of the project in the order in which they run.

    ``tables`` are those of a database that has the revisions up to ``heads``; these are not judged. Without tables they
    are what the revisions themselves have made.

    Raises:
        ConfigurationError: the revisions cannot be read, or the database has some that are not here.
    """
    applied = find_applied(environment, heads)
    known = Tables() if tables is None else tables.copy()
    found = []
    for script in environment.walk():
        if script.revision in applied:
            if tables is None:
                _replay(script, version, known)
            found.append(_describe(script, is_applied=True))
        else:
            found.append(_lint_revision(script, version, known))
    return tuple(found)


def find_applied(environment: Environment, heads: Iterable[str]) -> frozenset[str]:
    """The revisions up to ``heads``, with all they depend on.

    Raises:
        ConfigurationError: one of them is not here.
    """
    found: set[str] = set()
    for head in heads:
        environment.find(head)
        try:
            found |= {script.revision for script in environment.scripts.iterate_revisions(head, "base")}
        except Exception as fault:  # Alembic's own errors have no common class
            raise ConfigurationError(
                f"the database is at {head}, which does not fit these revisions", place=str(environment.settings),
                cause=str(fault),
            ) from fault  # fmt: skip
    return frozenset(found)


def _describe(script: Script, *, is_applied: bool) -> LintedRevision:
    return LintedRevision(script.revision, script.doc, script.path, lane_of_revision(script), is_applied)


def _replay(script: Script, version: ServerVersion, tables: Tables) -> None:
    """What a revision that is not judged leaves behind."""
    try:
        for operation in record_upgrade(script, version):
            for change in read_operation(operation):
                tables.apply(change)
    except RefusedError as refusal:
        tables.apply(Unread(script.revision, refusal.message))


def _lint_revision(script: Script, version: ServerVersion, tables: Tables) -> LintedRevision:
    bare = _describe(script, is_applied=False)
    faults = [] if bare.lane is not None else [NO_LANE.verdict()]
    try:
        recorded = record_upgrade(script, version)
    except RefusedError as refusal:
        tables.apply(Unread(script.revision, refusal.message))
        cause = f"{refusal.message} ({refusal.cause})" if refusal.cause else refusal.message
        return _finish(bare, (), [*faults, UNRECORDED.verdict(cause=cause)])
    operations = judge_operations(recorded, version, tables)
    return _finish(bare, operations, faults + _judge_lanes(bare.lane, operations))


def _finish(bare: LintedRevision, operations: tuple[LintedOperation, ...], faults: list[Verdict]) -> LintedRevision:
    return LintedRevision(
        bare.revision, bare.message, bare.path, bare.lane, bare.is_applied, operations, tuple(faults)
    )


def judge_operations(
    recorded: Iterable[RecordedOperation], version: ServerVersion, tables: Tables, *, created: set[str] | None = None
) -> tuple[LintedOperation, ...]:
    """The class of each operation of one revision, in order; ``tables`` are changed to what it leaves.

    ``created`` are the tables that the revision has made so far; those that it makes now are added.
    """
    surroundings = Surroundings(version, tables.find)
    created = set() if created is None else created
    judged = []
    for operation in recorded:
        verdicts = []
        for change in read_operation(operation):
            verdicts.append(_judge_change(change, surroundings, created))
            tables.apply(change)
            if isinstance(change, CreateTable):
                created.add(change.subject)
        judged.append(LintedOperation(tuple(map(hide_secrets, operation.statements)), merge_verdicts(verdicts)))
    return tuple(judged)


def _judge_change(change: Change, surroundings: Surroundings, created: set[str]) -> Verdict:
    """What is changed of a table that the same revision has made is part of making it: it is empty, and nobody knows it."""
    verdict = judge(change, surroundings)
    if change.subject not in created or not isinstance(change, _SHAPING) or verdict.rule == ALGORITHM.name:
        return verdict
    return verdict if isinstance(verdict, Refused) and verdict.rule == NAMELESS.name else CREATE.verdict()


def _judge_lanes(label: Lane | None, operations: tuple[LintedOperation, ...]) -> list[Verdict]:
    """What is wrong with the revision as a whole."""
    placed = [operation.verdict.lane for operation in operations if isinstance(operation.verdict, Placed)]
    lanes = [lane for lane in Lane if lane in placed]
    names = ", ".join(lane.value for lane in lanes)
    if len(lanes) > 1:
        return [MIXED.verdict(label=lanes[0].value, lanes=", ".join(lane.value for lane in lanes[1:]))]
    if label is not None and lanes and lanes[0] is not label:
        return [WRONG_LANE.verdict(label=label.value, lanes=names)]
    return []


def is_refused(revisions: Iterable[LintedRevision]) -> bool:
    """Whether anything speaks against running them."""
    return any(revision.refusals for revision in revisions)


def format_verdict(verdict: Verdict) -> str:
    """One line: the class and why."""
    match verdict:
        case Placed(rule, lane, note):
            return f"{lane.value} ({rule}): {note}"
        case Refused(rule, breaks, _):
            return f"refused ({rule}): {breaks}"
        case Undecided(rule, question):
            return f"not decided ({rule}): {question}; {verdict.hint}"
