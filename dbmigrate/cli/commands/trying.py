"""Trying it out: ``demo`` runs a whole move on two throwaway servers with a shop in full swing."""

from __future__ import annotations

import click

from dbmigrate.cli.group import json_option
from dbmigrate.cli.rendering import print_json
from dbmigrate.domain.errors import ExitCode
from dbmigrate.workflow.demo import format_demo, run_demo


@click.command()
@click.option(
    "--rows", type=click.IntRange(1_000, 5_000_000), default=200_000, show_default=True, help="Rows in the shop."
)
@click.option(
    "--writers", type=click.IntRange(1, 32), default=4, show_default=True, help="Threads that write all the time."
)
@json_option
@click.pass_context
def demo(ctx: click.Context, rows: int, writers: int, as_json: bool) -> None:
    """Move a small shop between two private MariaDB servers while it sells: cutover, revert, cutover."""
    report = run_demo(rows=rows, writers=writers, say=lambda line: click.echo(line, err=True))
    if as_json:
        print_json(report.to_json())
    else:
        click.echo(format_demo(report))
    if report.differences:
        ctx.exit(int(ExitCode.DIFFERENCES))
    if report.failed_writes or report.lost_writes:
        ctx.exit(int(ExitCode.FAILED))
