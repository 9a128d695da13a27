"""What is no table: rows that a revision writes, views, triggers and routines, and whatever is not understood."""

from __future__ import annotations

from collections.abc import Mapping

from dbmigrate.domain.lanes import Lane, Stage, Verdict
from dbmigrate.lanes.changes import ChangeProgram, ChangeRows, ProgramVerb, RowVerb, Unread
from dbmigrate.lanes.rules.rule import Rule, Sequence, Surroundings, short_name

_BACKFILL: Sequence = ((Stage.BACKFILL, "the same for a range of keys at a time, throttled and resumable"),)

INSERT = Rule(
    "insert", "INSERT of rows that are written out", Lane.EXPAND, "a few rows, such as a new status; one transaction"
)
CHANGE_ROWS = Rule(
    "change-rows", "UPDATE, DELETE, REPLACE and INSERT ... SELECT", None,
    "every row that it touches stays locked until the last one is done, and replicas stand still for as long", _BACKFILL,
)  # fmt: skip
CREATE = Rule(
    "create-program", "create a view, trigger, procedure, function, event or sequence", Lane.EXPAND,
    "a trigger takes part in every write from then on, in the transactions of the running version",
)  # fmt: skip
REPLACE = Rule(
    "replace-program", "CREATE OR REPLACE", None, "the running version uses what is replaced, until its last instance stops",
    (
        (Stage.EXPAND, 'op.execute("CREATE {program} {new} ...")'), (Stage.READ_NEW, "a version that uses {new}"),
        (Stage.CONTRACT, 'op.execute("DROP {program} {column}")'),
    ),
)  # fmt: skip
DROP = Rule(
    "drop-program", "drop a view, trigger, procedure, function, event or sequence", Lane.CONTRACT,
    "whatever still names it fails; what a trigger kept up is kept up no more",
)  # fmt: skip
UNREAD = Rule(
    "unknown", "anything else", None, "it is not known what this does to the running version: {cause}",
    ((Stage.EXPAND, "# an operation or statement of this table"),),
)  # fmt: skip

RULES = (INSERT, CHANGE_ROWS, CREATE, REPLACE, DROP, UNREAD)

_PROGRAMS: Mapping[ProgramVerb, Rule] = {
    ProgramVerb.CREATE: CREATE, ProgramVerb.REPLACE: REPLACE, ProgramVerb.DROP: DROP,
}  # fmt: skip


def judge_rows(change: ChangeRows, surroundings: Surroundings) -> Verdict:
    """The class of a statement that changes rows."""
    return (INSERT if change.verb is RowVerb.INSERT else CHANGE_ROWS).verdict()


def judge_program(change: ChangeProgram, surroundings: Surroundings) -> Verdict:
    """The class of a change of a view, trigger, routine, event or sequence."""
    name = short_name(change.subject)
    return _PROGRAMS[change.verb].verdict(program=change.kind.upper(), column=name, new=f"{name}_new")


def judge_unread(change: Unread, surroundings: Surroundings) -> Verdict:
    """Always refused."""
    return UNREAD.verdict(cause=change.cause)
