"""From the choice to the workload."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dbmigrate.rehearsal.settings import RehearsalSettings, WorkloadChoice, WorkloadKind
from dbmigrate.rehearsal.workload.command import CommandWorkload, SysbenchWorkload, split_command
from dbmigrate.rehearsal.workload.following import OwnerAddress
from dbmigrate.rehearsal.workload.generic import GenericWorkload, TargetTable
from dbmigrate.rehearsal.workload.python import PythonWorkload, load_function
from dbmigrate.rehearsal.workload.running import Workload


def require_runnable(choice: WorkloadChoice) -> None:
    """Before any server is started.

    Raises:
        ConfigurationError: the program or the function is not there.
    """
    match choice.kind:
        case WorkloadKind.COMMAND:
            split_command(choice.text)
        case WorkloadKind.SYSBENCH:
            split_command("sysbench")
        case WorkloadKind.PYTHON:
            load_function(choice.text)
        case _:
            return


def build_workload(
    settings: RehearsalSettings, address: OwnerAddress, tables: Sequence[TargetTable], migration_id: str, directory: Path
) -> Workload:
    """The workload, not started."""
    match settings.workload.kind:
        case WorkloadKind.GENERIC:
            return GenericWorkload(address, tables, workers=settings.workers, rate=settings.rate)
        case WorkloadKind.COMMAND:
            return CommandWorkload(settings.workload.text, address, migration_id, directory / "workload.log")
        case WorkloadKind.SYSBENCH:
            return SysbenchWorkload(address, migration_id, directory, workers=settings.workers, rate=settings.rate)
        case WorkloadKind.PYTHON:
            function = load_function(settings.workload.text)
            return PythonWorkload(function, address, migration_id, workers=settings.workers)
        case WorkloadKind.NONE:
            return Workload()
