"""What the documentation promises exists: links lead somewhere, every command and phase is told."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from dbmigrate.cli import main
from dbmigrate.config.loading import parse_config
from dbmigrate.domain.phases import Phase

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "migrations" / "README.md", ROOT / "bench" / "README.md",
    *sorted(DOCS.rglob("*.md")),
]  # fmt: skip

_LINK = re.compile(r"(?<!!)\[[^\]\n]+\]\(([^)\s]+)\)")
_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def _links(page: Path) -> list[str]:
    text = _CODE.sub("", page.read_text(encoding="utf-8"))
    return [link for link in _LINK.findall(text) if "://" not in link]


def _anchors(page: Path) -> set[str]:
    """Headings as links spell them: lower case, dashes for blanks, other marks dropped."""
    headings = _HEADING.findall(page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    """A relative link names a file that is there, and a heading that is in it."""
    for link in _links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            assert anchor in _anchors(target), link


def test_links_are_found() -> None:
    """The test above looks at something."""
    assert len(_links(ROOT / "README.md")) >= 5


def test_sample_configuration_loads(tmp_path: Path) -> None:
    """The README's ``dbmigrate.toml`` is right as it stands."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    sample = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    assert len(sample) == 1
    (tmp_path / "ca.pem").touch()
    assert parse_config(sample[0], place="README.md", directory=tmp_path).migration.id == "shop-2026-11"


def test_commands_that_are_mentioned_exist() -> None:
    """A `dbmigrate NAME` on the pages is a command."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        named = {name for code in _CODE.findall(text) for name in re.findall(r"(?m)(?:`|^)dbmigrate ([a-z]+)", code)}
        assert named <= {*main.commands}, page


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_command_is_documented(name: str) -> None:
    """A heading, and the usage below it."""
    assert not main.commands[name].hidden
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    assert f"\n## `dbmigrate {name}`\n" in page
    context = click.Context(main.commands[name], info_name=name)
    for parameter in main.commands[name].params:
        if isinstance(parameter, click.Option) and (record := parameter.get_help_record(context)):
            assert f"| `{record[0]}` |" in page


@pytest.mark.parametrize("phase", Phase, ids=lambda phase: phase.value)
def test_every_phase_is_documented(phase: Phase) -> None:
    """In the diagram and in the table."""
    page = (DOCS / "phases.md").read_text(encoding="utf-8")
    assert f"\n| `{phase.value}` | " in page
    diagram = page.split("```mermaid")[1].split("```")[0]
    assert re.search(rf"\b{phase.value}\b", diagram)


@pytest.mark.parametrize("code", range(6))
def test_every_exit_code_is_told(code: int) -> None:
    """In the README's table and in the runbook."""
    for page in (ROOT / "README.md", DOCS / "runbook.md"):
        assert re.search(rf"^(\| {code} \||### Exit code {code}\b)", page.read_text(encoding="utf-8"), re.MULTILINE), (
            page
        )


def test_tests_that_the_page_on_correctness_names_exist() -> None:
    """Files below ``tests/``, and the functions in them."""
    text = (DOCS / "correctness.md").read_text(encoding="utf-8")
    named = re.findall(r"`(?:tests/)?((?:model|races|chaos|property|integration|acceptance|unit)/[\w/.]*)(?:::(\w+))?`", text)
    assert len(named) > 30
    for path, function in named:
        file = ROOT / "tests" / path
        assert file.exists(), path
        assert not function or f"def {function}(" in file.read_text(encoding="utf-8"), function
