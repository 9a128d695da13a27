"""The work of each phase, one module each; ``WORK`` says which.

A module's ``work(run)`` does what its phase is for until the gate passes and returns the phase that follows, or None
when it was asked to stop. Each may be killed at any point and started again.
"""

from __future__ import annotations

from collections.abc import Callable

from dbmigrate.domain.phases import Phase
from dbmigrate.workflow.phases import (
    catch_up,
    contract,
    copy,
    cutover,
    dual_write,
    expand,
    plan,
    ramp_reads,
    revert,
    shadow_read,
    soak,
    verify,
)
from dbmigrate.workflow.run import Run

WORK: dict[Phase, Callable[[Run], Phase | None]] = {
    Phase.PLAN: plan.work,
    Phase.EXPAND: expand.work,
    Phase.COPY: copy.work,
    Phase.CATCH_UP: catch_up.work,
    Phase.DUAL_WRITE: dual_write.work,
    Phase.SHADOW_READ: shadow_read.work,
    Phase.VERIFY: verify.work,
    Phase.RAMP_READS: ramp_reads.work,
    Phase.CUTOVER: cutover.work,
    Phase.SOAK: soak.work,
    Phase.REVERTING: revert.work,
    Phase.CONTRACT: contract.work,
}
