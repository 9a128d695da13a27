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
@click.option("--app", "with_app", is_flag=True, help="Move the sample store, a web application, under HTTP load.")
@click.option(
    "--switches", type=click.IntRange(1, 200), default=3, show_default=True, help="With --app: there, back, there..."
)
@click.option(
    "--rate", type=click.FloatRange(1, 5_000), default=200.0, show_default=True, help="With --app: requests per second."
)
@json_option
@click.pass_context
def demo(
    ctx: click.Context, rows: int, writers: int, with_app: bool, switches: int, rate: float, as_json: bool
) -> None:
    """Move a small shop between two private MariaDB servers while it sells: cutover, revert, cutover."""
    if with_app:
        _demo_app(ctx, switches=switches, rate=rate, as_json=as_json)
        return
    report = run_demo(rows=rows, writers=writers, say=lambda line: click.echo(line, err=True))
    if as_json:
        print_json(report.to_json())
    else:
        click.echo(format_demo(report))
    if report.differences:
        ctx.exit(int(ExitCode.DIFFERENCES))
    if report.failed_writes or report.lost_writes:
        ctx.exit(int(ExitCode.FAILED))


def _demo_app(ctx: click.Context, *, switches: int, rate: float, as_json: bool) -> None:
    from dbmigrate.workflow.demo_app import format_app_demo, run_app_demo  # its packages are an extra

    report = run_app_demo(
        switches=switches, rate=rate, workers=8, instances=2, say=lambda line: click.echo(line, err=True)
    )
    if as_json:
        print_json(report.to_json())
    else:
        click.echo(format_app_demo(report))
    if report.differences:
        ctx.exit(int(ExitCode.DIFFERENCES))
    if not report.is_clean:
        ctx.exit(int(ExitCode.FAILED))
