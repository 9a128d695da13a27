"""A rehearsal's report on the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dbmigrate.cli.rendering import format_seconds
from dbmigrate.rehearsal import RehearsalReport
from dbmigrate.telemetry import redact


def render_rehearsal(report: RehearsalReport) -> RenderableType:
    """The verdict first, then phases, pauses, faults, workload, differences and notes."""
    colour = "green" if report.is_clean else "red"
    parts: list[RenderableType] = [Text(redact(f"{report.migration}: {report.verdict}"), style=f"bold {colour}")]
    parts += [Text(redact(line)) for line in _describe_setting(report)]
    if report.phases:
        parts.append(_render_phases(report))
    parts += [Text(redact(line)) for line in _describe_outcome(report)]
    parts += [Text(redact(f"note: {note}"), style="yellow") for note in report.notes]
    if report.failure:
        parts.append(Text(redact(report.failure), style="red"))
    return Group(*parts)


def _describe_setting(report: RehearsalReport) -> Iterator[str]:
    for server in report.servers:
        real = f", the configured one is {server.real_version}" if server.real_version else ""
        yield f"{server.side}: {server.version} ({server.runs_as}{real})"
    yield f"rows: {report.contents}"
    if report.factor is not None:
        yield f"real size: {report.factor:,.1f} times the rehearsed one"


def _render_phases(report: RehearsalReport) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("phase", "took", "rows/s", "real size", "how estimated"):
        table.add_column(heading, justify="right" if heading in ("took", "rows/s", "real size") else "left")
    for phase in report.phases:
        rate = f"{phase.rows_per_second:,.0f}" if phase.rows_per_second else ""
        estimate = format_seconds(phase.estimate_seconds)
        table.add_row(phase.phase, format_seconds(phase.seconds), rate, estimate, phase.basis)
    return table


def _describe_outcome(report: RehearsalReport) -> Iterator[str]:
    pauses = ", ".join(f"{one.pause_ms:.0f} ms ({one.direction})" for one in report.switches)
    yield f"write pauses: {pauses or 'no switch'}; highest lag {report.max_lag_seconds:.2f} s"
    for fault in report.faults:
        what = "survived" if fault.survived else "NOT survived" if fault.injected else "NOT injected"
        where = f" in {fault.phase}" if fault.phase else ""
        after = f", went on after {fault.recovered_seconds:.1f} s" if fault.recovered_seconds is not None else ""
        yield f"fault {fault.fault}: {what}{where}{after}" + (f" ({fault.note})" if fault.note else "")
    work = report.workload
    kinds = ", ".join(f"{count} {kind}" for kind, count in work.failures.items())
    gap = f", longest gap {work.longest_gap_ms:.0f} ms" if work.longest_gap_ms is not None else ""
    yield f"workload {work.kind}: {work.committed:,} writes, {work.failed:,} failed" + (f" ({kinds})" if kinds else "") + gap
    if work.note:
        yield f"  {work.note}"
    if report.differences is not None:
        yield f"compared: {report.rows_compared:,} rows one by one, {report.differences:,} differ"
    for difference in report.first_differences:
        yield f"  {difference.table} key {difference.key}"
    yield f"took {format_seconds(report.seconds)}"
