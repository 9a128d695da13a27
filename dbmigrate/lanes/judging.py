"""The lint before a run: a revision that it refuses does not begin.

Apart from the lint because a run knows more: which revisions have begun, and were judged then, and which tables a person
lets be copied.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from dbmigrate.domain.errors import RefusedError
from dbmigrate.domain.lanes import Placed
from dbmigrate.lanes.database import read_database
from dbmigrate.lanes.lint import LintedOperation, LintedRevision, format_verdict, lint
from dbmigrate.lanes.statements import parse_statement

if TYPE_CHECKING:
    from dbmigrate.domain.lanes import Lane
    from dbmigrate.lanes.environment import Environment
    from dbmigrate.mysql.sessions import Endpoint

MOST_NAMED = 3


def require_clean(
    environment: Environment, endpoint: Endpoint, lane: Lane, *, begun: Collection[str], may_copy: Collection[str]
) -> None:
    """Nothing that the lane is about to run is refused.

    Raises:
        RefusedError: something is: what it would do, and where to read the safe sequence.
    """
    database = read_database(endpoint)
    for one in lint(environment, database.version, tables=database.tables, heads=database.heads):
        if one.lane is not lane or one.is_applied or one.revision in begun:
            continue
        refusals = _find_refusals(one, endpoint.section.schema, may_copy)
        if refusals:
            raise RefusedError(
                f"revision {one.revision} is not safe to run", place=one.path,
                cause="; ".join(refusals[:MOST_NAMED]),
                hint="`dbmigrate lanes lint` shows the safe sequence; what you know better: --skip-lint",
            )  # fmt: skip


def _find_refusals(revision: LintedRevision, schema: str, may_copy: Collection[str]) -> list[str]:
    faults = [format_verdict(verdict) for verdict in revision.faults if not isinstance(verdict, Placed)]
    operations = [
        format_verdict(operation.verdict)
        for operation in revision.operations
        if not isinstance(operation.verdict, Placed) and not _may_copy(operation, schema, may_copy)
    ]
    return faults + operations


def _may_copy(operation: LintedOperation, schema: str, may_copy: Collection[str]) -> bool:
    """Whether a person has allowed the table of this operation to be copied: then its class does not matter."""
    tables = [parse_statement(text, schema).tables[:1] for text in operation.statements]
    return bool(tables) and all(names and names[0].name in may_copy for names in tables)
