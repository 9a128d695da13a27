"""Where a piece of chunk work is done: the two servers as one process reaches them.

Copier and verifier describe a chunk as data and the work on it as a plain function of a workplace and that data, and
leave it to a ``ChunkExecutor`` where that happens: in a thread of this process, or in another one on another machine.
The function cannot tell.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol, TypeVar

from dbmigrate.domain.errors import FatalError
from dbmigrate.domain.routes import Side
from dbmigrate.domain.steps import StepHook, no_step
from dbmigrate.mysql.servers import Server
from dbmigrate.mysql.tenure import Tenure

Task = TypeVar("Task")
Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class Workplace:
    """What chunk work finds where it is done. ``halves`` runs the destination's half of a comparison, ``pause`` leaves the
    origin alone for some seconds. Thread-safe."""

    migration_id: str
    servers: Mapping[Side, Server]
    tenures: Mapping[Side, Tenure]
    halves: Executor
    clock: Callable[[], float] = time.monotonic
    on_step: StepHook = no_step
    pause: Callable[[float], object] = time.sleep

    def require_tenure(self, side: Side) -> Tenure:
        """The right to write rows on a side.

        Raises:
            FatalError: the lease is not held.
        """
        if side not in self.tenures:
            raise FatalError("rows cannot be written before the lease is held", place=side.value)
        return self.tenures[side]


class ChunkExecutor(Protocol):
    """Does chunk work somewhere and waits for its outcome."""

    def run(self, work: Callable[[Workplace, Task], Outcome], task: Task) -> Outcome:
        """The outcome of ``work`` on ``task``. Where processes can be lost, the work may be done more than once, and one
        that counts as lost may still be at it after this has returned or raised.

        Raises:
            DbmigrateError: as ``work`` does; or what it was to be done on is lost.
        """
        ...


class InProcess:
    """Chunk work in the calling thread."""

    def __init__(self, workplace: Workplace) -> None:
        self._workplace = workplace

    def run(self, work: Callable[[Workplace, Task], Outcome], task: Task) -> Outcome:
        """The outcome of ``work``, done once."""
        return work(self._workplace, task)
