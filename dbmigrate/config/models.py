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
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from dbmigrate.config.fields import Accepts, Expressions, FilePath, Section, Text, Texts
from dbmigrate.config.servers import ServerSection
from dbmigrate.config.windows import TimeWindow

KIB = 1024
MIB = 1024 * KIB

MigrationId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,64}$"), Accepts("1 to 64 of a-z, 0-9, - and _")]


class Approval(Enum):
    """Who lets the cutover begin."""

    REQUIRED = "required"
    AUTO = "auto"


class FenceKind(Enum):
    """What holds writers back during the switch. ``hook`` can be written but not yet run."""

    APP = "app"
    READ_ONLY = "read_only"
    LOCK_TABLES = "lock_tables"
    HOOK = "hook"


class ExecutorKind(Enum):
    """Where chunks are copied and compared."""

    THREADS = "threads"
    DASK = "dask"


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
        description="The way back, used after the switch: source column = SQL expression over the target's columns.",
        examples=[{"total": "total_cents / 100"}],
    )
    rename: Text | None = Field(default=None, description="Name of the table on the target.", examples=["orders_v2"])
    omit: Texts = Field(default=(), description="Source columns that are not carried.", examples=[["legacy_flags"]])

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
        return any(fnmatchcase(name, p) for p in self.include) and not any(fnmatchcase(name, p) for p in self.exclude)

    def options_for(self, name: str) -> TableOptions:
        """The options of the source table ``name``; all defaults where none were written."""
        return self.by_name.get(name) or TableOptions()


class CopySection(Section):
    """How rows are copied."""

    workers: int = Field(default=4, ge=1, le=1024, description="Chunks copied at the same time.")
    executor: Annotated[ExecutorKind, Field(strict=False)] = Field(
        default=ExecutorKind.THREADS,
        description="`threads` of the runner, or the processes of a `dask` cluster (docs/scaling.md; needs `[cluster]`).",
    )
    target_chunk_seconds: float = Field(
        default=0.5, ge=0.05, le=30, description="Chunks grow and shrink until one takes about this long."
    )
    max_chunk_bytes: int = Field(
        default=16 * MIB,
        ge=64 * KIB,
        le=64 * MIB,
        description="Upper bound of one chunk, which is one transaction; 4 MiB where rows are inserted, not loaded.",
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
    max_source_write_ms: float | None = Field(
        default=None,
        gt=0,
        description="Chunks start half a second apart, further while small writes on the source take longer than this (of "
        "the commits of the last two seconds, all but the slowest twentieth), closer while they do not.",
        examples=[10.0],
    )
    max_source_write_factor: float = Field(
        default=1.3,
        ge=0,
        description="While the application writes, rows are read for as small a part of the time as it takes for small writes "
        "on the source to last no more often than without a copy longer than this many times their median (at least 1 ms). "
        "0 reads at full speed; `max_source_write_ms` replaces it.",
    )

    @model_validator(mode="after")
    def _require_a_factor_that_can_be_met(self) -> Self:
        if 0 < self.max_source_write_factor < 1:
            raise ValueError(
                "max_source_write_factor below 1 asks for faster writes than without a copy: set 0 to read at full speed, "
                "or 1 and more"
            )
        return self

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
    min_mirrored_writes: int = Field(
        default=100,
        ge=0,
        description="`dual_write` is left after at least so many write transactions were mirrored; until then its "
        "ratios say nothing.",
    )
    max_mirror_failure_ratio: float = Field(
        default=0.01, ge=0, le=1, description="Of the mirrors that were tried, at most this share failed."
    )
    max_write_failure_ratio: float = Field(
        default=0.001,
        ge=0,
        le=1,
        description="Of the application's write transactions, at most this share failed for a reason of the move.",
    )
    max_uncaptured_ratio: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Write statements that the library could not capture, so that only the stream carries them, are at "
        "most this share of the write transactions.",
    )
    min_shadow_samples: int = Field(
        default=100,
        ge=0,
        description="`shadow_read` is left after at least so many reads were repeated on the target and compared.",
    )
    max_real_mismatches: int = Field(
        default=0,
        ge=0,
        description="At most so many repeated reads really differed; lag and rows that moved meanwhile do not count.",
    )
    min_target_reads: int = Field(
        default=20,
        ge=0,
        description="A share of `ramp_reads` is judged after the target was asked at least so many reads.",
    )
    max_read_error_ratio: float = Field(
        default=0.001,
        ge=0,
        le=1,
        description="Of the reads sent to the target, at most this share failed there (and fell back to the owner).",
    )
    max_latency_p95_ratio: float = Field(
        default=1.5, gt=0, description="95th percentile of the target's answers, divided by the source's."
    )
    max_latency_p99_ratio: float = Field(
        default=2.0, gt=0, description="99th percentile of the target's answers, divided by the source's."
    )
    latency_floor_seconds: float = Field(
        default=0.005, ge=0, description="A percentile below this is fast enough, whatever the ratio."
    )


