"""SQLAlchemy's own behaviours, plain and moving: same results, same tables, same statements.

Every scenario runs on a plain session first. What ours does is compared with that, value by value and row by row, in
every situation a migration can be in, with sync and with async engines.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from behaviour_scenarios import SCENARIOS
from behaviour_scenarios_async import ASYNC_SCENARIOS
from behaviours import Base, Customer, Outcome, Situation, Stage, Theatre
from databases import Database, Pair

from dbmigrate.domain.errors import ConfigurationError, RefusedError
from dbmigrate.domain.flavours import Flavour
from dbmigrate.domain.ownership import FenceRow
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Side
from dbmigrate.throwaway.local_servers import LocalServer

FLAVOURS = (Flavour.MARIADB, pytest.param(Flavour.MYSQL, marks=pytest.mark.mysql))

DURABILITY = ("sync_binlog", "innodb_flush_log_at_trx_commit")


@pytest.fixture(scope="module", params=FLAVOURS, ids=lambda flavour: flavour.name.lower())
def theatre(request: pytest.FixtureRequest, session_server: Callable[[Flavour, str], LocalServer]) -> Iterator[Theatre]:
    schemas = ("behaviours", "behaviours_other")
    servers = [session_server(request.param, side) for side in ("source", "target")]
    for server in servers:
        server.execute(*(f"CREATE DATABASE {schema} CHARACTER SET utf8mb4" for schema in schemas))
    pair = Pair(*(Database(server, schemas[0]) for server in servers))
    for server in servers:  # hundreds of small commits; none of them is about durability
        server.execute(*(f"SET GLOBAL {name} = 0" for name in DURABILITY))
    theatre = Theatre(pair, Database(servers[0], schemas[1]))
    yield theatre
    theatre.close()
    for server in servers:
        server.execute(*(f"DROP DATABASE IF EXISTS {schema}" for schema in (*schemas, "_dbmigrate")))
        server.execute(*(f"SET GLOBAL {name} = 1" for name in DURABILITY))


def plainly(theatre: Theatre, scenario: Any, *, is_async: bool) -> Outcome:
    """What plain SQLAlchemy does, performed once for all situations."""
    key = scenario, is_async
    if key not in theatre.plain_results:
        theatre.plain_results[key] = Stage(theatre, is_async, None).perform(scenario)
    return theatre.plain_results[key]


def build_cases(scenarios: list[Any]) -> list[Any]:
    """Every scenario in every situation; those that say little beyond the others' wait for the slow tests."""
    cases = []
    for scenario, is_async, situation in itertools.product(scenarios, (False, True), Situation):
        is_slow = is_async and situation in (Situation.OWNER_SOURCE, Situation.OWNER_TARGET)
        name = f"{scenario.__name__}-{'async' if is_async else 'sync'}-{situation.value}"
        cases.append(pytest.param(scenario, is_async, situation, id=name, marks=[pytest.mark.slow] if is_slow else []))
    return cases


def require_same(ours: Outcome, plain: Outcome, situation: Situation) -> None:
    assert ours.result == plain.result
    assert ours.tables == plain.tables
    assert ours.application_statements() == plain.application_statements()
    if situation is Situation.NO_MIGRATION:
        assert ours.sent == plain.sent


@pytest.mark.parametrize(("scenario", "is_async", "situation"), build_cases(SCENARIOS))
def test_sessions_behave_as_sqlalchemy_does(
    theatre: Theatre, scenario: Any, is_async: bool, situation: Situation
) -> None:
    plain = plainly(theatre, scenario, is_async=is_async)
    require_same(Stage(theatre, is_async, situation).perform(scenario), plain, situation)


