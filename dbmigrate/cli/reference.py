"""The reference pages of ``docs/``, written from the code: ``python -m dbmigrate.cli.reference``.

Apart from the commands because it is for the people who change dbmigrate, not for those who run it. A test
fails when a page is stale, so a key or an option cannot exist undocumented.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from dbmigrate.cli.commands import main as dbmigrate_command
from dbmigrate.cli.lane_reference import replace_rules
from dbmigrate.config.describing import TABLE_PLACEHOLDER, Option, OptionTable, list_tables
from dbmigrate.domain.phases import MEANINGS, Phase, PhaseMeaning, draw_diagram

_NOTICE = "<!-- Written by python -m dbmigrate.cli.reference. Change the code, then run it again. -->"

_CONFIG_OPENING = """\
`dbmigrate init` writes a first `dbmigrate.toml`; every command takes another one with `-c FILE`. Only
`[migration] id`, `[source] url` and `[target] url` must be given. Unknown keys and bad values are errors:
all are reported at once, with their line. Relative paths count from the directory of the file. Times are in
seconds, sizes in bytes, times of day in UTC. Passwords never stand in the file."""

_PHASES_OPENING = """\
A migration is in exactly one phase. A phase is left only when its gate passes; what may follow is drawn below.
Every transition is one row of `_dbmigrate.transition` on the target, written together with the new phase.
`dbmigrate status` shows the phase, and what its gate waits for."""

_PHASES_CLOSING = """\
The phases marked *with an application library* are skipped unless `[app] enabled = true`. `dbmigrate contract` leads from
`soak` to `contract`, once `[gates] min_soak_seconds` have passed. A migration that was aborted is planned anew by the next
`dbmigrate run`: the audit has that step as `aborted` to `plan`.

With `[lanes] directory` the phase `expand` runs the expand lane on the target, and `contract` the tighten and the contract
lane. In every phase between them no lane runs. `contract` is left when the lanes have nothing to run any more, the last
instance of the application library has ended, and the move's own objects are gone: see [lanes](lanes.md#running).

What the application does beside its work on the owner follows from the fence row, which exists on both sides and gets a
new epoch with each phase and each step of `ramp_reads`. Every live instance has acknowledged the epoch before one of
these phases, `verify` or `cutover` is left. In `cutover` mirrors stop before the first attempt where triggers change
sides: they would fire on mirrored rows. In `soak` mirrors need `[app] mirror_in_soak`.

