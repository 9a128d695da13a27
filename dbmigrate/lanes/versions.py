"""Alembic's own table: which revisions stand in it, and writing the next one as Alembic would.

With one branch a lane the table has one row a lane, and fewer where a revision depends on one of another lane: Alembic's
own code decides which rows a revision replaces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from alembic.runtime.migration import HeadMaintainer, MigrationContext, RevisionStep
from sqlalchemy.pool import NullPool

from dbmigrate.domain.errors import FatalError
from dbmigrate.lanes.environment import Environment
from dbmigrate.mysql.faults import translate_fault
from dbmigrate.mysql.sessions import Endpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from alembic.script.base import Script


class Versions:
    """The table of one database."""

    def __init__(self, endpoint: Endpoint, schema: str, environment: Environment) -> None:
        self._place = endpoint.place
        self._scripts = environment.scripts
        self._engine = sa.create_engine(
            "mysql+pymysql://", creator=lambda: endpoint.connect(schema=schema), poolclass=NullPool, hide_parameters=True
        )

    def load_applied(self) -> frozenset[str]:
        """Every revision that the database has: the rows, and all that they build or depend on.

        Raises:
            FatalError: a row names a revision that has no file.
        """
        found: dict[str, Any] = {}
        waiting = list(self._call(lambda context: context.get_current_heads()))
        while waiting:
            name = waiting.pop()
            for script in self._find(name):
                if script.revision not in found:
                    found[script.revision] = script
                    waiting += _names(script.down_revision) + _names(script.dependencies)
        return frozenset(found)

    def _find(self, name: str) -> tuple[Script, ...]:
        try:
            return tuple(script for script in self._scripts.get_revisions(name) if script is not None)
        except Exception as fault:  # Alembic's own, and whatever importing a file raises
            raise FatalError(
                f"the database has revision {name!r}, which has no file", place=self._place, cause=str(fault),
                hint="use the revisions that this database was made with",
            ) from fault  # fmt: skip

    def requirements(self, script: Script) -> tuple[str, ...]:
        """The revisions that must be there before: the one it follows, and those it depends on."""
        names = _names(script.down_revision) + _names(script.dependencies)
        return tuple(found.revision for name in names for found in self._find(name))

    def save_upgraded(self, script: Script) -> None:
        """Record that the revision is there now."""
        self._step(script, is_upgrade=True)

    def save_downgraded(self, script: Script) -> None:
        """Record that it is there no more."""
        self._step(script, is_upgrade=False)

    def stamp(self, heads: Sequence[str]) -> None:
        """Write these rows into an empty table."""
        for head in heads:
            self._find(head)
        self._call(lambda context: context.stamp(self._scripts, tuple(heads)))  # type: ignore[arg-type]  # it takes several

    def _step(self, script: Script, *, is_upgrade: bool) -> None:
        def verb(context: MigrationContext) -> None:
            context._ensure_version_table()
            maintainer = HeadMaintainer(context, context.get_current_heads())
            maintainer.update_to_step(RevisionStep(self._scripts.revision_map, script, is_upgrade))

        self._call(verb)

    def _call(self, work: Callable[[MigrationContext], Any]) -> Any:
        try:
            with self._engine.begin() as connection:
                return work(MigrationContext.configure(connection=connection))
        except sa.exc.DBAPIError as fault:
            original = fault.orig if isinstance(fault.orig, Exception) else fault
            raise translate_fault(original, place=self._place, doing="Alembic's table") from None


def _names(given: Any) -> list[str]:
    """Alembic writes nothing, one name, or several."""
    return [] if given is None else [given] if isinstance(given, str) else list(given)
