"""Rehearsals on real servers: what is loaded, what is found, what is broken on purpose, and what it must not touch."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pymysql
import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from databases import Pair

from dbmigrate.app import sessionmaker
from dbmigrate.cli import main
from dbmigrate.domain.errors import ConfigurationError, DbmigrateError, ExitCode
from dbmigrate.domain.flavours import Flavour
from dbmigrate.domain.routes import Side
from dbmigrate.rehearsal import (
    DumpedRows,
    GeneratedRows,
    Rehearsal,
    RehearsalReport,
    RehearsalSettings,
    SampledRows,
    ServerKind,
    WorkloadChoice,
    WorkloadContext,
    parse_faults,
    rehearsing,
)
from dbmigrate.rehearsal.comparing import compare_sides
from dbmigrate.rehearsal.creating import read_created_schema
from dbmigrate.rehearsal.servers import StandIn
from dbmigrate.throwaway.shop import create_shop, fill_shop

FAMILY = (
    "CREATE TABLE region (id INT PRIMARY KEY, name VARCHAR(30) NOT NULL, UNIQUE KEY (name))",
    "CREATE TABLE customer (id INT AUTO_INCREMENT PRIMARY KEY, region_id INT NOT NULL, parent_id INT, "
    "name VARCHAR(40), born DATE, credit DECIMAL(8,2) NOT NULL DEFAULT 0 CHECK (credit >= 0), "
    "FOREIGN KEY (region_id) REFERENCES region (id), FOREIGN KEY (parent_id) REFERENCES customer (id))",
    "CREATE TABLE purchase (id BIGINT AUTO_INCREMENT PRIMARY KEY, customer_id INT NOT NULL, kind ENUM('a','b') NOT NULL, "
    "note TEXT, picture BLOB, bought_at DATETIME(3) NOT NULL, FOREIGN KEY (customer_id) REFERENCES customer (id))",
    "CREATE TABLE purchase_line (purchase_id BIGINT, line_no SMALLINT UNSIGNED, pieces INT, PRIMARY KEY (purchase_id, line_no), "
    "FOREIGN KEY (purchase_id) REFERENCES purchase (id) ON DELETE CASCADE)",
    "CREATE VIEW recent AS SELECT id, customer_id FROM purchase",
    "CREATE TRIGGER purchase_ai AFTER INSERT ON purchase FOR EACH ROW UPDATE customer SET name = 'x' WHERE id = NEW.customer_id",
    "INSERT INTO region SELECT seq, CONCAT('region ', seq) FROM seq_1_to_40",
    "INSERT INTO customer (id, region_id, parent_id, name) "
    "SELECT seq, 1 + seq % 40, IF(seq % 3, NULLIF(seq - 1, 0), NULL), CONCAT('secret ', seq) FROM seq_1_to_2000",
    "INSERT INTO purchase (customer_id, kind, bought_at) SELECT 1 + (seq * 7) % 2000, 'a', NOW(3) FROM seq_1_to_6000",
    "INSERT INTO purchase_line SELECT seq, 1, 2 FROM seq_1_to_6000",
)  # fmt: skip

NOWHERE = """
[migration]
id = "shop"
[source]
url = "mysql://x@127.0.0.1:1/shop"
[target]
url = "mysql://x@127.0.0.1:2/shop"
"""

Configure = Callable[..., Path]


@pytest.fixture
def configure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configure:
    """``configure(pair, more)``: a ``dbmigrate.toml`` for the pair, which stands for the real servers here."""

    def write(pair: Pair, more: str = "") -> Path:
        monkeypatch.setenv("REAL_SOURCE", pair.source.server.password)
        monkeypatch.setenv("REAL_TARGET", pair.target.server.password)
        path = tmp_path / "dbmigrate.toml"
        path.write_text(
            f'[migration]\nid = "shop"\n[source]\nurl = "{pair.source.url}"\npassword_env = "REAL_SOURCE"\n'
            f'[target]\nurl = "{pair.target.url}"\npassword_env = "REAL_TARGET"\n{more}\n'
        )
        return path

    return write


@pytest.fixture
def family(mariadb_pair: Pair) -> Pair:
    mariadb_pair.source.execute(*FAMILY)
    return mariadb_pair


def local(**settings: Any) -> RehearsalSettings:
    return RehearsalSettings(**{"servers": ServerKind.LOCAL, "soak_seconds": 1.0, "limit_seconds": 240.0} | settings)


def fingerprint(pair: Pair) -> list[Any]:
    """Everything on the real servers that a rehearsal might have touched."""
    found: list[Any] = []
    for database in (pair.source, pair.target):
        server = database.server
        found += [server.execute("SHOW DATABASES"), server.execute("SELECT user, host FROM mysql.user ORDER BY 1, 2")]
        names = [name for name, kind in database.execute("SHOW FULL TABLES") if kind == "BASE TABLE"]
        found += [(name, database.execute(f"CHECKSUM TABLE `{name}`")) for name in sorted(names)]
        found.append(server.execute("SHOW MASTER STATUS"))
    return found


class Look:
    """Looks at the throwaway servers at the end, while they are still there."""

    def __init__(self) -> None:
        self.tables: dict[Side, dict[str, tuple[tuple[Any, ...], ...]]] = {}
        self.orphans = 0

    def __call__(self, stand_ins: dict[Side, StandIn], report: RehearsalReport) -> None:
        for side, stand_in in stand_ins.items():
            names = [table.name.name for table in read_created_schema(stand_in).tables]
            rows = {n: stand_in.server.execute(f"SELECT * FROM `{stand_in.schema}`.`{n}` ORDER BY 1, 2") for n in names}
            self.tables[side] = rows
        source = stand_ins[Side.SOURCE]
        if "purchase_line" not in self.tables[Side.SOURCE]:
            return
        self.orphans = sum(
            source.server.execute(
                f"SELECT COUNT(*) FROM `{source.schema}`.{child} c LEFT JOIN `{source.schema}`.{parent} p "
                f"ON p.id = c.{column} WHERE c.{column} IS NOT NULL AND p.id IS NULL"
            )[0][0]
            for child, column, parent in (
                ("customer", "region_id", "region"), ("customer", "parent_id", "customer"),
                ("purchase", "customer_id", "customer"), ("purchase_line", "purchase_id", "purchase"),
            )
        )  # fmt: skip


def test_a_sample_goes_there_and_back_and_there_and_the_real_servers_stay_as_they_were(
    family: Pair, configure: Configure, tmp_path: Path
) -> None:
    before, look = fingerprint(family), Look()
    report = Rehearsal(configure(family), local(rows=SampledRows(300)), hold=look).run()
    assert report.exit_code is ExitCode.DONE, report
    assert look.orphans == 0
    assert look.tables[Side.SOURCE] == look.tables[Side.TARGET]
    assert {len(rows) > 0 for rows in look.tables[Side.TARGET].values()} == {True}
    assert [switch.direction for switch in report.switches] == ["forward", "reverse", "forward"]
    assert report.workload.committed > 20
    by_name = {table.table: table for table in report.tables}
    assert 300 <= by_name["purchase_line"].rows <= 320
    assert by_name["customer"].rows >= 300
    assert by_name["purchase_line"].real_rows is not None
    assert report.factor is not None
    assert report.factor > 3
    phases = {phase.phase: phase for phase in report.phases}
    assert phases["copy"].estimate_seconds == pytest.approx(phases["copy"].seconds * report.factor, rel=0.1)
    assert fingerprint(family) == before
    text = json.dumps(report.to_json())
    assert family.source.server.password not in text


@pytest.mark.slow
def test_generated_rows_have_the_shape_and_nobodys_content(family: Pair, configure: Configure) -> None:
    looks = [Look(), Look()]
    for look in looks:
        settings = local(rows=GeneratedRows(120, seed=5), workload=WorkloadChoice.parse("none"), soak_seconds=0.0)
        report = Rehearsal(configure(family), settings, hold=look).run()
        assert report.exit_code is ExitCode.DONE, report
        assert look.orphans == 0
    first, second = (look.tables[Side.SOURCE] for look in looks)
    assert first == second
    assert {name: len(rows) for name, rows in first.items()} == dict.fromkeys(first, 120)
    assert "secret" not in str(first)
    nulls = sum(row[2] is None for row in first["customer"])
    assert 20 < nulls < 60  # a third of the first thousand on the source
    assert all(row[5] >= 0 for row in first["customer"])


@pytest.mark.slow
def test_an_sql_file_needs_no_real_server(tmp_path: Path) -> None:
    path, dump, look = tmp_path / "dbmigrate.toml", tmp_path / "shop.sql", Look()
    path.write_text(NOWHERE)
    dump.write_text(
        "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(20));\nDELIMITER //\n"
        "CREATE TRIGGER t_bi BEFORE INSERT ON t FOR EACH ROW BEGIN SET NEW.name = UPPER(NEW.name); END//\nDELIMITER ;\n"
        "INSERT INTO t (name) VALUES ('a;b'), ('c');\n"
    )
    images = {"source_image": "mariadb:10.11", "target_image": "mariadb:10.11", "read_real_size": False}
    settings = local(rows=DumpedRows(dump), workload=WorkloadChoice.parse("none"), **images)
    report = Rehearsal(path, settings, hold=look).run()
    assert report.exit_code is ExitCode.DONE, report
    assert look.tables[Side.TARGET] == {"t": ((1, "A;B"), (2, "C"))}
    assert report.factor is None
    assert next(p for p in report.phases if p.phase == "copy").estimate_seconds is None


def test_an_sql_file_that_fails_says_what_the_client_said(tmp_path: Path) -> None:
    path, dump = tmp_path / "dbmigrate.toml", tmp_path / "shop.sql"
    path.write_text(NOWHERE)
    dump.write_text("CREATE TABLE t (id INT PRIMARY KEY);\nCREATE TABLE oops;\n")
    images = {"source_image": "mariadb:10.11", "target_image": "mariadb:10.11", "read_real_size": False}
    with pytest.raises(DbmigrateError, match="could not be loaded") as failed:
        Rehearsal(path, local(rows=DumpedRows(dump), **images)).run()
    assert "line 2" in failed.value.cause


@pytest.mark.slow
def test_a_configuration_that_reshapes_is_rehearsed_on_the_prepared_tables(family: Pair, configure: Configure) -> None:
    family.source.execute("DROP VIEW recent")
    family.target.execute("CREATE TABLE client (id INT PRIMARY KEY, name VARCHAR(40), cents BIGINT NOT NULL)")
    path = configure(
        family,
        '[tables]\ninclude = ["customer"]\n[tables.customer]\nrename = "client"\nwhere = "id > 10"\n'
        'omit = ["region_id", "parent_id", "born", "credit"]\ncolumns = { cents = "ROUND(credit * 100)" }\n',
    )
    report = Rehearsal(path, local(rows=SampledRows(200))).run()
    assert report.exit_code is ExitCode.DONE, report
    assert report.rows_compared > 100
    assert any("no way back" in note for note in report.notes)
    assert any("prepared on the target" in note for note in report.notes)


FAULTS = ["runner-kill", "server-restart:source@catch_up", "server-restart:target@cutover", "network-cut:source@verify", "network-cut:target@soak"]


@pytest.mark.slow
def test_every_fault_is_injected_survived_and_told(family: Pair, configure: Configure) -> None:
    look = Look()
    report = Rehearsal(configure(family), local(rows=SampledRows(2_000), faults=parse_faults(FAULTS)), hold=look).run()
    assert report.exit_code is ExitCode.DONE, report
    assert {fault.fault for fault in report.faults} == {*FAULTS[1:], "runner-kill@copy"}
    assert all(fault.recovered_seconds and fault.phase for fault in report.faults)
    assert look.tables[Side.SOURCE] == look.tables[Side.TARGET]
    killed = next(fault for fault in report.faults if fault.fault.startswith("runner-kill"))
    assert (killed.recovered_seconds or 0) > 10  # the dead runner's lease had to expire


@pytest.mark.slow
def test_a_difference_is_found_by_a_comparison_that_is_not_the_programs_own(
    family: Pair, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil_and_compare(stand_ins: Any, *more: Any) -> Any:
        stand_in = stand_ins[Side.TARGET]
        stand_in.server.execute(f"UPDATE `{stand_in.schema}`.region SET name = 'spoilt' WHERE id = 7")
        return compare_sides(stand_ins, *more)

    monkeypatch.setattr(rehearsing, "compare_sides", spoil_and_compare)
    settings = local(rows=SampledRows(50), workload=WorkloadChoice.parse("none"), soak_seconds=0.0)
    report = Rehearsal(configure(family), settings).run()
    assert report.exit_code is ExitCode.DIFFERENCES
    assert report.differences == 1
    assert [(d.table, d.key) for d in report.first_differences] == [("region", "7")]
    assert "spoilt" not in json.dumps(report.to_json())


@pytest.mark.slow
def test_a_move_that_keeps_failing_is_given_up_with_the_reason(family: Pair, configure: Configure) -> None:
    """A view whose tables do not move cannot be created on the target, however often the runner is started."""
    path = configure(family, '[tables]\ninclude = ["region"]\n')
    report = Rehearsal(path, local(rows=SampledRows(20))).run()
    assert report.exit_code is ExitCode.FAILED
    assert "recent" in report.failure
    assert report.seconds < 120


@pytest.mark.slow
def test_a_move_that_is_refused_is_a_report_with_the_reason(family: Pair, configure: Configure) -> None:
    family.source.execute("CREATE TABLE keyless (a INT)", "INSERT INTO keyless VALUES (1)")
    report = Rehearsal(configure(family), local(rows=SampledRows(50), faults=parse_faults(["runner-kill"]))).run()
    assert report.exit_code is ExitCode.REFUSED
    assert "keyless" in report.failure
    assert report.differences is None
    assert [(fault.injected, fault.survived) for fault in report.faults] == [(False, False)]


@pytest.mark.slow
@pytest.mark.mysql
@pytest.mark.parametrize("rows", [SampledRows(percent=5.0), GeneratedRows(150)], ids=["sample", "generated"])
def test_a_move_from_mysql_to_mariadb_is_rehearsed_on_both(
    pair_factory: Callable[..., Pair], configure: Configure, rows: SampledRows | GeneratedRows
) -> None:
    pair = pair_factory(Flavour.MYSQL, Flavour.MARIADB)
    with pair.source.connect() as connection:
        create_shop(connection, pair.source.schema)
        fill_shop(connection, pair.source.schema, 10_000)
    report = Rehearsal(configure(pair), local(rows=rows)).run()
    assert report.exit_code is ExitCode.DONE, report
    assert [server.version.split()[0] for server in report.servers] == ["MySQL", "MariaDB"]
    assert report.rows_compared > 300
    assert report.workload.committed > 20


# --- workloads ---


def write_in_python(context: WorkloadContext) -> None:
    """A user's function: follows the owner by asking again after each fault."""
    number = 0
    while not context.stop.is_set():
        to = context.owner
        try:
            with pymysql.connect(
                host=to.host, port=to.port, user=to.user, password=to.password, database=to.database, autocommit=True
            ) as connection, connection.cursor() as cursor:
                while not context.stop.wait(0.02):
                    number += 1
                    cursor.execute("UPDATE region SET name = %s WHERE id = 1", (f"round {number}",))
                    context.committed()
        except pymysql.err.MySQLError:
            context.failed("reconnected")


