"""A whole rehearsal, from the user's configuration to the report. Composition only: each step is a module of its own."""

from __future__ import annotations

import tempfile
import time
import tomllib
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from dbmigrate.config import Config, load_config
from dbmigrate.domain.errors import DbmigrateError, ExitCode
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Side
from dbmigrate.rehearsal.asking import Answers, ask_servers, measure_real, require_possible
from dbmigrate.rehearsal.comparing import compare_sides
from dbmigrate.rehearsal.configuration import RehearsedServer, build_configuration
from dbmigrate.rehearsal.creating import read_created_schema
from dbmigrate.rehearsal.extrapolation import find_factor
from dbmigrate.rehearsal.loading import Loader, Say
from dbmigrate.rehearsal.measuring import (
    add_up,
    describe_phases,
    load_switches,
    measure_tables,
    refresh_statistics,
    sum_up_phases,
)
from dbmigrate.rehearsal.move import RehearsedMove
from dbmigrate.rehearsal.report import RehearsalReport, ServerUsed
from dbmigrate.rehearsal.runners import LagWatch, SpawnedRunner, Stopped, thin_out
from dbmigrate.rehearsal.servers import StandIn, choose_kind, create_application_account, started_stand_ins
from dbmigrate.rehearsal.settings import RehearsalSettings
from dbmigrate.rehearsal.workload import OwnerAddress, Workload, build_workload
from dbmigrate.rehearsal.workload.generic import find_targets
from dbmigrate.telemetry import redact

Hold = Callable[[Mapping[Side, StandIn], RehearsalReport], None]


def say_nothing(line: str) -> None:
    """Keep progress to oneself."""


class Rehearsal:
    """One rehearsal of the move that a ``dbmigrate.toml`` describes.

    ``say`` is told the progress. ``hold`` is called at the end, while the servers still run.
    """

    def __init__(
        self, config_path: Path | str, settings: RehearsalSettings | None = None, *, say: Say = say_nothing,
        hold: Hold | None = None,
    ) -> None:  # fmt: skip
        self._path = Path(config_path)
        self._settings = settings or RehearsalSettings()
        self._say, self._hold = say, hold

    def run(self) -> RehearsalReport:
        """Rehearse on throwaway servers, and remove them. The configured servers are read from, never written to.

        What goes wrong with the move is in the report, and in its ``exit_code``.

        Raises:
            ConfigurationError: the file or the settings are wrong, or something that was asked for is not installed.
            DbmigrateError: the servers could not be started, or their data not be loaded.
        """
        began = time.monotonic()
        config = load_config(self._path)
        require_possible(self._settings)
        answers = ask_servers(config, self._settings)
        kind, reason = choose_kind(self._settings.servers)
        notes = [*answers.notes, *([reason] if reason else [])]
        schemas = {Side.SOURCE: config.source.schema, Side.TARGET: config.target.schema}
        with tempfile.TemporaryDirectory(prefix="dbmigrate-rehearsal-") as name, ExitStack() as stack:
            self._say(f"starting {answers.images[Side.SOURCE]} and {answers.images[Side.TARGET]} ({kind.value})")
            stand_ins = stack.enter_context(started_stand_ins(kind, answers.images, schemas, Path(name)))
            stage = self._set_up(config, stand_ins, answers, Path(name), notes)
            report = replace(_Performance(stage, self._settings, self._say).run(), seconds=round(time.monotonic() - began, 1))
            if self._hold is not None:
                self._hold(stand_ins, report)
            return report

    def _set_up(
        self, config: Config, stand_ins: Mapping[Side, StandIn], answers: Answers, directory: Path, notes: list[str]
    ) -> _Stage:
        loaded = Loader(config, self._settings, stand_ins, directory, self._say).load(answers.real)
        servers = {side: RehearsedServer(stand_in.url, str(stand_in.password_file)) for side, stand_in in stand_ins.items()}
        written = tomllib.loads(self._path.read_text(encoding="utf-8"))
        rehearsed = build_configuration(
            written, servers, soak_seconds=self._settings.soak_seconds, with_app=self._settings.with_app
        )
        path = directory / "dbmigrate.toml"
        path.write_text(rehearsed.text, encoding="utf-8")
        notes += [*loaded.notes, *rehearsed.notes]
        return _Stage(load_config(path), path, directory, stand_ins, answers, loaded.description, notes)


@dataclass(frozen=True)
class _Stage:
    """Everything in place, nothing moved yet."""

    config: Config
    path: Path
    directory: Path
    stand_ins: Mapping[Side, StandIn]
    answers: Answers
    contents: str
    notes: list[str]


