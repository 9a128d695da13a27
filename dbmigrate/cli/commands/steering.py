"""Steering a migration from another terminal: ``approve``, ``pause``, ``resume``."""

from __future__ import annotations

import getpass
from pathlib import Path

import click

from dbmigrate.cli.group import config_option
from dbmigrate.config import load_config
from dbmigrate.workflow.requests import approve_cutover, open_store, require_state


@click.command()
@config_option
@click.option("--as", "approver", metavar="NAME", help="Who approves; the login name unless given.")
def approve(config_path: Path, approver: str | None) -> None:
    """Approve the cutover on the latest verification."""
    evidence = approve_cutover(open_store(load_config(config_path)), approver or getpass.getuser())
    click.echo(
        f"approved on the verification of {evidence.at:%Y-%m-%d %H:%M:%S} UTC: "
        f"{evidence.content['rows']:,} rows, {evidence.content['mismatches']} differences"
    )


def _save_paused(config_path: Path, is_paused: bool) -> None:
    store = open_store(load_config(config_path))
    require_state(store)
    store.save_paused(is_paused)
    if not is_paused:
        click.echo("resumed")
    elif store.is_leased():
        click.echo("paused: no chunk starts until `dbmigrate resume`; the stream goes on")
    else:
        click.echo("paused: the next `dbmigrate run` will not start a chunk until `dbmigrate resume`")


@click.command()
@config_option
def pause(config_path: Path) -> None:
    """Start no further chunk of copy or verification; the stream goes on."""
    _save_paused(config_path, True)


@click.command()
@config_option
def resume(config_path: Path) -> None:
    """Undo `pause`."""
    _save_paused(config_path, False)
