"""A user's project with three lanes, made of what a test writes, and a runner of its lanes on a test's database."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dbmigrate.domain.mappings import InstanceMapping
from dbmigrate.lanes.environment import load_environment
from dbmigrate.lanes.patience import Patience
from dbmigrate.lanes.running import LaneRunner
from dbmigrate.lanes.steps import LaneDatabase, LaneSettings, LaneSurroundings
from dbmigrate.mysql.introspection import read_server_version
from dbmigrate.mysql.sessions import Endpoint

TESTS_OWN = ("statement *",)
"""What a test itself has just asked is in the server's summary of statements, where it keeps one."""
LANES = ("expand", "tighten", "contract")


@dataclass
class Project:
    """An Alembic environment below ``directory``; the first revision of each lane carries its label."""

    directory: Path

    def __post_init__(self) -> None:
        for lane in LANES:
            (self.directory / "versions" / lane).mkdir(parents=True, exist_ok=True)
        (self.directory / "alembic.ini").write_text(
            "[alembic]\nscript_location = %(here)s\npath_separator = newline\nversion_locations =\n"
            + "".join(f"    %(here)s/versions/{lane}\n" for lane in LANES)
        )
        (self.directory / "env.py").write_text("")
        self._last: dict[str, str] = {}

    @classmethod
    def of(cls, directory: Path) -> Project:
        """A project that exists; nothing is written into it."""
        found = cls.__new__(cls)
        found.directory, found._last = directory, {}
        return found

    def revision(
        self, lane: str, name: str, upgrade: Sequence[str], downgrade: Sequence[str] = (), *,
        depends_on: Sequence[str] = (), extra: str = "",
    ) -> Path:  # fmt: skip
        """Write a revision whose functions execute these statements."""

        def body(statements: Sequence[str]) -> str:
            return "\n".join(f"    op.execute({text!r})" for text in statements) or "    pass"

        down = self._last.get(lane)
        path = self.directory / "versions" / lane / f"{name}.py"
        path.write_text(
            textwrap.dedent(f"""\
            from alembic import op
            from dbmigrate.lanes import Backfill
            revision = {name!r}
            down_revision = {down!r}
            branch_labels = {None if down else (lane,)!r}
            depends_on = {list(depends_on) or None!r}
            """)
            + f"{extra}\ndef upgrade():\n{body(upgrade)}\ndef downgrade():\n{body(downgrade)}\n"
        )
        self._last[lane] = name
        return path


def build_runner(
    project: Project, endpoint: Endpoint, *, on_step: Callable[[str], None] = lambda name: None,
    instances: Sequence[InstanceMapping] = (), **settings: Any,
) -> LaneRunner:  # fmt: skip
    """The lanes of ``project`` on a database: impatient, and without a dwell unless asked for."""
    connection = endpoint.connect()
    version = read_server_version(connection)
    connection.close()
    given = {"patience": Patience(1, 3, 0.1, 0.5), "dwell_seconds": 0.0, "quiet_seconds": 0.0, "accepted": TESTS_OWN} | settings
    return LaneRunner(
        LaneDatabase(endpoint, version, endpoint.section.schema, "move"), load_environment(project.directory),
        LaneSettings(**given), around=LaneSurroundings(on_step=on_step), read_instances=lambda: instances,
    )  # fmt: skip
