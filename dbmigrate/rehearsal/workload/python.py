"""A user's Python function as the workload."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from dbmigrate.domain.errors import ConfigurationError
from dbmigrate.domain.routes import Side
from dbmigrate.rehearsal.settings import WorkloadKind
from dbmigrate.rehearsal.workload.counting import Tally
from dbmigrate.rehearsal.workload.following import ConnectionParameters, OwnerAddress
from dbmigrate.rehearsal.workload.running import Workload


class WorkloadContext:
    """What the function is called with.

    Connect to ``owner``, write until ``stop`` is set, and return. When the owner changes, the connection is reset:
    ask ``owner`` again, connect again, go on. Tell each write by ``committed`` or ``failed``.
    """

    def __init__(self, address: OwnerAddress, migration_id: str, stop: threading.Event, tally: Tally) -> None:
        self._address, self._tally = address, tally
        self.migration_id = migration_id
        self.stop = stop

    @property
    def owner(self) -> ConnectionParameters:
        """Where the owner of the data is now."""
        return self._address.parameters

    @property
    def source(self) -> ConnectionParameters:
        """The source itself, for ``dbmigrate.app.sessionmaker``."""
        return self._address.parameters_of(Side.SOURCE)

    @property
    def target(self) -> ConnectionParameters:
        """The target itself."""
        return self._address.parameters_of(Side.TARGET)

    def committed(self) -> None:
        """One write was acknowledged."""
        self._tally.count_success()

    def failed(self, kind: str = "told by the workload") -> None:
        """One write failed."""
        self._tally.count_failure(kind)


class PythonWorkload(Workload):
    """``module:function``, called in so many threads."""

    kind = WorkloadKind.PYTHON

    def __init__(
        self, function: Callable[[WorkloadContext], Any], address: OwnerAddress, migration_id: str, *, workers: int
    ) -> None:
        super().__init__()
        self._function, self._workers = function, workers
        self._context = WorkloadContext(address, migration_id, self.stop_event, self.tally)

    def threads_wanted(self) -> int:
        """One a worker."""
        return self._workers

    def work(self, number: int) -> None:
        """Call it; its end before the stop is its own affair."""
        self._function(self._context)


def load_function(name: str) -> Callable[[WorkloadContext], Any]:
    """The function ``module:function``, found from the current directory as well.

    Raises:
        ConfigurationError: there is none.
    """
    module, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as fault:
        raise ConfigurationError(
            f"there is no {name}", place="--workload", cause=str(fault), hint="write python:MODULE:FUNCTION"
        ) from None
    if not callable(found):
        raise ConfigurationError(f"{name} is no function", place="--workload")
    function: Callable[[WorkloadContext], Any] = found
    return function
