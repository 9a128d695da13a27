"""A rehearsal's pure parts: what may be asked for, what is replaced, what is estimated, what the report concludes."""

from __future__ import annotations

import sys
import tomllib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from dbmigrate.config.loading import parse_config
from dbmigrate.domain.errors import ConfigurationError, ExitCode, FatalError
from dbmigrate.domain.flavours import Flavour, ServerVersion
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Side
from dbmigrate.domain.schema import Column
from dbmigrate.mysql.control import Transition
from dbmigrate.mysql.faults import ConnectionLostError, ServerRefusedError
from dbmigrate.rehearsal import Fault, FaultKind, RehearsalReport, WorkloadChoice, WorkloadKind, parse_faults
from dbmigrate.rehearsal.configuration import RehearsedServer, build_configuration
from dbmigrate.rehearsal.extrapolation import Size, extrapolate, find_factor
from dbmigrate.rehearsal.measuring import describe_phases, sum_up_phases
from dbmigrate.rehearsal.report import FaultSuffered, LagSample
from dbmigrate.rehearsal.runners import may_run_again, thin_out
from dbmigrate.rehearsal.values import make_value
from dbmigrate.rehearsal.workload.command import split_command
from dbmigrate.rehearsal.workload.counting import CONSTRAINT, Tally, classify
from dbmigrate.rehearsal.workload.python import load_function
from dbmigrate.throwaway.containers import flavour_of_image, official_image, require_engine

# --- what may be asked for ---


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("runner-kill", Fault(FaultKind.RUNNER_KILL, None, Phase.COPY)),
        ("runner-kill@soak", Fault(FaultKind.RUNNER_KILL, None, Phase.SOAK)),
        ("server-restart", Fault(FaultKind.SERVER_RESTART, Side.TARGET, Phase.COPY)),
        ("network-cut:source@catch_up", Fault(FaultKind.NETWORK_CUT, Side.SOURCE, Phase.CATCH_UP)),
    ],
)
def test_a_fault_is_written_as_kind_side_and_phase(text: str, fault: Fault) -> None:
    assert Fault.parse(text) == fault
    assert Fault.parse(str(fault)) == fault


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("runner-killl", "is no fault"), ("", "is no fault"), ("server-restart:both", "is no side"),
        ("network-cut@done", "is no phase"), ("runner-kill:source", "on no side"), ("network-cut:", "is no side"),
    ],
)  # fmt: skip
def test_what_is_no_fault_is_refused_with_the_choices(text: str, cause: str) -> None:
    with pytest.raises(ConfigurationError, match="not a fault") as refused:
        Fault.parse(text)
    assert cause in refused.value.cause
    assert refused.value.exit_code is ExitCode.CONFIGURATION


def test_faults_come_in_the_order_of_the_phases() -> None:
    faults = parse_faults(["network-cut@soak", "runner-kill", "server-restart@verify"])
    assert [fault.phase for fault in faults] == [Phase.COPY, Phase.VERIFY, Phase.SOAK]


def test_workloads_are_read_from_one_text() -> None:
    assert WorkloadChoice.parse("generic") == WorkloadChoice()
    assert WorkloadChoice.parse("command:siege -t 5") == WorkloadChoice(WorkloadKind.COMMAND, "siege -t 5")
    assert WorkloadChoice.parse("python:shop.load:run") == WorkloadChoice(WorkloadKind.PYTHON, "shop.load:run")


@pytest.mark.parametrize("text", ["", "generics", "command:", "command", "python:shop", "python:shop:", "none:x"])
def test_what_is_no_workload_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="not a workload"):
        WorkloadChoice.parse(text)


def test_a_program_or_function_that_is_not_there_is_told_before_anything_starts() -> None:
    with pytest.raises(ConfigurationError, match="no program 'no-such-program'"):
        split_command("no-such-program --host x")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        split_command("echo 'open")
    with pytest.raises(ConfigurationError, match="there is no no_such_module:run"):
        load_function("no_such_module:run")
    with pytest.raises(ConfigurationError, match="is no function"):
        load_function("os:sep")


