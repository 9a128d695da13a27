"""Schema changes in lanes: ``lanes init`` and ``new`` write revisions, ``lint`` and ``plan`` look at them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from dbmigrate.cli.group import config_option, json_option
from dbmigrate.cli.lane_rendering import describe_lint, describe_plan, render_lint, render_plan
from dbmigrate.cli.rendering import print_json, print_rich
from dbmigrate.config import Config, load_config
from dbmigrate.domain.errors import ConfigurationError, ExitCode
from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.domain.lanes import Lane
from dbmigrate.lanes.authoring import create_by_comparison, create_environment, create_revision
from dbmigrate.lanes.database import Database, read_database, read_target, server_at, server_in_variable
from dbmigrate.lanes.environment import Environment, load_environment
from dbmigrate.lanes.lint import LintedRevision, is_refused
from dbmigrate.lanes.lint import lint as lint_revisions
from dbmigrate.lanes.plan import plan_lanes
from dbmigrate.mysql.sessions import Endpoint

_NAMED_SERVERS = {
    "mysql-8.0": "8.0.40", "mysql-8.4": "8.4.3", "mysql-9.7": "9.7.0",
    "mariadb-10.6": "10.6.20-MariaDB", "mariadb-10.11": "10.11.10-MariaDB", "mariadb-11.4": "11.4.4-MariaDB",
}  # fmt: skip


@dataclass(frozen=True)
class Where:
    """What the options of ``lint`` and ``plan`` point at; ``config`` is None without a configuration file."""

    config_path: Path
    config: Config | None
    directory: Path | None
    url: str | None
    url_env: str | None
    server: str | None

    def open_environment(self) -> Environment:
        """The project's revisions."""
        return load_environment(_find_directory(self.directory, self.config_path, self.config))

    def find_database(self) -> Database | None:
        """The one database that is asked; None where only the kind of server was named."""
        if self.url is not None:
            return read_database(Endpoint("database", server_at(self.url)))
        if self.url_env is not None:
            return read_database(Endpoint("database", server_in_variable(self.url_env)))
        if self.server is not None:
            return None
        if self.config is not None:
            return read_target(Endpoint("target", self.config.target), Endpoint("source", self.config.source))
        raise ConfigurationError(
            "it is not known for which server", place=str(self.config_path),
            hint="give -c FILE, --url-env NAME, --url URL, or --server for a lint without a database",
        )  # fmt: skip


def _find_directory(directory: Path | None, config_path: Path, config: Config | None) -> Path:
    if directory is not None:
        return directory
    return config.lanes.find_directory(config_path) if config is not None else config_path.parent / "migrations"


def _load_optional_config(ctx: click.Context, config_path: Path) -> Config | None:
    """The configuration; a default one may be absent, since lanes are of use without a move."""
    is_default = ctx.get_parameter_source("config_path") is click.core.ParameterSource.DEFAULT
    return None if is_default and not config_path.exists() else load_config(config_path)


def _directory_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--directory", type=click.Path(path_type=Path), metavar="DIR",
        help="Where alembic.ini is, in place of `[lanes] directory`.",
    )(command)  # fmt: skip


def _where_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What ``lint`` and ``plan`` look at, as one ``where``."""

    @click.pass_context
    def call(
        ctx: click.Context, /, config_path: Path, directory: Path | None, url: str | None, url_env: str | None,
        server: str | None, **rest: Any,
    ) -> None:  # fmt: skip
        if sum(option is not None for option in (url, url_env, server)) > 1:
            raise click.UsageError("give one of --url, --url-env and --server")
        config = _load_optional_config(ctx, config_path)
        command(ctx, Where(config_path, config, directory, url, url_env, server), **rest)

    call.__doc__ = command.__doc__
    call.__name__ = command.__name__
    for decorate in (
        click.option(
            "--server", type=click.Choice(list(_NAMED_SERVERS)),
            help="For which kind of server, without asking one: what depends on its tables is told from the revisions.",
        ),
        click.option("--url-env", metavar="NAME", help="Environment variable with the URL of the database, password included."),
        click.option("--url", metavar="URL", help="URL of the database, without a password."),
        _directory_option,
        config_option,
    ):  # fmt: skip
        call = decorate(call)
    return call


@click.group()
def lanes() -> None:
    """Schema changes that never break the running version: expand, tighten, contract."""


@lanes.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
def init(directory: Path) -> None:
    """Write an Alembic environment with three lanes into DIRECTORY."""
    for path in create_environment(directory):
        click.echo(path)


@lanes.command()
@click.argument("lane", type=click.Choice([lane.value for lane in Lane]), required=False)
@click.option("-m", "--message", required=True, metavar="TEXT", help="What the revision is for.")
@click.option(
    "--autogenerate", is_flag=True, help="Compare the models with the database that env.py names, and split the differences."
)
@_directory_option
@config_option
@click.pass_context
def new(
    ctx: click.Context, lane: str | None, message: str, autogenerate: bool, directory: Path | None, config_path: Path
) -> None:
    """Write a revision at the end of LANE, or with --autogenerate one for each lane that has differences."""
    if autogenerate == (lane is not None):
        raise click.UsageError("name a LANE, or give --autogenerate, which finds the lanes by itself")
    environment = load_environment(_find_directory(directory, config_path, _load_optional_config(ctx, config_path)))
    if lane is not None:
        click.echo(create_revision(environment, Lane(lane), message))
        return
    written = create_by_comparison(environment, message)
    for path in written:
        click.echo(path)
    if not written:
        click.echo("the models and the database are equal; no revision was written", err=True)


@lanes.command()
@json_option
@_where_options
def lint(ctx: click.Context, where: Where, as_json: bool) -> None:
    """Give every operation of every revision its class; exit 3 where one is refused or not decided.

    Revisions that the database has are not judged. With -c the target is asked, and while it is empty the source, whose
    tables it will get.
    """
    version, place, revisions = _lint(where)
    if as_json:
        print_json(describe_lint(revisions, version, place))
    else:
        print_rich(render_lint(revisions, version, place))
    if is_refused(revisions):
        ctx.exit(int(ExitCode.REFUSED))


@lanes.command()
@json_option
@_where_options
def plan(ctx: click.Context, where: Where, as_json: bool) -> None:
    """Show what would run in each lane, in order, with the class of each operation; exit 3 as `lint` does."""
    version, place, revisions = _lint(where)
    planned = plan_lanes(revisions, version)
    if as_json:
        print_json(describe_plan(planned, version, place))
    else:
        print_rich(render_plan(planned, version, place))
    if is_refused(revisions):
        ctx.exit(int(ExitCode.REFUSED))


def _lint(where: Where) -> tuple[ServerVersion, str, tuple[LintedRevision, ...]]:
    environment = where.open_environment()
    database = where.find_database()
    if database is None:
        version = ServerVersion.parse(_NAMED_SERVERS[where.server or ""])
        return version, "without a server", lint_revisions(environment, version)
    found = lint_revisions(environment, database.version, tables=database.tables, heads=database.heads)
    return database.version, database.place, found
