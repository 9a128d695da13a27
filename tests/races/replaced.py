"""Whether rows really were replaced from their bytes: a plan that falls back to another way would race just as well."""

from __future__ import annotations

import pytest

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
