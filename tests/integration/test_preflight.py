"""Every check of the preflight, made to speak: what it refuses, warns of or notes, with its place and next step.

One case a reason. A check without a case fails the last test of this file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from databases import Database, Pair

from dbmigrate.config.loading import parse_config
from dbmigrate.domain.flavours import Flavour
from dbmigrate.mysql.sessions import Session
from dbmigrate.workflow.check import check_migration
from dbmigrate.workflow.migration import Migration
from dbmigrate.workflow.preflight import CHECKS
from dbmigrate.workflow.preflight.finding import Finding, Severity

CheckPair = Callable[..., list[Finding]]
ORDERS = "CREATE TABLE orders (id INT PRIMARY KEY, total DECIMAL(10,2))"


@dataclass(frozen=True)
class Case:
    """What is done to the source and the target, and what `check` must say of it."""

    name: str
    check: str
    severity: Severity
    message: str
    place: str = "orders"
    remedy: str = ""
    source: Sequence[str] = (ORDERS,)
    target: Sequence[str] = ()
    text: str = ""


CASES = (
    Case("no key", "keys", Severity.OBSTACLE, "no primary key", remedy="ADD PRIMARY KEY",
         source=["CREATE TABLE orders (id INT, total INT)"]),
    Case("a nullable unique key", "keys", Severity.OBSTACLE, "no unique key over NOT NULL columns",
         source=["CREATE TABLE orders (id INT NULL UNIQUE, total INT)"]),
    Case("a prefix as key", "keys", Severity.OBSTACLE, "no unique key over NOT NULL columns",
         source=["CREATE TABLE orders (name TEXT NOT NULL, UNIQUE KEY (name(10)))"]),
    Case("floats as key", "keys", Severity.OBSTACLE, "cannot identify rows",
         source=["CREATE TABLE orders (id DOUBLE PRIMARY KEY)"]),
    Case("a set of 64 as key", "keys", Severity.OBSTACLE, "cannot identify rows",
         source=["CREATE TABLE orders (id SET(" + ",".join(f"'m{n}'" for n in range(64)) + ") PRIMARY KEY)"]),
    Case("a table without transactions", "engines", Severity.OBSTACLE, "MyISAM", remedy="ENGINE=InnoDB",
         source=["CREATE TABLE orders (id INT PRIMARY KEY) ENGINE=MyISAM"]),
    Case("a memory table", "engines", Severity.OBSTACLE, "MEMORY",
         source=["CREATE TABLE orders (id INT PRIMARY KEY) ENGINE=MEMORY"]),
    Case("history", "engines", Severity.OBSTACLE, "system-versioned", remedy="DROP SYSTEM VERSIONING",
         source=["CREATE TABLE orders (id INT PRIMARY KEY) WITH SYSTEM VERSIONING"]),
    Case("rows where the copy goes", "target_contents", Severity.OBSTACLE, "holds rows already", remedy="TRUNCATE",
         target=[ORDERS, "INSERT INTO orders VALUES (5, 5)"]),
    Case("a unique key more on the target", "target_contents", Severity.WARNING, "does not exist on the source",
         remedy="DROP INDEX", target=[ORDERS + "", "ALTER TABLE orders ADD UNIQUE KEY totals (total)"]),
    Case("a computed column without a table for it", "routes", Severity.OBSTACLE, "not on the target",
         remedy="CREATE TABLE", text='[tables.orders]\ncolumns = { total_cents = "ROUND(total * 100)" }\n'),
    Case("options of a table that does not exist", "routes", Severity.OBSTACLE, "no such table",
         place="[tables.ordres]", text='[tables.ordres]\nwhere = "1"\n'),
    Case("a column that does not come back", "routes", Severity.WARNING, "no way back",
         target=["CREATE TABLE orders (id INT PRIMARY KEY)"], text='[tables.orders]\nomit = ["total"]\n'),
    Case("a missing column on the target", "routes", Severity.OBSTACLE, "total",
         target=["CREATE TABLE orders (id INT PRIMARY KEY)"]),
    Case("a parent that stays behind", "cascades", Severity.WARNING, "does not move",
         source=["CREATE TABLE people (id INT PRIMARY KEY)",
                 "CREATE TABLE orders (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES people (id))"],
         text='[tables]\nexclude = ["people"]\n'),
    Case("a cascade beside the key", "cascades", Severity.WARNING, "not its key",
         source=["CREATE TABLE people (id INT PRIMARY KEY, code INT UNIQUE)",
                 "CREATE TABLE orders (id INT PRIMARY KEY, p INT, "
                 "FOREIGN KEY (p) REFERENCES people (code) ON UPDATE CASCADE)"]),
    Case("cascades without events", "cascades", Severity.NOTE, "logs no events", place="source",
         source=["CREATE TABLE people (id INT PRIMARY KEY)",
                 "CREATE TABLE orders (id INT PRIMARY KEY, p INT, "
                 "FOREIGN KEY (p) REFERENCES people (id) ON DELETE CASCADE)"]),
    Case("a definer that is not there", "definers", Severity.WARNING, "seller@%", place="target", remedy="CREATE USER",
         source=[ORDERS, "CREATE USER seller@'%'", "GRANT ALL ON *.* TO seller@'%'",
                 "CREATE DEFINER=seller@'%' VIEW cheap AS SELECT id FROM orders"]),
    Case("an account that passes read_only", "read_only_bypass", Severity.WARNING, "seller", place="source",
         remedy="lock_tables",
         source=[ORDERS, "CREATE USER seller@'%'", "GRANT READ ONLY ADMIN ON *.* TO seller@'%'"]),
    Case("an application behind a fence of the server", "application", Severity.NOTE, 'with the fence "read_only"',
         place="[cutover] fence", remedy='fence = "app"', text="[app]\nenabled = true\n"),
    Case("an application that cannot wait for a switch", "application", Severity.OBSTACLE, "give up waiting for a lock",
         place="source", remedy="innodb_lock_wait_timeout = 302", text="[app]\nenabled = true\n[cutover]\n"
         'fence = "app"\nmax_write_pause_seconds = 300\n'),
    Case("a target that nobody may write to", "application", Severity.OBSTACLE, "the target is read-only",
         place="target", remedy="read_only = OFF", target=["SET GLOBAL read_only = ON"],
         text='[app]\nenabled = true\n[cutover]\nfence = "app"\n'),
    Case("a fence of later", "availability", Severity.OBSTACLE, '"hook" is not part', place="[cutover] fence",
         remedy="read_only", text='[cutover]\nfence = "hook"\n'),
    Case("a limit nobody watches", "availability", Severity.OBSTACLE, "watching replicas",
         place="[throttle] max_replica_lag_seconds", text="[throttle]\nmax_replica_lag_seconds = 5\n"),
    Case("writers that wait less than a switch may take", "application", Severity.OBSTACLE, "writers give up waiting",
         place="source", remedy="innodb_lock_wait_timeout",
         text='[app]\nenabled = true\n[cutover]\nfence = "app"\nmax_write_pause_seconds = 250\n'),
    Case("an application behind another fence", "application", Severity.NOTE, "refuses or delays",
         place="[cutover] fence", remedy='"app"', text="[app]\nenabled = true\n"),
    Case("a scheduler that is not there", "cluster", Severity.OBSTACLE, "the scheduler cannot be reached",
         place="cluster tcp://127.0.0.1:1", remedy="dask scheduler", text='[copy]\nexecutor = "dask"\n'
         '[cluster]\nscheduler = "tcp://127.0.0.1:1"\nconnect_timeout_seconds = 1\n'),
    Case("no view of the disk", "disk", Severity.NOTE, "free space cannot be seen", place="target"),
)  # fmt: skip


@pytest.fixture
def check_pair(tmp_path: Path) -> CheckPair:
    """``check_pair(pair, text)``: what `check` finds on a first run."""

    def check(pair: Pair, text: str = "", *, user: str = "", password: str = "") -> list[Finding]:
        sections = []
        for name, database in (("source", pair.source), ("target", pair.target)):
            (tmp_path / name).write_text(password or database.server.password)
            url = database.url.replace("root@", f"{user}@") if user else database.url
            sections.append(f'[{name}]\nurl = "{url}"\npassword_file = "{name}"\n')
        config = parse_config(
            '[migration]\nid = "checked"\n' + "".join(sections) + text, place="the test", directory=tmp_path
        )
        migration = Migration(config)
        try:
            return check_migration(migration, is_first_run=True)
        finally:
            migration.close()

    return check


def _require(findings: list[Finding], case: Case) -> None:
    fitting = [
        f for f in findings
        if f.check == case.check and f.severity is case.severity and case.message in f.message and case.place in f.place
        and case.remedy in f.remedy
    ]  # fmt: skip
    assert len(fitting) == 1, "\n".join(map(str, findings))
    assert fitting[0].remedy or case.severity is Severity.NOTE, "an obstacle without a next step"


def _found(findings: list[Finding], check: str) -> list[Finding]:
    return [finding for finding in findings if finding.check == check]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_is_said(case: Case, mariadb_pair: Pair, check_pair: CheckPair) -> None:
    mariadb_pair.source.execute(*case.source)
    if case.target:
        mariadb_pair.target.execute(*case.target)
    _require(check_pair(mariadb_pair, case.text), case)


def test_an_ordinary_shop_meets_no_obstacle_and_no_warning(mariadb_pair: Pair, check_pair: CheckPair) -> None:
    mariadb_pair.source.execute(ORDERS, "INSERT INTO orders VALUES (1, 1)")
    assert [f for f in check_pair(mariadb_pair) if f.severity is not Severity.NOTE] == []


def test_source_and_target_on_one_server(
    mariadb_server: Any, database_factory: Callable[..., Database], check_pair: CheckPair
) -> None:
    source, target = database_factory(mariadb_server), database_factory(mariadb_server)
    source.execute(ORDERS)
    (finding,) = _found(check_pair(Pair(source, target)), "identity")
    assert finding.severity is Severity.OBSTACLE
    assert "same server" in finding.message


@pytest.mark.parametrize(
    ("role", "options", "message"),
    [
        ("source", {"binlog_format": "MIXED"}, "binlog_format is MIXED"),
        ("source", {"binlog_ignore_db": "shop"}, "binlog filters leave out"),
        ("target", {"binlog_do_db": "another"}, "binlog filters leave out"),
        ("target", {"skip_log_bin": ""}, "the binlog is off"),
    ],
    ids=["mixed", "ignored", "another-database", "off"],
)
def test_a_binlog_that_misses_changes(
    role: str, options: dict[str, str], message: str, server_factory: Callable[..., Any], mariadb_pair: Pair,
    check_pair: CheckPair,
) -> None:  # fmt: skip
    server = server_factory(Flavour.MARIADB, **options)
    server.execute("CREATE DATABASE shop CHARACTER SET utf8mb4")
    strange = Database(server, "shop")
    pair = Pair(strange, mariadb_pair.target) if role == "source" else Pair(mariadb_pair.source, strange)
    pair.source.execute(ORDERS)
    found = _found(check_pair(pair), "binlog")
    assert [f.severity for f in found] == [Severity.OBSTACLE], found
    assert message in found[0].message
    assert found[0].place.startswith(role)
    assert found[0].remedy


def test_a_server_that_keeps_binlogs_for_a_minute(
    server_factory: Callable[..., Any], mariadb_pair: Pair, check_pair: CheckPair
) -> None:
    server = server_factory(Flavour.MARIADB, binlog_expire_logs_seconds="60")
    server.execute("CREATE DATABASE shop CHARACTER SET utf8mb4")
    source = Database(server, "shop")
    source.execute(ORDERS)
    (finding,) = _found(check_pair(Pair(source, mariadb_pair.target)), "retention")
    assert finding.severity is Severity.WARNING
    assert "binlog_expire_logs_seconds" in finding.remedy


def test_a_target_that_takes_smaller_packets_and_spells_names_otherwise(
    server_factory: Callable[..., Any], mariadb_pair: Pair, check_pair: CheckPair
) -> None:
    server = server_factory(Flavour.MARIADB, max_allowed_packet="1M", lower_case_table_names="1")
    server.execute("CREATE DATABASE shop CHARACTER SET utf8mb4")
    mariadb_pair.source.execute(ORDERS)
    found = _found(check_pair(Pair(mariadb_pair.source, Database(server, "shop"))), "settings")
    assert [f.severity for f in found] == [Severity.WARNING] * 2
    assert any("max_allowed_packet" in f.message for f in found)
    assert any("lower_case_table_names" in f.message for f in found)


@pytest.mark.parametrize("takes", [True, False], ids=["parameters", "hidden by a proxy"])
@pytest.mark.parametrize(
    ("local_infile", "remedy", "table"),
    [("OFF", "local_infile = ON", "(plain)"), ("ON", "innodb_autoinc_lock_mode = 2", "(counted)")],
    ids=["no loads", "queues"],
)
def test_a_target_that_takes_loads_badly(
    local_infile: str, remedy: str, table: str, takes: bool, server_factory: Callable[..., Any], mariadb_pair: Pair, check_pair: CheckPair,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Which matters only to one that does not take rows as parameters."""
    server = server_factory(local_infile=local_infile)
    server.execute(f"CREATE DATABASE {mariadb_pair.source.schema}")
    mariadb_pair.source.execute(
        "CREATE TABLE counted (id INT AUTO_INCREMENT PRIMARY KEY, total INT)", "CREATE TABLE plain (id INT PRIMARY KEY)"
    )
    if not takes:
        monkeypatch.setattr(Session, "takes_bulk", False)
    found = check_pair(Pair(mariadb_pair.source, Database(server, mariadb_pair.source.schema)))
    notes = [finding for finding in found if finding.check == "speed"]
    assert len(notes) == (0 if takes else 1)
    assert all(note.severity is Severity.NOTE and remedy in note.remedy and table in note.message for note in notes)


