"""Daring nothing: ``rehearse`` runs the whole configured move on throwaway servers first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click

from dbmigrate.cli.group import config_option, json_option
from dbmigrate.cli.rehearsal_rendering import render_rehearsal
from dbmigrate.cli.rendering import print_json, print_rich
from dbmigrate.domain.errors import ConfigurationError, FatalError
from dbmigrate.domain.routes import Side
from dbmigrate.rehearsal import (
    DumpedRows,
    GeneratedRows,
    Rehearsal,
    RehearsalReport,
    RehearsalSettings,
    SampledRows,
    ServerKind,
    WorkloadChoice,
    parse_faults,
    render_page,
)
from dbmigrate.rehearsal.servers import StandIn
from dbmigrate.telemetry import redact

_KINDS = [kind.value for kind in ServerKind]
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@config_option
@click.option(
    "--servers", type=click.Choice(_KINDS), default="auto", show_default=True, metavar="WHERE",
    help="docker (containers), local (private processes), or auto: containers where a Docker engine answers.",
)
@click.option("--source-image", default="", metavar="IMAGE", help="Instead of the official image of the source's version.")
@click.option("--target-image", default="", metavar="IMAGE", help="Instead of the official image of the target's version.")
@click.option("--rows", type=click.IntRange(1), metavar="N", help="Sample about N rows of each table (default: 10000).")
@click.option(
    "--percent", type=click.FloatRange(0, 100, min_open=True), metavar="P", help="Sample about P percent of each table."
)
@click.option("--dump", type=_FILE, metavar="FILE", help="Load this SQL file instead of a sample.")
@click.option("--generate", type=click.IntRange(1), metavar="N", help="Make up N rows a table: no row leaves the source.")
@click.option("--seed", type=int, default=1, show_default=True, help="With --generate: the same seed makes the same rows.")
@click.option("--target-schema", type=_FILE, metavar="FILE", help="SQL file that prepares the target before the move.")
@click.option(
    "--workload", default="generic", show_default=True, metavar="KIND",
    help="generic, none, sysbench, command:LINE or python:MODULE:FUNCTION.",
)
@click.option("--workers", type=click.IntRange(1, 64), default=2, show_default=True, help="Threads of the workload.")
@click.option("--rate", type=click.FloatRange(0.1, 10_000), default=50.0, show_default=True, help="Writes per second.")
@click.option("--with-app", is_flag=True, help="The workload uses dbmigrate.app: rehearse the application's phases, too.")
@click.option(
    "--fault", "faults", multiple=True, metavar="FAULT",
    help="runner-kill, server-restart or network-cut, as KIND[:source|target][@PHASE]. Repeatable.",
)
@click.option("--soak-seconds", type=click.FloatRange(0), default=3.0, show_default=True, help="How long each soak lasts.")
@click.option(
    "--limit-seconds", type=click.FloatRange(1), default=3600.0, show_default=True, help="The move may take so long."
)
@json_option
@click.option("--html", type=_FILE, metavar="FILE", help="Write the report as one HTML page.")
@click.option("--keep", is_flag=True, help="Leave the servers up at the end, until Ctrl-C.")
@click.pass_context
def rehearse(
    ctx: click.Context, config_path: Path, servers: str, source_image: str, target_image: str, rows: int | None,
    percent: float | None, dump: Path | None, generate: int | None, seed: int, target_schema: Path | None, workload: str,
    workers: int, rate: float, with_app: bool, faults: tuple[str, ...], soak_seconds: float, limit_seconds: float,
    as_json: bool, html: Path | None, keep: bool,
) -> None:  # fmt: skip
    """Rehearse the configured move on throwaway servers: copy, cutover, revert, cutover, under a workload and faults.

    The configured servers are read from, and never written to.
    """
    settings = RehearsalSettings(
        servers=ServerKind(servers), source_image=source_image, target_image=target_image,
        rows=_choose_rows(rows, percent, dump, generate, seed), target_schema=target_schema,
        workload=WorkloadChoice.parse(workload), workers=workers, rate=rate, with_app=with_app, faults=parse_faults(faults),
        soak_seconds=soak_seconds, limit_seconds=limit_seconds,
    )  # fmt: skip
    if html is not None:
        _require_writable(html)
    hold = _hold_until_interrupted if keep else None
    with _ending_on_signals():
        report = Rehearsal(config_path, settings, say=lambda line: click.echo(redact(line), err=True), hold=hold).run()
    _publish(report, html, as_json=as_json)
    ctx.exit(int(report.exit_code))


def _choose_rows(
    rows: int | None, percent: float | None, dump: Path | None, generate: int | None, seed: int
) -> SampledRows | DumpedRows | GeneratedRows:
    given = [name for name, value in (("--rows", rows), ("--percent", percent), ("--dump", dump), ("--generate", generate)) if value]
    if len(given) > 1:
        raise ConfigurationError(f"{' and '.join(given)} exclude each other", place="rehearse", hint="keep one of them")
    if dump is not None:
        return DumpedRows(dump)
    if generate is not None:
        return GeneratedRows(generate, seed)
    return SampledRows(rows or SampledRows().rows, percent)


def _publish(report: RehearsalReport, html: Path | None, *, as_json: bool) -> None:
    if html is not None:
        try:
            html.write_text(redact(render_page(report)), encoding="utf-8")
        except OSError as fault:
            raise FatalError("the page cannot be written", place=str(html), cause=fault.strerror or "") from None
    if as_json:
        print_json(report.to_json())
    else:
        print_rich(render_rehearsal(report))


@contextmanager
def _ending_on_signals() -> Iterator[None]:
    """Ctrl-C and SIGTERM remove the servers, and are a failure: exit code 1 would say that rows differ."""
    # Both: what a shell starts in the background ignores SIGINT otherwise.
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    except KeyboardInterrupt:
        raise FatalError("interrupted; the servers were removed", place="rehearse", hint="start it again") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _require_writable(path: Path) -> None:
    """Before an hour of rehearsal, not after it."""
    if not path.parent.is_dir():
        raise ConfigurationError("the folder for the page does not exist", place=f"--html {path}", hint="create it first")


def _hold_until_interrupted(stand_ins: Mapping[Side, StandIn], report: RehearsalReport) -> None:
    """Say where everything is, and wait for Ctrl-C."""
    click.echo(f"rehearsed: {report.verdict}. The servers stay up until Ctrl-C:", err=True)
    for stand_in in stand_ins.values():
        server = stand_in.server
        click.echo(
            f"  {stand_in.side.value}: {server.user}@{server.host}:{server.port}/{stand_in.schema}, "
            f"password in {stand_in.password_file}", err=True,
        )  # fmt: skip
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        click.echo("removing them", err=True)
