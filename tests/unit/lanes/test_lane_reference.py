"""The rules on the page are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dbmigrate.cli.lane_reference import BEGIN, END, render_rules, replace_rules
from dbmigrate.domain.lanes import Lane
from dbmigrate.lanes.lint import RULES as REVISION_RULES
from dbmigrate.lanes.rules import RULES

PAGE = Path(__file__).parents[3] / "docs" / "lanes.md"


def test_page_is_up_to_date() -> None:
    """Stale? Run: python -m dbmigrate.cli.reference."""
    page = PAGE.read_text(encoding="utf-8")
    assert replace_rules(page) == page


def test_every_rule_is_told_once_in_its_table() -> None:
    rows = [line for line in render_rules().split("\n") if line.startswith("|") and line.endswith("` |")]
    assert len(rows) == len(RULES) + len(REVISION_RULES)
    for rule in (*RULES, *REVISION_RULES):
        (row,) = [row for row in rows if row.endswith(f"| `{rule.name}` |")]
        lane = next((lane.value for lane in Lane if f"| `{lane.value}` |" in row), None)
        assert lane == (rule.lane.value if rule.lane else None)


def test_no_placeholder_is_left() -> None:
    assert not re.search(r"\{\w+\}", render_rules())


def test_what_is_written_by_hand_stays() -> None:
    assert replace_rules(f"before\n{BEGIN}\nstale\n{END}\nafter").startswith("before\n")
    assert replace_rules(f"before\n{BEGIN}\nstale\n{END}\nafter").endswith("\nafter")
    with pytest.raises(ValueError, match="no place"):
        replace_rules("nothing")
