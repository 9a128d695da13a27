"""What is the same for every throwaway server, wherever it runs: its settings, its root account and one way in.

Apart from ``local_servers`` and ``containers``, which differ in how a server is started, stopped and kept alive.
"""

from __future__ import annotations

import contextlib
import secrets
from types import TracebackType
from typing import Any, Self

import pymysql
from pymysql.connections import Connection

from dbmigrate.domain.flavours import Flavour

_COMMON_OPTIONS = {
    "log_bin": "binlog",
    "binlog_format": "ROW",
    "binlog_row_image": "FULL",
    "sync_binlog": "1",
    "innodb_flush_log_at_trx_commit": "1",
    "innodb_buffer_pool_size": "256M",
    "local_infile": "ON",
    "max_allowed_packet": "64M",
    "skip_name_resolve": "ON",
    "character_set_server": "utf8mb4",
}
_FLAVOUR_OPTIONS = {
    Flavour.MARIADB: {
        "log_slave_updates": "ON",
        "gtid_strict_mode": "ON",
        "performance_schema": "OFF",
        "innodb_log_file_size": "96M",
    },
    Flavour.MYSQL: {
        "log_replica_updates": "ON",
        "gtid_mode": "ON",
        "enforce_gtid_consistency": "ON",
        "secure_file_priv": "",
        "mysqlx": "OFF",
        "innodb_redo_log_capacity": "128M",
    },
}


def build_default_options(flavour: Flavour) -> dict[str, str]:
    """What a move needs of a server, by the names of the server's variables."""
    return _COMMON_OPTIONS | _FLAVOUR_OPTIONS[flavour]


class AdministeredServer:
    """A server of our own with a root account; a context manager that starts and stops it.

    ``host`` and ``port`` are good once it has started. ``user`` may do everything.
    """

    host = "127.0.0.1"
    user = "root"

    def __init__(self, flavour: Flavour, *, name: str) -> None:
        self.name = name
        self.flavour = flavour
        self.port = 0
        self.password = secrets.token_urlsafe(12)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server and return once it answers."""
        raise NotImplementedError

    def stop(self) -> None:
        """Shut the server down cleanly; fine when it is down."""
        raise NotImplementedError

    def restart(self) -> None:
        """Stop cleanly and start again."""
        self.stop()
        self.start()

    def url(self, schema: str = "") -> str:
        """The address as the configuration file spells it, without the password."""
        return f"{self.flavour.name.lower()}://{self.user}@{self.host}:{self.port}/{schema}"

    def connect(self, **overrides: Any) -> Connection[Any]:
        """A new administrative connection over TCP, in autocommit; ``overrides`` are PyMySQL's options."""
        options: dict[str, Any] = {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": self.password,
            "charset": "utf8mb4",
            "autocommit": True,
            "connect_timeout": 10,
        }
        return pymysql.connect(**options | overrides)

    def answers(self) -> bool:
        """Whether a connection opens now."""
        with contextlib.suppress(pymysql.err.OperationalError):
            self.connect().close()
            return True
        return False

    def execute(self, *statements: str) -> tuple[tuple[Any, ...], ...]:
        """Run statements over one administrative connection; returns the rows of the last."""
        with contextlib.closing(self.connect()) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return tuple(cursor.fetchall())

    def create_user(self, user: str, password: str, *grants: str, host: str = "127.0.0.1") -> None:
        """Create an account for connections from ``host``; a grant reads ``SELECT ON shop.*``."""
        account = f"'{user}'@'{host}'"
        with contextlib.closing(self.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE USER {account.replace('%', '%%')} IDENTIFIED BY %s", (password,))
            for grant in grants:
                cursor.execute(f"GRANT {grant} TO {account}")
