"""What commands print: tables for people, one JSON object for machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from dbmigrate.telemetry import redact
from dbmigrate.workflow.preflight.finding import Finding, Severity
from dbmigrate.workflow.status import ApplicationStatus, RunStatus, TableStatus

_COLOURS = {Severity.OBSTACLE: "red", Severity.WARNING: "yellow", Severity.NOTE: "cyan"}


def print_json(content: Mapping[str, Any]) -> None:
    """One object on stdout."""
    click.echo(redact(json.dumps(content, default=str)))


def print_rich(renderable: RenderableType) -> None:
    """A table or text on stdout; plain where stdout is no terminal."""
    console = Console(file=sys.stdout, soft_wrap=not sys.stdout.isatty())
    console.print(renderable)


def render_findings(findings: Sequence[Finding]) -> RenderableType:
    """The preflight's findings, the worst first, each with its remedy."""
    if not findings:
        return Text("Nothing stands in the way.")
    order = list(Severity)
    lines: list[Text] = []
    for finding in sorted(findings, key=lambda f: order.index(f.severity)):
        head = Text(f"{finding.severity.value.upper():9}", style=_COLOURS[finding.severity])
        head.append(f"{finding.place}: {redact(finding.message)}", style="default")
        lines.append(head)
        if finding.remedy:
            lines.append(Text(f"          -> {redact(finding.remedy)}"))
    counts = {severity: sum(f.severity is severity for f in findings) for severity in order}
    lines.append(Text(", ".join(f"{counts[severity]} {severity.value}(s)" for severity in order)))
    return Group(*lines)


def format_seconds(seconds: float | None) -> str:
    """A duration as a person reads it."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def summarise(status: RunStatus) -> str:
    """One line: phase, copy, stream, and what is waited for."""
    parts = [f"{status.migration_id}: {status.phase}", f"owner {status.owner}"]
    if status.rows_copied:
        estimated = sum(t.estimated_rows for t in status.tables)
        rate = sum(t.rows_per_second for t in status.tables)
        parts.append(f"copied {status.rows_copied:,} of about {estimated:,} rows ({rate:,.0f}/s)")
    if status.streaming:
        parts.append(
            f"streaming {status.streaming}: lag {format_seconds(status.lag_seconds)}, backlog {status.backlog_keys:,} keys"
        )
    if status.application is not None:
        parts.append(summarise_application(status.application))
    if status.is_paused:
        parts.append("PAUSED")
    if status.waiting_for:
        parts.append(status.waiting_for)
    return " | ".join(parts)


def summarise_application(seen: ApplicationStatus) -> str:
    """Instances, mirrors, shadow reads and the share of reads, as far as there is something to say."""
    lagging = sum(one.behind > 0 for one in seen.instances)
    parts = [f"{len(seen.instances)} instances" + (f" ({lagging} behind)" if lagging else "")]
    if seen.mirror:
        parts.append(f"mirrored {seen.writes.get('mirrored', 0):,} writes, {seen.writes.get('mirror_failed', 0):,} failed")
    if seen.shadow_share:
        parts.append(
            f"shadow reads {seen.shadow.get('samples', 0):,}, {seen.shadow.get('real', 0):,} really differ"
        )
    if seen.read_share:
        parts.append(f"{seen.read_share:g} % of reads on the target, {seen.reads.get('fallbacks', 0):,} fell back")
    return ", ".join(parts)


def render_instances(seen: ApplicationStatus, epoch: int) -> RenderableType:
    """One row a live instance, those that lag first."""
    table = Table(box=None, pad_edge=False)
    for heading in ("instance", "host", "pid", "library", "follows epoch", "seen"):
        table.add_column(heading)
    for one in sorted(seen.instances, key=lambda one: (-one.behind, one.instance_id)):
        follows = f"{one.epoch} of {epoch}" if one.behind else str(one.epoch)
        table.add_row(one.instance_id, one.host, str(one.pid), one.library_version, follows, one.seen_at)
    return table


def render_status(status: RunStatus, *, most_tables: int = 30) -> RenderableType:
    """The line, the application's instances, and per table rows, rate and ETA; tables still being copied first."""
    table = Table(box=None, pad_edge=False)
    for heading in ("table", "rows", "of about", "rows/s", "ETA", "verified"):
        table.add_column(heading, justify="left" if heading == "table" else "right")
    shown = sorted(status.tables, key=lambda t: (t.is_copied, -t.estimated_rows))[:most_tables]
    for one in shown:
        table.add_row(*_cells(one))
    if len(status.tables) > most_tables:
        table.add_row(f"... and {len(status.tables) - most_tables} more", "", "", "", "", "")
    parts: list[RenderableType] = [Text(summarise(status))]
    if status.application is not None and status.application.instances:
        parts.append(render_instances(status.application, status.epoch))
    if shown:
        parts.append(table)
    return Group(*parts)


def _cells(one: TableStatus) -> tuple[str, ...]:
    done = "done" if one.is_copied else format_seconds(one.eta_seconds)
    return (
        one.table, f"{one.rows:,}", f"{one.estimated_rows:,}",
        "" if one.is_copied else f"{one.rows_per_second:,.0f}", done, f"{one.verified_rows:,}" if one.verified_rows else "",
    )  # fmt: skip


def render_verification(content: Mapping[str, Any]) -> RenderableType:
    """What a verification found; keys and column names, never values."""
    lines = [
        Text(
            f"{content['rows']:,} rows in {content['chunks']:,} chunks compared, {content['mismatches']} differ"
            + (f", {content['moving']} kept changing" if content["moving"] else "")
            + (f"; true for {content['position']}" if content["position"] else "")
        )
    ]
    lines += [
        Text(f"  {e['table']} key {e['key']}: {', '.join(e['columns'])}", style="red") for e in content["examples"]
    ]
    lines += [
        Text(f"  {o['table']}: {o['rows']} rows without a parent ({o['foreign_key']})", style="yellow")
        for o in content["orphans"]
    ]
    return Group(*lines)
