"""Every benchmark, one after the other: ``python -m bench.full``. Each result is stored at once as JSON in
``docs/performance/``, from which ``python -m bench.page`` makes the page. ``--only`` measures single parts again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.harness import FAILED, ROOT, say

RESULTS = ROOT / "docs" / "performance"
LAST_WORDS = 2000


@dataclass(frozen=True, slots=True)
class Part:
    """One run of one benchmark. ``quick`` says whether it has a quick form worth running."""

    name: str
    command: tuple[str, ...]
    quick: bool = True


PARTS = (
    Part("copy-mariadb", ("copy.py", "--flavour", "mariadb")),
    Part("copy-mysql", ("copy.py", "--flavour", "mysql")),
    Part("stream", ("stream.py",)),
    Part("lag", ("stream.py", "--lag", "2000")),
    Part("verify", ("verify.py",)),
    Part("cutover", ("cutover.py",)),
    Part("impact", ("impact.py",)),
    Part("session", ("session.py",)),
    Part("growth-workers", ("growth.py", "--of", "workers")),
    Part("growth-size", ("growth.py", "--of", "size")),
    Part("growth-tables", ("growth.py", "--of", "tables")),
    Part("cluster", ("cluster.py",)),
    Part("copy-beyond-memory", ("copy.py", "--shape", "beyond memory", "--threads", "2")),
    Part("copy-memory-1gb", ("copy.py", "--memory", "1"), quick=False),
    Part("copy-memory-10gb", ("copy.py", "--memory", "10"), quick=False),
)


def run_part(part: Part, *, into: Path, quick: bool) -> str:
    """Measure one part and store what it said; returns an error's last words, or nothing."""
    command = ["python", f"bench/{part.command[0]}", *part.command[1:], "--json", *(["--quick"] if quick and part.quick else [])]
    say(f"{part.name}: {' '.join(command)}")
    began, at = time.monotonic(), time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    done = subprocess.run([sys.executable, *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    seconds = round(time.monotonic() - began)
    if done.returncode:
        return done.stderr[-LAST_WORDS:]
    stored = {
        "part": part.name, "command": " ".join(command), "at": at, "seconds_taken": seconds, "commit": _read_commit(),
        "result": json.loads(done.stdout),
    }  # fmt: skip
    into.mkdir(parents=True, exist_ok=True)
    (into / f"{part.name}.json").write_text(json.dumps(stored, indent=1, ensure_ascii=False) + "\n")
    say(f"{part.name}: {seconds} s")
    return ""


def _read_commit() -> str:
    asked = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return asked.stdout.strip()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Run every benchmark and store the results.")
    parser.add_argument("--quick", action="store_true", help="the quick form of each")
    parser.add_argument("--only", action="append", choices=[part.name for part in PARTS], help="may be repeated")
    parser.add_argument("--into", type=Path, default=RESULTS, help="where results are stored")
    parser.add_argument("--json", action="store_true", help="print all ratios as one JSON object")
    options = parser.parse_args()
    chosen = [part for part in PARTS if not options.only or part.name in options.only]
    if options.quick and not options.only:
        chosen = [part for part in chosen if part.quick]
    failures: dict[str, str] = {}
    for part in chosen:
        if words := run_part(part, into=options.into, quick=options.quick):
            failures[part.name] = words
            say(f"{part.name} failed:\n{words}")
    if options.json:
        print(json.dumps({"bench": "full", "ratios": _read_ratios(options.into, chosen), "failed": sorted(failures)}))
    if failures:
        say(f"failed: {', '.join(failures)}")
        raise SystemExit(FAILED)


def _read_ratios(folder: Path, parts: list[Part]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in parts:
        path = folder / f"{part.name}.json"
        if path.exists():
            ratios = json.loads(path.read_text())["result"]["ratios"]
            found |= {f"{part.name}: {name}": value for name, value in ratios.items()}
    return found


if __name__ == "__main__":
    main()
