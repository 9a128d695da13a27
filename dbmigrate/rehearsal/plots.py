"""The page's plots: bars of durations in CSS, the stream's lag over time as inline SVG. Pure."""

from __future__ import annotations

import html
from collections.abc import Sequence
from itertools import groupby

from dbmigrate.rehearsal.report import LagSample, PhaseTaken

_WIDTH, _HEIGHT = 800, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 30, 30
_LABEL_WIDTH = 62
"""A band that is narrower gets no label: it would lie over its neighbour's."""


def draw_durations(phases: Sequence[PhaseTaken]) -> str:
    """One bar a phase, as long as its share of the longest."""
    longest = max((phase.seconds for phase in phases), default=0.0)
    if longest <= 0:
        return '<p class="note">No phase was measured.</p>'
    rows = []
    for phase in phases:
        kind = ' class="disturbed"' if phase.disturbed else ""
        width = f"{max(0.0, phase.seconds) / longest * 100:.2f}%"
        rows.append(
            f'<span>{html.escape(phase.phase)}</span><i{kind} style="width: {width}"></i><span>{phase.seconds:.2f} s</span>'
        )
    return f'<div class="bars">{"".join(rows)}</div>'


def draw_lag(samples: Sequence[LagSample]) -> str:
    """Lag in milliseconds over seconds, on bands that show the phases. Gaps are moments in which nothing streamed."""
    seen = [sample.lag_seconds * 1000 for sample in samples if sample.lag_seconds is not None]
    if len(samples) < 2 or not seen:
        return '<p class="note">The stream was never seen.</p>'
    plot = _Plot(samples[0].at_seconds, samples[-1].at_seconds, _round_up(max(seen)))
    parts = [
        f'<div class="scroll"><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="lag over time, highest {max(seen):.0f} ms">',
        *_draw_bands(plot, samples), *_draw_grid(plot), *_draw_lines(plot, samples), "</svg></div>",
    ]  # fmt: skip
    return "\n".join(parts)


class _Plot:
    """From seconds and milliseconds to the drawing's own units."""

    def __init__(self, first: float, last: float, highest: float) -> None:
        self.first, self.last, self.highest = first, max(last, first + 0.001), highest

    def x(self, seconds: float) -> float:
        share = (seconds - self.first) / (self.last - self.first)
        return round(_LEFT + share * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(self, milliseconds: float) -> float:
        return round(_HEIGHT - _BOTTOM - milliseconds / self.highest * (_HEIGHT - _TOP - _BOTTOM), 1)


def _round_up(value: float) -> float:
    """A round number above: 1, 2 or 5 times a power of ten."""
    step = 1.0
    while True:
        for nice in (step, 2 * step, 5 * step):
            if value <= nice:
                return nice
        step *= 10


def _draw_bands(plot: _Plot, samples: Sequence[LagSample]) -> list[str]:
    """One band a stretch of a phase; it reaches to where the next begins."""
    stretches = [(phase, next(group).at_seconds) for phase, group in groupby(samples, key=lambda one: one.phase)]
    ends = [start for _, start in stretches[1:]] + [plot.last]
    parts = []
    for number, ((phase, start), end) in enumerate(zip(stretches, ends, strict=True)):
        left, right = plot.x(start), plot.x(end)
        kind = "band-a" if number % 2 else "band-b"
        name = html.escape(phase)
        parts.append(
            f'<rect class="{kind}" x="{left}" y="{_TOP}" width="{right - left:.1f}" height="{_HEIGHT - _TOP - _BOTTOM}">'
            f"<title>{name}</title></rect>"
        )
        if right - left >= _LABEL_WIDTH:
            parts.append(f'<text x="{(left + right) / 2:.1f}" y="{_TOP - 10}" text-anchor="middle">{name}</text>')
    return parts


def _draw_grid(plot: _Plot) -> list[str]:
    parts = []
    for share in (0.0, 0.5, 1.0):
        value = plot.highest * share
        y = plot.y(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        label = f"{value / 1000:g} s" if plot.highest >= 1000 else f"{value:g} ms"
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{label}</text>')
    for share in (0.0, 0.5, 1.0):
        seconds = plot.first + (plot.last - plot.first) * share
        anchor = {0.0: "start", 0.5: "middle", 1.0: "end"}[share]
        parts.append(f'<text x="{plot.x(seconds)}" y="{_HEIGHT - 8}" text-anchor="{anchor}">{seconds:.0f} s</text>')
    return parts


def _draw_lines(plot: _Plot, samples: Sequence[LagSample]) -> list[str]:
    parts = []
    for is_seen, group in groupby(samples, key=lambda one: one.lag_seconds is not None):
        if not is_seen:
            continue
        points = [(plot.x(one.at_seconds), plot.y((one.lag_seconds or 0.0) * 1000)) for one in group]
        line = " ".join(f"{x},{y}" for x, y in points)
        base = plot.y(0)
        parts.append(f'<polygon class="area" points="{points[0][0]},{base} {line} {points[-1][0]},{base}"/>')
        parts.append(f'<polyline class="lag" points="{line}"/>')
    return parts
