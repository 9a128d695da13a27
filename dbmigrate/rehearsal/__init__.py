"""Rehearsals: a whole move on throwaway servers, with the user's own configuration, before the real one.

    from dbmigrate.rehearsal import Rehearsal, RehearsalSettings, SampledRows

    report = Rehearsal("dbmigrate.toml", RehearsalSettings(rows=SampledRows(5_000))).run()
    assert report.is_clean, report.verdict

The command is ``dbmigrate rehearse``; the fixtures for pytest are in ``dbmigrate.pytest_plugin``. See docs/rehearsal.md.
"""

from dbmigrate.rehearsal.page import render_page
from dbmigrate.rehearsal.rehearsing import Rehearsal
from dbmigrate.rehearsal.report import RehearsalReport
from dbmigrate.rehearsal.settings import (
    DumpedRows,
    Fault,
    FaultKind,
    GeneratedRows,
    RehearsalSettings,
    SampledRows,
    ServerKind,
    WorkloadChoice,
    WorkloadKind,
    parse_faults,
)
from dbmigrate.rehearsal.workload.following import ConnectionParameters
from dbmigrate.rehearsal.workload.python import WorkloadContext

__all__ = [
    "ConnectionParameters",
    "DumpedRows",
    "Fault",
    "FaultKind",
    "GeneratedRows",
    "Rehearsal",
    "RehearsalReport",
    "RehearsalSettings",
    "SampledRows",
    "ServerKind",
    "WorkloadChoice",
    "WorkloadContext",
    "WorkloadKind",
    "parse_faults",
    "render_page",
]