COMMAND = """
import os, sys, time
import pymysql
assert os.environ["DBMIGRATE_PASSWORD"] not in " ".join(sys.argv)
name = os.environ["DBMIGRATE_DATABASE"]
connection = pymysql.connect(host=os.environ["DBMIGRATE_HOST"], port=int(os.environ["DBMIGRATE_PORT"]), database=name,
    user=os.environ["DBMIGRATE_USER"], password=os.environ["DBMIGRATE_PASSWORD"], autocommit=True)
while True:
    connection.cursor().execute("UPDATE region SET name = CONCAT('at ', UUID_SHORT() % 100000) WHERE id = 2")
    time.sleep(0.02)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["python", "command"])
def test_a_users_workload_follows_the_owner(family: Pair, configure: Configure, tmp_path: Path, kind: str) -> None:
    script = tmp_path / "load.py"
    script.write_text(COMMAND)
    text = f"command:{sys.executable} {script}" if kind == "command" else f"python:{__name__}:write_in_python"
    sys.modules.setdefault(__name__, sys.modules[write_in_python.__module__])
    look = Look()
    report = Rehearsal(configure(family), local(rows=SampledRows(50), workload=WorkloadChoice.parse(text)), hold=look).run()
    assert report.exit_code is ExitCode.DONE, report
    assert report.workload.kind == kind
    changed = {row[0]: row[1] for row in look.tables[Side.SOURCE]["region"]}
    assert changed[1].startswith("round ") if kind == "python" else changed[2].startswith("at ")
    if kind == "python":
        assert report.workload.committed > 20
    else:
        assert report.workload.failed >= 2  # it gave up at each switch, and was started again


WITH_THE_LIBRARY = """
[gates]
min_mirrored_writes = 5
min_shadow_samples = 5
min_target_reads = 5
latency_floor_seconds = 5.0
[cutover]
fence = "app"
[app]
enabled = true
read_ramp = [50.0, 100.0]
ramp_step_seconds = 0.5
"""
REGION = sa.Table("region", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.String(30)))


def write_with_the_library(context: WorkloadContext) -> None:
    """An application on ``dbmigrate.app``: it needs no owner's address, and no write of it may fail."""
    engines = [
        sa.create_engine(f"mysql+pymysql://{to.user}:{to.password}@{to.host}:{to.port}/{to.database}?charset=utf8mb4")
        for to in (context.source, context.target)
    ]
    sessions = sessionmaker(*engines, migration_id=context.migration_id)
    number = 0
    while not context.stop.wait(0.02):
        number += 1
        try:
            with sessions.begin() as session:
                session.execute(sa.update(REGION).where(REGION.c.id == 1 + number % 9).values(name=f"r {number} {id(context)}"))
            with sessions() as session:
                session.execute(sa.select(REGION.c.name).where(REGION.c.id == 1 + number % 9)).all()
            context.committed()
        except sa.exc.SQLAlchemyError as fault:
            context.failed(type(fault).__name__)
    sessions.close()


