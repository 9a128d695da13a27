"""Rows that foreign keys changed without events, at the moments when the trace to them is easily lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dbmigrate.config import load_config
from dbmigrate.domain.phases import Phase
from dbmigrate.throwaway.row_comparison import compare
from dbmigrate.workflow.migration import Migration, Surroundings
from dbmigrate.workflow.runner import Runner

CONFIGURATION = """
[migration]
id = "cascades"
[source]
url = "{source}"
password_env = "CASCADES_SOURCE"
[target]
url = "{target}"
password_env = "CASCADES_TARGET"
[throttle]
max_source_write_factor = 0
[cutover]
approval = "auto"
max_write_pause_seconds = 20.0
retry_seconds = 0.1
"""


@pytest.fixture
def move_with_steps(mariadb_pair: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``move_with_steps(on_step)``: cut over, then require equal rows."""
    monkeypatch.setenv("CASCADES_SOURCE", mariadb_pair.source.server.password)
    monkeypatch.setenv("CASCADES_TARGET", mariadb_pair.target.server.password)
    path = tmp_path / "dbmigrate.toml"
    path.write_text(CONFIGURATION.format(source=mariadb_pair.source.url, target=mariadb_pair.target.url))

    def move(on_step: Callable[[str], None]) -> None:
        migration = Migration(load_config(path), around=Surroundings(on_step=on_step))
        try:
            Runner(migration, until=Phase.CUTOVER, assume_yes=True).run()
        finally:
            migration.close()
        with mariadb_pair.source.connect() as source, mariadb_pair.target.connect() as target:
            result = compare(source, target, mariadb_pair.source.schema)
        assert result.differing == 0, result.first

    return move


@pytest.mark.parametrize("action", ["CASCADE", "SET NULL"])
def test_children_of_a_parent_deleted_just_before_its_table_is_truncated(
    action: str, mariadb_pair: Any, move_with_steps: Callable[..., None]
) -> None:
    """TRUNCATE makes the deleted parent's own key moot, but not what the delete did to its children."""
    source = mariadb_pair.source
    source.execute(
        "CREATE TABLE parent (id INT PRIMARY KEY)",
        "CREATE TABLE other (id INT PRIMARY KEY)",
        f"CREATE TABLE child (id INT PRIMARY KEY, parent INT NULL REFERENCES parent (id) ON DELETE {action})",
        "INSERT INTO parent VALUES (1), (2)",
        "INSERT INTO child VALUES (10, 1), (20, 2)",
    )

    stage, delivered_at = [0], [time.monotonic()]

    def on_step(name: str) -> None:
        if name == "stream.delivered":
            delivered_at[0] = time.monotonic()
        elif name == "switch.fence" and stage[0] == 0:
            stage[0] = 1
            source.execute("INSERT INTO other VALUES (1)")
        elif name == "flush.barrier" and stage[0] == 1:
            stage[0] = 2
            source.execute("DELETE FROM parent WHERE id = 1", "SET foreign_key_checks = 0", "TRUNCATE TABLE parent")
            # Beats arrive twice a second until a TRUNCATE is pending: then both wait for the next flush together.
            until = time.monotonic() + 60
            while time.monotonic() - delivered_at[0] < 2.5 and time.monotonic() < until:
                time.sleep(0.05)

    move_with_steps(on_step)
    assert stage == [2]
    rows = ((20, 2),) if action == "CASCADE" else ((10, None), (20, 2))
    assert mariadb_pair.target.execute("SELECT id, parent FROM child ORDER BY id") == rows


def test_a_child_whose_unique_reference_was_emptied_silently_is_not_lost_to_the_child_that_takes_it_over(
    mariadb_pair: Any, move_with_steps: Callable[..., None]
) -> None:
    source = mariadb_pair.source
    source.execute(
        "CREATE TABLE desk (id INT PRIMARY KEY)",
        "CREATE TABLE person (id INT PRIMARY KEY, note INT, desk INT NULL UNIQUE REFERENCES desk (id) ON DELETE SET NULL)",
        "INSERT INTO desk VALUES (1), (2)",
        "INSERT INTO person VALUES (10, 0, 1), (20, 0, NULL)",
    )
    taken = []

    def on_step(name: str) -> None:
        if name == "switch.fence" and not taken:
            taken.append(name)
            source.execute("UPDATE person SET note = 1 WHERE id = 20")
        elif name == "flush.barrier" and len(taken) == 1:
            # The flush of person 20 reads it after this, and has not been told of the desk yet.
            taken.append(name)
            source.execute(
                "DELETE FROM desk WHERE id = 1", "INSERT INTO desk VALUES (1)", "UPDATE person SET desk = 1 WHERE id = 20"
            )

    move_with_steps(on_step)
    assert len(taken) == 2
    assert mariadb_pair.target.execute("SELECT id, desk FROM person ORDER BY id") == ((10, None), (20, 1))
