"""How every command behaves: errors become exit codes, nothing secret is printed, the configuration is found alike."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from dbmigrate.domain.errors import DbmigrateError, ExitCode
from dbmigrate.telemetry import LogFormat, redact, set_up_logging

log = logging.getLogger(__name__)


class DbmigrateGroup(click.Group):
    """A group whose commands report errors of the project's tree on stderr and exit as the contract says."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except DbmigrateError as error:
            click.echo(redact(f"error: {error}"), err=True)
            ctx.exit(int(error.exit_code))
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as fault:
            log.debug("unexpected", exc_info=True)
            click.echo(
                redact(
                    f"error: unexpected {type(fault).__name__}: {fault}\n"
                    "next: nothing is lost, run again; with --log-level debug the log shows where it happened"
                ),
                err=True,
            )
            ctx.exit(int(ExitCode.FAILED))


LEVELS = ("debug", "info", "warning", "error")


def set_up(level: str, log_format: str) -> None:
    """Logging as the options ask for it: to stderr, so that stdout carries results only."""
    set_up_logging(level=getattr(logging, level.upper()), log_format=LogFormat(log_format), stream=sys.stderr)


def config_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """``-c FILE``, the same for every command that needs it."""
    return click.option(
        "-c", "--config", "config_path", type=click.Path(path_type=Path, dir_okay=False), default=Path("dbmigrate.toml"),
        show_default=True, metavar="FILE", help="The configuration file.",
    )(command)  # fmt: skip


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--json``, the same for every command that has a result."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")(command)
