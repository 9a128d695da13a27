"""What has to be known of the configured servers before throwaway ones can take their place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dbmigrate.config import Config
from dbmigrate.domain.errors import ConfigurationError
from dbmigrate.domain.routes import Side
from dbmigrate.rehearsal.dumping import require_readable
from dbmigrate.rehearsal.extrapolation import Size
from dbmigrate.rehearsal.settings import DumpedRows, RehearsalSettings
from dbmigrate.rehearsal.shape import RealServer, find_real_server, read_real_source
from dbmigrate.rehearsal.workload.building import require_runnable
from dbmigrate.throwaway.containers import official_image


@dataclass
class Answers:
    """The configured servers, as far as they were asked and answered, and the images that stand for them."""

    real: Mapping[Side, RealServer | None]
    images: Mapping[Side, str]
    notes: list[str] = field(default_factory=list)


def require_possible(settings: RehearsalSettings) -> None:
    """Everything that can be wrong with the options, before anything is touched.

    Raises:
        ConfigurationError: a file, a program or a function is not there.
    """
    if isinstance(settings.rows, DumpedRows):
        require_readable(settings.rows.path, "--dump")
    if settings.target_schema is not None:
        require_readable(settings.target_schema, "--target-schema")
    require_runnable(settings.workload)


def ask_servers(config: Config, settings: RehearsalSettings) -> Answers:
    """Ask what is needed, and only that.

    Raises:
        DbmigrateError: a server that is needed cannot be asked.
    """
    notes: list[str] = []
    real = {Side.SOURCE: _ask_source(config, settings, notes), Side.TARGET: _ask_target(config, settings, notes)}
    given = {Side.SOURCE: settings.source_image, Side.TARGET: settings.target_image}
    images = {side: given[side] or _derive_image(side, real[side]) for side in Side}
    return Answers(real, images, notes)


def _ask_source(config: Config, settings: RehearsalSettings, notes: list[str]) -> RealServer | None:
    if not isinstance(settings.rows, DumpedRows):
        return read_real_source(config)
    if settings.source_image and not settings.read_real_size:
        return None
    return _ask_if_it_answers(config, Side.SOURCE, notes, "its real size is not known")


def _ask_target(config: Config, settings: RehearsalSettings, notes: list[str]) -> RealServer | None:
    if settings.target_image and not settings.read_real_size:
        return None
    return _ask_if_it_answers(config, Side.TARGET, notes, "tables prepared there are not rehearsed")


def _ask_if_it_answers(config: Config, side: Side, notes: list[str], consequence: str) -> RealServer | None:
    found, trouble = find_real_server(config, side)
    if found is None:
        notes.append(f"the configured {side.value} did not answer, so {consequence}: {trouble}")
    return found


def _derive_image(side: Side, real: RealServer | None) -> str:
    if real is None:
        raise ConfigurationError(
            f"which release stands for the {side.value} is not known, because the configured server does not answer",
            place=f"--{side.value}-image", hint=f"name it, such as --{side.value}-image mariadb:10.11",
        )  # fmt: skip
    return official_image(real.version)


def measure_real(config: Config, real: RealServer | None) -> Size | None:
    """Rows and bytes of the real tables that move, by the server's estimates; None where nobody was asked."""
    if real is None:
        return None
    moving = [table for table in real.schema.tables if config.tables.selects(table.name.name)]
    return Size(sum(t.estimated_rows for t in moving), sum(t.data_bytes + t.index_bytes for t in moving))