class _Performance:
    """One move on a stage, and what is to be said of it."""

    def __init__(self, stage: _Stage, settings: RehearsalSettings, say: Say) -> None:
        self._stage, self._settings, self._say = stage, settings, say
        self._runner = SpawnedRunner(stage.config, stage.path, stage.directory / "runner.log")
        self._move = RehearsedMove(stage.config, settings, self._runner, stage.stand_ins, say)

    def run(self) -> RehearsalReport:
        stage = self._stage
        try:
            account = create_application_account(stage.stand_ins)
            with OwnerAddress(stage.stand_ins, account, stage.config.migration.id) as address:
                workload = self._build_workload(address)
                workload.prepare()
                report = self._describe_before(workload)
                with LagWatch(stage.config, time.monotonic()) as watch:
                    report = self._go(workload, report)
                report = replace(
                    report, lag=thin_out(watch.samples), max_lag_seconds=round(watch.max_lag_seconds, 3),
                    workload=workload.read_done(),
                )  # fmt: skip
            return self._describe_after(self._compare(report))
        finally:
            self._runner.close()

    def _build_workload(self, address: OwnerAddress) -> Workload:
        stage = self._stage
        tables = [t for t in read_created_schema(stage.stand_ins[Side.SOURCE]).tables if stage.config.tables.selects(t.name.name)]
        prepared = read_created_schema(stage.stand_ins[Side.TARGET]).tables
        options = {t.name.name: stage.config.tables.options_for(t.name.name) for t in tables}
        names = {name: one.rename or name for name, one in options.items()}
        targets = find_targets([t for t in tables if not options[t.name.name].where], prepared, names)
        return build_workload(self._settings, address, targets, stage.config.migration.id, stage.directory)

    def _describe_before(self, workload: Workload) -> RehearsalReport:
        stage = self._stage
        source = stage.stand_ins[Side.SOURCE]
        real = stage.answers.real[Side.SOURCE]
        refresh_statistics(source, read_created_schema(source))
        tables = measure_tables(stage.config, source, read_created_schema(source), real)
        factor = find_factor(add_up(tables), measure_real(stage.config, real))
        return RehearsalReport(
            migration=stage.config.migration.id, servers=tuple(self._describe_server(side) for side in Side),
            contents=stage.contents, tables=tables, factor=factor, workload=workload.read_done(),
        )  # fmt: skip

    def _describe_server(self, side: Side) -> ServerUsed:
        stand_in, real = self._stage.stand_ins[side], self._stage.answers.real[side]
        version = stand_in.read_version()
        if real is not None and (real.version.flavour, real.version.release[:2]) != (version.flavour, version.release[:2]):
            self._stage.notes.append(f"the {side.value} was {version} here; the configured one is {real.version}")
        return ServerUsed(side.value, str(version), stand_in.runs_as, str(real.version) if real else "")

    def _go(self, workload: Workload, report: RehearsalReport) -> RehearsalReport:
        """The move under its workload; what stops it becomes part of the report."""
        try:
            with workload:
                self._move.go(workload)
        except Stopped as stopped:
            code = stopped.code if stopped.code in set(ExitCode) else int(ExitCode.FAILED)
            return replace(report, failure=redact(_last_words(stopped.text)), failure_code=code)
        except DbmigrateError as fault:
            return replace(report, failure=redact(str(fault)), failure_code=int(fault.exit_code))
        if workload.failure is not None:
            failure = f"the workload failed: {type(workload.failure).__name__}: {workload.failure}"
            return replace(report, failure=redact(failure), failure_code=int(ExitCode.FAILED))
        return report

    def _compare(self, report: RehearsalReport) -> RehearsalReport:
        """Both sides, if the move has come to its end; else there is nothing that should be equal."""
        if report.failure:
            return report
        self._say("comparing both sides row by row")
        source, target = (read_created_schema(self._stage.stand_ins[side]) for side in Side)
        verdict = compare_sides(self._stage.stand_ins, self._stage.config.tables, source, target)
        return replace(
            report, rows_compared=verdict.rows, differences=verdict.differing, first_differences=verdict.first
        )

    def _describe_after(self, report: RehearsalReport) -> RehearsalReport:
        has_ended_well = not report.failure and report.differences == 0
        faults = tuple(one.judge(has_ended_well=has_ended_well) for one in self._move.injections)
        disturbed = {Phase(fault.phase) for fault in faults if fault.injected and fault.phase}
        report = replace(report, faults=faults, notes=(*self._stage.notes, *self._move.notes))
        return self._describe_phases(report, disturbed)

    def _describe_phases(self, report: RehearsalReport, disturbed: set[Phase]) -> RehearsalReport:
        state = self._runner.load_state()
        if state is None:
            return report
        store = self._runner.store
        seconds = sum_up_phases(state.created_at, store.load_transitions())
        if self._move.cutover_seconds is not None:
            seconds[Phase.CUTOVER] = self._move.cutover_seconds
        phases = describe_phases(seconds, add_up(report.tables).rows, report.factor, disturbed)
        return replace(report, phases=phases, switches=load_switches(store))


def _last_words(text: str) -> str:
    """What a runner said last: its error, without the progress before it."""
    start = text.rfind("error: ")
    return (text[start:].removeprefix("error: ") if start >= 0 else text[-500:]).strip() or "the runner ended"
