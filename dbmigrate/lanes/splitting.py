"""What ``--autogenerate`` found, split into up to three revisions: one a lane, each depending on the one before.

Apart from the lint because it runs inside Alembic: ``env.py`` passes ``split_into_lanes`` as
``process_revision_directives``, so that ``alembic revision --autogenerate`` and ``dbmigrate lanes new --autogenerate`` write
the same. What the rules refuse is written nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from alembic import util
from alembic.operations import ops
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from dbmigrate.domain.errors import RefusedError
from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.domain.lanes import Lane, Placed, Refused, Verdict
from dbmigrate.lanes.lint import format_verdict, judge_operations
from dbmigrate.lanes.recording import record_operation
from dbmigrate.lanes.rules.adding_columns import REQUIRED
from dbmigrate.lanes.rules.changing_columns import SEVERAL
from dbmigrate.lanes.tables import Tables, build_tables
from dbmigrate.mysql.introspection import read_schema, read_server_version


class AutogenerateRefused(RefusedError, util.CommandError):  # noqa: N818  # in both trees: Alembic's command reports it
    """Differences that belong into no lane as they are."""


class RefusedScript(ops.MigrationScript):
    """Stands first among the revisions where one may not be written, so that none is.

    ``alembic check`` only looks whether there are differences; it must see them, and not the refusal.
    """

    refusal: AutogenerateRefused

    @property
    def head(self) -> Any:
        """What Alembic asks for when it begins to write."""
        raise self.refusal

    @head.setter
    def head(self, value: Any) -> None:
        """Alembic's own constructor sets it."""


def split_into_lanes(context: MigrationContext, revision: Any, directives: list[ops.MigrationScript]) -> None:
    """For ``process_revision_directives``: replace the one revision by one for each lane that has operations."""
    if not directives:
        return
    (whole,) = directives
    operations = list(_flatten(whole.upgrade_ops_list[0].ops))
    found = _Sorted(*_look(context))
    for operation, table in operations:
        found.add(operation, table)
    script_directory = _script_directory(context)
    directives[:] = list(_build_scripts(whole, found, script_directory))


def _look(context: MigrationContext) -> tuple[ServerVersion, Tables]:
    """The database that the models were compared with."""
    connection: Any = context.connection
    raw = connection.connection.driver_connection
    version = read_server_version(raw)
    return version, build_tables(read_schema(raw, version, connection.engine.url.database or ""))


def _script_directory(context: MigrationContext) -> ScriptDirectory:
    script = context.script
    if script is None:
        raise util.CommandError("the lanes need a script directory")
    return script


Found = tuple[ops.MigrateOperation, ops.ModifyTableOps | None]


def _flatten(found: Iterable[ops.MigrateOperation]) -> Iterator[Found]:
    for operation in found:
        if isinstance(operation, ops.ModifyTableOps):
            yield from ((one, operation) for one in operation.ops)
        else:
            yield operation, None


class _Sorted:
    """The operations by lane; those that may not run with the reason."""

    def __init__(self, version: ServerVersion, tables: Tables) -> None:
        self._version, self._tables = version, tables
        self._created: set[str] = set()
        self.lanes: dict[Lane, list[Found]] = {lane: [] for lane in Lane}
        self.refused: list[tuple[Found, Verdict]] = []

    def add(self, operation: ops.MigrateOperation, table: ops.ModifyTableOps | None) -> None:
        """Put the operation where it belongs."""
        before = self._tables.copy()
        recorded = record_operation(operation, self._version)
        (judged,) = judge_operations([recorded], self._version, self._tables, created=self._created)
        if isinstance(judged.verdict, Placed):
            self.lanes[judged.verdict.lane].append((operation, table))
        elif parts := split_operation(operation, judged.verdict):
            self._tables = before
            for part in parts:
                self.add(part, table)
        else:
            self.refused.append(((operation, table), judged.verdict))


def split_operation(operation: ops.MigrateOperation, verdict: Verdict) -> tuple[ops.MigrateOperation, ...]:
    """What does the same in several lanes; nothing where that is not known."""
    if verdict.rule == REQUIRED.name and isinstance(operation, ops.AddColumnOp):
        return split_required_column(operation)
    is_mixed = verdict.rule == SEVERAL.name and isinstance(operation, ops.AlterColumnOp)
    if is_mixed and isinstance(operation, ops.AlterColumnOp) and operation.modify_nullable is False:
        return split_altered_column(operation)
    return ()


