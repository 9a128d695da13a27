"""Real servers for every test that wants one; all fixtures here are factories or hand out fresh databases.

Two servers per flavour (one for each side) live for the whole session, because starting is what costs. A test
that kills, freezes or reconfigures a server asks ``server_factory`` for its own.
"""

from __future__ import annotations

import itertools
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from databases import Database, Pair
from hypothesis import HealthCheck, settings

from dbmigrate.domain.errors import FatalError
from dbmigrate.domain.flavours import Flavour
from dbmigrate.throwaway.local_servers import LocalServer

# No test fails for being slow: machines are noisy, and speed is measured in bench/.
settings.register_profile("untimed", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

FLAVOUR_PAIRS = (
    "mariadb-mariadb",
    pytest.param("mysql-mysql", marks=pytest.mark.mysql),
    pytest.param("mariadb-mysql", marks=pytest.mark.mysql),
    pytest.param("mysql-mariadb", marks=pytest.mark.mysql),
)
MYSQL_FIXTURES = {"mysql_server", "mysql_pair"}
SYSTEM_SCHEMAS = {"mysql", "information_schema", "performance_schema", "sys"}

_numbers = itertools.count(1)


ServerFactory = Callable[..., LocalServer]
SessionServers = Callable[[Flavour, str], LocalServer]
PairFactory = Callable[[Flavour, Flavour], Pair]


EVERY_NTH = {"races": 16, "chaos": 10, "model": 6, "property": 6}
"""Of the slow tests below these folders, so many stay in CI; the others are marked ``exhaustive`` as well."""

NEVER_SAMPLED = {"test_random_kills.py", "test_failover.py"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever uses a MySQL fixture is marked ``mysql``, so that ``-m "not mysql"`` cannot be forgotten.

    And where slow tests are many, all but a fixed sample are marked ``exhaustive``: by name, so that the sample does not
    depend on what else is collected.
    """
    for item in items:
        if MYSQL_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.mysql)
        nth = EVERY_NTH.get(item.path.parent.name)
        is_sampled = nth and item.path.name not in NEVER_SAMPLED and item.get_closest_marker("slow")
        if nth and is_sampled and zlib.crc32(item.nodeid.encode()) % nth:
            item.add_marker(pytest.mark.exhaustive)


def _build_server(flavour: Flavour, directory: Path, name: str, options: dict[str, str]) -> LocalServer:
    """A server that is not started yet. A missing MySQL skips at home and fails in CI."""
    if flavour is Flavour.MARIADB:
        return LocalServer.mariadb(directory, name=name, options=options)
    try:
        return LocalServer.mysql(directory, name=name, options=options)
    except FatalError as error:
        if os.environ.get("CI", "").lower() in ("true", "1"):
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))


@pytest.fixture
def server_factory(tmp_path: Path) -> Iterator[ServerFactory]:
    """``server_factory(flavour, **options)``: a started server for this test alone."""
    servers: list[LocalServer] = []

    def start(flavour: Flavour = Flavour.MARIADB, **options: str) -> LocalServer:
        server = _build_server(flavour, tmp_path, f"server{len(servers) + 1}", options)
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.kill()


@pytest.fixture(scope="session")
def session_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SessionServers]:
    """``session_server(flavour, role)``: the session's server for a side, started when first asked for."""
    servers: dict[tuple[Flavour, str], LocalServer] = {}
    directory = tmp_path_factory.mktemp("servers")

    def find(flavour: Flavour, role: str) -> LocalServer:
        server = servers.get((flavour, role))
        if server is None:
            server = _build_server(flavour, directory, f"{flavour.name.lower()}-{role}", {})
            servers[flavour, role] = server
        server.start()
        return server

    yield find
    for server in servers.values():
        server.kill()


@pytest.fixture(scope="session")
def mariadb_server(session_server: SessionServers) -> LocalServer:
    """The session's MariaDB server (the one that also serves as source)."""
    return session_server(Flavour.MARIADB, "source")


@pytest.fixture(scope="session")
def mysql_server(session_server: SessionServers) -> LocalServer:
    """The session's MySQL server (the one that also serves as source)."""
    return session_server(Flavour.MYSQL, "source")


@pytest.fixture
def database_factory() -> Iterator[Callable[[LocalServer], Database]]:
    """``database_factory(server)``: a fresh empty schema; its server is cleared of all afterwards."""
    used: list[LocalServer] = []

    def create(server: LocalServer, schema: str = "") -> Database:
        schema = schema or f"shop_{next(_numbers)}"
        server.execute(f"CREATE DATABASE `{schema}` CHARACTER SET utf8mb4")
        used.append(server)
        return Database(server, schema)

    yield create
    for server in used:
        if server.is_running:
            _clear(server)


@pytest.fixture
def pair_factory(session_server: SessionServers, database_factory: Callable[..., Database]) -> PairFactory:
    """``pair_factory(source_flavour, target_flavour)``: fresh schemas of one name on the session's servers."""

    def create(source: Flavour, target: Flavour) -> Pair:
        schema = f"shop_{next(_numbers)}"
        return Pair(
            database_factory(session_server(source, "source"), schema),
            database_factory(session_server(target, "target"), schema),
        )

    return create


@pytest.fixture
def mariadb_pair(pair_factory: PairFactory) -> Pair:
    """Fresh schemas on two MariaDB servers."""
    return pair_factory(Flavour.MARIADB, Flavour.MARIADB)


@pytest.fixture
def mysql_pair(pair_factory: PairFactory) -> Pair:
    """Fresh schemas on two MySQL servers."""
    return pair_factory(Flavour.MYSQL, Flavour.MYSQL)


@pytest.fixture(params=FLAVOUR_PAIRS)
def flavour_pair(request: pytest.FixtureRequest, pair_factory: PairFactory) -> Pair:
    """Fresh schemas on every combination of flavours, source first."""
    source, target = (Flavour[name.upper()] for name in request.param.split("-"))
    return pair_factory(source, target)


def _clear(server: LocalServer) -> None:
    """Undo what a test may have left: its schemas (the control schema too), accounts, a closed fence."""
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SET GLOBAL read_only = OFF")
        cursor.execute("SET SESSION foreign_key_checks = 0, lock_wait_timeout = 10")
        cursor.execute("SHOW DATABASES")
        for (schema,) in cursor.fetchall():
            if schema not in SYSTEM_SCHEMAS:
                cursor.execute(f"DROP DATABASE IF EXISTS `{schema}`")
        cursor.execute("SELECT user, host FROM mysql.user WHERE user NOT LIKE 'm%.%' AND user <> 'root'")
        for user, host in cursor.fetchall():
            cursor.execute(f"DROP USER IF EXISTS '{user}'@'{host}'")
