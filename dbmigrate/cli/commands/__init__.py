"""The commands, by what an operator wants: set up, run, steer, look, verify, try, change the schema."""

from __future__ import annotations

import click

from dbmigrate.cli.commands import (
    lanes,
    lanes_running,
    looking,
    rehearsing,
    running,
    setting_up,
    steering,
    trying,
    verifying,
)
from dbmigrate.cli.group import LEVELS, DbmigrateGroup, set_up


@click.group(cls=DbmigrateGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dbmigrate")
@click.option(
    "--log-level", type=click.Choice(LEVELS), default="warning", show_default=True, help="How much to log, to stderr."
)
@click.option(
    "--log-format", type=click.Choice(["plain", "json"]), default="plain", show_default=True, help="Log lines' form."
)
def main(log_level: str, log_format: str) -> None:
    """Move a live MySQL or MariaDB database while the application keeps selling.

    \b
    Exit codes: 0 done, 1 differences found, 2 usage or configuration, 3 refused by a check or gate,
    4 failed (safe to run again), 5 a person must decide.
    """
    set_up(log_level, log_format)


for command in (
    setting_up.init, setting_up.check, running.run, looking.status, looking.watch, steering.approve, steering.pause,
    steering.resume, verifying.verify, running.cutover, running.revert, running.abort,
    running.contract, rehearsing.rehearse, trying.demo, lanes.lanes,
):  # fmt: skip
    main.add_command(command)

for command in (lanes_running.run_lane, lanes_running.lanes_status):
    lanes.lanes.add_command(command)
