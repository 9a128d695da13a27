"""docs/performance.md from the stored results: ``python -m bench.page``; ``--check`` fails where a missed target has no
explanation.

Pure but for reading and writing files: the same results give the same page and plots. What people say about the figures
is kept beside them, in ``docs/performance/notes/<part>.md``, and survives every rendering.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.full import PARTS, RESULTS
from bench.plots import plot_growth, plot_ratios

PAGE = RESULTS.parent / "performance.md"
NO_EXPLANATION = "**Missed, and no explanation yet.**"


@dataclass(frozen=True, slots=True)
class Stored:
    """One stored result. ``notes`` is empty where nobody has written any."""

    name: str
    content: Mapping[str, Any]
    notes: str = ""

    @property
    def result(self) -> Mapping[str, Any]:
        """What the benchmark printed."""
        found: Mapping[str, Any] = self.content["result"]
        return found

    @property
    def missed(self) -> list[str]:
        """Names of the targets that were missed."""
        return [name for name, target in self.result["targets"].items() if not target["is_met"]]


def load_results(folder: Path) -> list[Stored]:
    """The stored results, in the order of a full run; parts that were never measured are left out."""
    found = []
    for part in PARTS:
        path, notes = folder / f"{part.name}.json", folder / "notes" / f"{part.name}.md"
        if path.exists():
            found.append(Stored(part.name, json.loads(path.read_text()), notes.read_text().strip() if notes.exists() else ""))
    return found


def render_page(results: Sequence[Stored]) -> str:
    """The page as Markdown; plots are named ``performance/<part>.svg``."""
    lines = ["# Performance", "", _describe(results), "", "## Targets", "", *_target_table(results), ""]
    for stored in results:
        lines += [*_render_part(stored), ""]
    return "\n".join(lines).rstrip() + "\n"


def _describe(results: Sequence[Stored]) -> str:
    machines = {json.dumps({k: v for k, v in s.result["machine"].items() if k not in ("load_before", "server")}) for s in results}
    named = "; ".join(", ".join(f"{k} {v}" for k, v in json.loads(machine).items()) for machine in sorted(machines))
    commits = sorted({stored.content["commit"] for stored in results})
    return (
        "Measured side by side with what people use today, in the same run, on the same servers. A ratio is the median over "
        "pairs that ran next to each other, with the lowest and the highest in brackets; absolute figures belong to the "
        f"machine.\n\nMachine: {named}. Source, target, peers and our program share it. Commits: {', '.join(commits)}.\n\n"
        "To repeat it: `apt-get install mariadb-server mariadb-client mydumper percona-toolkit`, `.ci/mysql` for MySQL, "
        "`pip install -e '.[dev,bench]'`, then `python -m bench.full` (75 to 90 minutes) and `python -m bench.page`; "
        "`python -m bench.full --only NAME` measures one part again. How each is measured, and what peers are given, is "
        "in [bench/README.md](../bench/README.md)."
    )


def _target_table(results: Sequence[Stored]) -> list[str]:
    lines = ["| what | measured | target | |", "|---|---|---|---|"]
    for stored in results:
        for name, target in stored.result["targets"].items():
            verdict = "met" if target["is_met"] else "**missed**"
            lines.append(f"| {stored.name}: {name} | {_spread(stored, name)} | {target['target']} | {verdict} |")
    return lines


def _spread(stored: Stored, name: str) -> str:
    spread = stored.result["spread"][name]
    return f"{spread['median']:g}" if len(spread["values"]) == 1 else f"{spread['median']:g} ({spread['low']:g} to {spread['high']:g})"


def _render_part(stored: Stored) -> list[str]:
    content, result = stored.content, stored.result
    lines = [
        f"## {stored.name}", "",
        f"`{content['command']}`, {content['at']}, {content['seconds_taken']} s, {result['machine'].get('server', '')}, "
        f"load before {result['machine'].get('load_before', '')}.", "",
        f"![{stored.name}](performance/{stored.name}.svg)", "", "| ratio | median (lowest to highest) | runs |", "|---|---|---|",
    ]  # fmt: skip
    lines += [f"| {name} | {_spread(stored, name)} | {len(result['spread'][name]['values'])} |" for name in result["spread"]]
    lines += ["", "| seconds | median (lowest to highest) |", "|---|---|"]
    lines += [f"| {name} | {_range(values)} |" for name, values in result["seconds"].items() if values]
    if stored.notes:
        lines += ["", stored.notes]
    elif stored.missed:
        lines += ["", NO_EXPLANATION]
    lines += ["", "<details><summary>everything it printed</summary>", "", "```json"]
    lines += [json.dumps(result["details"], indent=1, ensure_ascii=False), "```", "", "</details>"]
    return lines


def _range(values: Sequence[float]) -> str:
    ordered = sorted(values)
    middle = ordered[len(ordered) // 2]
    return f"{middle:g}" if len(ordered) == 1 else f"{middle:g} ({ordered[0]:g} to {ordered[-1]:g})"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Render docs/performance.md from stored results.")
    parser.add_argument("--check", action="store_true", help="only say which missed targets have no explanation; exit 1 then")
    options = parser.parse_args()
    results = load_results(RESULTS)
    unexplained = [stored.name for stored in results if stored.missed and not stored.notes]
    if options.check:
        print("\n".join(unexplained) or "every missed target is explained")
        raise SystemExit(1 if unexplained else 0)
    PAGE.write_text(render_page(results))
    for stored in results:
        path = RESULTS / f"{stored.name}.svg"
        if "points" in stored.result["details"]:
            plot_growth(stored.result, path)
        else:
            plot_ratios(stored.result, path)


if __name__ == "__main__":
    main()
