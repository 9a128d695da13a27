"""Lanes on a live server: ``lanes run`` and ``lanes status``."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from dbmigrate.cli.group import config_option, json_option
from dbmigrate.cli.rendering import print_json
from dbmigrate.cli.signals import stopping_on_signals
from dbmigrate.config import load_config
from dbmigrate.domain.errors import ExitCode
from dbmigrate.domain.lanes import Lane
from dbmigrate.lanes.database import server_in_variable
from dbmigrate.lanes.statements import shorten
from dbmigrate.mysql.sessions import Endpoint
from dbmigrate.workflow.lanes import LanesPlace, find_obstacles, open_lanes, require_lane_allowed, target_of

LANES = click.Choice([lane.value for lane in Lane])


def place_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Another database than the configuration's target, and another directory than ``[lanes] directory``."""
    for option in (
        click.option(
            "--directory", type=click.Path(path_type=Path), metavar="DIR",
            help="Where alembic.ini is, in place of `[lanes] directory`.",
        ),
        click.option(
            "--url-env", metavar="NAME",
            help="Environment variable with the URL of the database, password included; then no configuration is read.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def _find_place(config_path: Path, url_env: str | None, directory: Path | None) -> LanesPlace:
    if url_env is not None:
        endpoint = Endpoint("database", server_in_variable(url_env))
        return LanesPlace(endpoint, directory or config_path.parent / "migrations")
    config = load_config(config_path)
    return target_of(config, directory or config.lanes.find_directory(config_path))


class _Stopping:
    """What Ctrl-C sets and the lanes look at between batches, steps and attempts."""

    def __init__(self) -> None:
        self.event = threading.Event()

    @property
    def is_interrupted(self) -> bool:
        return self.event.is_set()

    def interrupt(self) -> None:
        self.event.set()


@click.command("run")
@click.argument("lane", type=LANES)
@config_option
@place_options
@click.option("--undo", is_flag=True, help="Take back the revision that was interrupted, or else the lane's last one.")
@click.option(
    "--allow-copy", "may_copy", multiple=True, metavar="TABLE", help="Let this table be copied while its writers wait."
)
@click.option(
    "--accept", "accepted", multiple=True, metavar="PATTERN",
    help="A use that does not stand in the way of a drop, as the refusal names it (*, ?).",
)  # fmt: skip
@click.option("--skip-lint", is_flag=True, help="Run what the lint refuses; the server still may.")
@json_option
@click.pass_context
def run_lane(
    ctx: click.Context, lane: str, config_path: Path, url_env: str | None, directory: Path | None, undo: bool, may_copy: tuple[str, ...], accepted: tuple[str, ...],
    skip_lint: bool, as_json: bool,
) -> None:  # fmt: skip
    """Run what a lane of the target's (or another) database lacks, while the application works."""
    place, chosen, stopping = _find_place(config_path, url_env, directory), Lane(lane), _Stopping()
    require_lane_allowed(place, chosen)
    lanes = open_lanes(
        place, may_copy=may_copy, accepted=accepted, stopping=stopping.event, lints=not skip_lint
    )
    with stopping_on_signals(stopping):
        report = lanes.undo(chosen) if undo else lanes.run(chosen)
    if as_json:
        print_json({**asdict(report), "lane": lane})
    else:
        done = ", ".join(report.revisions)
        click.echo(f"{lane}: {('took back ' if undo else 'ran ') + done if done else 'nothing to run'}")
    for text in report.not_searched:
        click.echo(f"not searched: {text}", err=True)
    if report.was_stopped:
        click.echo(f"stopped cleanly; go on with `dbmigrate lanes run {lane} -c {config_path}`", err=True)
        ctx.exit(int(ExitCode.FAILED))


@click.command("status")
@config_option
@place_options
@json_option
def lanes_status(config_path: Path, url_env: str | None, directory: Path | None, as_json: bool) -> None:
    """What each lane lacks, and the steps that were run: how long each took and how long a writer waited."""
    place = _find_place(config_path, url_env, directory)
    lanes, obstacles = open_lanes(place), find_obstacles(place)
    content: dict[str, Any] = {
        "lanes": {
            lane.value: {"pending": list(lanes.find_pending(lane)), "waits_for": obstacles[lane]} for lane in Lane
        },
        "steps": [_describe(step) for step in lanes.read_journal()],
    }  # fmt: skip
    if as_json:
        print_json(content)
        return
    for name, one in content["lanes"].items():
        click.echo(f"{name}: {', '.join(one['pending']) or 'nothing to run'}" + (f" ({one['waits_for']})" * bool(one["waits_for"])))
    for step in content["steps"]:
        stall = "" if step["longest_stall_seconds"] is None else f", longest stall {step['longest_stall_seconds'] * 1000:.0f} ms"
        took = "" if step["seconds"] is None else f" {step['rung']} in {step['seconds']:.2f} s{stall}"
        click.echo(f"{step['revision']} {step['number']} {step['state']}:{took} {shorten(step['statement'], 80)}")


def _describe(step: Any) -> dict[str, Any]:
    """A step of the journal for people and machines."""
    content = asdict(step)
    hidden = ("digest", "print", "saved", "cursor", "done_seconds_ago")
    return {k: v for k, v in content.items() if k not in hidden} | {"state": step.state.value}
