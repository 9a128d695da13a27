"""The runner's half of a cluster: tasks out, answers in, and what it means when neither comes.

Dask starts a task again by itself when the process that had it is lost (up to its scheduler's ``allowed-failures``), so a
task may be done twice; chunk work is made for that (``copying.chunks``).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Any

from dbmigrate.cluster.workers import (
    Answer,
    Assignment,
    WorkerDescription,
    close_workplace,
    describe_worker,
    perform,
)
from dbmigrate.config import ClusterSection
from dbmigrate.domain.errors import ConfigurationError, DbmigrateError, FatalError, TransientError
from dbmigrate.mysql.workplace import Outcome, Task, Workplace

LOOK_SECONDS = 2.0
"""After so long without an answer it is looked whether anybody is there to give one."""


class WorkersLostError(TransientError):
    """Every process that tried the task was lost; what became of it is unknown."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a cluster is: how many tasks it does at a time, and what its processes say of themselves, by address."""

    threads: int
    workers: dict[str, WorkerDescription | str]


class DaskCluster:
    """A connection to a scheduler. Thread-safe; ``close`` leaves scheduler and workers as they are."""

    def __init__(self, section: ClusterSection) -> None:
        """Connect.

        Raises:
            ConfigurationError: Dask is not installed, or the TLS files cannot be used.
            FatalError: the scheduler does not answer.
        """
        self._distributed = _import_distributed()
        self._place = f"cluster {section.scheduler}"
        self._patience_seconds = section.worker_timeout_seconds
        try:
            self._client: Any = self._distributed.Client(
                section.scheduler, set_as_default=False, name="dbmigrate", timeout=section.connect_timeout_seconds,
                security=self._build_security(section), direct_to_workers=False,
            )  # fmt: skip
        except (OSError, TimeoutError) as fault:
            raise FatalError(
                "the scheduler cannot be reached", place=self._place, cause=str(fault).split("\n")[0],
                hint='start `dask scheduler` and workers (docs/scaling.md), or set executor = "threads"',
            ) from fault  # fmt: skip
        except ValueError as fault:
            raise ConfigurationError(
                "the scheduler's address cannot be used", place=self._place, cause=str(fault),
                hint="write [cluster] scheduler as tcp://host:port or tls://host:port",
            ) from fault  # fmt: skip

    def _build_security(self, section: ClusterSection) -> Any:
        if not section.is_encrypted:
            return None
        return self._distributed.security.Security(
            require_encryption=True, tls_ca_file=str(section.ca),
            tls_client_cert=str(section.cert), tls_client_key=str(section.key),
        )  # fmt: skip

    @property
    def place(self) -> str:
        """How messages name the cluster."""
        return self._place

    def look_around(self, assignment: Assignment) -> Found:
        """Ask every process what it is and whether it reaches the servers.

        Raises:
            FatalError: the scheduler is gone.
        """
        with self._reporting_loss():
            threads = self._client.nthreads()
            told = self._client.run(describe_worker, assignment, on_error="return") if threads else {}
        workers = {
            address: found if isinstance(found, WorkerDescription) else f"{type(found).__name__}: {found}"
            for address, found in told.items()
        }
        return Found(sum(threads.values()), workers)

    def ask(self, assignment: Assignment, work: Callable[[Workplace, Task], Outcome], task: Task) -> Outcome:
        """Have ``work`` done by one of the processes.

        Raises:
            WorkersLostError: several processes in a row were lost while they had it.
            FatalError: there are no processes, or the scheduler is gone.
            DbmigrateError: as ``work`` does.
        """
        with self._reporting_loss():
            future = self._client.submit(perform, assignment, work, task, pure=False)
            try:
                answer: Answer[Outcome] = self._await(future)
            finally:
                with contextlib.suppress(Exception):
                    future.release()
        return answer.take()

    def _await(self, future: Any) -> Any:
        alone_since: float | None = None
        while True:
            try:
                return future.result(timeout=LOOK_SECONDS)
            except TimeoutError:
                if self._client.nthreads():
                    alone_since = None
                    continue
                alone_since = alone_since or time.monotonic()
                if time.monotonic() - alone_since >= self._patience_seconds:
                    raise self._report_empty() from None
            except self._distributed.KilledWorker as killed:
                raise WorkersLostError(
                    "the processes that worked on a chunk were lost, one after the other", place=self._place,
                    cause=f"the last was {killed.last_worker.address}",
                    hint="look into the workers' logs; out of memory is the most common cause",
                ) from None  # fmt: skip

    def _report_empty(self) -> DbmigrateError:
        return FatalError(
            f"there has been no worker for {self._patience_seconds:g} s", place=self._place,
            hint='start workers (docs/scaling.md) and run again, or set executor = "threads"; what was copied is kept',
        )  # fmt: skip

    @contextlib.contextmanager
    def _reporting_loss(self) -> Any:
        """Between question and answer: a scheduler that is gone shows in many ways."""
        try:
            yield
        except DbmigrateError:
            raise
        except (CancelledError, OSError, TimeoutError) as fault:
            raise FatalError(
                "the scheduler is gone", place=self._place, cause=str(fault).split("\n")[0],
                hint="start it again with its workers and run again; what was copied is kept",
            ) from fault  # fmt: skip

    def forget(self, assignment: Assignment) -> None:
        """Have the processes close their connections for an assignment, as far as they can be reached."""
        with contextlib.suppress(Exception):
            self._client.run(close_workplace, assignment.key, on_error="ignore")

    def close(self) -> None:
        """Disconnect."""
        with contextlib.suppress(Exception):
            self._client.close(timeout=5)


class OnCluster:
    """Chunk work in the processes of a cluster, for one runner."""

    def __init__(self, cluster: DaskCluster, assignment: Assignment) -> None:
        self._cluster, self._assignment = cluster, assignment

    def run(self, work: Callable[[Workplace, Task], Outcome], task: Task) -> Outcome:
        """The outcome of ``work``; see ``DaskCluster.ask``."""
        return self._cluster.ask(self._assignment, work, task)


def _import_distributed() -> Any:
    try:
        import distributed
    except ImportError as fault:
        raise ConfigurationError(
            'executor = "dask" needs the package distributed', place="[copy] executor, [verify] executor", cause=str(fault),
            hint="pip install 'dbmigrate[dask]' here and where the workers run",
        ) from fault  # fmt: skip
    return distributed
