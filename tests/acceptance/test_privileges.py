"""The least privileges: an account that holds exactly what `check` asks for moves a database there and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dbmigrate.config import FenceKind
from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.workflow.preflight.privileges import required_privileges

Factory = Callable[..., Any]
PASSWORD = "correct-horse-7"


def _create_account(database: Any, fence: FenceKind, *, without: str = "") -> None:
    version = ServerVersion.parse(*database.server.execute("SELECT @@version, @@version_comment")[0])
    statements = ["CREATE USER migrator@'127.0.0.1' IDENTIFIED BY 'correct-horse-7'"]
    for requirement in required_privileges(database.schema, version, fence):
        scope = f"`{requirement.schema}`.*" if requirement.schema else "*.*"
        names = ", ".join(sorted(requirement.privileges - {without}))
        statements.append(f"GRANT {names} ON {scope} TO migrator@'127.0.0.1'")
    database.server.execute(*statements)


def _as_migrator(move: Any) -> None:
    move.path.write_text(move.path.read_text().replace("//root@", "//migrator@"))
    move.environment.update(SOURCE_PASSWORD=PASSWORD, TARGET_PASSWORD=PASSWORD)


def _trust(server: Any, state: str) -> None:
    """Let accounts without SUPER create triggers, which fence = "lock_tables" needs."""
    server.execute(f"SET GLOBAL log_bin_trust_function_creators = {state}")


def _create_orders(database: Any) -> None:
    database.execute(
        "CREATE TABLE orders (id INT AUTO_INCREMENT PRIMARY KEY, total INT)",
        "INSERT INTO orders (total) VALUES (1), (2), (3)",
    )


@pytest.mark.parametrize("fence", [FenceKind.READ_ONLY, FenceKind.LOCK_TABLES])
def test_exactly_what_check_asks_for_is_enough(
    flavour_pair: Any, move_factory: Factory, fence: FenceKind, request: pytest.FixtureRequest
) -> None:
    _create_orders(flavour_pair.source)
    for database in (flavour_pair.source, flavour_pair.target):
        _create_account(database, fence)
        if fence is FenceKind.LOCK_TABLES:
            request.addfinalizer(lambda server=database.server: _trust(server, "OFF"))
            _trust(database.server, "ON")
    move = move_factory(flavour_pair, f'[cutover]\napproval = "auto"\nfence = "{fence.value}"\n')
    _as_migrator(move)
    move.run("check")
    move.run("run", "--until", "cutover")
    flavour_pair.target.execute("UPDATE orders SET total = 9 WHERE id = 2")
    move.run("revert")
    assert flavour_pair.source.execute("SELECT total FROM orders ORDER BY id") == ((1,), (9,), (3,))
    move.run("abort")


@pytest.mark.parametrize("missing", ["SELECT", "REPLICATION SLAVE", "READ ONLY ADMIN", "PROCESS", "TRIGGER"])
def test_what_is_missing_is_named_with_the_grant_that_mends_it(
    mariadb_pair: Any, move_factory: Factory, missing: str
) -> None:
    _create_orders(mariadb_pair.source)
    _create_account(mariadb_pair.source, FenceKind.READ_ONLY, without=missing)
    _create_account(mariadb_pair.target, FenceKind.READ_ONLY)
    move = move_factory(mariadb_pair)
    _as_migrator(move)
    result = move.run("check", expect=3)
    assert f"lacks {missing}" in result.stdout
    remedies = [line.split("-> ", 1)[1] for line in result.stdout.splitlines() if "-> GRANT" in line]
    assert len(remedies) == 1
    mariadb_pair.source.server.execute(*remedies[0].split("; "))
    move.run("check")


def test_triggers_that_may_not_be_created_are_said_with_the_setting_that_helps(
    mariadb_pair: Any, move_factory: Factory
) -> None:
    _create_orders(mariadb_pair.source)
    for database in (mariadb_pair.source, mariadb_pair.target):
        _create_account(database, FenceKind.LOCK_TABLES)
    move = move_factory(mariadb_pair, '[cutover]\nfence = "lock_tables"\n')
    _as_migrator(move)
    assert "SET GLOBAL log_bin_trust_function_creators = ON" in move.run("check", expect=3).stdout


def test_keys_that_mysql_warns_of_need_one_more_privilege(mysql_pair: Any, move_factory: Factory) -> None:
    """Two such columns in 1,000 keys make more warnings than it shows, and one of them could mean a changed value."""
    for database in (mysql_pair.source, mysql_pair.target):
        _create_account(database, FenceKind.READ_ONLY)
        database.server.execute("REVOKE SYSTEM_VARIABLES_ADMIN ON *.* FROM migrator@'127.0.0.1'")
    mysql_pair.source.execute("CREATE TABLE t (a CHAR(4) CHARSET utf8mb3, b CHAR(4) CHARSET utf8mb3, PRIMARY KEY (a, b))")
    move = move_factory(mysql_pair)
    _as_migrator(move)
    output = move.run("check", expect=3).stdout
    assert output.count("SESSION_VARIABLES_ADMIN, SYSTEM_VARIABLES_ADMIN") == 4  # lacking, and the GRANT, on both sides
