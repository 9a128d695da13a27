"""The shape of ``dbmigrate.toml``: one frozen model a section, one field a key.

Everything that can be said about a key (type, range, default, meaning, example) is said here once; the error
messages, the template and ``docs/configuration.md`` are made from it. Types are strict: ``"4"`` is no number.
Relative paths count from the directory of the file, so that a run does not depend on where it was started.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from fnmatch import fnmatchcase
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from dbmigrate.config.fields import Accepts, Expressions, Section, Text, Texts
from dbmigrate.config.servers import ServerSection
from dbmigrate.config.windows import TimeWindow

KIB = 1024
MIB = 1024 * KIB

MigrationId = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9_-]{1,64}$"), Accepts("1 to 64 of a-z, 0-9, - and _")
]


class Approval(Enum):
    """Who lets the cutover begin."""

    REQUIRED = "required"
    AUTO = "auto"


class FenceKind(Enum):
    """What holds writers back during the switch. ``app`` and ``hook`` can be written but not yet run."""

    APP = "app"
    READ_ONLY = "read_only"
    LOCK_TABLES = "lock_tables"
    HOOK = "hook"


class MigrationSection(Section):
    """Which migration this is."""

    id: MigrationId = Field(
        description="Name of the migration in the control tables, metrics and reports. It finds the progress "
        "of an interrupted run again, so never change it on the way.",
        examples=["shop-2026-11"],
    )


class TableOptions(Section):
    """How one table is carried over, under the table's name on the source: `[tables.orders]`."""

    where: Text | None = Field(
        default=None,
        description="SQL condition over source columns; only rows that fulfil it are carried. Use columns "
        "that never change.",
        examples=["created_at >= '2020-01-01'"],
    )
    columns: Expressions = Field(
        default_factory=dict,
        description="Target column = SQL expression over the source's columns.",
        examples=[{"total_cents": "ROUND(total * 100)"}],
    )
    reverse_columns: Expressions = Field(
        default_factory=dict,
        description="The way back, used after the switch: source column = SQL expression over the target's "
        "columns.",
        examples=[{"total": "total_cents / 100"}],
    )
    rename: Text | None = Field(
        default=None, description="Name of the table on the target.", examples=["orders_v2"]
    )
    omit: Texts = Field(
        default=(), description="Source columns that are not carried.", examples=[["legacy_flags"]]
    )

    @model_validator(mode="after")
    def _require_columns_that_return(self) -> Self:
        if both := sorted(set(self.omit) & set(self.reverse_columns)):
            raise ValueError(f"omit and reverse_columns both name {', '.join(both)}")
        return self


class TablesSection(Section):
    """Which tables move. Options of one table go into a table of their own: `[tables.orders]`."""

    include: Texts = Field(
        default=("*",),
        description="Patterns (`*`, `?`, `[ab]`) of the tables that move; case counts.",
        examples=[["*"]],
    )
    exclude: Texts = Field(
        default=(),
        description="Patterns of the tables that stay, even where included.",
        examples=[["tmp_*", "audit_log"]],
    )
    by_name: Mapping[Text, TableOptions] = Field(
        default_factory=dict,
        description="Long form of `[tables.NAME]`, needed only by tables called include, exclude or by_name: "
        "`[tables.by_name.include]`.",
    )

    @model_validator(mode="before")
    @classmethod
    def _collect_tables(cls, given: Any) -> Any:
        # Only sub-tables are table names: `includ = [...]` stays behind and is reported as an unknown key.
        if not isinstance(given, dict):
            return given
        short = {k: v for k, v in given.items() if isinstance(v, dict) and k not in cls.model_fields}
        if not short:
            return given
        long = given.get("by_name", {})
        if not isinstance(long, dict):
            return given
        if twice := sorted(short.keys() & long.keys()):
            raise ValueError(f"[tables.X] and [tables.by_name.X] both describe {', '.join(twice)}")
        return {k: v for k, v in given.items() if k not in short} | {"by_name": {**short, **long}}

    def selects(self, name: str) -> bool:
        """Whether the source table ``name`` moves."""
        return any(fnmatchcase(name, p) for p in self.include) and not any(
            fnmatchcase(name, p) for p in self.exclude
        )

    def options_for(self, name: str) -> TableOptions:
        """The options of the source table ``name``; all defaults where none were written."""
        return self.by_name.get(name) or TableOptions()


