"""The outcome "both sides differ": not a fault of the program, and an exit code of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dbmigrate.domain.errors import DbmigrateError, ExitCode


class DifferencesFoundError(DbmigrateError):
    """A complete verification found differing rows. ``content`` is the recorded evidence."""

    exit_code = ExitCode.DIFFERENCES

    def __init__(self, content: Mapping[str, Any]) -> None:
        examples = "; ".join(
            f"{e['table']} key {e['key']} ({', '.join(e['columns'])})" for e in content["examples"][:5]
        )
        super().__init__(
            f"{content['mismatches']} rows differ", place="verification", cause=examples,
            hint="`dbmigrate verify --repair` makes them equal; find out who writes to the target. Rows that differ again "
            "collide in a unique key that only the target has",
        )  # fmt: skip
        self.content = content
