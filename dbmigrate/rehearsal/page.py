"""The report as one HTML page that needs nothing else: no script, no font, no request. Pure.

Every text that is not ours is escaped in one place (``_text``). The plots are inline SVG and CSS, so the page can be
attached to a ticket, printed, and read on a phone, by day and by night.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from dbmigrate.domain.phases import Phase
from dbmigrate.rehearsal.plots import draw_durations, draw_lag
from dbmigrate.rehearsal.report import FaultSuffered, RehearsalReport

_STYLE = Path(__file__).with_name("page.css")

_HOW = (
    "copy and verify pass over every row, so their estimate is the measured time x the factor: real rows / rehearsed rows "
    "or real bytes / rehearsed bytes, whichever is more. plan and expand depend on the number of tables. Everything else "
    "depends on what the application writes, and is not estimated."
)


def render_page(report: RehearsalReport) -> str:
    """The whole page."""
    sections = [
        _section("What stopped it", f"<pre>{_text(report.failure)}</pre>") if report.failure else "",
        _section("Phases", draw_durations(report.phases), _phase_table(report), _note(_HOW)),
        _section("Lag of the stream", draw_lag(report.lag)),
        _section("Write pauses", _pause_list(report)),
        _section("Faults", _fault_table(report.faults)) if report.faults else "",
        _section("Workload", _workload(report)),
        _section("Rows that differ", _differences(report)) if report.differences else "",
        _section("Servers and data", _servers(report), _table_table(report)),
        _section("What was replaced or left out", _list(report.notes)) if report.notes else "",
    ]
    title = f"Rehearsal of {report.migration}"
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            f"<title>{_text(title)}</title>\n<style>\n{_STYLE.read_text(encoding='utf-8')}</style>\n</head>\n<body>\n<main>",
            _header(report, title), _tiles(report), *filter(None, sections),
            "</main>\n</body>\n</html>\n",
        ]
    )  # fmt: skip


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)


def _section(title: str, *parts: str) -> str:
    return f"<section>\n<h2>{_text(title)}</h2>\n" + "\n".join(parts) + "\n</section>"


def _note(text: str) -> str:
    return f'<p class="note">{_text(text)}</p>'


def _list(items: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{_text(item)}</li>" for item in items) + "</ul>"


def _table(headings: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: Sequence[int] = ()) -> str:
    """A table that scrolls by itself where the screen is narrow; ``numbers`` are the columns to align right."""
    shape = [' class="number"' if i in numbers else "" for i in range(len(headings))]
    head = "".join(f"<th{kind}>{_text(heading)}</th>" for heading, kind in zip(headings, shape, strict=True))
    body = "\n".join(
        "<tr>" + "".join(f"<td{kind}>{_text(cell)}</td>" for cell, kind in zip(row, shape, strict=True)) + "</tr>"
        for row in rows
    )
    head = f"<thead><tr>{head}</tr></thead>" if any(headings) else ""
    return f'<div class="scroll"><table>{head}<tbody>\n{body}\n</tbody></table></div>'


# --- parts ---


def _header(report: RehearsalReport, title: str) -> str:
    kind = "good" if report.is_clean else "bad"
    word = "passed" if report.is_clean else "failed"
    return (
        f'<header>\n<h1>{_text(title)}</h1>\n<p class="verdict {kind}"><b>{word}</b> {_text(report.verdict)}</p>\n'
        f'<p class="note">{_text(report.contents)}. Took {_seconds(report.seconds)}. Exit code {int(report.exit_code)}.</p>\n</header>'
    )


def _tiles(report: RehearsalReport) -> str:
    tiles = "".join(f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>" for name, value in _key_numbers(report))
    return f'<dl class="tiles">{tiles}</dl>'


def _key_numbers(report: RehearsalReport) -> Iterator[tuple[str, str]]:
    longest = max((switch.pause_ms for switch in report.switches), default=None)
    yield "longest write pause", f"{longest:,.0f} ms" if longest is not None else "no switch"
    copy = next((phase for phase in report.phases if phase.phase == Phase.COPY.value), None)
    rate = copy.rows_per_second if copy else None
    yield "copied", f"{rate:,.0f} rows/s" if rate else "not measured"
    estimate = copy.estimate_seconds if copy else None
    yield "copy at the real size", f"about {_seconds(estimate)}" if estimate is not None else "not known"
    yield "highest lag", f"{report.max_lag_seconds:.2f} s"
    yield "failed writes", f"{report.workload.failed:,} of {report.workload.failed + report.workload.committed:,}"
    yield "rows that differ", "not compared" if report.differences is None else f"{report.differences:,} of {report.rows_compared:,}"


def _phase_table(report: RehearsalReport) -> str:
    rows = (
        (
            phase.phase + (" *" if phase.disturbed else ""), _seconds(phase.seconds),
            f"{phase.rows_per_second:,.0f}" if phase.rows_per_second else "",
            _seconds(phase.estimate_seconds) if phase.estimate_seconds is not None else "-", phase.basis,
        )
        for phase in report.phases
    )  # fmt: skip
    table = _table(("phase", "took", "rows/s", "at the real size", "how"), rows, numbers=(1, 2, 3))
    return table + (_note("* a fault was injected in this phase") if any(p.disturbed for p in report.phases) else "")


def _pause_list(report: RehearsalReport) -> str:
    if not report.switches:
        return _note("There was no switch.")
    rows = ((number, switch.direction, f"{switch.pause_ms:,.1f} ms") for number, switch in enumerate(report.switches, 1))
    return _table(("switch", "direction", "writers waited"), rows, numbers=(0, 2))


def _fault_table(faults: Sequence[FaultSuffered]) -> str:
    rows = (
        (
            fault.fault, "survived" if fault.survived else "not survived" if fault.injected else "not injected", fault.phase,
            _seconds(fault.recovered_seconds) if fault.recovered_seconds is not None else "-", fault.note,
        )
        for fault in faults
    )  # fmt: skip
    return _table(("fault", "outcome", "in phase", "went on after", "note"), rows, numbers=(3,))


def _workload(report: RehearsalReport) -> str:
    work = report.workload
    gap = f"{work.longest_gap_ms:,.0f} ms" if work.longest_gap_ms is not None else "not measured"
    rows: list[tuple[object, object]] = [("kind", work.kind), ("acknowledged writes", f"{work.committed:,}")]
    rows += [(f"failed: {kind}", f"{count:,}") for kind, count in work.failures.items()]
    rows.append(("longest time without a success", gap))
    return _table(("", ""), rows, numbers=(1,)) + (_note(work.note) if work.note else "")


def _differences(report: RehearsalReport) -> str:
    rows = ((difference.table, difference.key) for difference in report.first_differences)
    return _table(("table", "key"), rows) + _note("The first of them; values are not shown.")


def _servers(report: RehearsalReport) -> str:
    rows = ((one.side, one.version, one.runs_as, one.real_version or "not asked") for one in report.servers)
    return _table(("side", "rehearsed on", "as", "configured server"), rows)


def _table_table(report: RehearsalReport) -> str:
    rows = (
        (
            one.table, f"{one.rows:,}", _bytes(one.bytes),
            f"{one.real_rows:,}" if one.real_rows is not None else "-",
            _bytes(one.real_bytes) if one.real_bytes is not None else "-",
        )
        for one in report.tables
    )  # fmt: skip
    factor = f"The real tables are {report.factor:,.1f} times as large." if report.factor else "The real size is not known."
    table = _table(("table", "rows", "size", "real rows (estimate)", "real size"), rows, numbers=(1, 2, 3, 4))
    return table + _note(factor)


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} TiB"


def _seconds(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"
