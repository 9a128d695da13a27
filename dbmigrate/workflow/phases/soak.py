"""Soak: the target owns the data, the stream runs backwards, and going back loses nothing."""

from __future__ import annotations

from dbmigrate.domain.ownership import mirrors_back
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Direction
from dbmigrate.workflow.announcing import announce_step, build_application_settings
from dbmigrate.workflow.differences import DifferencesFoundError
from dbmigrate.workflow.fences import keep_closed
from dbmigrate.workflow.phases.contract import judge_contract
from dbmigrate.workflow.phases.verify import must_repair, verify_completely
from dbmigrate.workflow.run import Run
from dbmigrate.workflow.verification import describe


def work(run: Run) -> Phase | None:
    """Stream back until asked to stop; with `run --until soak`, until the soak's own gate has passed."""
    _, problems = run.migration.build_routes(Direction.REVERSE)
    if problems:
        # Said by `check` before anything moved: this configuration has no way back.
        while not run.should_stop and not (run.until is Phase.SOAK and _has_soaked(run)):
            keep_closed(run.migration.source, run.migration.config.cutover.fence)
            run.wait(0.5, reason=f"no way back: {problems[0].table}: {problems[0].message}")
        return None
    stream = run.ensure_stream(Direction.REVERSE)
    if not _mirror_back(run):
        return None
    if must_repair(run, Direction.REVERSE):
        result = verify_completely(run, Direction.REVERSE, repair=True)
        if result is not None and not result.is_clean:
            raise DifferencesFoundError(describe(result, direction=Direction.REVERSE, position=""))
    while not run.should_stop:
        keep_closed(run.migration.source, run.migration.config.cutover.fence)
        if run.until is Phase.SOAK and _has_soaked(run):
            stream.drain(timeout_seconds=600)
            stream.save_now()
            return None
        run.wait(0.5, reason="streaming back; `dbmigrate revert` goes back")
    return None


def _mirror_back(run: Run) -> bool:
    """Where configured, let the application mirror to the source, which has lost its triggers by now; False when asked
    to stop first."""
    is_wanted = mirrors_back(Phase.SOAK, build_application_settings(run.migration))
    if not is_wanted or (run.row is not None and run.row.mirror):
        return True
    return announce_step(run, "writes are mirrored to the source", mirror=True)


def _has_soaked(run: Run) -> bool:
    return judge_contract(run.migration).has_passed
