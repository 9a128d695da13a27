"""The plots of docs/performance.md, readable on light and dark pages. The same result gives the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

INK, OURS, TARGET = "#7a7f87", "#2f81f7", "#d1462f"
_STYLE = {
    "svg.hashsalt": "dbmigrate", "svg.fonttype": "none", "font.size": 9, "text.color": INK, "axes.edgecolor": INK,
    "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False,
}  # fmt: skip


def plot_ratios(result: Mapping[str, Any], path: Path) -> None:
    """Every ratio as a dot with its range on a logarithmic axis, its target as a bar across; 1 is the peer."""
    names = list(result["spread"])[::-1]
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(8, 0.9 + 0.28 * len(names)))
        for y, name in enumerate(names):
            spread = result["spread"][name]
            axes.plot([spread["low"], spread["high"]], [y, y], color=OURS, linewidth=2, solid_capstyle="round")
            axes.plot([spread["median"]], [y], "o", color=OURS, markersize=5)
            if (target := result["targets"].get(name)) is not None:
                axes.plot([float(target["target"].rsplit(" ", 1)[1])], [y], "|", color=TARGET, markersize=14, markeredgewidth=2)
        axes.set_yticks(range(len(names)), names)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(matplotlib.ticker.StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
        axes.axvline(1.0, color=INK, linewidth=0.8, linestyle=":")
        axes.set_xlabel("ratio, ours / peer (dot: median, line: lowest to highest; red: target)")
        _save(figure, path)


def plot_growth(result: Mapping[str, Any], path: Path) -> None:
    """Rows per second, and seconds of the move and of verification, against what grows; dotted: linear from the largest."""
    points, axis = result["details"]["points"], result["details"]["axis"]
    xs = [point["x"] for point in points]
    with plt.rc_context(_STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3))
        left.plot(xs, [max(point["rows_per_second"]) for point in points], "o-", color=OURS)
        left.set_ylabel("rows/s, plan to catch_up")
        right.plot(xs, [min(point["seconds"]) for point in points], "o-", color=OURS, label="move")
        right.plot(xs, [min(point["verify_seconds"]) for point in points], "s-", color=TARGET, label="verification")
        if axis != "workers":
            last = min(points[-1]["seconds"])
            right.plot(xs, [last * x / xs[-1] for x in xs], ":", color=INK, label="linear")
        right.set_ylabel("seconds")
        right.legend(frameon=False, labelcolor=INK)
        for axes in (left, right):
            axes.set_xlabel(axis)
            axes.set_xscale("log")
            axes.set_yscale("log")
        _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, format="svg", bbox_inches="tight", transparent=True, metadata={"Date": None})
    plt.close(figure)
