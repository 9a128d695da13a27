"""The status of a run is read by two threads at once."""

from __future__ import annotations

import itertools
import threading
from types import SimpleNamespace
from typing import Any, cast

from dbmigrate.domain.schema import TableName
from dbmigrate.workflow.run import Run


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