@pytest.mark.slow
def test_an_application_with_the_library_walks_all_phases_without_a_failed_write(
    family: Pair, configure: Configure
) -> None:
    sys.modules.setdefault(__name__, sys.modules[write_with_the_library.__module__])
    workload = WorkloadChoice.parse(f"python:{__name__}:write_with_the_library")
    settings = local(rows=SampledRows(100), workload=workload, workers=1, with_app=True)
    report = Rehearsal(configure(family, WITH_THE_LIBRARY), settings).run()
    assert report.exit_code is ExitCode.DONE, report
    assert {"dual_write", "shadow_read", "ramp_reads"} <= {phase.phase for phase in report.phases}
    assert report.workload.failed == 0, report.workload
    assert report.workload.committed > 50


def fail_in_python(context: WorkloadContext) -> None:
    raise RuntimeError("the workload's own fault")


@pytest.mark.slow
def test_a_workload_that_breaks_fails_the_rehearsal(family: Pair, configure: Configure) -> None:
    sys.modules.setdefault(__name__, sys.modules[fail_in_python.__module__])
    settings = local(rows=SampledRows(20), workload=WorkloadChoice.parse(f"python:{__name__}:fail_in_python"), soak_seconds=0.0)
    report = Rehearsal(configure(family), settings).run()
    assert report.exit_code is ExitCode.FAILED
    assert "the workload's own fault" in report.failure


