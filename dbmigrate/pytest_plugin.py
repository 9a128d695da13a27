"""Fixtures for teams that test their moves in their own CI: two throwaway servers, and a whole rehearsal.

pytest loads this module in every project that has dbmigrate installed, so it imports nothing until a fixture is used.
Safe under pytest-xdist: every worker has servers, ports and directories of its own, every test fresh databases.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from dbmigrate.rehearsal import RehearsalReport
    from dbmigrate.throwaway.administration import AdministeredServer

SERVERS = "dbmigrate_servers"
SOURCE_IMAGE, TARGET_IMAGE = "dbmigrate_source_image", "dbmigrate_target_image"

_OPTIONS = {
    SERVERS: ("auto", "where throwaway servers run: auto, docker or local"),
    SOURCE_IMAGE: ("mariadb:10.11", "image of the source (for local servers its flavour counts)"),
    TARGET_IMAGE: ("mysql:9.7", "image of the target (for local servers its flavour counts)"),
}

_numbers = itertools.count(1)

RehearsalFactory = Callable[..., "RehearsalReport"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Each option on the command line and in the ini file; the command line wins."""
    group = parser.getgroup("dbmigrate", "rehearsals of database moves")
    for name, (default, meaning) in _OPTIONS.items():
        group.addoption(f"--{name.replace('_', '-')}", dest=name, default=None, metavar="TEXT", help=meaning)
        parser.addini(name, meaning, default=default)


def read_option(config: pytest.Config, name: str) -> str:
    """What was asked for, on the command line or in the ini file."""
    return str(config.getoption(name) or config.getini(name))


def read_kind(config: pytest.Config) -> Any:
    """Where servers run.

    Raises:
        pytest.UsageError: the option is none of the choices.
    """
    from dbmigrate.rehearsal import ServerKind

    text = read_option(config, SERVERS)
    choices = {kind.value: kind for kind in ServerKind}
    if text not in choices:
        raise pytest.UsageError(f"{SERVERS} is {text!r}; choose one of {', '.join(choices)}")
    return choices[text]


@dataclass(frozen=True)
class MigrationDatabase:
    """One empty database on a throwaway server, for one test."""

    server: AdministeredServer
    schema: str

    @property
    def url(self) -> str:
        """The address as ``dbmigrate.toml`` spells it; the password is ``password``."""
        return self.server.url(self.schema)

    @property
    def password(self) -> str:
        """Of the account in ``url``."""
        return self.server.password

    def connect(self, **overrides: Any) -> Any:
        """A PyMySQL connection into the database, in autocommit; ``overrides`` are PyMySQL's options."""
        return self.server.connect(**{"database": self.schema} | overrides)

    def execute(self, *statements: str) -> tuple[tuple[Any, ...], ...]:
        """Run statements in one connection; returns the rows of the last."""
        with self.connect() as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return tuple(cursor.fetchall())


@dataclass(frozen=True)
class MigrationPair:
    """Where a move starts and where it ends: databases of one name on two servers."""

    source: MigrationDatabase
    target: MigrationDatabase
    directory: Path

    def write_config(self, text: str = "", *, migration_id: str = "test") -> Path:
        """A ``dbmigrate.toml`` for this pair in the test's own directory, with the passwords beside it; ``text`` is the rest."""
        lines = [f'[migration]\nid = "{migration_id}"']
        for side, database in (("source", self.source), ("target", self.target)):
            secret = self.directory / f"{side}.password"
            secret.touch(mode=0o600)
            secret.write_text(database.password + "\n")
            lines.append(f'[{side}]\nurl = "{database.url}"\npassword_file = "{secret.name}"\ntls = false')
        path = self.directory / "dbmigrate.toml"
        path.write_text("\n".join([*lines, text, ""]), encoding="utf-8")
        return path


@pytest.fixture(scope="session")
def _migration_servers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[AdministeredServer, AdministeredServer]]:
    """Two servers for the session (under xdist: for the worker), started when first asked for."""
    from contextlib import ExitStack

    from dbmigrate.domain.routes import Side
    from dbmigrate.rehearsal.servers import build_server, choose_kind

    kind, _ = choose_kind(read_kind(request.config))
    directory = tmp_path_factory.mktemp("dbmigrate-servers")
    with ExitStack() as stack:
        images = {Side.SOURCE: SOURCE_IMAGE, Side.TARGET: TARGET_IMAGE}
        source, target = (
            stack.enter_context(build_server(kind, read_option(request.config, images[side]), directory, side)) for side in Side
        )
        yield source, target


@pytest.fixture
def migration_pair(
    _migration_servers: tuple[AdministeredServer, AdministeredServer], tmp_path: Path
) -> Iterator[MigrationPair]:
    """Two throwaway servers with an empty database of this test's own on each, removed afterwards.

    The control tables of moves are cleared with them, so tests do not see each other.
    """
    schema = f"move_{next(_numbers)}"
    source, target = (MigrationDatabase(server, schema) for server in _migration_servers)
    pair = MigrationPair(source, target, tmp_path)
    for database in (pair.source, pair.target):
        database.server.execute(f"CREATE DATABASE `{schema}` CHARACTER SET utf8mb4")
    yield pair
    for database in (pair.source, pair.target):
        database.server.execute("SET GLOBAL read_only = OFF", f"DROP DATABASE IF EXISTS `{schema}`", _DROP_CONTROL)


_DROP_CONTROL = "DROP DATABASE IF EXISTS `_dbmigrate`"


@pytest.fixture
def rehearsal(request: pytest.FixtureRequest) -> RehearsalFactory:
    """``rehearsal("dbmigrate.toml", dump="schema.sql", faults=["runner-kill"])``: rehearse, and return the report.

    Rows: ``dump=PATH``, ``generate=N``, ``sample=N``. Everything else is a field of ``RehearsalSettings``. The images are
    those of the options; ``source_image`` and ``target_image`` win.
    """

    def rehearse(
        config: Path | str = "dbmigrate.toml", *, dump: Path | str | None = None, generate: int | None = None,
        sample: int | None = None, faults: tuple[str, ...] | list[str] = (), workload: str = "generic", **settings: Any,
    ) -> RehearsalReport:  # fmt: skip
        from dbmigrate.rehearsal import (
            DumpedRows,
            GeneratedRows,
            Rehearsal,
            RehearsalSettings,
            SampledRows,
            WorkloadChoice,
            parse_faults,
        )

        defaults: dict[str, Any] = {
            "servers": read_kind(request.config),
            "source_image": read_option(request.config, SOURCE_IMAGE),
            "target_image": read_option(request.config, TARGET_IMAGE),
            "read_real_size": dump is None,
        }
        if dump is not None:
            defaults["rows"] = DumpedRows(Path(dump))
        elif generate is not None:
            defaults["rows"] = GeneratedRows(generate)
        elif sample is not None:
            defaults["rows"] = SampledRows(sample)
        chosen = RehearsalSettings(
            faults=parse_faults(faults), workload=WorkloadChoice.parse(workload), **{**defaults, **settings}
        )
        return Rehearsal(config, chosen).run()

    return rehearse