def test_clocks_that_differ(server_factory: Callable[..., Any], mariadb_pair: Pair, check_pair: CheckPair) -> None:
    """A server whose sessions live an hour in the past, but for administrators, who are spared init_connect."""
    server = server_factory(
        Flavour.MARIADB, sysdate_is_now="ON", init_connect="SET timestamp = UNIX_TIMESTAMP() - 3600"
    )
    server.execute("CREATE DATABASE shop CHARACTER SET utf8mb4")
    mariadb_pair.source.execute(ORDERS)
    target = Database(server, "shop")
    for database in (mariadb_pair.source, target):
        database.server.create_user("plain", "plain-9", "SELECT ON *.*", "PROCESS ON *.*", "BINLOG MONITOR ON *.*")
    found = _found(check_pair(Pair(mariadb_pair.source, target), user="plain", password="plain-9"), "clocks")
    assert [f.severity for f in found] == [Severity.WARNING]
    assert "-36" in found[0].message or "-35" in found[0].message
    assert "NTP" in found[0].remedy


def test_a_transaction_that_is_open_for_long_is_named(
    mariadb_pair: Pair, check_pair: CheckPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbmigrate.workflow.preflight.transactions.LONG_SECONDS", 1)
    mariadb_pair.source.execute(ORDERS, "INSERT INTO orders VALUES (1, 1)")
    with mariadb_pair.source.connect() as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("UPDATE orders SET total = 2")
        cursor.execute("SELECT SLEEP(1.2)")
        (finding,) = _found(check_pair(mariadb_pair), "transactions")
        assert finding.remedy.endswith(f"KILL {connection.thread_id()}")
        cursor.execute("ROLLBACK")


def test_a_full_disk_is_an_obstacle_where_the_server_shows_it(
    mariadb_pair: Pair, check_pair: CheckPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbmigrate.workflow.preflight.disk._read_free_bytes", lambda _: 1000)
    mariadb_pair.source.execute(ORDERS)
    (finding,) = _found(check_pair(mariadb_pair), "disk")
    assert finding.severity is Severity.OBSTACLE
    assert "make room" in finding.remedy


def test_old_releases_are_refused(mariadb_pair: Pair, check_pair: CheckPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what the server says of itself: there is no such server to start here."""
    from dbmigrate.domain.flavours import ServerVersion

    monkeypatch.setattr(ServerVersion, "is_supported", property(lambda _: False))
    mariadb_pair.source.execute(ORDERS)
    found = _found(check_pair(mariadb_pair), "versions")
    assert [f.severity for f in found] == [Severity.OBSTACLE] * 2


def test_a_check_that_cannot_do_its_work_is_an_obstacle_of_its_own(mariadb_pair: Pair, check_pair: CheckPair) -> None:
    mariadb_pair.source.execute(ORDERS)
    for database in (mariadb_pair.source, mariadb_pair.target):
        database.server.create_user("plain", "plain-9", f"SELECT ON `{database.schema}`.*")
    found = check_pair(mariadb_pair, user="plain", password="plain-9")
    assert any(f.severity is Severity.OBSTACLE and "could not be carried out" in f.message for f in found), found


@pytest.mark.parametrize(
    ("option", "message"),
    [({"binlog_order_commits": "OFF"}, "binlog_order_commits is OFF"), ({"server_id": "0"}, "server_id is 0")],
    ids=["order", "server-id"],
)
def test_commits_that_are_not_ordered_and_a_server_without_an_id(
    option: dict[str, str], message: str, server_factory: Callable[..., Any], mysql_pair: Pair, check_pair: CheckPair
) -> None:
    server = server_factory(Flavour.MYSQL, **option)
    server.execute("CREATE DATABASE shop CHARACTER SET utf8mb4")
    source = Database(server, "shop")
    source.execute(ORDERS)
    (finding,) = _found(check_pair(Pair(source, mysql_pair.target)), "binlog")
    assert message in finding.message
    assert finding.severity is Severity.OBSTACLE


@pytest.mark.mysql
def test_what_the_other_flavour_cannot_say_is_named(
    pair_factory: Callable[..., Pair], check_pair: CheckPair
) -> None:
    pair = pair_factory(Flavour.MARIADB, Flavour.MYSQL)
    pair.source.execute(ORDERS, "CREATE SEQUENCE numbers", "CREATE TABLE places (id UUID PRIMARY KEY)")
    found = [f for f in _found(check_pair(pair), "definitions") if f.severity is Severity.OBSTACLE]
    assert any("numbers" in f.place for f in found), found


def test_every_check_has_a_test() -> None:
    """Privileges and creators are made to speak by the acceptance tests of the least privileges."""
    here = Path(__file__).read_text()
    elsewhere = {"privileges", "creators"}
    for check in CHECKS:
        name = check.__name__.removeprefix("check_")
        assert name in elsewhere or f'"{name}"' in here, f"no test makes {check.__name__} speak"