# --- the command ---


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(main, ["rehearse", *arguments])


@pytest.mark.slow
def test_the_command_writes_json_and_a_page(family: Pair, configure: Configure, tmp_path: Path) -> None:
    page = tmp_path / "rehearsal.html"
    result = invoke(
        "-c", str(configure(family)), "--servers", "local", "--rows", "40", "--workload", "none", "--soak-seconds", "0",
        "--json", "--html", str(page),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert content["differences"] == 0
    assert content["verdict"] == "both sides are equal at the end"
    assert content["verdict"] in page.read_text()


@pytest.mark.slow
def test_an_interrupted_rehearsal_leaves_nothing_and_says_failed(
    family: Pair, configure: Configure, tmp_path: Path
) -> None:
    folder = tmp_path / "tmp"
    folder.mkdir()
    command = [sys.executable, "-m", "dbmigrate", "rehearse", "-c", str(configure(family)), "--servers", "local", "--keep"]
    environment = {**os.environ, "TMPDIR": str(folder)}
    process = subprocess.Popen([*command, "--rows", "20"], stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    said = ""
    while "phase cutover" not in said and process.poll() is None:
        said += process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 4
    said += process.stderr.read()
    assert "interrupted; the servers were removed" in said
    assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_sysbench_writes_to_tables_of_its_own_which_move_with_the_rest(family: Pair, configure: Configure) -> None:
    if shutil.which("sysbench") is None:
        if os.environ.get("CI", "").lower() in ("true", "1"):
            pytest.fail("sysbench is missing; .ci/sysbench installs it", pytrace=False)
        pytest.skip("sysbench is not installed")
    look = Look()
    settings = local(rows=SampledRows(20), workload=WorkloadChoice.parse("sysbench"), soak_seconds=3.0)
    report = Rehearsal(configure(family), settings, hold=look).run()
    assert report.exit_code is ExitCode.DONE, report
    sides = [look.tables[side] for side in Side]
    assert sides[0] == sides[1]
    assert len(sides[0]["sbtest1"]) == 5_000
    assert max(row[0] for row in sides[0]["sbtest1"]) <= 5_000  # its keys, not a copy's
    assert {"sbtest1", "sbtest2"} <= {table.table for table in report.tables}


@pytest.mark.slow
def test_kept_servers_can_be_looked_at_until_ctrl_c(family: Pair, configure: Configure) -> None:
    command = [sys.executable, "-m", "dbmigrate", "rehearse", "-c", str(configure(family)), "--servers", "local", "--keep"]
    process = subprocess.Popen([*command, "--rows", "20", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = ""
    while "target: " not in said and process.poll() is None:
        said += process.stderr.readline()
    found = re.search(r"source: (\w+)@([\d.]+):(\d+)/(\w+), password in (\S+)", said)
    assert found, said
    user, host, port, schema, password_file = found.groups()
    password = Path(password_file).read_text().strip()
    assert password not in said
    with pymysql.connect(host=host, port=int(port), user=user, password=password, database=schema) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT COUNT(*) FROM purchase")
        assert cursor.fetchone()[0] >= 20
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert json.loads(out)["differences"] == 0
    assert not Path(password_file).exists()


@pytest.mark.slow
@pytest.mark.parametrize("fence", ["lock_tables", "read_only"])
def test_writers_that_the_fence_holds_off_are_counted_and_go_on(family: Pair, configure: Configure, fence: str) -> None:
    path = configure(family, f'[cutover]\nfence = "{fence}"\n')
    report = Rehearsal(path, local(rows=SampledRows(200), workers=4, rate=200.0)).run()
    assert report.exit_code is ExitCode.DONE, report
    assert set(report.workload.failures) <= {"held off by the fence", "connection lost", "constraint", "rolled back"}
    assert report.workload.committed > 200


@pytest.mark.slow
def test_a_command_that_never_runs_fails_the_rehearsal(family: Pair, configure: Configure) -> None:
    """Else a rehearsal without any writes would look like one that went well."""
    workload = WorkloadChoice.parse(f"command:{sys.executable} -c 'raise SystemExit(\"no such host\")'")
    report = Rehearsal(configure(family), local(rows=SampledRows(20), workload=workload, soak_seconds=0.0)).run()
    assert report.exit_code is ExitCode.FAILED
    assert "no such host" in report.failure


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rows", "5", "--generate", "5"], "exclude each other"),
        (["--fault", "meteor"], "is no fault"),
        (["--workload", "dance"], "not a workload"),
        (["--workload", "command:no-such-program"], "no program"),
        (["--dump", "/no/such/file.sql"], "cannot be read"),
        (["--html", "/no/such/folder/page.html"], "does not exist"),
        (["--rows", "0"], "range"),
        (["-c", "/no/such/file.toml"], "cannot be read"),
    ],
)
def test_bad_input_is_told_before_anything_starts(
    family: Pair, configure: Configure, arguments: list[str], said: str
) -> None:
    result = invoke("-c", str(configure(family)), *arguments)
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_server_that_cannot_be_asked_needs_an_image(tmp_path: Path) -> None:
    path, dump = tmp_path / "dbmigrate.toml", tmp_path / "x.sql"
    path.write_text(NOWHERE)
    dump.write_text("SELECT 1;\n")
    with pytest.raises(ConfigurationError, match="which release stands for the source"):
        Rehearsal(path, local(rows=DumpedRows(dump))).run()


def test_containers_without_an_engine_are_refused_with_the_way_out(
    family: Pair, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    result = invoke("-c", str(configure(family)), "--servers", "docker")
    assert result.exit_code == 2
    assert "--servers local" in result.stderr
