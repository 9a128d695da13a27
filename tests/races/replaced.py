"""Whether rows really were replaced from their bytes: a plan that falls back to another way would race just as well."""

from __future__ import annotations

from typing import Any

import pytest

from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.domain.routes import Route
from dbmigrate.mysql.bulk_load import LoadPlan, LoadSettings, plan_replace
from dbmigrate.mysql.sessions import Result
from dbmigrate.mysql.streamed_statements import StreamedStatement


def count_replaced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of each statement that replaced some, from now on."""
    counts: list[int] = []

    class Counted(StreamedStatement):
        def finish(self) -> Result:
            result = super().finish()
            counts.append(result.affected)
            return result

    monkeypatch.setattr("dbmigrate.mysql.transfer.StreamedStatement", Counted)
    return counts


def choose_replace(
    route: Route, settings: LoadSettings, *, origin: ServerVersion, destination: ServerVersion, **others: Any
) -> LoadPlan | None:
    """Instead of a copy's or a stream's own ``choose_load``: as both choose where loads would lock AUTO_INCREMENT."""
    return plan_replace(route, origin=origin, destination=destination)
