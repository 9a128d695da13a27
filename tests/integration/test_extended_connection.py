"""What a connection offers the server, in the clear and over TLS, and to whom it does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from certificates import create_certificate
from databases import Database, endpoint_of
from hiding_proxy import HidingProxy

from dbmigrate.config import ServerSection
from dbmigrate.domain.flavours import Flavour
from dbmigrate.mysql.extended_connection import ExtendedConnection
from dbmigrate.mysql.parameters import RowParameters
from dbmigrate.mysql.sessions import Endpoint, Session, SessionPool


def execute_rows(session: Session) -> None:
    session.execute("CREATE TEMPORARY TABLE test.kept (v VARCHAR(10))")
    with RowParameters(session, "REPLACE INTO test.kept VALUES (?)", 1, doing="trying") as prepared:
        prepared.send(10, [b"\0\3one", b"\1\0\2", b"zw"]).finish()
    assert session.execute("SELECT v FROM test.kept").rows == ((b"one",), (None,), (b"zw",))


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_mariadb_takes_parameters(tls: bool, server_factory: Callable[..., Any], tmp_path: Path) -> None:
    server = server_factory(Flavour.MARIADB, **create_certificate(tmp_path))
    server.execute("CREATE DATABASE IF NOT EXISTS test")
    secret = tmp_path / "password"
    secret.write_text(server.password)
    secret.chmod(0o600)
    section = ServerSection(url=server.url("test"), password_file=secret, tls="required" if tls else "off")
    session = SessionPool(Endpoint("target", section)).open()
    assert bool(session.execute("SHOW STATUS LIKE 'Ssl_cipher'").rows[0][1]) is tls
    assert session.takes_bulk
    execute_rows(session)
    session.close()


def test_mariadb_behind_a_proxy_that_knows_mysql_alone(mariadb_server: Any, database_factory: Callable[..., Database]) -> None:
    database = database_factory(mariadb_server)
    with HidingProxy(mariadb_server.host, mariadb_server.port) as proxy:
        connection = ExtendedConnection(
            host="127.0.0.1", port=proxy.port, user=mariadb_server.user, password=mariadb_server.password, database=database.schema
        )
        assert not connection.takes_bulk
        connection.query("SELECT 1")
        connection.close()


@pytest.mark.mysql
def test_mysql_is_offered_nothing(mysql_server: Any, database_factory: Callable[..., Database]) -> None:
    session = SessionPool(endpoint_of(database_factory(mysql_server))).open()
    assert not session.takes_bulk
    assert session.execute("SELECT 1").rows == ((b"1",),)
    session.close()
