"""Before anything moves: ``init`` writes a configuration, ``check`` looks for what stands in the way."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from dbmigrate.cli.group import config_option, json_option
from dbmigrate.cli.rendering import print_json, print_rich, render_findings
from dbmigrate.config import load_config, render_template
from dbmigrate.domain.errors import ConfigurationError, ExitCode
from dbmigrate.workflow.check import check_migration
from dbmigrate.workflow.migration import Migration
from dbmigrate.workflow.preflight import has_obstacles


@click.command()
@config_option
@click.option("--id", "migration_id", default="my-migration", show_default=True, help="Name of the migration.")
@click.option("--source", "source_url", metavar="URL", help="mysql://user@host:port/database of the source.")
@click.option("--target", "target_url", metavar="URL", help="The same for the target.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
def init(config_path: Path, migration_id: str, source_url: str | None, target_url: str | None, force: bool) -> None:
    """Write a commented configuration file."""
    if config_path.exists() and not force:
        raise ConfigurationError(
            "the file exists already", place=str(config_path), hint="edit it, or replace it with --force"
        )
    given = {"source_url": source_url, "target_url": target_url}
    text = render_template(migration_id=migration_id, **{name: url for name, url in given.items() if url})
    try:
        config_path.write_text(text, encoding="utf-8")
    except OSError as fault:
        raise ConfigurationError("the file cannot be written", place=str(config_path), cause=str(fault)) from fault
    click.echo(f"wrote {config_path}; edit it, then run `dbmigrate check -c {config_path}`")


@click.command()
@config_option
@json_option
@click.pass_context
def check(ctx: click.Context, config_path: Path, as_json: bool) -> None:
    """Report everything that would stop or endanger the move, each with its remedy. Changes nothing."""
    migration = Migration(load_config(config_path))
    try:
        state = migration.store.load_state() if migration.store.exists() else None
        findings = check_migration(migration, is_first_run=state is None)
    finally:
        migration.close()
    if as_json:
        content = [{**asdict(f), "severity": f.severity.value} for f in findings]
        print_json({"obstacles": has_obstacles(findings), "findings": content})
    else:
        print_rich(render_findings(findings))
    if has_obstacles(findings):
        ctx.exit(int(ExitCode.REFUSED))
