"""The parts of chunk work on a cluster that need no cluster."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pytest

from dbmigrate.cluster.dask_client import DaskCluster, Found
from dbmigrate.cluster.workers import Answer, Assignment, WorkerDescription, read_version
from dbmigrate.config import ClusterSection, ServerSection
from dbmigrate.config.loading import parse_config
from dbmigrate.copying.chunks import StaleStripeError
from dbmigrate.domain.errors import AmbiguousError, ConfigurationError, DbmigrateError
from dbmigrate.mysql.faults import ConnectionLostError, ServerRefusedError
from dbmigrate.mysql.transfer import ResultCutError
from dbmigrate.workflow.preflight.cluster import _judge_workers
from dbmigrate.workflow.preflight.finding import Severity

TEXT = """
[migration]
id = "move"
[source]
url = "mysql://migrator@old/shop"
password_env = "SOURCE_PASSWORD"
[target]
url = "mysql://migrator@new/shop"
password_env = "TARGET_PASSWORD"
[copy]
executor = "dask"
"""


@pytest.mark.parametrize(
    "fault",
    [
        ServerRefusedError("writing failed", number=1062, place="target db:3306", cause="duplicate", hint="look"),
        ConnectionLostError("lost", place="source"), StaleStripeError("stale"), AmbiguousError("two facts", cause="a lost answer"),
    ],
)  # fmt: skip
def test_faults_arrive_as_they_were(fault: DbmigrateError) -> None:
    answer = pickle.loads(pickle.dumps(Answer[int](fault=fault)))
    with pytest.raises(type(fault)) as arrived:
        answer.take()
    assert str(arrived.value) == str(fault)
    assert vars(arrived.value) == vars(fault)
    assert arrived.value.exit_code is fault.exit_code


def test_a_cut_result_arrives_as_one() -> None:
    with pytest.raises(ResultCutError):
        pickle.loads(pickle.dumps(Answer[int](fault=ResultCutError("reading")))).take()


def test_an_assignment_holds_no_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("hunter2")
    monkeypatch.setenv("SOURCE_PASSWORD", "hunter2")
    source = ServerSection(url="mysql://migrator@old/shop", password_env="SOURCE_PASSWORD")
    target = ServerSection(url="mysql://migrator@new/shop", password_file=secret)
    for section in (source, target):
        assert section.read_password() == "hunter2"
    sent = pickle.dumps(Assignment("move", source, target, 1, 2.0))
    assert b"hunter2" not in sent
    assert pickle.loads(sent) == Assignment("move", source, target, 1, 2.0)
    assert "hunter2" not in repr(pickle.loads(sent))


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ("", '[copy] executor = "dask" needs [cluster] scheduler'),
        ('[cluster]\nscheduler = "scheduler:8786"', "tcp://host:port or tls://host:port"),
        ('[cluster]\nscheduler = "tcp://user:secret@scheduler:8786"', "tcp://host:port or tls://host:port"),
        ('[cluster]\nscheduler = "tls://scheduler:8786"\nca = "ca.pem"', "tls:// needs ca, cert and key"),
        ('[cluster]\nscheduler = "tcp://scheduler:8786"\nca = "ca.pem"', "only a scheduler at tls:// uses them"),
        ('[cluster]\nscheduler = "tcp://scheduler:8786"\nworker_timeout_seconds = 0', "worker_timeout_seconds"),
    ],
)
def test_what_does_not_fit_is_told(section: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as problem:
        parse_config(TEXT + section, place="the file", directory=tmp_path)
    assert told in str(problem.value)


def test_one_of_both_may_use_the_cluster(tmp_path: Path) -> None:
    text = '[cluster]\nscheduler = "tcp://scheduler:8786"'
    assert parse_config(TEXT + text, place="the file", directory=tmp_path).uses_cluster
    alone = parse_config(TEXT.replace("dask", "threads"), place="the file", directory=tmp_path)
    assert not alone.uses_cluster


def test_a_missing_library_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigurationError) as problem:
        DaskCluster(ClusterSection(scheduler="tcp://127.0.0.1:8786"))
    assert "pip install 'dbmigrate[dask]'" in str(problem.value)


def test_workers_of_another_version_and_without_the_program_are_told() -> None:
    workers = {
        "tcp://a:1": WorkerDescription("a", "0.0.1", ()),
        "tcp://b:1": "ModuleNotFoundError: No module named 'dbmigrate'",
        "tcp://c:1": WorkerDescription("c", read_version(), ()),
    }
    found = _judge_workers("cluster", Found(6, workers))
    assert [finding.severity for finding in found] == [Severity.OBSTACLE] * 2
    assert "0.0.1" in found[0].message
    assert "install dbmigrate" in found[1].remedy
    assert {finding.place for finding in found} == {"worker tcp://a:1", "worker tcp://b:1"}
