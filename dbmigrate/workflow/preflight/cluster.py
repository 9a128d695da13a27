"""The cluster on which chunks are copied or compared: there, of this version, and able to reach both servers."""

from __future__ import annotations

from contextlib import closing
from ipaddress import ip_address
from urllib.parse import urlsplit

from dbmigrate.cluster.dask_client import DaskCluster, Found
from dbmigrate.cluster.workers import Assignment, WorkerDescription, read_version
from dbmigrate.config import Config, ExecutorKind
from dbmigrate.workflow.preflight.finding import Finding, Severity, Surroundings

MOST_NAMED = 5


def check_cluster(s: Surroundings) -> list[Finding]:
    """Scheduler, workers, their versions, their way to the servers, how many tasks they do, and who may give them some."""
    if not s.config.uses_cluster:
        return []
    assignment = Assignment(s.config.migration.id, s.config.source, s.config.target, generation=None, up_seconds=0.0)
    with closing(DaskCluster(s.config.cluster)) as cluster:
        place, found = cluster.place, cluster.look_around(assignment)
    return _judge_workers(place, found) + _judge_width(s.config, place, found) + _judge_openness(s.config, place)


def _judge_workers(place: str, found: Found) -> list[Finding]:
    if not found.workers:
        return [_find(Severity.OBSTACLE, place, "it has no workers", "start `dask worker` processes (docs/scaling.md)")]
    findings = []
    for address, worker in list(found.workers.items())[:MOST_NAMED]:
        if not isinstance(worker, WorkerDescription):
            remedy = (
                f"install dbmigrate {read_version()} with the extra `dask` where the worker runs, and start it again"
            )
            findings.append(_find(Severity.OBSTACLE, f"worker {address}", f"it cannot do chunk work: {worker}", remedy))
            continue
        if worker.version != read_version():
            message = f"it runs dbmigrate {worker.version}, the runner {read_version()}"
            findings.append(_find(Severity.OBSTACLE, f"worker {address}", message, "install the same version on both"))
        findings += [
            _find(
                Severity.OBSTACLE, f"worker {address} on {worker.place}", f"it cannot work with {problem}",
                "a worker logs in as the runner does: same account, its own network way, and the variable or file of the "
                "password where it runs",
            )
            for problem in worker.problems
        ]  # fmt: skip
    return findings


def _judge_width(config: Config, place: str, found: Found) -> list[Finding]:
    widths = (
        ("copy", config.copy_.executor, config.copy_.workers),
        ("verify", config.verify.executor, config.verify.workers),
    )
    return [
        _find(
            Severity.WARNING, place,
            f"it does {found.threads} tasks at a time, and [{name}] workers = {workers} are given: chunks that wait there "
            "hold up the stream",
            f"start more workers, or set [{name}] workers = {found.threads}",
        )
        for name, executor, workers in widths
        if executor is ExecutorKind.DASK and found.workers and workers > found.threads
    ]  # fmt: skip


def _judge_openness(config: Config, place: str) -> list[Finding]:
    host = urlsplit(config.cluster.scheduler or "").hostname or ""
    if config.cluster.is_encrypted or _is_loopback(host):
        return []
    message = "whoever reaches the scheduler can run code on its workers, which hold the databases' passwords"
    return [_find(Severity.WARNING, place, message, "use tls:// with ca, cert and key, or a network of its own")]


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _find(severity: Severity, place: str, message: str, remedy: str) -> Finding:
    return Finding("cluster", severity, place, message, remedy)
