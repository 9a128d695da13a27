"""The page of a rehearsal: complete, by itself, and safe with whatever names a database has."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from dbmigrate.rehearsal import RehearsalReport, render_page
from dbmigrate.rehearsal.report import (
    FaultSuffered,
    LagSample,
    PhaseTaken,
    RowDifference,
    ServerUsed,
    SwitchMade,
    TableUsed,
    WorkloadDone,
)

EVIL = "<script>alert(1)</script>\"'&"
FULL = RehearsalReport(
    migration=EVIL, servers=(ServerUsed(EVIL, EVIL, EVIL, EVIL),), contents=EVIL, tables=(TableUsed(EVIL, 10, 20, 30, 40_000),),
    phases=(PhaseTaken(EVIL, 1.5, 30.0, EVIL, 12.0), PhaseTaken("soak", 3.0, None, EVIL, None, True)),
    switches=(SwitchMade(EVIL, 12.3),), faults=(FaultSuffered(EVIL, True, True, EVIL, 3.0, EVIL),),
    workload=WorkloadDone(EVIL, 5, 1, {EVIL: 1}, 20.0, EVIL),
    lag=tuple(LagSample(float(i), EVIL if i > 5 else "copy", i / 10 or None, i) for i in range(12)), factor=3.0, rows_compared=9,
    differences=1, first_differences=(RowDifference(EVIL, EVIL),), notes=(EVIL,), failure=EVIL,
)  # fmt: skip
VOID = {"meta", "line"}


class Reader(HTMLParser):
    """Which tags there are, and whether each is closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_no_text_becomes_markup_wherever_it_stands() -> None:
    page = render_page(FULL)
    reader = Reader(page)
    assert "script" not in reader.tags
    assert reader.open == []
    assert page.count("&lt;script&gt;") >= 18
    assert '"\'&' not in page


def test_the_page_needs_nothing_else() -> None:
    page = render_page(FULL)
    reader = Reader(page)
    assert reader.addresses == []
    assert not {"script", "link", "img", "iframe", "object"} & set(reader.tags)
    assert "url(" not in page
    assert "@import" not in page
    assert "default-src 'none'" in page
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page


def test_what_was_found_is_on_the_page() -> None:
    page = render_page(FULL)
    assert "1 rows differ at the end" in page
    assert "12.3 ms" in page
    assert "39.1 KiB" in page
    assert re.search(r"<polyline[^>]+points=\"[\d., ]+\"", page)


def test_an_empty_report_is_a_page_too() -> None:
    page = render_page(RehearsalReport("shop"))
    assert Reader(page).open == []
    assert "it did not come to its end" in page
