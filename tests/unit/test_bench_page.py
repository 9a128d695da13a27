"""docs/performance.md is what the stored results say, and a missed target is never passed over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench import page
from bench.arithmetic import Report, Spread, Target
from bench.page import NO_EXPLANATION, Stored, load_results, render_page
from bench.plots import plot_growth, plot_ratios

MACHINE = {"cpu": "a processor", "cpus": 2, "server": "10.11", "load_before": 0.1}


def store(folder: Path, name: str, *, ratio: float, details: dict[str, Any] | None = None) -> None:
    """A result as ``bench.full`` stores it, with one target: at most 0.8."""
    report = Report(
        "copy", "full", MACHINE, {"ours / peer": Spread.of([ratio - 0.1, ratio, ratio + 0.2])}, {"ours": [1.0, 3.0, 2.0]},
        {"ours / peer": Target(0.8, is_upper=True)}, details or {"rows": 5},
    )  # fmt: skip
    content = {"part": name, "command": "python bench/x.py", "at": "then", "seconds_taken": 9, "commit": "abc", "result": report.to_json()}
    (folder / f"{name}.json").write_text(json.dumps(content))


def test_the_page_shows_every_target_with_its_spread_and_verdict(tmp_path: Path) -> None:
    store(tmp_path, "verify", ratio=0.9)
    store(tmp_path, "copy-mariadb", ratio=0.7)
    text = render_page(load_results(tmp_path))
    assert "| copy-mariadb: ours / peer | 0.7 (0.6 to 0.9) | at most 0.8 | met |" in text
    assert "| verify: ours / peer | 0.9 (0.8 to 1.1) | at most 0.8 | **missed** |" in text
    assert text.index("## copy-mariadb") < text.index("## verify")  # the order of a full run
    assert "cpu a processor" in text
    assert text.count(NO_EXPLANATION) == 1


def test_what_people_wrote_stands_beside_the_figures(tmp_path: Path) -> None:
    store(tmp_path, "verify", ratio=0.9)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "verify.md").write_text("Because.\n")
    text = render_page(load_results(tmp_path))
    assert "\nBecause.\n" in text
    assert NO_EXPLANATION not in text


def test_the_check_fails_while_a_missed_target_has_no_explanation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store(tmp_path, "verify", ratio=0.9)
    monkeypatch.setattr(page, "RESULTS", tmp_path)
    monkeypatch.setattr("sys.argv", ["page", "--check"])
    with pytest.raises(SystemExit) as ended:
        page.main()
    assert ended.value.code == 1
    assert "verify" in capsys.readouterr().out


def test_the_same_result_gives_the_same_plot(tmp_path: Path) -> None:
    points = [
        {"x": x, "rows": x, "seconds": [x / 10], "rows_per_second": [10], "verify_seconds": [x / 20]} for x in (1, 10, 100)
    ]
    store(tmp_path, "growth-size", ratio=0.9, details={"axis": "rows in the table", "points": points})
    (stored,) = load_results(tmp_path)
    for draw in (plot_ratios, plot_growth):
        drawn = []
        for name in ("a.svg", "b.svg"):
            draw(stored.result, tmp_path / name)
            drawn.append((tmp_path / name).read_bytes())
        assert drawn[0] == drawn[1]
        assert b"<svg" in drawn[0]
    assert b"rows in the table" in (tmp_path / "a.svg").read_bytes()


def test_nothing_measured_is_an_empty_page_not_an_error(tmp_path: Path) -> None:
    assert load_results(tmp_path) == []
    assert Stored("x", {"result": {"targets": {}}}).missed == []
