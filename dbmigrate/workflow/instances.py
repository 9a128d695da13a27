"""The application's instances as a runner sees them: who lives, who follows, what they have counted.

Apart from the gates, which judge it without looking, and from the phases, which all wait in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dbmigrate.domain.evidence import EvidenceTotals, InstanceReport, LatencyHistogram, MismatchKind, count_since
from dbmigrate.domain.ownership import STATE_EXPIRES_SECONDS, FenceRow
from dbmigrate.domain.phases import Phase
from dbmigrate.mysql.evidence import load_expired_reports, load_mismatches, load_reports, remove_instance
from dbmigrate.workflow.announcing import read_row_age_seconds
from dbmigrate.workflow.gates import GateResult, Verdict, judge_acknowledgement, judge_all, judge_row_age
from dbmigrate.workflow.migration import Migration
from dbmigrate.workflow.run import Run
from dbmigrate.workflow.status import ApplicationStatus, InstanceStatus

LOOK_SECONDS = 0.25
MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class Instances:
    """The last report of each instance, by whether it still lives."""

    live: tuple[InstanceReport, ...]
    expired: tuple[InstanceReport, ...]


def read_instances(migration: Migration) -> Instances:
    """As the control tables have them now, by the target's clock."""
    expiry = migration.config.app.instance_expiry_seconds
    return migration.store.call(
        lambda connection: Instances(
            load_reports(connection, migration.id, expiry), load_expired_reports(connection, migration.id, expiry)
        )
    )


def judge_following(run: Run, seen: Instances, *, min_instances: int | None = None) -> GateResult:
    """Whether every live instance has acknowledged the epoch of the run's state."""
    least = run.migration.config.app.min_instances if min_instances is None else min_instances
    return judge_acknowledgement(seen.live, seen.expired, epoch=run.state.epoch, min_instances=least)


def await_evidence(
    run: Run, judge: Callable[[tuple[InstanceReport, ...]], GateResult], *, since: Sequence[InstanceReport] = ()
) -> GateResult | None:
    """Wait until every live instance follows and ``judge`` passes what they have counted after ``since``.

    Returns that verdict, or one that failed, or None when asked to stop. Whether a failure is final is for the
    caller to say. Expired instances are named in a verdict that passed, once, and then forgotten.
    """
    while not run.should_stop:
        seen = read_instances(run.migration)
        following = judge_following(run, seen)
        evidence = judge(count_since(seen.live, since))
        gate = judge_all([following, evidence])
        if gate.verdict is not Verdict.INCONCLUSIVE:
            if gate.has_passed:
                forget_expired(run.migration, seen)
            return gate
        run.wait(LOOK_SECONDS, reason=gate.reason)
    return None


def await_followers(run: Run, *, min_instances: int | None = None, for_a_switch: bool = False) -> bool:
    """Wait until every live instance follows; False when asked to stop. Without an application there is none.

    ``for_a_switch``: and until no instance can be left that has not seen the fence row.
    """
    if not run.migration.config.app.enabled:
        return True
    while not run.should_stop:
        seen = read_instances(run.migration)
        gates = [judge_following(run, seen, min_instances=min_instances)]
        if for_a_switch:
            age = read_row_age_seconds(run.migration)
            gates.append(judge_row_age(age_seconds=age, min_age_seconds=2 * STATE_EXPIRES_SECONDS))
        gate = judge_all(gates)
        if gate.has_passed:
            run.passed_because = gate.reason
            forget_expired(run.migration, seen)
            return True
        run.wait(LOOK_SECONDS, reason=gate.reason)
    return False


def forget_expired(migration: Migration, seen: Instances) -> None:
    """They have been named. One that lives after all is known again as soon as it reports."""

    def forget(report: InstanceReport) -> None:
        migration.store.call(lambda connection: remove_instance(connection, migration.id, report.instance_id))

    for report in seen.expired:
        forget(report)


def describe_mismatches(migration: Migration) -> str:
    """The latest reads that really differed: statement, tables and columns, without a value."""
    found = migration.store.call(
        lambda connection: load_mismatches(connection, migration.id, kinds=[MismatchKind.REAL], most=MOST_NAMED)
    )
    return "; ".join(f"{m.statement} ({', '.join(m.tables)}: {', '.join(m.columns)}): {m.detail}" for m in found)


def read_application_status(run: Run) -> ApplicationStatus | None:
    """What ``status`` shows of the application; None without one."""
    if not run.migration.config.app.enabled:
        return None
    return describe_application(run.row, run.state.phase, run.state.epoch, read_instances(run.migration).live)


def describe_application(
    row: FenceRow | None, phase: Phase, epoch: int, live: Sequence[InstanceReport]
) -> ApplicationStatus:
    """The row and the reports in the words of a status."""
    totals = EvidenceTotals.of(live, phase)
    instances = tuple(
        InstanceStatus(
            r.instance_id, r.host, r.pid, r.library_version, r.epoch, max(0, epoch - r.epoch), r.phase.value,
            r.seen_at.isoformat(timespec="milliseconds") if r.seen_at else "",
        )
        for r in live
    )  # fmt: skip
    return ApplicationStatus(
        mirror=bool(row and row.mirror), read_share=row.read_share if row else 0.0,
        shadow_share=row.shadow_share if row else 0.0, instances=instances,
        writes=_shorten(totals.writes.to_json()), shadow=_shorten(totals.shadow.to_json()),
        reads=_shorten(totals.reads.to_json()),
    )  # fmt: skip


def _shorten(counts: dict[str, object]) -> dict[str, float | None]:
    """Histograms as two percentiles, everything else as it is."""
    short: dict[str, float | None] = {}
    for name, value in counts.items():
        if isinstance(value, list):
            histogram = LatencyHistogram.from_json(value)
            for q in (95, 99):
                seconds = histogram.percentile(q)
                short[f"{name}_p{q}_ms"] = None if seconds is None else round(seconds * 1000, 2)
        elif isinstance(value, int):
            short[name] = value
    return short
