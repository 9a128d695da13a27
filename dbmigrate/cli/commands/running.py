"""Moving: ``run`` walks the phases, ``cutover``, ``revert`` and ``abort`` take one decision and carry it out.

Where a runner is already at work, the last three ask it and wait; else they do the work themselves.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from dbmigrate.cli.group import config_option, json_option
from dbmigrate.cli.progress import showing
from dbmigrate.cli.rendering import print_json, summarise
from dbmigrate.cli.signals import stopping_on_signals
from dbmigrate.config import Config, load_config
from dbmigrate.domain.errors import ExitCode, RefusedError
from dbmigrate.domain.phases import MEANINGS, Phase
from dbmigrate.telemetry import Metrics, SilentObserver, serve
from dbmigrate.workflow.migration import Migration
from dbmigrate.workflow.migration import Surroundings as RunSurroundings
from dbmigrate.workflow.phases.contract import describe_end
from dbmigrate.workflow.requests import ask_runner, open_store
from dbmigrate.workflow.runner import Runner, RunOutcome
from dbmigrate.workflow.summary import summarise_migration

_PHASES = [phase.value for phase in Phase if MEANINGS[phase].next_phase is not None]


def _run_here(
    config: Config, config_path: Path, *, until: Phase | None = None, assume_yes: bool = False, request: str = "",
    as_json: bool = False, metrics_port: int | None = None, resync: bool = False,
) -> None:  # fmt: skip
    metrics = Metrics() if metrics_port is not None else None
    migration = Migration(config, around=RunSurroundings(observer=metrics or SilentObserver()))
    try:
        runner = Runner(migration, until=until, assume_yes=assume_yes, request=request, resync=resync)
        with stopping_on_signals(runner), showing(lambda: runner.current.read_status() if runner.current else None):
            if metrics is not None and metrics_port is not None:
                with serve(metrics, port=metrics_port):
                    outcome = runner.run()
            else:
                outcome = runner.run()
        _report(migration, outcome, config_path, as_json=as_json)
    finally:
        migration.close()


def _report(migration: Migration, outcome: RunOutcome, config_path: Path, *, as_json: bool) -> None:
    content = summarise_migration(migration.store)
    if as_json:
        print_json(content)
    else:
        click.echo(f"{migration.id}: {outcome.phase.value} ({MEANINGS[outcome.phase].summary})")
        for switch in content["switches"][-1:]:
            click.echo(f"write pause: {switch['pause_ms']:.0f} ms ({switch['direction']})")
    if outcome.was_interrupted:
        click.echo(f"stopped cleanly; go on with `dbmigrate run -c {config_path}`", err=True)
        click.get_current_context().exit(int(ExitCode.FAILED))


@click.command()
@config_option
@click.option("--until", type=click.Choice(_PHASES), metavar="PHASE", help="Stop once this phase's gate has passed.")
@click.option("--yes", "assume_yes", is_flag=True, help="Approve the cutover in advance.")
@click.option("--resync", is_flag=True, help="Stream from now; the verification repairs what was missed.")
@click.option("--metrics-port", type=click.IntRange(1, 65535), help="Serve Prometheus metrics on this loopback port.")
@json_option
def run(
    config_path: Path, until: str | None, assume_yes: bool, resync: bool, metrics_port: int | None, as_json: bool
) -> None:
    """Start the migration, or go on where it stands."""
    _run_here(
        load_config(config_path), config_path, until=Phase(until) if until else None, assume_yes=assume_yes,
        as_json=as_json, metrics_port=metrics_port, resync=resync,
    )  # fmt: skip


def _ask_or_run(config_path: Path, request: str, *, until: Phase | None = None, as_json: bool) -> None:
    config = load_config(config_path)
    store = open_store(config)
    if store.exists() and store.is_leased():
        status = ask_runner(store, request)
        if as_json:
            print_json(summarise_migration(store))
        else:
            click.echo(summarise(status))
        return
    assume_yes = request == "cutover"
    _run_here(
        config, config_path, until=until, assume_yes=assume_yes, request="" if assume_yes else request, as_json=as_json
    )


@click.command()
@config_option
@json_option
def cutover(config_path: Path, as_json: bool) -> None:
    """Approve the cutover and carry it out now, through whatever phases are still missing."""
    _ask_or_run(config_path, "cutover", until=Phase.CUTOVER, as_json=as_json)


@click.command()
@config_option
@json_option
def revert(config_path: Path, as_json: bool) -> None:
    """After the switch: go back to the source without losing what was written since."""
    _ask_or_run(config_path, "revert", as_json=as_json)


@click.command()
@config_option
@click.option("--yes", "assume_yes", is_flag=True, help="Do not ask: the way back ends.")
@json_option
def contract(config_path: Path, assume_yes: bool, as_json: bool) -> None:
    """After the soak: end the way back and remove what only served the move."""
    config = load_config(config_path)
    if not assume_yes:
        click.echo(describe_end(config.cutover.fence), err=True)
        is_meant = sys.stdin.isatty() and click.confirm("End the way back?", err=True)
        if not is_meant:
            raise RefusedError("nobody said yes to the end of the way back", place="contract", hint="say it with --yes")
    _ask_or_run(config_path, "contract", as_json=as_json)


@click.command()
@config_option
@json_option
def abort(config_path: Path, as_json: bool) -> None:
    """Before the switch: end the move and leave the source as it was found."""
    _ask_or_run(config_path, "abort", as_json=as_json)
