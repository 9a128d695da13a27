"""What a check found, and what it may look at."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from dbmigrate.config import Config
from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.domain.schema import Schema, Table
from dbmigrate.mysql.sessions import Session


class Severity(Enum):
    """What a finding means for the move."""

    OBSTACLE = "obstacle"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that stops the move (OBSTACLE), endangers it (WARNING) or is worth knowing (NOTE).

    ``check`` is the name of the check, ``remedy`` the statement or setting that mends it.
    """

    check: str
    severity: Severity
    place: str
    message: str
    remedy: str


@dataclass(frozen=True)
class Surroundings:
    """Everything a check may look at. Sessions are ordinary ones (bytes in rows); checks change nothing.

    ``tables`` are the source's tables that the configuration selects. ``target_schema`` is empty where the database
    does not exist on the target yet.
    """

    config: Config
    source: Session
    target: Session
    source_version: ServerVersion
    target_version: ServerVersion
    source_schema: Schema
    target_schema: Schema
    tables: tuple[Table, ...]
    is_first_run: bool
