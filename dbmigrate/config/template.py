"""The first ``dbmigrate.toml``: what must be written, and everything else as comments with its default.

Apart from loading because it goes the other way; it is made from the same description of the keys, so a new
key is in the next template by itself.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

from dbmigrate.config.describing import TABLE_PLACEHOLDER, Option, OptionTable, format_toml, list_tables
from dbmigrate.config.loading import parse_config

_COMMENT_WIDTH = 100


def render_template(
    *,
    migration_id: str = "my-migration",
    source_url: str = "mysql://migrator@source.example:3306/shop",
    target_url: str = "mysql://migrator@target.example:3306/shop",
) -> str:
    """The text of a configuration that loads as it is.

    Raises:
        ConfigurationError: an argument would not load again, such as a URL with a password.
    """
    chosen = {
        ("migration", "id"): migration_id,
        ("source", "url"): source_url,
        ("source", "password_env"): "SOURCE_PASSWORD",
        ("target", "url"): target_url,
        ("target", "password_env"): "TARGET_PASSWORD",
    }
    paragraphs = ["# A line such as #workers = 4 shows a default or an example. See docs/configuration.md."]
    # [source.tls] and [target.tls] are shown as the one-line form in their section.
    tables = (table for table in list_tables() if not table.name.endswith(".tls"))
    paragraphs.extend("\n".join(_render_table(table, chosen)) for table in tables)
    text = "\n\n".join(paragraphs) + "\n"
    parse_config(text, place="the new configuration", directory=Path())
    return text


def _render_table(table: OptionTable, chosen: Mapping[tuple[str, str], str]) -> Iterator[str]:
    # The second server has the same keys: what they mean is said once.
    is_repeated = table.name == "target"
    yield from _comment("The keys are those of [source]." if is_repeated else table.description)
    yield f"{'#' if TABLE_PLACEHOLDER in table.name else ''}[{table.name}]"
    for option in table.options:
        if option.key == "by_name":
            continue
        if not is_repeated:
            yield from ("", *_comment(option.description))
        value = chosen.get((table.name, option.key))
        yield _render_option(option) if value is None else f"{option.key} = {format_toml(value)}"


def _render_option(option: Option) -> str:
    shown = option.default if option.default not in ("", "[]", "{}") else option.example
    return f"#{option.key} = {shown}"


def _comment(text: str) -> list[str]:
    return textwrap.wrap(
        text, _COMMENT_WIDTH, initial_indent="# ", subsequent_indent="# ", break_long_words=False
    )