@pytest.mark.parametrize("situation", Situation, ids=lambda situation: situation.value)
@pytest.mark.parametrize("scenario", ASYNC_SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_async_sessions_behave_as_sqlalchemy_does(theatre: Theatre, scenario: Any, situation: Situation) -> None:
    plain = plainly(theatre, scenario, is_async=True)
    require_same(Stage(theatre, True, situation).perform(scenario), plain, situation)


@pytest.mark.parametrize("situation", Situation, ids=lambda situation: situation.value)
def test_concurrent_tasks_each_with_its_own_session(theatre: Theatre, situation: Situation) -> None:
    async def scenario(stage: Stage) -> int:
        factory = stage.make()
        stage.may_switch()

        async def add(number: int) -> None:
            async with factory.begin() as session:
                session.add(Customer(id=number, name=str(number)))
                await session.flush()
                assert await session.scalar(sa.select(Customer.name).where(Customer.id == number)) == str(number)

        await asyncio.gather(*(add(number) for number in range(1, 21)))
        stage.may_switch()
        await asyncio.gather(*(add(number) for number in range(21, 41)))
        async with factory() as session:
            return await session.scalar(sa.select(sa.func.count(Customer.id)))

    outcome = Stage(theatre, True, situation).perform(scenario)
    assert (outcome.result, len(outcome.tables["customer"])) == (40, 40)


@contextlib.contextmanager
def cutting_lost_connections(engines: Iterable[sa.Engine]) -> Iterator[None]:
    """At the end nothing that was taken from these pools meanwhile is still out; what is, is cut."""
    out: dict[int, Any] = {}

    def note_checkout(connection: Any, record: Any, proxy: Any) -> None:
        out[id(record)] = record

    def note_checkin(connection: Any, record: Any) -> None:
        out.pop(id(record), None)

    with contextlib.ExitStack() as stack:
        for engine in engines:
            for name, listener in (("checkout", note_checkout), ("checkin", note_checkin)):
                sa.event.listen(engine, name, listener)
                stack.callback(sa.event.remove, engine, name, listener)
        yield
        for record in list(out.values()):
            record.invalidate()


@pytest.mark.parametrize("situation", [Situation.NO_MIGRATION, Situation.OWNER_TARGET], ids=lambda one: one.value)
def test_two_threads_in_one_session_leave_no_fence_behind_and_nothing_on_the_wrong_side(
    theatre: Theatre, situation: Situation
) -> None:
    """SQLAlchemy promises them nothing but errors that name the reason; nobody else may suffer from it. Closing a session
    that two threads broke can make it lose one of its connections in an open transaction, ours as well as a plain one."""
    errors: set[str] = set()
    instances: list[Any] = []

    def scenario(stage: Stage) -> None:
        factory = stage.make()
        instances.append(factory.kw["dbmigrate_instance"])
        session = stage.new(factory)
        start = threading.Barrier(2)

        def work(first: int) -> None:
            start.wait(20)
            for number in range(first, first + 25):
                try:
                    session.execute(sa.insert(Customer).values(id=number, name=str(number)))
                    session.commit()
                except Exception as fault:
                    errors.add(type(fault).__name__)
                    with contextlib.suppress(Exception):
                        session.rollback()

        threads = [threading.Thread(target=work, args=(first,)) for first in (1, 101)]
        with cutting_lost_connections(theatre.sync_engines.values()):
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            session.invalidate()
        theatre.save_fence(stage.migration_id, FenceRow(5, stage.owner, Phase.SOAK))  # waits for whoever holds it

    outcome = Stage(theatre, False, situation).perform(scenario)
    assert len(outcome.tables["customer"]) <= 50
    wrong = Side.TARGET if situation is Situation.NO_MIGRATION else Side.SOURCE
    assert theatre.read_tables(wrong)["customer"] == []
    assert errors.isdisjoint({"KeyError", "StopIteration", "RecursionError"})
    assert [instance._unfenced for instance in instances] == [0]


def test_a_connection_of_the_application_that_leads_to_the_wrong_side_is_refused(theatre: Theatre) -> None:
    def scenario(stage: Stage) -> None:
        engine = theatre.sync_engines[Side.SOURCE]
        with engine.connect() as connection, stage.open(None, bind=connection) as session:
            assert session.scalars(sa.select(Customer.id)).all() == []
            session.add(Customer(id=1, name="ann"))
            with pytest.raises(RefusedError, match="has moved"):
                session.flush()

    Stage(theatre, False, Situation.OWNER_TARGET).perform(scenario)
    assert theatre.read_tables(Side.SOURCE)["customer"] == []


def test_a_variation_of_the_engine_does_not_slip_past_the_fence(theatre: Theatre) -> None:
    def scenario(stage: Stage) -> None:
        variation = theatre.sync_engines[Side.SOURCE].execution_options(isolation_level="READ COMMITTED")
        with stage.open(stage.make(binds={Base: variation})) as session:
            session.add(Customer(id=1, name="ann"))
            with pytest.raises(ConfigurationError, match="variation"):
                session.flush()

    Stage(theatre, False, Situation.OWNER_TARGET).perform(scenario)


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_naming_the_source_engine_follows_the_owner(theatre: Theatre, is_async: bool) -> None:
    def scenario(stage: Stage) -> None:
        source = (theatre.async_engines[Side.SOURCE].sync_engine, theatre.sync_engines[Side.SOURCE])[not is_async]
        with stage.begin() as session:
            session.connection({"bind": source}).execute(sa.insert(Customer).values(id=1, name="ann"))
            session.execute(sa.insert(Customer).values(id=2, name="bob"), bind_arguments={"bind": source})

    Stage(theatre, is_async, Situation.OWNER_TARGET).perform(scenario)
    assert [row[0] for row in theatre.read_tables(Side.TARGET)["customer"]] == [1, 2]
    assert theatre.read_tables(Side.SOURCE)["customer"] == []


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_an_update_looks_for_its_rows_where_it_writes_them(theatre: Theatre, is_async: bool) -> None:
    """``synchronize_session="fetch"`` sends a SELECT first, which must not ask a target that reads are ramped to."""

    def scenario(stage: Stage) -> Any:
        row = FenceRow(1, Side.SOURCE, Phase.RAMP_READS, read_share=100)
        theatre.save_fence(stage.migration_id, row)
        factory = stage.make(expire_on_commit=False)
        with stage.begin(factory) as session:
            session.add(Customer(id=1, name="ann"))
        with stage.open(factory) as session:
            answer = [session.scalars(sa.select(Customer.id)).all()]
            session.add(ann := Customer(id=2, name="bob"))
            session.commit()
        with stage.open(factory) as session:
            session.add(ann)
            update = sa.update(Customer).where(sa.func.lower(Customer.name) == "bob").values(name="bobby")
            session.execute(update, execution_options={"synchronize_session": "fetch"})
            return [*answer, ann.name, session.commit()]

    outcome = Stage(theatre, is_async, Situation.OWNER_SOURCE).perform(scenario)
    assert outcome.result[1:] == ["bobby", None]
    assert outcome.tables["customer"] == [(1, "ann"), (2, "bobby")]
