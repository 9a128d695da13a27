"""The reference pages are what the generator writes now."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from dbmigrate.cli.reference import main, render_cli_reference, render_pages
from dbmigrate.config import Config
from dbmigrate.config.describing import list_tables

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", render_pages())
def test_page_is_up_to_date(name: str) -> None:
    """Stale? Run: python -m dbmigrate.cli.reference."""
    assert (DOCS / name).read_text(encoding="utf-8") == render_pages()[name]


def test_every_key_says_what_it_means_and_accepts() -> None:
    """No key without words, and an example wherever there is no default to show."""
    for table in list_tables():
        assert table.description, table.name
        for option in table.options:
            assert option.description.endswith("."), f"[{table.name}] {option.key}"
            assert option.accepts, f"[{table.name}] {option.key}"
            assert option.default or option.example, f"[{table.name}] {option.key}"


def test_every_example_is_right() -> None:
    """What the page shows can be copied as it stands."""
    examples = re.findall(r"```toml\n(.*?)```", render_pages()["configuration.md"], re.DOTALL)
    assert len(examples) >= 10
    for example in examples:
        written = {
            "migration": {"id": "a"},
            "source": {"url": "mysql://u@one/shop"},
            "target": {"url": "mysql://u@two/shop"},
        }
        for name, section in tomllib.loads(example).items():
            written[name] = written.get(name, {}) | section
        Config.model_validate(written)


def test_generator_writes_the_pages(tmp_path: Path) -> None:
    """The command creates the directory and names what it wrote."""
    result = CliRunner().invoke(main, [str(tmp_path / "docs")])
    assert result.exit_code == 0
    written = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "docs").iterdir()}
    assert written == render_pages()


@click.group()
@click.option("-c", "--config", default="dbmigrate.toml", show_default=True, help="The configuration.")
def sample() -> None:
    """Move a database.

    \b
    Kept as it is.
    \f
    Not for readers.
    """


@sample.command()
@click.argument("name")
@click.option("--repair", is_flag=True, help="Mend | what differs.")
@click.option("--secret-way", hidden=True, help="Not shown.")
def verify(name: str, repair: bool, secret_way: str) -> None:
    """Compare both sides."""


@sample.command(hidden=True)
def internal() -> None:
    """Not shown."""


def test_cli_reference_of_a_small_group() -> None:
    """Every visible command with its usage and options; nothing hidden."""
    page = render_cli_reference(sample, name="tool")
    assert "## `tool`\n\nMove a database.\n\nKept as it is.\n" in page
    assert "```\ntool [OPTIONS] COMMAND [ARGS]...\n```" in page
    assert "| `-c, --config TEXT` | The configuration. [default: dbmigrate.toml] |" in page
    assert "## `tool verify`\n\nCompare both sides.\n\n```\ntool verify [OPTIONS] NAME\n```" in page
    assert "| `--repair` | Mend \\| what differs. |" in page
    assert "`NAME`" not in page
    for hidden in ("internal", "secret", "Not shown", "Not for readers", "\b", "\f"):
        assert hidden not in page