def split_altered_column(operation: ops.AlterColumnOp) -> tuple[ops.AlterColumnOp, ops.AlterColumnOp]:
    """A column that changes and must not be NULL any more: first the change, then the rule, each restating the rest."""
    where = {"schema": operation.schema, **operation.kw}
    type_, default, comment = operation.modify_type, operation.modify_server_default, operation.modify_comment
    changed = ops.AlterColumnOp(
        operation.table_name, operation.column_name, existing_type=operation.existing_type,
        existing_nullable=operation.existing_nullable, existing_server_default=operation.existing_server_default,
        existing_comment=operation.existing_comment, modify_type=type_, modify_server_default=default,
        modify_comment=comment, **where,
    )  # fmt: skip
    required = ops.AlterColumnOp(
        operation.table_name, operation.column_name,
        existing_type=operation.existing_type if type_ is None else type_,
        existing_nullable=operation.existing_nullable,
        existing_server_default=operation.existing_server_default if default is False else default,
        existing_comment=operation.existing_comment if comment is False else comment,
        modify_nullable=False, **where,
    )  # fmt: skip
    return changed, required


def split_required_column(operation: ops.AddColumnOp) -> tuple[ops.AddColumnOp, ops.AlterColumnOp]:
    """A column that must not be NULL: first one that may, then, after the backfill, the rule."""
    column = operation.column._copy()
    column.nullable = True
    added = ops.AddColumnOp(operation.table_name, column, schema=operation.schema)
    required = ops.AlterColumnOp(
        operation.table_name, column.name, schema=operation.schema, existing_type=column.type, existing_nullable=True,
        existing_comment=column.comment, modify_nullable=False,
    )  # fmt: skip
    return added, required


def _build_scripts(
    whole: ops.MigrationScript, found: _Sorted, scripts: ScriptDirectory
) -> Iterator[ops.MigrationScript]:
    if found.refused:
        refused = RefusedScript(whole.rev_id, *_both_ways([one for one, _ in found.refused]), message=whole.message)
        refused.refusal = _refuse([verdict for _, verdict in found.refused])
        yield refused
        return
    before: str | None = None
    for lane in [lane for lane in Lane if found.lanes[lane]] or [Lane.EXPAND]:
        rev_id = whole.rev_id if before is None else util.rev_id()
        yield ops.MigrationScript(
            rev_id, *_both_ways(found.lanes[lane]), message=whole.message, imports=whole.imports,
            head=f"{lane.value}@head", version_path=find_version_path(scripts, lane), depends_on=before,
        )  # fmt: skip
        before = rev_id


def find_version_path(scripts: ScriptDirectory, lane: Lane) -> str | None:
    """The folder of the lane's revisions; None where the project has one folder for all."""
    folders = [path for path in map(str, scripts.version_locations or ()) if Path(path).name == lane.value]
    return folders[0] if folders else None


def _both_ways(found: Iterable[Found]) -> tuple[ops.UpgradeOps, ops.DowngradeOps]:
    upgrade = ops.UpgradeOps(list(_group(found)))
    return upgrade, upgrade.reverse()


def _group(found: Iterable[Found]) -> Iterator[ops.MigrateOperation]:
    """Operations on one table together again, as Alembic renders them."""
    for operation, table in found:
        if table is None:
            yield operation
        else:
            yield ops.ModifyTableOps(table.table_name, [operation], schema=table.schema)


def _refuse(verdicts: Iterable[Verdict]) -> AutogenerateRefused:
    lines = []
    for verdict in verdicts:
        lines.append(format_verdict(verdict))
        if isinstance(verdict, Refused):
            lines += [f"  {step.stage.value}: {step.text}" for step in verdict.instead]
    return AutogenerateRefused(
        "some differences belong into no lane as they are; no revision was written", place="autogenerate",
        cause="\n".join(lines), hint="change the models step by step, or write these revisions by hand",
    )  # fmt: skip
