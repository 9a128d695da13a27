"""The contract guard: nothing is hidden or dropped while somebody still uses it.

Live instances of the application say which columns their models map; the server says which stored objects, foreign
keys and statements name them. What could not be searched is said, not taken for an answer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from dbmigrate.domain.errors import RefusedError
from dbmigrate.domain.mappings import InstanceMapping
from dbmigrate.lanes.statements import Dropped
from dbmigrate.mysql.dependents import Uses, find_statements, find_stored_uses
from dbmigrate.mysql.sessions import Session
from dbmigrate.mysql.statement_tokens import split_statement

log = logging.getLogger(__name__)

MOST_NAMED = 10


@dataclass(frozen=True)
class Guard:
    """``read_instances`` gives the live instances; ``accepted`` are patterns of uses that a person has looked at."""

    session: Session
    read_instances: Callable[[], Sequence[InstanceMapping]] = tuple
    accepted: Sequence[str] = ()

    def require_unused(
        self, dropped: Sequence[Dropped], *, statements: Sequence[str], seen_within_seconds: float
    ) -> tuple[str, ...]:
        """Nobody uses what ``statements`` drop; returns what could not be searched.

        Raises:
            RefusedError: somebody does, and who.
        """
        uses = [self._search(one, seen_within_seconds) for one in dropped]
        removed = {token.text.casefold() for text in statements for token in split_statement(text)}
        found = [
            f"{use} uses {one}"
            for one, each in zip(dropped, uses, strict=True)
            for use in each.found
            if not (_is_removed_too(use, removed) or any(fnmatchcase(use, pattern) for pattern in self.accepted))
        ]
        if found:
            raise RefusedError(
                "what would be dropped is still used", place=", ".join(map(str, dropped)),
                cause="; ".join(found[:MOST_NAMED]) + (f"; and {len(found) - MOST_NAMED} more" if found[MOST_NAMED:] else ""),
                hint="deploy a version without it, or drop the stored object first; a use that is none: --accept 'PATTERN' "
                "of its name",
            )  # fmt: skip
        unseen = tuple(dict.fromkeys(text for each in uses for text in each.not_searched))
        for text in unseen:
            log.warning("not searched: %s", text)
        return unseen

    def _search(self, dropped: Dropped, seen_within_seconds: float) -> Uses:
        stored = find_stored_uses(self.session, dropped.table, dropped.column)
        seen = find_statements(
            self.session, dropped.table, dropped.column, seen_within_seconds=seen_within_seconds
        )
        instances = tuple(
            f"instance {one.describe()}"
            for one in self.read_instances()
            if one.may_use(dropped.table.name, dropped.column)
        )
        return Uses((*instances, *stored.found, *seen.found), (*stored.not_searched, *seen.not_searched))


def _is_removed_too(use: str, removed: set[str]) -> bool:
    """Whether the same revision drops this foreign key (or view) by its name."""
    kind, _, rest = use.partition(" ")
    if kind == "foreign":
        return rest.removeprefix("key ").split(" of ")[0].casefold() in removed
    return kind in ("view", "trigger", "routine", "event") and rest.rpartition(".")[2].casefold() in removed
