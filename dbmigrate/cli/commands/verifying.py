"""Proving that both sides are equal: ``verify``, and with ``--repair`` making them so."""

from __future__ import annotations

from pathlib import Path

import click

from dbmigrate.cli.group import config_option, json_option
from dbmigrate.cli.rendering import print_json, print_rich, render_verification
from dbmigrate.config import load_config
from dbmigrate.domain.errors import ExitCode
from dbmigrate.workflow.migration import Migration
from dbmigrate.workflow.verify_now import verify_now


@click.command()
@config_option
@click.option("--repair", is_flag=True, help="Make differing rows equal, then compare again.")
@json_option
@click.pass_context
def verify(ctx: click.Context, config_path: Path, repair: bool, as_json: bool) -> None:
    """Compare every row on both sides, under live traffic."""
    migration = Migration(load_config(config_path))
    try:
        content = verify_now(migration, repair=repair)
    finally:
        migration.close()
    if as_json:
        print_json(content)
    else:
        print_rich(render_verification(content))
    if content["mismatches"]:
        click.echo("next: `dbmigrate verify --repair` makes them equal", err=True)
        ctx.exit(int(ExitCode.DIFFERENCES))
