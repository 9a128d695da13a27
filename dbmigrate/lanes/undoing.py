"""Taking back what is done of a revision, last step first, by the statements of its ``downgrade()``.

What was hidden is shown again with everything in it. What was dropped comes back as a definition only: the values are
gone. After each step the definition is compared with that from before it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from dbmigrate.domain.errors import FatalError, RefusedError
from dbmigrate.domain.schema import TableName
from dbmigrate.lanes.revisions import LaneStep, RevisionPlan, StepKind
from dbmigrate.lanes.statements import StatementKind, parse_statement, shorten
from dbmigrate.lanes.steps import StepRunner
from dbmigrate.mysql.definition_prints import read_print
from dbmigrate.mysql.lane_journal import JournalledStep, StepState

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Undoing:
    """A step that is journalled, and the statements that take it back."""

    step: LaneStep
    known: JournalledStep
    statements: tuple[str, ...]


def undo_steps(steps: StepRunner, plan: RevisionPlan, take_out: Callable[[], None]) -> None:
    """Take back every journalled step of ``plan``. ``take_out`` removes the revision from Alembic's table, first: from
    then on it counts as interrupted, and may be finished or taken back further.

    Raises:
        RefusedError: a step cannot be taken back. Nothing was changed.
        FatalError: a step was taken back, but the definition is not what it was.
    """
    known = {step.number: step for step in steps.journal.load(plan.revision)}
    undoing = [
        _plan_undo(steps, plan, step, known[step.identity.number])
        for step in reversed(plan.steps)
        if step.identity.number in known
    ]
    take_out()
    for one in undoing:
        _undo(steps, plan, one)


def _plan_undo(steps: StepRunner, plan: RevisionPlan, step: LaneStep, known: JournalledStep) -> _Undoing:
    """What did not take effect needs nothing."""
    bare = _Undoing(step, known, ())
    return replace(bare, statements=_find_statements(plan, step, known)) if _is_there(steps, bare) else bare


def _is_there(steps: StepRunner, one: _Undoing) -> bool:
    if one.step.kind is StepKind.BACKFILL:
        return False
    if _changes_rows(one):
        return one.known.state is not StepState.BEGUN
    return _read(steps, _tables_of(steps, one)) != one.known.print


def _find_statements(plan: RevisionPlan, step: LaneStep, known: JournalledStep) -> tuple[str, ...]:
    if step.kind is StepKind.HIDE:
        return tuple(filter(None, [known.saved.partition("\n")[2]]))
    if known.saved:
        return tuple(known.saved.split(";\n"))
    if not step.undo and step.statement is not None:
        raise RefusedError(
            "a step cannot be taken back", place=f"revision {plan.revision}: {shorten(step.statement.text)}",
            cause="downgrade() has not one statement for each of upgrade()",
            hint="write one for each, in the opposite order; or finish the revision: run without --undo",
        )  # fmt: skip
    return (step.undo,)


def _undo(steps: StepRunner, plan: RevisionPlan, one: _Undoing) -> None:
    if _is_there(steps, one):  # a backfill's columns go, or keep values that nobody asks for
        for text in one.statements:
            statement = parse_statement(text, steps.database.schema)
            if statement.kind is StatementKind.ROWS:
                steps.session.execute_exactly(text, doing=shorten(text, 60))
            else:
                steps.execute(statement)
        if not _changes_rows(one):
            _compare(steps, plan, one, _tables_of(steps, one))
    steps.journal.forget(plan.revision, from_number=one.step.identity.number)


def _changes_rows(one: _Undoing) -> bool:
    return one.step.statement is not None and one.step.statement.kind is StatementKind.ROWS


def _tables_of(steps: StepRunner, one: _Undoing) -> tuple[TableName, ...]:
    text = one.known.saved.partition("\n")[0] if one.step.kind is StepKind.HIDE else ""
    if text:
        return parse_statement(text, steps.database.schema).tables
    return steps.tables_of(one.step)


def _read(steps: StepRunner, tables: tuple[TableName, ...]) -> str:
    return read_print(steps.session, steps.database.schema, tables)


def _compare(steps: StepRunner, plan: RevisionPlan, one: _Undoing, tables: tuple[TableName, ...]) -> None:
    if _read(steps, tables) == one.known.print:
        return
    if one.known.saved and one.step.kind is StepKind.STATEMENT:
        log.warning("%s: the definition is back, indexes that it had lost are not", shorten(one.known.statement))
        return
    raise FatalError(
        "a step was taken back, but the definition is not what it was before", place=f"revision {plan.revision}",
        cause=f"step {one.step.identity.number}: {shorten(one.known.statement)}",
        hint="compare the table with the revisions' and correct it by hand, then run again",
    )  # fmt: skip
