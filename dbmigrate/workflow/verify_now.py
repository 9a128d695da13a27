"""``dbmigrate verify``: a verification outside the walk through the phases.

With a runner at work it verifies beside it and hands differing keys to it; without one it takes the lease, streams
by itself until both sides can be compared, and gives the lease back.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from dbmigrate.domain.errors import FatalError, RefusedError
from dbmigrate.domain.phases import MEANINGS
from dbmigrate.domain.routes import Direction
from dbmigrate.verifying.verifier import Verification
from dbmigrate.workflow.migration import Migration
from dbmigrate.workflow.phases.verify import verify_completely
from dbmigrate.workflow.requests import require_state
from dbmigrate.workflow.runner import Runner
from dbmigrate.workflow.verification import (
    VERIFICATION,
    build_executors,
    build_verifier,
    describe,
    mismatched_keys,
)

log = logging.getLogger(__name__)

SETTLE_SECONDS = 120.0
REPAIR_ROUNDS = 3


def verify_now(migration: Migration, *, repair: bool) -> dict[str, Any]:
    """Compare everything now and return the evidence.

    Raises:
        RefusedError: nothing has been copied yet, or the migration is over.
    """
    state = require_state(migration.store)
    direction = MEANINGS[state.phase].streaming
    if direction is None:
        raise RefusedError(
            f"there is nothing to compare in phase {state.phase.value}", place=f"migration {migration.id}",
            hint="`dbmigrate run` goes on with the migration",
        )  # fmt: skip
    if migration.store.is_leased():
        try:
            return _verify_beside(migration, direction, repair=repair)
        except _RunnerEndedError:
            log.warning("the runner has ended meanwhile: comparing again without it")
    result = Runner(migration).run_once(lambda run: verify_completely(run, direction, repair=repair))
    if result is None:
        raise FatalError("the verification was interrupted", place=f"migration {migration.id}", hint="run it again")
    return describe(result, direction=direction, position="")


class _RunnerEndedError(Exception):
    """Nobody streams any more: what is waited for will not come."""


def _require_runner(migration: Migration) -> None:
    if not migration.store.is_leased():
        raise _RunnerEndedError


def _verify_beside(migration: Migration, direction: Direction, *, repair: bool) -> dict[str, Any]:
    """Beside a live runner: it streams, we compare."""
    content: dict[str, Any] = {}
    for attempt in range(REPAIR_ROUNDS if repair else 1):
        result = _compare_beside(migration, direction)
        checkpoint = migration.store.load_checkpoint(direction)
        content = describe(result, direction=direction, position=str(checkpoint.position) if checkpoint else "")
        migration.store.save_evidence(VERIFICATION, content)
        if result.is_clean or not repair or attempt == REPAIR_ROUNDS - 1:
            break
        migration.store.save_repairs(mismatched_keys(result))
        _wait_for_repairs(migration)
    return content


def _compare_beside(migration: Migration, direction: Direction) -> Verification:
    executors = build_executors(migration.config.verify.workers)
    try:
        kind = migration.config.verify.executor
        return build_verifier(
            migration, direction, lambda: _settle_beside(migration, direction), executors, kind=kind
        ).run()
    finally:
        for executor in executors:
            executor.shutdown()


def _settle_beside(migration: Migration, direction: Direction) -> None:
    """Commit a heartbeat and wait until the runner's checkpoint has reached it."""
    beat = migration.servers[direction.origin].heartbeat.pass_barrier()
    until = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < until:
        checkpoint = migration.store.load_checkpoint(direction)
        if checkpoint is not None and checkpoint.beat >= beat:
            return
        _require_runner(migration)
        time.sleep(0.1)
    raise FatalError(
        "the runner's stream does not come forward", place=f"migration {migration.id}",
        hint="`dbmigrate status` shows its lag; verify again when it is low",
    )  # fmt: skip


def _wait_for_repairs(migration: Migration) -> None:
    until = time.monotonic() + SETTLE_SECONDS
    while migration.store.has_repairs():
        if time.monotonic() > until:
            raise FatalError(
                "the runner has not taken the repairs", place=f"migration {migration.id}", hint="try again"
            )
        _require_runner(migration)
        time.sleep(0.25)
