"""Telling the application: the fence row on both sides, saved at every change with a growing epoch.

Apart from the runner because phases and the switch say something, too: a step of the ramp, mirrors that pause. The
row is locked by every write transaction of the application, so saving it waits for them and holds back those that
come later; a save that does not get the row soon is given up and tried again, so one long transaction costs the others
a moment now and then.
"""

from __future__ import annotations

import logging
from dataclasses import fields, replace

from dbmigrate.domain.ownership import ApplicationSettings, FenceRow, decide_owner, row_for
from dbmigrate.domain.phases import MEANINGS, Phase
from dbmigrate.domain.routes import Side
from dbmigrate.mysql.activity import interrupting_after
from dbmigrate.mysql.application_rules import ApplicationRules, save_rules
from dbmigrate.mysql.faults import InterruptedQueryError, RolledBackError
from dbmigrate.mysql.fence import build_fence_save, load_fence_row, seize_fence_row
from dbmigrate.mysql.open_transactions import read_open_transactions
from dbmigrate.workflow.migration import Migration
from dbmigrate.workflow.mirror_plans import save_mirror_plans
from dbmigrate.workflow.run import Run

log = logging.getLogger(__name__)

FENCE_ROW = "fence_row"
"""Evidence that both sides have their row: ``{"exists": bool}``. Its age is the age of the row."""

MOST_NAMED = 3
SEIZE_SECONDS = 1.0
"""How long a moment is looked out for at which nobody holds the row: nobody is held back meanwhile."""
MOST_WAIT_SECONDS = 0.25
"""While a save waits for one long transaction, every other writer waits behind it."""


def build_application_settings(migration: Migration) -> ApplicationSettings:
    """What the configuration lets the application do."""
    app = migration.config.app
    if not app.enabled:
        return ApplicationSettings()
    return ApplicationSettings(mirror=app.mirror, mirror_in_soak=app.mirror_in_soak, shadow_share=app.shadow_share)


def save_application_rules(migration: Migration) -> None:
    """Leave instances what the configuration says to them: before the row, they read it when they see a new one."""
    app = migration.config.app
    rules = ApplicationRules(**{each.name: getattr(app, each.name) for each in fields(ApplicationRules)})
    migration.store.call(lambda connection: save_rules(connection, migration.id, rules))


def load_true_row(migration: Migration, *, is_final: bool = False) -> FenceRow | None:
    """What the two rows together say; ``is_final`` waits for transactions that are about to change one.

    Raises:
        AmbiguousError: they contradict each other.
    """

    def load(side: Side) -> FenceRow | None:
        with migration.servers[side].pool.borrow() as session:
            return load_fence_row(session, migration.id, is_final=is_final)

    rows = [migration.retry.retrying(lambda side=side: load(side), idempotent=True) for side in Side]  # type: ignore[misc]
    return decide_owner(*rows)


def announce_state(run: Run) -> bool:
    """Make both rows say what the migration's state says. False when asked to stop first: then it is done by whoever
    works on the phase next.

    Where a row of this very epoch exists, it stands: a step within the phase may have set more than the phase says.
    """
    state, migration = run.state, run.migration
    if MEANINGS[state.phase].owner is None or state.phase in (Phase.ABORTED, Phase.DONE):
        return True
    row = load_true_row(migration) if migration.config.app.enabled else None
    if row is None or row.epoch < state.epoch:
        row = row_for(state.phase, state.epoch, build_application_settings(migration))
        assert row is not None  # noqa: S101  # the owner is known
    return _announce(run, row)


def ensure_announced(run: Run) -> bool:
    """The same for an application, where this runner has not said it yet: one that died may not have come to it."""
    is_known = run.row is not None and run.row.epoch >= run.state.epoch
    return is_known or not run.migration.config.app.enabled or announce_state(run)


def announce_step(
    run: Run, reason: str, *, mirror: bool | None = None, read_share: float | None = None
) -> bool:
    """Change what the row lets the application do within a phase: a new epoch with an audit row of its own.

    Returns False when asked to stop before both sides had it.
    """
    row = run.row or row_for(run.state.phase, run.state.epoch, build_application_settings(run.migration))
    assert row is not None  # noqa: S101  # only phases with a known owner have steps
    run.state = run.migration.store.save_step(run.state, actor=run.actor, reason=reason)
    log.info("%s: %s", run.state.phase.value, reason)
    return _announce(
        run,
        replace(
            row,
            epoch=run.state.epoch,
            phase=run.state.phase,
            mirror=row.mirror if mirror is None else mirror,
            read_share=row.read_share if read_share is None else read_share,
        ),
    )


def _announce(run: Run, row: FenceRow) -> bool:
    """Save the row on both sides, the owner's first: until its row has changed, nobody may act on the new one."""
    migration = run.migration
    is_new = run.row is None or run.row.phase is not row.phase
    if migration.config.app.enabled and is_new:
        save_application_rules(migration)
    if row.mirror and (is_new or (run.row is not None and not run.row.mirror)):
        save_mirror_plans(migration)  # before the row: an application reads them when it sees one that mirrors
    for side in (row.owner, row.owner.other):
        while not migration.retry.retrying(lambda side=side: _save(run, side, row), idempotent=True):  # type: ignore[misc]
            if run.interrupted.wait(migration.config.cutover.retry_seconds):
                return False
    run.row = row
    recorded = migration.store.load_evidence(FENCE_ROW)
    if recorded is None or not recorded.content["exists"]:
        migration.store.save_evidence(FENCE_ROW, {"exists": True})
    return True


def _save(run: Run, side: Side, row: FenceRow) -> bool:
    """Whether the row was saved: not, when write transactions held it longer than others can be made to wait."""
    server = run.migration.servers[side]
    budget = min(MOST_WAIT_SECONDS, run.migration.config.cutover.max_write_pause_seconds)
    with server.pool.borrow() as session:
        try:
            with session.transaction():
                seize_fence_row(
                    session, run.migration.id, seconds=SEIZE_SECONDS, pause=run.interrupted.wait,
                    clock=run.migration.around.clock,
                )  # fmt: skip
                with interrupting_after(budget, server.pool, session):
                    session.execute(build_fence_save(run.migration.id, row), doing="the fence row")
        except (InterruptedQueryError, RolledBackError):
            open_ones = read_open_transactions(session)
            named = "; ".join(map(str, open_ones[:MOST_NAMED])) or "a transaction that has ended meanwhile"
            run.waiting_for = f"the fence row of the {side.value} is held by {named}"
            log.warning("%s; trying again", run.waiting_for)
            return False
    return True


def read_row_age_seconds(migration: Migration) -> float | None:
    """For how long both sides have had their row; None where it is not known."""
    recorded = migration.store.load_evidence(FENCE_ROW)
    if recorded is None or not recorded.content["exists"]:
        return None
    return migration.store.read_age_seconds(recorded)


def forget_rows(migration: Migration) -> None:
    """The rows are about to be removed: their age counts anew should they come back."""
    migration.store.save_evidence(FENCE_ROW, {"exists": False})