# --- servers ---


@pytest.mark.parametrize(
    ("version", "image"),
    [("10.11.6-MariaDB-log", "mariadb:10.11"), ("5.5.5-11.4.2-MariaDB", "mariadb:11.4"), ("8.4.3", "mysql:8.4"), ("9.7.0", "mysql:9.7")],
)
def test_the_official_image_follows_from_the_version(version: str, image: str) -> None:
    found = ServerVersion.parse(version)
    assert official_image(found) == image
    assert flavour_of_image(image) is found.flavour


def test_the_flavour_of_an_image_is_that_of_its_own_name() -> None:
    assert flavour_of_image("mariadb.example:5000/library/mysql:8.4") is Flavour.MYSQL
    assert flavour_of_image("registry.example/our-mariadb:11") is Flavour.MARIADB


def test_a_missing_extra_is_told_by_name_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "testcontainers", None)
    monkeypatch.setitem(sys.modules, "testcontainers.core.container", None)
    with pytest.raises(ConfigurationError, match="is not installed") as refused:
        require_engine()
    assert "pip install 'dbmigrate[rehearsal]'" in refused.value.hint


# --- configuration ---

USERS_FILE = """
[migration]
id = "shop"
[source]
url = "mysql://migrator@db-old/shop"
password_env = "SECRET"
[target]
url = "mysql://migrator@db-new/shop"
tls = { verify = "identity", ca = "ca.pem" }
[tables]
include = ["*"]
[tables."odd name"]
where = "id > 'a\\"b'"
columns = { "total cents" = "ROUND(total * 100)" }
[copy]
workers = 3
[throttle]
windows = ["22:00-06:00"]
max_rows_per_second = 5000
[gates]
min_soak_seconds = 86400.0
[cutover]
approval = "auto"
fence = "app"
[app]
enabled = true
"""
SERVERS = {
    side: RehearsedServer(f"mariadb://root@127.0.0.1:1/{side.value}", f"{side.value}.password") for side in Side
}


