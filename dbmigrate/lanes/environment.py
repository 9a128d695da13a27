"""A project's Alembic environment: where it is, which revisions it has, and in which lane each of them lies.

Apart from what revisions contain because it only reads the files' heads. ``env.py`` is never run: it belongs to the
``alembic`` command, and may ask for a database that is not there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from dbmigrate.domain.errors import ConfigurationError
from dbmigrate.domain.lanes import Lane

if TYPE_CHECKING:
    from alembic.script.base import Script

SETTINGS = "alembic.ini"


@dataclass(frozen=True)
class Environment:
    """The revisions of one project. ``settings`` is its alembic.ini."""

    settings: Path
    config: Config
    scripts: ScriptDirectory

    @property
    def directory(self) -> Path:
        """Where env.py and the versions are."""
        return Path(self.scripts.dir)

    def walk(self, lane: Lane | None = None) -> tuple[Script, ...]:
        """All revisions, or those of one lane, in the order in which they run.

        What a revision follows or depends on comes before it. Where that leaves a choice, expand comes before tighten, and
        that before contract.

        Raises:
            ConfigurationError: a file cannot be imported, or the revisions contradict each other.
        """
        try:
            found = _order(list(reversed(list(self.scripts.walk_revisions()))))
        except Exception as fault:  # importing a user's file may raise anything
            raise self._unusable(fault) from fault
        return found if lane is None else tuple(script for script in found if lane_of_revision(script) is lane)

    def find(self, revision: str) -> Script:
        """The revision of this id (or of an unambiguous beginning of it).

        Raises:
            ConfigurationError: there is none, or there are several.
        """
        try:
            script = self.scripts.get_revision(revision)
        except Exception as fault:
            raise self._unusable(fault) from fault
        if script is None:
            raise ConfigurationError(f"there is no revision {revision!r}", place=str(self.settings))
        return script

    def _unusable(self, fault: Exception) -> ConfigurationError:
        return ConfigurationError(
            "the revisions cannot be read", place=str(self.directory), cause=f"{type(fault).__name__}: {fault}",
            hint="`alembic history` shows the same; mend the file that it names",
        )  # fmt: skip


def _order(scripts: list[Script]) -> tuple[Script, ...]:
    """Parents first, then by lane, then as they were given."""
    ranks = {script.revision: (_RANKS.get(lane_of_revision(script), 0), i) for i, script in enumerate(scripts)}
    waiting = {script.revision: set(script._all_down_revisions) for script in scripts}
    by_id = {script.revision: script for script in scripts}
    ordered: list[Script] = []
    while waiting:
        revision = min((one for one, parents in waiting.items() if not parents & waiting.keys()), key=ranks.__getitem__)
        del waiting[revision]
        ordered.append(by_id[revision])
    return tuple(ordered)


_RANKS: dict[Lane | None, int] = {lane: rank for rank, lane in enumerate(Lane)}


def lane_of_revision(script: Script) -> Lane | None:
    """The lane whose branch label ``script`` carries; None without one, or with several."""
    lanes = [lane for lane in Lane if lane.value in (script.branch_labels or ())]
    return lanes[0] if len(lanes) == 1 else None


def load_environment(place: Path) -> Environment:
    """The environment at ``place``: an alembic.ini, or a directory with one in it or beside it.

    Raises:
        ConfigurationError: there is none, or Alembic cannot use it.
    """
    settings = find_settings(place)
    config = Config(settings)
    try:
        scripts = ScriptDirectory.from_config(config)
    except (CommandError, OSError) as fault:
        raise ConfigurationError(
            "Alembic cannot use these settings", place=str(settings), cause=str(fault),
            hint="script_location must name the directory of env.py",
        ) from fault  # fmt: skip
    return Environment(settings, config, scripts)


def find_settings(place: Path) -> Path:
    """The alembic.ini meant by ``place``.

    Raises:
        ConfigurationError: no such file.
    """
    beside = [place.resolve().parent / SETTINGS] if place.is_dir() else []
    for candidate in (place, place / SETTINGS, *beside):
        if candidate.is_file():
            return candidate
    raise ConfigurationError(
        f"there is no {SETTINGS}", place=str(place),
        hint=f"make an environment with `dbmigrate lanes init {place}`, or name yours with [lanes] directory",
    )  # fmt: skip
