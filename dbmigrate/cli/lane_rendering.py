"""Lint and plan as people and machines read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.domain.lanes import Lane, Placed, Refused, Undecided, Verdict
from dbmigrate.lanes.lint import LintedOperation, LintedRevision, format_verdict, is_refused
from dbmigrate.lanes.plan import PlannedRevision, PlannedStatement
from dbmigrate.telemetry import redact

_COLOURS = {Placed: "green", Refused: "red", Undecided: "yellow"}
_LONGEST_STATEMENT = 300

Planned = Mapping[Lane | None, Sequence[PlannedRevision]]


def describe_verdict(verdict: Verdict) -> dict[str, Any]:
    """One verdict for machines. ``class`` is a lane, ``refused`` or ``undecided``."""
    match verdict:
        case Placed(rule, lane, note):
            return {"class": lane.value, "rule": rule, "why": note, "instead": []}
        case Refused(rule, breaks, instead):
            steps = [{"stage": step.stage.value, "text": step.text} for step in instead]
            return {"class": "refused", "rule": rule, "why": breaks, "instead": steps}
        case Undecided(rule, question):
            return {"class": "undecided", "rule": rule, "why": f"{question}; {verdict.hint}", "instead": []}


def describe_revision(revision: LintedRevision) -> dict[str, Any]:
    """One revision for machines."""
    return {
        "revision": revision.revision,
        "message": revision.message,
        "path": revision.path,
        "lane": revision.lane.value if revision.lane else None,
        "applied": revision.is_applied,
        "refused": bool(revision.refusals),
        "faults": [describe_verdict(verdict) for verdict in revision.faults],
        "operations": [
            {"statements": list(one.statements), **describe_verdict(one.verdict)} for one in revision.operations
        ],
    }


def describe_lint(revisions: Sequence[LintedRevision], version: ServerVersion, place: str) -> dict[str, Any]:
    """The whole lint for machines."""
    return {
        "server": str(version), "place": place, "refused": is_refused(revisions),
        "revisions": [describe_revision(revision) for revision in revisions],
    }  # fmt: skip


def describe_plan(planned: Planned, version: ServerVersion, place: str) -> dict[str, Any]:
    """The whole plan for machines: pending revisions by lane, each statement with its rung."""
    lanes: dict[str, Any] = {}
    for lane, revisions in planned.items():
        lanes[lane.value if lane else "none"] = [
            {
                **describe_revision(one.linted),
                "rungs": [[[rung.value for rung in each.rungs] for each in statements] for statements in one.statements],
            }
            for one in revisions
        ]
    refused = any(one.linted.refusals for revisions in planned.values() for one in revisions)
    return {"server": str(version), "place": place, "refused": refused, "lanes": lanes}


def render_lint(revisions: Sequence[LintedRevision], version: ServerVersion, place: str) -> RenderableType:
    """Every revision that was judged, each operation with its class; refused ones with what to write instead."""
    lines = [Text(f"{version}, {place}")]
    applied = [revision for revision in revisions if revision.is_applied]
    if applied:
        lines.append(Text(f"{len(applied)} revision(s) are in the database and were not judged", style="dim"))
    judged = [revision for revision in revisions if not revision.is_applied]
    for revision in judged:
        lines += _revision_lines(revision)
    refused = sum(bool(revision.refusals) for revision in judged)
    lines.append(Text(f"{len(judged)} revision(s) judged, {refused} refused"))
    return Group(*lines)


def _revision_lines(revision: LintedRevision) -> Iterator[Text]:
    lane = revision.lane.value if revision.lane else "no lane"
    yield Text(f"{revision.revision} ({lane}) {revision.message}", style="bold")
    for fault in revision.faults:
        yield from _verdict_lines(fault, "  ")
    for operation in revision.operations:
        yield from _operation_lines(operation)


def _operation_lines(operation: LintedOperation) -> Iterator[Text]:
    for statement in operation.statements:
        yield Text(f"  {redact(_on_one_line(statement))}")
    yield from _verdict_lines(operation.verdict, "    ")


def _verdict_lines(verdict: Verdict, indent: str) -> Iterator[Text]:
    yield Text(f"{indent}{redact(format_verdict(verdict))}", style=_COLOURS[type(verdict)])
    if isinstance(verdict, Refused):
        yield Text(f"{indent}write instead:")
        for step in verdict.instead:
            yield Text(f"{indent}  {step.stage.value}: {step.text}")


def _on_one_line(statement: str) -> str:
    line = " ".join(statement.split())
    return line if len(line) <= _LONGEST_STATEMENT else line[: _LONGEST_STATEMENT - 3] + "..."


def render_plan(planned: Planned, version: ServerVersion, place: str) -> RenderableType:
    """Lane by lane, in the order in which they run."""
    lines = [Text(f"{version}, {place}")]
    for lane, revisions in planned.items():
        if lane is None and not revisions:
            continue
        meaning = lane.meaning if lane else "carries no label, and does not run"
        lines.append(Text(f"{lane.value if lane else 'no lane'}: {meaning}", style="bold"))
        lines += [line for one in revisions for line in _planned_lines(one)] or [Text("  nothing")]
    return Group(*lines)


def _planned_lines(planned: PlannedRevision) -> Iterator[Text]:
    revision = planned.linted
    yield Text(f"  {revision.revision} {revision.message}")
    for fault in revision.faults:
        yield from _verdict_lines(fault, "    ")
    for operation, statements in zip(revision.operations, planned.statements, strict=True):
        for statement in statements:
            yield Text(f"    {redact(_on_one_line(statement.sql))}  [{_describe_rungs(statement)}]")
        yield from _verdict_lines(operation.verdict, "      ")


def _describe_rungs(statement: PlannedStatement) -> str:
    return " > ".join(rung.value for rung in statement.rungs) or "does not run"
