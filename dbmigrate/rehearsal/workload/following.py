"""One address that always leads to the owner, like the service discovery of a real application.

A thread reads the fence rows of both sides. When ownership changes, the address is pointed at the other server and open
connections are reset; whoever connects again is at the right one.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType

from dbmigrate.domain.errors import DbmigrateError
from dbmigrate.domain.ownership import FenceRow, decide_owner
from dbmigrate.domain.routes import Side
from dbmigrate.mysql.fence import load_fence_row
from dbmigrate.rehearsal.servers import Account, StandIn
from dbmigrate.throwaway.tcp_proxy import TcpProxy

_LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class ConnectionParameters:
    """How to log in as the application."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    database: str


class OwnerAddress:
    """A context manager; ``parameters`` lead to the owner as long as it is open."""

    def __init__(self, stand_ins: Mapping[Side, StandIn], account: Account, migration_id: str) -> None:
        self._stand_ins, self._account, self._id = stand_ins, account, migration_id
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="owner-address", daemon=True)
        source = stand_ins[Side.SOURCE].server
        self._proxy = TcpProxy(source.host, source.port)
        self._pointed_at = (Side.SOURCE, source.port)
        self.owner = Side.SOURCE

    def __enter__(self) -> OwnerAddress:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._proxy.close()

    @property
    def parameters(self) -> ConnectionParameters:
        """Where the owner is. The database may be called differently on either side, so ask again to connect again."""
        database = self._stand_ins[self.owner].schema
        return ConnectionParameters(
            self._proxy.host, self._proxy.port, self._account.user, self._account.password, database
        )

    def parameters_of(self, side: Side) -> ConnectionParameters:
        """One side, whoever owns the data: for applications that bring ``dbmigrate.app``."""
        stand_in = self._stand_ins[side]
        return ConnectionParameters(
            stand_in.door.host, stand_in.door.port, self._account.user, self._account.password, stand_in.schema
        )

    def _follow(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            with contextlib.suppress(DbmigrateError):  # rows that contradict each other: stay where we are
                row = decide_owner(self._read(Side.SOURCE), self._read(Side.TARGET))
                self._point_at(row.owner if row else Side.SOURCE)

    def _point_at(self, owner: Side) -> None:
        server = self._stand_ins[owner].server
        if (owner, server.port) == self._pointed_at:
            return
        self.owner = owner
        self._pointed_at = (owner, server.port)
        self._proxy.redirect(server.host, server.port)
        self._proxy.reset_connections()

    def _read(self, side: Side) -> FenceRow | None:
        try:
            with self._stand_ins[side].session(is_exact=False) as session:
                return load_fence_row(session, self._id)
        except Exception:  # a server that restarts, or no fence table yet
            return None
