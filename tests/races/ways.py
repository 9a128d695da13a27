"""Each way in which rows are written from bytes, for races that must not depend on which one a table happens to take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from plannings import PLANNINGS

from dbmigrate.copying import copier
from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.domain.routes import Route
from dbmigrate.mysql import transfer
from dbmigrate.mysql.bulk_load import LoadPlan, LoadSettings, Way
from dbmigrate.streaming import flusher

WAYS = [
    pytest.param(way, id=way.value, marks=() if way is Way.PARAMETERS else pytest.mark.slow) for way in PLANNINGS
]  # the everyday suite is of MariaDB's own way


def use_way(monkeypatch: pytest.MonkeyPatch, wished: Way) -> Callable[[], set[Way]]:
    """Let copies and streams write all tables so, or by LOAD DATA where the server cannot (MySQL takes no
    parameters). Returns what tells the ways that were taken since and not meant, or meant and not taken."""
    taken: set[Way] = set()
    expected: set[Way] = set()

    def choose(
        route: Route, settings: LoadSettings, *, origin: ServerVersion, destination: ServerVersion, **others: Any
    ) -> LoadPlan | None:
        way = wished if settings.takes_parameters or wished is not Way.PARAMETERS else Way.LOAD_DATA
        expected.add(way)
        return PLANNINGS[way](route, origin=origin, destination=destination)

    def note(way: Way, write: Callable[..., None]) -> Callable[..., None]:
        def noting(*arguments: Any) -> None:
            taken.add(way)
            write(*arguments)

        return noting

    for user in (copier, flusher):
        monkeypatch.setattr(user, "choose_load", choose)
    monkeypatch.setattr(transfer, "_WRITE", {way: note(way, write) for way, write in transfer._WRITE.items()})
    return lambda: taken ^ expected
