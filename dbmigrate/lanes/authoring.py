"""Writing revisions and the environment they live in: ``lanes init`` and ``lanes new``.

Apart from the lint because it writes files of the user's project, through Alembic's own commands.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.operations.ops import MigrationScript
from alembic.util import CommandError
from sqlalchemy.exc import SQLAlchemyError

from dbmigrate.domain.errors import ConfigurationError, FatalError, RefusedError
from dbmigrate.domain.lanes import Lane
from dbmigrate.lanes.environment import SETTINGS, Environment
from dbmigrate.lanes.splitting import find_version_path

if TYPE_CHECKING:
    from alembic.script.base import Script

_TEMPLATES = resources.files("dbmigrate.lanes") / "templates"


def create_environment(directory: Path) -> tuple[Path, ...]:
    """Write an Alembic environment with three lanes into ``directory``; returns the files.

    Raises:
        ConfigurationError: there is something already (nothing is written then), or the files cannot be written.
    """
    files = {directory / name: text for name, text in _render_files().items()}
    if there := [path for path in files if path.exists()]:
        raise ConfigurationError(
            "there is an environment already", place=str(there[0]), hint="docs/lanes.md says how to add lanes to one"
        )
    try:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as fault:
        raise ConfigurationError(
            "the environment cannot be written", place=str(fault.filename or directory), cause=fault.strerror or ""
        ) from fault
    return tuple(files)


def _render_files() -> Mapping[str, str]:
    first = _read_template("first.py.txt")
    return {
        SETTINGS: _read_template("alembic.ini.txt"),
        "env.py": _read_template("env.py.txt"),
        "script.py.mako": _read_template("script.py.mako"),
        **{
            f"versions/{lane.value}/{lane.value}0_lane.py": first.format(lane=lane.value, meaning=lane.meaning)
            for lane in Lane
        },
    }


def _read_template(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def create_revision(environment: Environment, lane: Lane, message: str) -> Path:
    """An empty revision at the end of ``lane``.

    Raises:
        ConfigurationError: the lane has no revision to follow, or the file cannot be written.
    """
    _require_lane(environment, lane)
    (path,) = _run(
        environment, message=message, head=f"{lane.value}@head",
        version_path=find_version_path(environment.scripts, lane),
    )  # fmt: skip
    return path


def create_by_comparison(environment: Environment, message: str) -> tuple[Path, ...]:
    """A revision for each lane in which the models differ from the database; none where they are equal.

    Raises:
        ConfigurationError: the environment does not split, or cannot be run.
        RefusedError: a difference belongs into no lane, or the database lacks revisions; nothing was written.
        FatalError: the database cannot be read.
    """
    for lane in Lane:
        _require_lane(environment, lane)

    def keep_if_different(context: object, revision: object, directives: list[MigrationScript]) -> None:
        if directives[0].upgrade_ops_list[0].is_empty():
            directives.clear()

    return _run(environment, message=message, autogenerate=True, process_revision_directives=keep_if_different)


def _require_lane(environment: Environment, lane: Lane) -> None:
    if not environment.walk(lane):
        raise ConfigurationError(
            f"no revision carries the label {lane.value}", place=str(environment.directory),
            hint=f'give the first revision of that branch branch_labels = ("{lane.value}",)',
        )  # fmt: skip


def _run(environment: Environment, **arguments: object) -> tuple[Path, ...]:
    quiet = argparse.Namespace(quiet=True, x=None, raiseerr=True)
    config = Config(environment.settings, cmd_opts=quiet)
    place = str(environment.settings)
    try:
        written = command.revision(config, **arguments)  # type: ignore[arg-type]  # passed through as they are
    except RefusedError:
        raise
    except CommandError as fault:
        raise RefusedError(
            "Alembic writes no revision", place=place, cause=str(fault),
            hint="where the database lacks revisions, run them on it first: alembic upgrade heads",
        ) from fault  # fmt: skip
    except SQLAlchemyError as fault:
        cause = str(getattr(fault, "orig", None) or fault)
        raise FatalError("the database cannot be compared with the models", place=place, cause=cause) from fault
    except SystemExit as fault:
        raise ConfigurationError("env.py gave up", place=place, cause=str(fault)) from fault
    return tuple(Path(script.path) for script in _listed(written))


def _listed(written: Script | list[Script | None] | None) -> list[Script]:
    found = written if isinstance(written, list) else [written]
    return [script for script in found if script is not None]


