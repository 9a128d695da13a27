"""SQLAlchemy's own behaviours, plain and moving: same results, same tables, same statements.

Every scenario runs on a plain session first. What ours does is compared with that, value by value and row by row, in
every situation a migration can be in, with sync and with async engines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from behaviour_scenarios import SCENARIOS
from behaviours import Outcome, Situation, Stage, Theatre
from databases import Database, Pair

from dbmigrate.domain.flavours import Flavour
from dbmigrate.rehearsal.local_servers import LocalServer

FLAVOURS = (Flavour.MARIADB, pytest.param(Flavour.MYSQL, marks=pytest.mark.mysql))


@pytest.fixture(scope="module", params=FLAVOURS, ids=lambda flavour: flavour.name.lower())
def theatre(request: pytest.FixtureRequest, session_server: Callable[[Flavour, str], LocalServer]) -> Iterator[Theatre]:
    schemas = ("behaviours", "behaviours_other")
    servers = [session_server(request.param, side) for side in ("source", "target")]
    for server in servers:
        server.execute(*(f"CREATE DATABASE {schema} CHARACTER SET utf8mb4" for schema in schemas))
    pair = Pair(*(Database(server, schemas[0]) for server in servers))
    theatre = Theatre(pair, Database(servers[0], schemas[1]))
    yield theatre
    theatre.close()
    for server in servers:
        server.execute(*(f"DROP DATABASE IF EXISTS {schema}" for schema in (*schemas, "_dbmigrate")))


def plainly(theatre: Theatre, scenario: Any, *, is_async: bool) -> Outcome:
    """What plain SQLAlchemy does, performed once for all situations."""
    key = scenario, is_async
    if key not in theatre.plain_results:
        theatre.plain_results[key] = Stage(theatre, is_async, None).perform(scenario)
    return theatre.plain_results[key]


@pytest.mark.parametrize("situation", Situation, ids=lambda situation: situation.value)
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_sessions_behave_as_sqlalchemy_does(theatre: Theatre, scenario: Any, is_async: bool, situation: Situation):
    plain = plainly(theatre, scenario, is_async=is_async)
    ours = Stage(theatre, is_async, situation).perform(scenario)
    assert ours.result == plain.result
    assert ours.tables == plain.tables
    assert ours.application_statements() == plain.application_statements()
    if situation is Situation.NO_MIGRATION:
        assert ours.sent == plain.sent