class CutoverSection(Section):
    """How the switch is made."""

    approval: Annotated[Approval, Field(strict=False)] = Field(
        default=Approval.REQUIRED,
        description="`required` waits for `dbmigrate approve`; `auto` goes on as soon as the gates pass.",
    )
    fence: Annotated[FenceKind, Field(strict=False)] = Field(
        default=FenceKind.READ_ONLY,
        description="What holds writers back during the switch: the server's `read_only`, `LOCK TABLES` on the "
        "tables that move, or `app`: the application waits for the switch by itself and writes on, on the other side "
        "(needs `[app] enabled`). `hook` is not available in this version: `check` refuses it.",
    )
    max_write_pause_seconds: float = Field(
        default=1.0, gt=0, le=300, description="Writers wait at most this long; past it the switch is undone."
    )
    retry_seconds: float = Field(default=5.0, ge=0, description="Time between two attempts.")
    max_attempts: int = Field(default=10, ge=1, le=1000, description="Attempts before the run gives up.")


class VerifySection(Section):
    """How both sides are compared. How old a result may be is `[gates] max_verification_age_seconds`."""

    chunk_rows: int = Field(default=20_000, ge=100, le=1_000_000, description="Rows in one compared chunk.")
    workers: int = Field(default=2, ge=1, le=1024, description="Chunks compared at the same time.")
    executor: Annotated[ExecutorKind, Field(strict=False)] = Field(
        default=ExecutorKind.THREADS, description="As in `[copy]`. Differences are judged by the runner in either case."
    )


SchedulerAddress = Annotated[
    str,
    StringConstraints(pattern=r"^(tcp|tls)://(\[[0-9a-fA-F:.]+\]|[^/\s:@]+):[0-9]{1,5}$"),
    Accepts("tcp://host:port or tls://host:port"),
]


class ClusterSection(Section):
    """A Dask cluster that copies or compares chunks (docs/scaling.md). Whoever reaches its scheduler can run code on its
    workers, which hold the databases' passwords: use `tls://` outside a closed network."""

    scheduler: SchedulerAddress | None = Field(
        default=None, description="Address of the scheduler.", examples=["tls://scheduler:8786"]
    )
    ca: FilePath | None = Field(
        default=None,
        description="Certificates of whoever may sign the cluster's (PEM); needed by `tls://`.",
        examples=["cluster-ca.pem"],
    )
    cert: FilePath | None = Field(
        default=None, description="Certificate of the runner (PEM); needed by `tls://`.", examples=["runner.pem"]
    )
    key: FilePath | None = Field(
        default=None, description="Private key of `cert` (PEM); needed by `tls://`.", examples=["runner-key.pem"]
    )
    connect_timeout_seconds: float = Field(
        default=10.0, ge=1, le=300, description="How long connecting to the scheduler may take."
    )
    worker_timeout_seconds: float = Field(
        default=60.0,
        gt=0,
        le=86_400,
        description="A run ends when there has been no worker for so long; it can be resumed.",
    )

    @property
    def is_encrypted(self) -> bool:
        """Whether the cluster's traffic is."""
        return self.scheduler is not None and self.scheduler.startswith("tls://")

    @model_validator(mode="after")
    def _require_files_that_fit(self) -> Self:
        given = [name for name in ("ca", "cert", "key") if getattr(self, name) is not None]
        if self.is_encrypted and len(given) < 3:
            raise ValueError("tls:// needs ca, cert and key")
        if not self.is_encrypted and given:
            raise ValueError(f"{', '.join(given)} given, but only a scheduler at tls:// uses them")
        return self


