"""One migration as one JSON-ready object: what ``status --json`` and ``run --json`` print."""

from __future__ import annotations

from typing import Any

from dbmigrate.mysql.control import ControlStore
from dbmigrate.workflow.requests import read_published_status, require_state
from dbmigrate.workflow.switch import SWITCH
from dbmigrate.workflow.verification import VERIFICATION


def summarise_migration(store: ControlStore) -> dict[str, Any]:
    """State, progress, evidence and history."""
    state = require_state(store)
    verified = store.load_evidence(VERIFICATION)
    status = read_published_status(store).to_json()
    return {
        **status,
        "requested": state.requested,
        "holder": state.lease_holder if store.is_leased() else "",
        "created_at": state.created_at.isoformat(),
        "verification": {"at": verified.at.isoformat(), **verified.content} if verified else None,
        "switches": [{"at": e.at.isoformat(), **e.content} for e in store.load_all_evidence(SWITCH)],
        "transitions": [
            {
                "at": t.at.isoformat(timespec="milliseconds"), "from": t.from_phase.value, "to": t.to_phase.value,
                "reason": t.reason, "actor": t.actor, "epoch": t.epoch,
            }
            for t in store.load_transitions()
        ],
    }  # fmt: skip
