"""What one process asks of another's runner, through the control tables, and what it reads back."""

from __future__ import annotations

import time
from collections.abc import Callable

from dbmigrate.config import Config
from dbmigrate.domain.errors import FatalError, RefusedError
from dbmigrate.domain.phases import MEANINGS, Phase
from dbmigrate.domain.routes import Side
from dbmigrate.mysql.control import ControlStore, Evidence, MigrationState
from dbmigrate.mysql.faults import Retry
from dbmigrate.workflow.migration import build_endpoints
from dbmigrate.workflow.status import RunStatus
from dbmigrate.workflow.verification import VERIFICATION

ANSWER_SECONDS = 600.0


def open_store(config: Config) -> ControlStore:
    """The control tables, without touching anything else."""
    endpoint = build_endpoints(config)[Side.TARGET]
    return ControlStore(endpoint, config.migration.id, retry=Retry(give_up_seconds=0.0))


def require_state(store: ControlStore) -> MigrationState:
    """The migration's row.

    Raises:
        RefusedError: it has not been started.
    """
    state = store.load_state() if store.exists() else None
    if state is None:
        raise RefusedError(
            "this migration has not been started", place=f"migration {store.migration_id}",
            hint="`dbmigrate run` starts it",
        )  # fmt: skip
    return state


def read_published_status(store: ControlStore) -> RunStatus:
    """What the runner published last, corrected by the migration's row."""
    state = require_state(store)
    is_leased = store.is_leased()
    known = {"phase": state.phase.value, "epoch": state.epoch, "is_paused": state.is_paused}
    owner = MEANINGS[state.phase].owner
    content = {**state.progress, "migration_id": state.id, "owner": owner.value if owner else "unknown", **known}
    if not is_leased:
        content |= {"lag_seconds": None, "backlog_keys": None, "streaming": "", "waiting_for": "", "holder": ""}
    return RunStatus.from_json(content)


def approve_cutover(store: ControlStore, approver: str) -> Evidence:
    """Record a person's yes to the cutover, bound to the latest verification.

    Raises:
        RefusedError: there is no clean verification to approve.
    """
    require_state(store)
    evidence = store.load_evidence(VERIFICATION)
    if evidence is None or evidence.content["mismatches"] or not evidence.content["is_complete"]:
        raise RefusedError(
            "there is no clean verification to approve", place=f"migration {store.migration_id}",
            hint="`dbmigrate status` shows where the migration stands",
        )  # fmt: skip
    store.save_approval(Phase.CUTOVER, evidence_id=evidence.id, approver=approver)
    return evidence


_ANSWERED: dict[str, Callable[[Phase], bool]] = {
    "abort": lambda phase: phase is Phase.ABORTED,
    "revert": lambda phase: phase in (Phase.CATCH_UP, Phase.VERIFY),
    "cutover": lambda phase: phase is Phase.SOAK,
    "contract": lambda phase: phase is Phase.DONE,
}


def ask_runner(store: ControlStore, request: str, *, timeout_seconds: float = ANSWER_SECONDS) -> RunStatus:
    """Ask the live runner and wait until it has done it.

    Raises:
        RefusedError: it is not possible in this phase.
        FatalError: the runner ended, or did not answer in time.
    """
    phase = require_state(store).phase
    meaning = MEANINGS[phase]
    is_possible = {
        "abort": meaning.may_abort, "revert": meaning.may_revert, "contract": phase in (Phase.SOAK, Phase.CONTRACT),
    }  # fmt: skip
    if not is_possible.get(request, True):
        raise RefusedError(
            f"{request} is not possible in phase {require_state(store).phase.value}",
            place=f"migration {store.migration_id}", hint="docs/phases.md shows what may follow",
        )  # fmt: skip
    if request == "cutover":
        if not MEANINGS[require_state(store).phase].may_revert:
            approve_cutover(store, "the cutover command")
    else:
        store.save_request(request)
    until = time.monotonic() + timeout_seconds
    while time.monotonic() < until:
        if _ANSWERED[request](require_state(store).phase):
            return read_published_status(store)
        if not store.is_leased():
            break
        time.sleep(0.25)
    if _ANSWERED[request](require_state(store).phase):
        return read_published_status(store)
    raise FatalError(
        f"the runner has not carried out {request}", place=f"migration {store.migration_id}",
        hint="`dbmigrate status` shows where it stands; run the command again",
    )  # fmt: skip