Percent = Annotated[float, Field(ge=0, le=100)]
Shares = Annotated[
    tuple[Annotated[float, Field(gt=0, le=100)], ...],
    Field(strict=False),
    Accepts("a list of percentages, each larger than the one before"),
]


class AppSection(Section):
    """The library inside the application."""

    enabled: bool = Field(
        default=False,
        description="Whether the application reads and writes through `dbmigrate.app`. Adds the phases `dual_write`, "
        "`shadow_read` and `ramp_reads`.",
    )
    mirror: bool = Field(
        default=True, description="Whether write transactions also go to the target, before the switch."
    )
    mirror_in_soak: bool = Field(
        default=False,
        description="Whether they also go to the source, after the switch. The stream back does so anyway.",
    )
    strict: bool = Field(
        default=False, description="Refuse write statements that the library cannot capture, instead of counting them."
    )
    shadow_share: Percent = Field(default=10.0, description="Percentage of reads that are repeated on the target.")
    shadow_threads: int = Field(default=2, ge=1, le=64, description="Repeated reads at the same time, per instance.")
    shadow_queue: int = Field(
        default=100, ge=1, le=100_000, description="Reads that wait to be repeated, per instance; more are dropped."
    )
    shadow_timeout_seconds: float = Field(
        default=2.0, gt=0, le=60, description="A repeated read that takes longer is given up."
    )
    shadow_may_store_values: bool = Field(
        default=False,
        description="Keep the keys of differing rows readable. They may be personal data; otherwise only hashes are kept.",
    )
    shadow_ignore: Texts = Field(
        default=(),
        description="Columns, as `table.column` with patterns (`*`, `?`), whose differences do not count.",
        examples=[["sessions.*", "orders.updated_at"]],
    )
    shadow_ignore_statements: Texts = Field(
        default=(),
        description="Statements that are not compared: regular expressions over their text without values, or digests "
        "as the table `_dbmigrate.mismatch` has them.",
        examples=[["FROM sessions", "ORDER BY RAND"]],
    )
    read_ramp: Shares = Field(
        default=(1.0, 5.0, 25.0, 100.0), description="Percentages of reads that the target answers, step by step."
    )
    ramp_step_seconds: float = Field(
        default=60.0, ge=0, description="Each share is held at least this long before the next."
    )
    instance_expiry_seconds: float = Field(
        default=15.0,
        ge=5,
        le=3600,
        description="An instance that has not reported for this long is not waited for any more. If it still lives, "
        "the fence row holds its writes.",
    )
    min_instances: int = Field(
        default=1, ge=1, le=100_000, description="So many live instances must follow before a phase is left."
    )

    @model_validator(mode="after")
    def _require_a_ramp_that_rises(self) -> Self:
        if not self.read_ramp or list(self.read_ramp) != sorted(set(self.read_ramp)):
            raise ValueError("read_ramp must name at least one percentage, each larger than the one before")
        return self


VERSION_TABLE = "alembic_version"


