"""What happens in a process of the cluster: it keeps one workplace and does chunk work there.

Everything here is called by Dask, by name, in another process than the runner's. No secret comes with a task: each
process reads ``password_env`` and ``password_file`` itself, where it runs.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from typing import Generic, TypeVar

from dbmigrate.config import ServerSection
from dbmigrate.domain.errors import DbmigrateError
from dbmigrate.domain.routes import Side
from dbmigrate.mysql.faults import Retry
from dbmigrate.mysql.servers import Server
from dbmigrate.mysql.sessions import Endpoint
from dbmigrate.mysql.tenure import Tenure
from dbmigrate.mysql.transfer import ResultCutError
from dbmigrate.mysql.workplace import Outcome, Task, Workplace

T = TypeVar("T")

HALVES = 16
"""Threads for the destination's halves of comparisons; a process with more tasks at a time lets some wait."""


@dataclass(frozen=True)
class Assignment:
    """Which migration a process works for, and as part of which runner.

    ``generation`` is the runner's lease, None where nothing will be written; ``up_seconds`` says for how long the target
    has been up, as far as the runner knows. Without any secret.
    """

    migration_id: str
    source: ServerSection
    target: ServerSection
    generation: int | None
    up_seconds: float

    @property
    def key(self) -> tuple[str, int | None]:
        """What tells one runner's work from another's."""
        return self.migration_id, self.generation

    @property
    def endpoints(self) -> dict[Side, Endpoint]:
        """Where both servers are."""
        return {Side.SOURCE: Endpoint("source", self.source), Side.TARGET: Endpoint("target", self.target)}


@dataclass(frozen=True)
class Answer(Generic[T]):
    """What became of a task: its outcome, or the fault that ended it, as a value because a cluster logs what is raised
    together with the keys in the task."""

    outcome: T | None = None
    fault: DbmigrateError | ResultCutError | None = None

    def take(self) -> T:
        """The outcome.

        Raises:
            DbmigrateError, ResultCutError: there is none.
        """
        if self.fault is not None:
            raise self.fault
        return self.outcome  # type: ignore[return-value]  # without a fault it is what the work gave


def perform(assignment: Assignment, work: Callable[[Workplace, Task], Outcome], task: Task) -> Answer[Outcome]:
    """Do ``work`` on ``task`` at this process's workplace."""
    try:
        return Answer(work(_WORKPLACES.find(assignment), task))
    except (DbmigrateError, ResultCutError) as fault:
        return Answer(fault=fault)


class _Workplaces:
    """The workplaces of this process, kept from task to task: one for a runner, one for whoever compares beside it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[tuple[str, int | None], Workplace] = {}

    def find(self, assignment: Assignment) -> Workplace:
        """The workplace for an assignment, opened now if there is none; that of an earlier runner is closed then."""
        with self._lock:
            if assignment.key not in self._open:
                if assignment.generation is not None:
                    for key in [(name, lease) for name, lease in self._open if name == assignment.migration_id and lease]:
                        self._close(key)
                self._open[assignment.key] = _open_workplace(assignment)
            return self._open[assignment.key]

    def close(self, key: tuple[str, int | None]) -> None:
        """Give the connections of an assignment back."""
        with self._lock:
            self._close(key)

    def _close(self, key: tuple[str, int | None]) -> None:
        workplace = self._open.pop(key, None)
        if workplace is not None:
            workplace.halves.shutdown(wait=False)
            for server in workplace.servers.values():
                server.close()


_WORKPLACES = _Workplaces()


def close_workplace(key: tuple[str, int | None]) -> None:
    """Close what this process keeps open for an assignment."""
    _WORKPLACES.close(key)


def _open_workplace(assignment: Assignment) -> Workplace:
    retry, clock = Retry(), time.monotonic
    servers: dict[Side, Server] = {}
    tenures: dict[Side, Tenure] = {}
    try:
        for side, endpoint in assignment.endpoints.items():
            servers[side] = Server(endpoint, assignment.migration_id, clock=clock, retry=retry)
    except BaseException:
        for server in servers.values():
            server.close()
        raise
    if assignment.generation is not None:
        pool = servers[Side.TARGET].pool
        tenure = Tenure(pool, assignment.migration_id, assignment.generation, retry=retry, clock=clock)
        tenure.join(assignment.up_seconds)
        tenures[Side.TARGET] = tenure
    halves = ThreadPoolExecutor(HALVES, thread_name_prefix="half")
    return Workplace(assignment.migration_id, servers, tenures, halves, clock)


@dataclass(frozen=True)
class WorkerDescription:
    """What a process of the cluster says of itself: where it runs, the version of this program, and what keeps it from
    reaching a server."""

    place: str
    version: str
    problems: tuple[str, ...]


def describe_worker(assignment: Assignment) -> WorkerDescription:
    """Look at this process as a place to work at: logs in to both servers and out again."""
    problems = []
    for endpoint in assignment.endpoints.values():
        try:
            endpoint.connect().close()
        except DbmigrateError as fault:
            problems.append(
                f"{fault.place or endpoint.place}: {fault.message}" + (f" ({fault.cause})" if fault.cause else "")
            )
    return WorkerDescription(socket.gethostname(), read_version(), tuple(problems))


def read_version() -> str:
    """The version of this program in this process."""
    return version("dbmigrate")