class CopySection(Section):
    """How rows are copied."""

    workers: int = Field(default=4, ge=1, le=64, description="Chunks copied at the same time.")
    target_chunk_seconds: float = Field(
        default=0.5, ge=0.05, le=30, description="Chunks grow and shrink until one takes about this long."
    )
    max_chunk_bytes: int = Field(
        default=4 * MIB,
        ge=64 * KIB,
        le=64 * MIB,
        description="Upper bound of one chunk; also bounded by `max_allowed_packet` of both servers.",
    )
    defer_secondary_indexes: bool = Field(
        default=True, description="Build secondary indexes after the rows are there, which is faster."
    )


def _parse_window(value: object) -> object:
    return TimeWindow.parse(value) if isinstance(value, str) else value


Window = Annotated[TimeWindow, BeforeValidator(_parse_window), Accepts('a window such as "22:00-06:00"')]
Windows = Annotated[
    tuple[Window, ...],
    Field(strict=False),
    Accepts('a list of windows such as "22:00-06:00"'),
]


class ThrottleSection(Section):
    """When and how hard the servers may be used. What cannot be measured pauses the work."""

    max_threads_running: int | None = Field(
        default=None,
        ge=1,
        description="Pause while `Threads_running` on either server is above this.",
        examples=[50],
    )
    max_replica_lag_seconds: float | None = Field(
        default=None,
        gt=0,
        description="Pause while a replica of the target is further behind.",
        examples=[5.0],
    )
    windows: Windows = Field(
        default=(),
        description="Times of day in UTC, `HH:MM-HH:MM`, in which rows are copied; outside them only changes "
        "are followed. None means always.",
        examples=[["22:00-06:00"]],
    )
    max_rows_per_second: int | None = Field(
        default=None, ge=1, description="Upper bound of rows copied, over all workers.", examples=[20000]
    )

    def is_open(self, at: datetime) -> bool:
        """Whether rows may be copied at the aware time ``at``."""
        return not self.windows or any(window.contains(at) for window in self.windows)


class GatesSection(Section):
    """The evidence that a phase is left on."""

    max_lag_seconds: float = Field(default=1.0, gt=0, description="The stream is at most this far behind.")
    max_backlog_keys: int = Field(default=10_000, ge=0, description="At most this many keys are pending.")
    max_verification_age_seconds: float = Field(
        default=3600.0, gt=0, description="The last clean verification is at most this old."
    )
    min_soak_seconds: float = Field(
        default=0.0, ge=0, description="The way back stays open at least this long after the switch."
    )


class CutoverSection(Section):
    """How the switch is made."""

    approval: Annotated[Approval, Field(strict=False)] = Field(
        default=Approval.REQUIRED,
        description="`required` waits for `dbmigrate approve`; `auto` goes on as soon as the gates pass.",
    )
    fence: Annotated[FenceKind, Field(strict=False)] = Field(
        default=FenceKind.READ_ONLY,
        description="What holds writers back during the switch: the server's `read_only`, or `LOCK TABLES` "
        "on the tables that move. `app` and `hook` are not available in this version: `check` refuses them.",
    )
    max_write_pause_seconds: float = Field(
        default=1.0, gt=0, le=300, description="Writers wait at most this long; past it the switch is undone."
    )
    retry_seconds: float = Field(default=5.0, ge=0, description="Time between two attempts.")
    max_attempts: int = Field(default=10, ge=1, le=1000, description="Attempts before the run gives up.")


class VerifySection(Section):
    """How both sides are compared. How old a result may be is `[gates] max_verification_age_seconds`."""

    chunk_rows: int = Field(default=10_000, ge=100, le=1_000_000, description="Rows in one compared chunk.")
    workers: int = Field(default=2, ge=1, le=64, description="Chunks compared at the same time.")


class AppSection(Section):
    """The library inside the application."""

    enabled: bool = Field(
        default=False,
        description="Whether the application writes through `dbmigrate.app`. Not available in this version: "
        "`true` is refused by `check`.",
    )


class Config(Section):
    """One whole ``dbmigrate.toml``."""

    migration: MigrationSection
    source: ServerSection
    target: ServerSection
    tables: TablesSection = TablesSection()
    copy_: CopySection = Field(default=CopySection(), alias="copy")
    throttle: ThrottleSection = ThrottleSection()
    gates: GatesSection = GatesSection()
    cutover: CutoverSection = CutoverSection()
    verify: VerifySection = VerifySection()
    app: AppSection = AppSection()

    @model_validator(mode="after")
    def _require_two_databases(self) -> Self:
        places = [(s.host, s.port, s.unix_socket, s.schema) for s in (self.source, self.target)]
        if places[0] == places[1]:
            raise ValueError("source and target are the same database")
        return self