class LanesSection(Section):
    """Schema changes in lanes (docs/lanes.md): how they run on the target."""

    directory: FilePath | None = Field(
        default=None,
        description="The Alembic environment with the lanes, or its alembic.ini. The phase `expand` runs its expand lane on "
        f"the target, before rows are copied; `{VERSION_TABLE}` stays out of the move: each side has its own.",
        examples=["migrations"],
    )
    lock_wait_seconds: int = Field(
        default=1, ge=1, le=60, description="A change waits at most this long for a table; others wait behind it."
    )
    quick_seconds: float = Field(
        default=10.0,
        ge=0,
        le=3600,
        description="For so long a change tries to get a table in a moment between two transactions, without waiting for one.",
    )
    max_attempts: int = Field(
        default=10, ge=1, le=1000, description="Attempts to get a table by waiting for it, after that."
    )
    retry_seconds: float = Field(
        default=0.5, gt=0, le=600, description="First pause between two attempts; it doubles, up to 10 s."
    )
    dwell_seconds: float = Field(
        default=86_400.0, ge=0, description="What is dropped has been hidden for at least this long before."
    )
    quiet_seconds: float = Field(
        default=60.0, ge=0, description="No statement named it for this long before it is hidden."
    )

    def find_directory(self, config_path: Path) -> Path:
        """The directory, or its default beside ``config_path``, which is the configuration file."""
        return self.directory or config_path.parent / "migrations"


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
    cluster: ClusterSection = ClusterSection()
    app: AppSection = AppSection()
    lanes: LanesSection = LanesSection()

    @model_validator(mode="before")
    @classmethod
    def _leave_the_version_table_out(cls, given: Any) -> Any:
        """With lanes, the target's own revisions stand in its own table."""
        tables = given.get("tables", {}) if isinstance(given, dict) else None
        lanes = given.get("lanes") if isinstance(given, dict) else None
        if not isinstance(tables, dict) or not isinstance(lanes, dict) or not lanes.get("directory"):
            return given
        exclude = tables.get("exclude", [])
        if not isinstance(exclude, list):
            return given
        return {**given, "tables": {**tables, "exclude": [*exclude, VERSION_TABLE]}}

    @model_validator(mode="after")
    def _require_two_databases(self) -> Self:
        places = [(s.host, s.port, s.unix_socket, s.schema) for s in (self.source, self.target)]
        if places[0] == places[1]:
            raise ValueError("source and target are the same database")
        return self

    @model_validator(mode="after")
    def _require_a_cluster_where_one_is_used(self) -> Self:
        users = {"copy": self.copy_.executor, "verify": self.verify.executor}
        for name, executor in users.items():
            if executor is ExecutorKind.DASK and self.cluster.scheduler is None:
                raise ValueError(f'[{name}] executor = "dask" needs [cluster] scheduler')
        return self

    @property
    def uses_cluster(self) -> bool:
        """Whether chunks are copied or compared on a cluster."""
        return ExecutorKind.DASK in (self.copy_.executor, self.verify.executor)

    @model_validator(mode="after")
    def _require_an_application_that_fits(self) -> Self:
        problems = []
        if self.cutover.fence is FenceKind.APP and not self.app.enabled:
            problems.append('[cutover] fence = "app" needs [app] enabled = true')
        if self.app.enabled:
            problems += self._find_contradictions(self.app)
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _find_contradictions(self, app: AppSection) -> list[str]:
        problems = []
        if app.mirror_in_soak and not app.mirror:
            problems.append("[app] mirror_in_soak needs [app] mirror = true")
        if app.mirror_in_soak and self.cutover.fence is FenceKind.READ_ONLY:
            problems.append(
                '[app] mirror_in_soak cannot write to a source that [cutover] fence = "read_only" keeps closed: '
                'use fence = "app"'
            )
        ramp_seconds = len(app.read_ramp) * app.ramp_step_seconds
        if ramp_seconds >= self.gates.max_verification_age_seconds:
            problems.append(
                f"the ramp takes {ramp_seconds:g} s and the verification before it counts for "
                f"{self.gates.max_verification_age_seconds:g} s: lower [app] ramp_step_seconds or raise [gates] "
                "max_verification_age_seconds"
            )
        if not app.mirror and self.gates.min_mirrored_writes:
            problems.append(
                "with [app] mirror = false nothing is mirrored: set [gates] min_mirrored_writes = 0 as well"
            )
        if not app.shadow_share and self.gates.min_shadow_samples:
            problems.append(
                "with [app] shadow_share = 0 no read is compared: set [gates] min_shadow_samples = 0 as well"
            )
        return problems