def rehearse_file(text: str, **options: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    built = build_configuration(tomllib.loads(text), SERVERS, **{"soak_seconds": 3.0, "with_app": False} | options)
    parse_config(built.text, place="the rehearsal's", directory=Path())
    return tomllib.loads(built.text), built.notes


def test_only_servers_and_what_cannot_be_rehearsed_are_replaced() -> None:
    content, notes = rehearse_file(USERS_FILE)
    given = tomllib.loads(USERS_FILE)
    assert content["source"] == {"url": SERVERS[Side.SOURCE].url, "password_file": "source.password", "tls": False}
    assert content["tables"] == given["tables"]
    assert content["copy"] == given["copy"]
    assert content["migration"] == given["migration"]
    assert content["throttle"] == {"max_rows_per_second": 5000, "max_source_write_factor": 0}
    assert content["gates"] == {"min_soak_seconds": 3.0}
    assert content["cutover"] == {"approval": "required", "fence": "read_only"}
    assert content["app"] == {"enabled": False}
    assert [any(word in note for note in notes) for word in ("windows", "min_soak", "[app]", "fence")] == [True] * 4
    assert "db-old" not in str(content)


def test_a_workload_that_brings_the_library_keeps_the_application_phases() -> None:
    content, notes = rehearse_file(USERS_FILE, with_app=True)
    assert content["app"] == {"enabled": True}
    assert content["cutover"]["fence"] == "app"
    assert not any("[app]" in note for note in notes)


def test_a_plain_file_gives_no_notes() -> None:
    lines = USERS_FILE.split("[tables]")[0]
    assert rehearse_file(lines)[1] == ()


# --- extrapolation ---


def test_the_factor_is_the_larger_of_rows_and_bytes() -> None:
    assert find_factor(Size(100, 1000), Size(1000, 5000)) == 10
    assert find_factor(Size(100, 1000), Size(200, 9000)) == 9
    assert find_factor(Size(100, 0), Size(300, 5000)) == 3
    assert find_factor(Size(100, 1000), Size(50, 500)) == 1


def test_without_a_size_there_is_no_factor() -> None:
    assert find_factor(Size(100, 100), None) is None
    assert find_factor(Size(0, 0), Size(5, 5)) is None
    assert find_factor(Size(5, 5), Size(0, 0)) is None


def test_only_passes_over_all_rows_are_multiplied() -> None:
    assert extrapolate(Phase.COPY, 2.0, 50.0).seconds == 100
    assert extrapolate(Phase.VERIFY, 2.0, 50.0).seconds == 100
    assert extrapolate(Phase.EXPAND, 2.0, 50.0).seconds == 2
    for phase in (Phase.CATCH_UP, Phase.CUTOVER, Phase.SOAK, Phase.REVERTING, Phase.DUAL_WRITE):
        estimate = extrapolate(phase, 2.0, 50.0)
        assert estimate.seconds is None
        assert estimate.basis


def test_nothing_is_estimated_from_a_disturbed_phase_or_an_unknown_size() -> None:
    assert extrapolate(Phase.COPY, 2.0, 50.0, disturbed=True).seconds is None
    assert extrapolate(Phase.COPY, 2.0, None).seconds is None


BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def passed(*steps: tuple[float, Phase, Phase]) -> list[Transition]:
    return [Transition(BEGAN + timedelta(seconds=at), 1, one, other, "x", "y") for at, one, other in steps]


def test_phases_are_summed_up_to_the_way_back_and_not_the_second_passage() -> None:
    transitions = passed(
        (1, Phase.PLAN, Phase.EXPAND), (2, Phase.EXPAND, Phase.COPY), (5, Phase.COPY, Phase.CATCH_UP),
        (6, Phase.CATCH_UP, Phase.VERIFY), (8, Phase.VERIFY, Phase.CUTOVER), (9, Phase.CUTOVER, Phase.CATCH_UP),
        (10, Phase.CATCH_UP, Phase.VERIFY), (13, Phase.VERIFY, Phase.CUTOVER), (14, Phase.CUTOVER, Phase.SOAK),
        (20, Phase.SOAK, Phase.REVERTING), (21, Phase.REVERTING, Phase.CATCH_UP), (90, Phase.CATCH_UP, Phase.VERIFY),
    )  # fmt: skip
    assert sum_up_phases(BEGAN, transitions) == {
        Phase.PLAN: 1, Phase.EXPAND: 1, Phase.COPY: 3, Phase.CATCH_UP: 2, Phase.VERIFY: 5, Phase.CUTOVER: 2,
        Phase.SOAK: 6, Phase.REVERTING: 1,
    }  # fmt: skip


def test_rates_belong_to_passes_over_all_rows_that_nothing_disturbed() -> None:
    phases = describe_phases({Phase.VERIFY: 2.0, Phase.COPY: 4.0, Phase.SOAK: 3.0}, 1000, 10.0, {Phase.COPY})
    assert [(p.phase, p.rows_per_second, p.estimate_seconds) for p in phases] == [
        ("copy", None, None), ("verify", 500.0, 20.0), ("soak", None, None),
    ]  # fmt: skip


# --- verdict ---

CLEAN = RehearsalReport("shop", differences=0)
SURVIVED = FaultSuffered("runner-kill@copy", True, True)


@pytest.mark.parametrize(
    ("report", "code"),
    [
        (CLEAN, ExitCode.DONE),
        (replace(CLEAN, faults=(SURVIVED,)), ExitCode.DONE),
        (replace(CLEAN, differences=2), ExitCode.DIFFERENCES),
        (replace(CLEAN, differences=None), ExitCode.FAILED),
        (replace(CLEAN, differences=None, failure="no", failure_code=3), ExitCode.REFUSED),
        (replace(CLEAN, faults=(SURVIVED, replace(SURVIVED, injected=False, survived=False))), ExitCode.FAILED),
        (replace(CLEAN, faults=(replace(SURVIVED, survived=False),)), ExitCode.FAILED),
    ],
)
def test_the_exit_code_follows_from_what_was_found(report: RehearsalReport, code: ExitCode) -> None:
    assert report.exit_code is code
    assert report.is_clean is (code is ExitCode.DONE)
    assert report.verdict
    assert report.to_json()["exit_code"] == int(code)


def test_a_fault_that_was_not_injected_is_named_in_the_verdict() -> None:
    report = replace(CLEAN, faults=(replace(SURVIVED, injected=False, survived=False),))
    assert report.verdict == "not injected: runner-kill@copy"


# --- runners and workloads ---


@pytest.mark.parametrize(
    ("code", "text", "again"),
    [
        (-9, "", True), (4, "lost", True), (1, "differ", False), (2, "", False), (5, "", False),
        (3, "refused by a gate", False), (3, "error: migration x: another runner works on this migration", True),
    ],
)  # fmt: skip
def test_a_runner_is_started_again_where_an_operator_would(code: int, text: str, again: bool) -> None:
    assert may_run_again(code, text) is again


def test_thinning_keeps_the_peaks() -> None:
    samples = [LagSample(float(i), "copy", 9.0 if i == 777 else 0.1, 0) for i in range(2000)]
    thinned = thin_out(samples, most=100)
    assert len(thinned) <= 100
    assert max(one.lag_seconds or 0 for one in thinned) == 9.0
    assert thin_out(samples[:5]) == tuple(samples[:5])


def test_constraints_of_the_users_tables_are_no_failures_of_the_move() -> None:
    tally = Tally()
    for fault in (
        ServerRefusedError("x", number=1062), ServerRefusedError("x", number=1290), ConnectionLostError("x"),
        ServerRefusedError("x", number=1146), FatalError("x"),
    ):  # fmt: skip
        tally.count_failure(classify(fault))
    assert tally.failures == {
        CONSTRAINT: 1, "held off by the fence": 1, "connection lost": 1, "error 1146": 1, "other": 1,
    }  # fmt: skip
    assert tally.failed == 4


def column(data_type: str, column_type: str = "", **more: Any) -> Column:
    return Column("c", 0, data_type, column_type or data_type, False, **more)


COLUMNS = [
    column("tinyint", is_unsigned=True), column("bigint"), column("decimal", precision=5, scale=2), column("double"),
    column("varchar", character_length=12), column("varbinary", octet_length=9), column("enum", members=("a", "b'c")),
    column("date"), column("datetime"), column("time"), column("year"), column("bit", precision=3), column("json"),
    column("longtext", is_json=True), column("uuid"), column("inet6"), column("point"), column("polygon"),
]  # fmt: skip


@pytest.mark.parametrize("kind", COLUMNS, ids=lambda kind: kind.data_type)
def test_made_up_values_are_the_same_for_the_same_seed(kind: Column) -> None:
    one, other = ([make_value(kind, random, n) for n in range(20)] for random in (Random(7), Random(7)))
    assert one == other


@pytest.mark.parametrize(
    "kind", [column("int"), column("varchar", character_length=8), column("binary", octet_length=4), column("date"), column("decimal", precision=8, scale=2)]
)  # fmt: skip
def test_distinct_values_are_distinct(kind: Column) -> None:
    random = Random(1)
    assert len({make_value(kind, random, n, distinct=True) for n in range(2000)}) == 2000


def test_texts_keep_to_the_length_of_their_column() -> None:
    random = Random(3)
    for length in (1, 2, 7, 40):
        kind = column("varchar", character_length=length)
        assert all(len(make_value(kind, random, n)) <= length + 2 for n in range(200))