What a crash leaves is in [architecture.md](architecture.md#a-crash-at-each-point), what to do in
[runbook.md](runbook.md)."""

# Keys that exclude another one: commented in the examples, so that each can be copied as it stands.
_ALTERNATIVES = {"password_file"}

# Wide enough that no usage line wraps, whatever terminal the generator runs in.
_USAGE_COLUMNS = 1000


def render_config_reference() -> str:
    """``docs/configuration.md``: every table and key of ``dbmigrate.toml``."""
    parts = ["# Configuration", _NOTICE, _CONFIG_OPENING]
    for table in _merge_servers(list_tables()):
        parts.append(f"## {table.name}")
        parts.append(table.description)
        parts.append("\n".join(_option_rows(table.options)))
        parts.append("\n".join(_example(table)))
    return "\n\n".join(part for part in parts if part) + "\n"


def _merge_servers(tables: tuple[OptionTable, ...]) -> Iterator[OptionTable]:
    """The tables under their headings; ``source`` and ``target`` have the same keys and are told once."""
    for table in tables:
        if table.name.startswith("target"):
            continue
        name = f"`[{table.name}]`"
        if table.name.startswith("source"):
            name += f" and `[{table.name.replace('source', 'target', 1)}]`"
        yield OptionTable(name, table.description, table.options)


def _option_rows(options: tuple[Option, ...]) -> Iterator[str]:
    yield "| key | accepts | default | meaning |"
    yield "|---|---|---|---|"
    for option in options:
        default = "(required)" if option.is_required else f"`{option.default}`" if option.default else "(none)"
        cells = (f"`{option.key}`", option.accepts, default, option.description)
        yield _row(*cells)


def _row(*cells: str) -> str:
    return " | ".join(["", *(cell.replace("|", r"\|") for cell in cells), ""]).strip()


def _example(table: OptionTable) -> Iterator[str]:
    header = table.name.split("`")[1].replace(TABLE_PLACEHOLDER, "orders")
    yield from ("```toml", header)
    for option in table.options:
        if value := option.example or option.default.replace("{}", ""):
            yield f"{'#' if option.key in _ALTERNATIVES else ''}{option.key} = {value}"
    yield "```"


def render_cli_reference(group: click.Group, *, name: str = "dbmigrate") -> str:
    """``docs/cli.md``: every visible command below ``group`` with its arguments and options."""
    parts = ["# Commands", _NOTICE, *_command_parts(group, _context(group, name, None))]
    return "\n\n".join(part for part in parts if part) + "\n"


def _context(command: click.Command, name: str, parent: click.Context | None) -> click.Context:
    return click.Context(command, info_name=name, parent=parent, terminal_width=_USAGE_COLUMNS)


def _command_parts(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f"## `{context.command_path}`"
    yield _prose(command.help)
    yield f"```\n{command.get_usage(context).removeprefix('Usage: ')}\n```"
    yield "\n".join(_parameter_rows(command, context))
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None and not below.hidden:
                yield from _command_parts(below, _context(below, name, context))


def _prose(text: str | None) -> str:
    r"""Help text as Markdown: without click's ``\b`` marks, and only up to its ``\f``."""
    return inspect.cleandoc((text or "").split("\f")[0]).replace("\b\n", "").strip()


def _parameter_rows(command: click.Command, context: click.Context) -> list[str]:
    # Arguments stand in the usage line. Hidden options have no record.
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    records = [record for option in options if (record := option.get_help_record(context))]
    rows = [_row(f"`{names}`", " ".join(meaning.split())) for names, meaning in records]
    return ["| option | meaning |", "|---|---|", *rows] if rows else []


def render_phases() -> str:
    """``docs/phases.md``: the diagram and the meaning of every phase."""
    table = "\n".join(
        [
            "| phase | what happens | owner | streaming | the application | left when | a person may |",
            "|---|---|---|---|---|---|---|",
            *(_phase_row(phase, MEANINGS[phase]) for phase in Phase),
        ]
    )
    diagram = f"```mermaid\n{draw_diagram()}\n```"
    return "\n\n".join(["# Phases", _NOTICE, _PHASES_OPENING, diagram, table, _PHASES_CLOSING]) + "\n"


def _phase_row(phase: Phase, meaning: PhaseMeaning) -> str:
    summary = meaning.summary + (" *(with an application library)*" if meaning.needs_application else "")
    may = [verb for verb, is_allowed in (("abort", meaning.may_abort), ("revert", meaning.may_revert)) if is_allowed]
    does = (("mirrors", meaning.mirrors), ("shadow reads", meaning.shadows), ("ramp of reads", meaning.ramps))
    beside = [what for what, is_done in does if is_done]
    return _row(
        f"`{phase.value}`",
        summary,
        meaning.owner.value if meaning.owner else "unknown",
        meaning.streaming.value if meaning.streaming else "-",
        ", ".join(beside) or "-",
        "-" if meaning.is_final else meaning.gate,
        ", ".join(may) or "-",
    )


def render_pages() -> Mapping[str, str]:
    """Each page's text by its file name in ``docs/``."""
    return {
        "cli.md": render_cli_reference(dbmigrate_command),
        "configuration.md": render_config_reference(),
        "phases.md": render_phases(),
    }


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False), default="docs")
def main(directory: Path) -> None:
    """Write the reference pages into DIRECTORY."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in render_pages().items():
        (directory / name).write_text(text, encoding="utf-8")
        click.echo(directory / name)
    lanes = directory / "lanes.md"
    if lanes.exists():
        lanes.write_text(replace_rules(lanes.read_text(encoding="utf-8")), encoding="utf-8")
        click.echo(lanes)


if __name__ == "__main__":
    main()
