"""From a file to a ``Config``, or to one error that lists every problem with its place."""

from __future__ import annotations

import tomllib
from pathlib import Path

from dbmigrate.config.models import Config


def load_config(path: Path) -> Config:
    """The configuration in ``path``."""
    return Config.model_validate(tomllib.loads(path.read_text()), context={"directory": path.parent})
