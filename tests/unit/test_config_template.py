"""The first configuration that ``dbmigrate init`` writes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dbmigrate.config import load_config, render_template
from dbmigrate.config.describing import list_tables
from dbmigrate.domain.errors import ConfigurationError


def test_template_loads(tmp_path: Path) -> None:
    """What is written can be used at once."""
    path = tmp_path / "dbmigrate.toml"
    path.write_text(
        render_template(
            migration_id="shop",
            source_url="mysql://a@old/shop",
            target_url="mariadb://b@new:3307/shop",
        ),
        encoding="utf-8",
    )
    config = load_config(path)
    assert config.migration.id == "shop"
    assert config.source.password_env == "SOURCE_PASSWORD"
    assert (config.target.host, config.target.port) == ("new", 3307)


def test_every_commented_line_is_right(tmp_path: Path) -> None:
    """With every #key made real, the only complaint is the password that is now given twice."""
    text = re.sub(r"^#(?=[a-z_]+ = |\[)", "", render_template(), flags=re.MULTILINE)
    path = tmp_path / "dbmigrate.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        load_config(path)
    assert str(caught.value).count("password_env and password_file are both given") == 2
    assert "2 problems" in str(caught.value)


def test_every_key_is_shown() -> None:
    """A new key is in the next template by itself (TLS is one line there, by_name is for rare names)."""
    template = render_template()
    for table in list_tables():
        if table.name.endswith(".tls"):
            continue
        for option in table.options:
            assert f"{option.key} = " in template or option.key == "by_name", f"[{table.name}] {option.key}"


@pytest.mark.parametrize(
    "arguments",
    [
        {"migration_id": "Shop 1"},
        {"source_url": "mysql://a:b@old/shop"},
        {"target_url": 'x"\n[copy]\nworkers = 0'},
    ],
)
def test_template_that_would_not_load_is_refused(arguments: dict[str, str]) -> None:
    """``init`` complains at once, not the next command."""
    with pytest.raises(ConfigurationError, match="1 problem in"):
        render_template(**arguments)
