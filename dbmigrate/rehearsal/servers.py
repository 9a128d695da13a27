"""The two throwaway servers of a rehearsal, each behind a proxy of its own, and the application's one address.

The move reaches a server through its proxy, so that cutting that network hurts the move and nobody else.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.domain.routes import Side
from dbmigrate.mysql.heartbeat import CONTROL_SCHEMA
from dbmigrate.mysql.identifiers import quote_identifier, quote_string
from dbmigrate.mysql.introspection import read_server_version
from dbmigrate.mysql.sessions import DATA_SESSION, Session
from dbmigrate.rehearsal.settings import ServerKind
from dbmigrate.telemetry import register_secret
from dbmigrate.throwaway.administration import AdministeredServer
from dbmigrate.throwaway.containers import ContainerServer, find_engine_trouble, flavour_of_image, require_engine
from dbmigrate.throwaway.local_servers import LocalServer
from dbmigrate.throwaway.server_binaries import find_server_binary
from dbmigrate.throwaway.tcp_proxy import TcpProxy

APPLICATION_USER = "rehearsal_app"


@dataclass(frozen=True)
class StandIn:
    """One side: its server, the database on it, and two ways in.

    The move goes through ``proxy``, which faults may cut. Applications that know both sides go through ``door``, which
    stays the same when a restarted container is published on another port.
    """

    side: Side
    server: AdministeredServer
    schema: str
    proxy: TcpProxy
    door: TcpProxy
    password_file: Path
    runs_as: str

    @property
    def url(self) -> str:
        """The address for ``dbmigrate.toml``: by the proxy, as the administrative account."""
        flavour = self.server.flavour.name.lower()
        return f"{flavour}://{self.server.user}@{self.proxy.host}:{self.proxy.port}/{self.schema}"

    @property
    def name(self) -> str:
        """How messages call this server; never with a secret."""
        return f"the rehearsal's {self.side.value}"

    def connect(self, **overrides: Any) -> Any:
        """An administrative connection, past the proxy."""
        return self.server.connect(**overrides)

    @contextmanager
    def session(self, *, is_exact: bool = True) -> Iterator[Session]:
        """An administrative session past the proxy; with ``is_exact`` it is set up for rows as the move's own are."""
        session = Session(self.server.connect(use_unicode=False, conv={}), self.name)
        try:
            for statement in DATA_SESSION if is_exact else ():
                session.execute(statement, doing="setting up a session")
            yield session
        finally:
            session.close()

    def read_version(self) -> ServerVersion:
        """What it really runs."""
        with contextlib.closing(self.server.connect()) as connection:
            return read_server_version(connection)

    def restart(self) -> None:
        """Restart the server; the ways in follow it, should its port have changed."""
        self.server.restart()
        for way in (self.proxy, self.door):
            way.redirect(self.server.host, self.server.port)


@dataclass(frozen=True)
class Account:
    """What the application logs in with, the same on both sides. It has no administrative privilege."""

    user: str
    password: str

    def __repr__(self) -> str:
        return f"Account({self.user!r})"


def choose_kind(wanted: ServerKind) -> tuple[ServerKind, str]:
    """Docker or local, and why, where that was left to us.

    Raises:
        ConfigurationError: containers were asked for and cannot be had.
    """
    if wanted is ServerKind.LOCAL:
        return wanted, ""
    if wanted is ServerKind.DOCKER:
        require_engine()
        return wanted, ""
    trouble = find_engine_trouble()
    return (ServerKind.LOCAL, f"local processes instead of containers: {trouble}") if trouble else (ServerKind.DOCKER, "")


def build_server(kind: ServerKind, image: str, directory: Path, side: Side) -> AdministeredServer:
    """A server that is not started yet: of this image, or local and of its flavour."""
    if kind is ServerKind.DOCKER:
        return ContainerServer(image, name=side.value)
    return LocalServer(find_server_binary(flavour_of_image(image)), directory, name=side.value, options={})


@contextmanager
def started_stand_ins(
    kind: ServerKind, images: Mapping[Side, str], schemas: Mapping[Side, str], directory: Path
) -> Iterator[dict[Side, StandIn]]:
    """Both sides, started; stopped and removed afterwards."""
    with ExitStack() as stack:
        stand_ins = {}
        for side in Side:
            server = stack.enter_context(build_server(kind, images[side], directory, side))
            register_secret(server.password)
            proxy, door = (stack.enter_context(TcpProxy(server.host, server.port)) for _ in range(2))
            path = directory / f"{side.value}.password"
            path.touch(mode=0o600)
            path.write_text(server.password + "\n")
            runs_as = f"container of {images[side]}" if kind is ServerKind.DOCKER else "local process"
            stand_ins[side] = StandIn(side, server, schemas[side], proxy, door, path, runs_as)
        yield stand_ins


def create_application_account(stand_ins: Mapping[Side, StandIn]) -> Account:
    """An account for the workload on both sides: the database, and reading the control tables."""
    account = Account(APPLICATION_USER, secrets.token_urlsafe(12))
    register_secret(account.password)
    for stand_in in stand_ins.values():
        who = f"{quote_string(account.user)}@'%'"
        with stand_in.session(is_exact=False) as session:
            session.execute(f"CREATE USER {who} IDENTIFIED BY {quote_string(account.password)}", doing="an account")
            for grant in (
                f"ALL PRIVILEGES ON {quote_identifier(stand_in.schema)}.*",
                f"SELECT, INSERT, UPDATE, DELETE ON {quote_identifier(CONTROL_SCHEMA)}.*",
            ):
                session.execute(f"GRANT {grant} TO {who}", doing="an account")
    return account
