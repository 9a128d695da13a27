"""Looking at a migration from another terminal: ``status`` once, ``watch`` until Ctrl-C."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click
from rich.console import Console
from rich.live import Live

from dbmigrate.cli.group import config_option, json_option
from dbmigrate.cli.rendering import print_json, print_rich, render_status, summarise
from dbmigrate.config import load_config
from dbmigrate.domain.phases import MEANINGS, Phase
from dbmigrate.mysql.control import ControlStore
from dbmigrate.workflow.requests import open_store, read_published_status, require_state
from dbmigrate.workflow.summary import summarise_migration


@click.command()
@config_option
@json_option
def status(config_path: Path, as_json: bool) -> None:
    """Phase, owner, progress, lag, evidence and history of the migration."""
    store = open_store(load_config(config_path))
    content = summarise_migration(store)
    if as_json:
        print_json(content)
        return
    print_rich(render_status(read_published_status(store)))
    click.echo(f"runner: {content['holder'] or 'none; `dbmigrate run` starts one'}")
    click.echo(f"leaves {content['phase']} when: {MEANINGS[Phase(content['phase'])].gate or '-'}")
    for one in content["transitions"]:
        click.echo(f"{one['at']}  {one['from']} -> {one['to']}: {one['reason']}")


@click.command()
@config_option
@click.option("--seconds", type=click.FloatRange(min=0.1), default=1.0, show_default=True, help="Time between looks.")
def watch(config_path: Path, seconds: float) -> None:
    """Show the running migration until it ends or Ctrl-C."""
    store = open_store(load_config(config_path))
    require_state(store)
    try:
        _watch_live(store, seconds) if sys.stdout.isatty() else _watch_lines(store, seconds)
    except KeyboardInterrupt:
        click.echo("", err=True)


def _is_over(store: ControlStore) -> bool:
    return MEANINGS[require_state(store).phase].is_final or not store.is_leased()


def _watch_live(store: ControlStore, seconds: float) -> None:
    with Live(console=Console(), refresh_per_second=4) as live:
        while True:
            live.update(render_status(read_published_status(store)))
            if _is_over(store):
                return
            time.sleep(seconds)


def _watch_lines(store: ControlStore, seconds: float) -> None:
    while True:
        click.echo(summarise(read_published_status(store)))
        if _is_over(store):
            return
        time.sleep(seconds)
