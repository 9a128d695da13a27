"""The status of a run is read by two threads at once."""

from __future__ import annotations

import itertools
import json
import threading
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

from dbmigrate.cli.rendering import summarise
from dbmigrate.domain.evidence import InstanceReport, LatencyHistogram, ShadowCounts, WriteCounts
from dbmigrate.domain.ownership import FenceRow
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Side
from dbmigrate.domain.schema import TableName
from dbmigrate.workflow.instances import describe_application
from dbmigrate.workflow.run import Run
from dbmigrate.workflow.status import RunStatus


def test_rates_survive_being_asked_for_by_two_threads() -> None:
    """The keeper died of this once, and with it the lease."""
    ticks = itertools.count()
    migration = SimpleNamespace(around=SimpleNamespace(clock=lambda: next(ticks) * 3.0))
    run = Run(cast(Any, migration), cast(Any, None), "test")
    failures: list[Exception] = []

    def ask() -> None:
        try:
            for rows in range(3_000):
                run._rate(TableName("shop", "orders"), rows)
        except Exception as failure:
            failures.append(failure)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_status_with_instances_survives_the_control_tables() -> None:
    """Another process reads what the runner published, instances and counts included."""
    histogram = LatencyHistogram().with_sample(0.02)
    report = InstanceReport(
        "till-1", "web-1", 41, "1.0", 6, Phase.SHADOW_READ, WriteCounts(transactions=3, mirrored=2),
        ShadowCounts(samples=1, control=histogram), seen_at=datetime(2026, 11, 1, tzinfo=UTC),
    )  # fmt: skip
    row = FenceRow(7, Side.SOURCE, Phase.SHADOW_READ, mirror=True, shadow_share=10)
    seen = describe_application(row, Phase.SHADOW_READ, 7, [report])
    assert seen.instances[0].behind == 1
    assert seen.writes["mirrored"] == 2
    assert 18 < (seen.shadow["control_p95_ms"] or 0) < 25
    assert seen.shadow["candidate_p95_ms"] is None
    status = RunStatus("shop", "shadow_read", 7, "source", application=seen)
    assert RunStatus.from_json(json.loads(json.dumps(status.to_json()))) == status
    assert "1 instances (1 behind), mirrored 2 writes, 0 failed, shadow reads 1, 0 really differ" in summarise(status)


def test_a_status_of_a_former_version_has_no_application() -> None:
    """What was published before is still shown."""
    content = RunStatus("shop", "copy", 3, "source").to_json()
    del content["application"]
    assert RunStatus.from_json(content).application is None
