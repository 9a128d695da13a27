"""Revert: the cutover with the roles exchanged. The source owns the data again, and the forward stream goes on."""

from __future__ import annotations

from dbmigrate.domain.errors import RefusedError
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Direction
from dbmigrate.workflow.announcing import ensure_announced
from dbmigrate.workflow.differences import DifferencesFoundError
from dbmigrate.workflow.phases.cutover import finish_interrupted_switch, switch_within_attempts
from dbmigrate.workflow.phases.verify import must_repair, verify_completely
from dbmigrate.workflow.run import Run
from dbmigrate.workflow.verification import describe


def work(run: Run) -> Phase | None:
    """Switch back to the source; asked to stop first, the soak goes on.

    Raises:
        RefusedError: this configuration has no way back.
        DifferencesFoundError: after a lost position, rows differ that repair does not mend.
    """
    if finish_interrupted_switch(run, Direction.REVERSE):
        return Phase.CATCH_UP
    if not ensure_announced(run):
        return None
    _, problems = run.migration.build_routes(Direction.REVERSE)
    if problems:
        raise RefusedError(
            "there is no way back", place=str(problems[0].table), cause=problems[0].message, hint=problems[0].remedy
        )
    run.ensure_stream(Direction.REVERSE)
    if must_repair(run, Direction.REVERSE):
        # The stream lost its place and nobody has proved yet that the source has everything.
        result = verify_completely(run, Direction.REVERSE, repair=True)
        if result is None:
            return None
        if not result.is_clean:
            raise DifferencesFoundError(describe(result, direction=Direction.REVERSE, position=""))
    return Phase.CATCH_UP if switch_within_attempts(run, Direction.REVERSE) else None
