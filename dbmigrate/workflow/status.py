"""What a run tells about itself: to the terminal while it runs, and through the control tables to other processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class TableStatus:
    """One table's copy and verification. ``rows_per_second`` is over the last few seconds, ``eta_seconds`` a guess."""

    table: str
    rows: int
    estimated_rows: int
    rows_per_second: float
    eta_seconds: float | None
    is_copied: bool
    verified_rows: int = 0


@dataclass(frozen=True, slots=True)
class InstanceStatus:
    """One live application process. ``behind`` is how many epochs it has not followed yet."""

    instance_id: str
    host: str
    pid: int
    library_version: str
    epoch: int
    behind: int
    phase: str
    seen_at: str


@dataclass(frozen=True, slots=True)
class ApplicationStatus:
    """What the application does beside its work on the owner, and what its live instances counted in this phase.

    Shares are percentages. The counts are those of ``domain.evidence``, with the 95th and 99th percentile of each
    latency in milliseconds instead of its histogram.
    """

    mirror: bool
    read_share: float
    shadow_share: float
    instances: tuple[InstanceStatus, ...] = ()
    writes: Mapping[str, float | None] = field(default_factory=dict)
    shadow: Mapping[str, float | None] = field(default_factory=dict)
    reads: Mapping[str, float | None] = field(default_factory=dict)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ApplicationStatus:
        """What ``asdict`` wrote."""
        return cls(**{**content, "instances": tuple(InstanceStatus(**one) for one in content["instances"])})


@dataclass(frozen=True, slots=True)
class RunStatus:
    """A snapshot of a migration. ``lag_seconds`` and ``backlog_keys`` are None while nothing streams."""

    migration_id: str
    phase: str
    epoch: int
    owner: str
    streaming: str = ""
    lag_seconds: float | None = None
    max_lag_seconds: float = 0.0
    backlog_keys: int | None = None
    rows_streamed: int = 0
    keys_flushed: int = 0
    position: str = ""
    rows_copied: int = 0
    waiting_for: str = ""
    is_paused: bool = False
    holder: str = ""
    tables: tuple[TableStatus, ...] = field(default=())
    application: ApplicationStatus | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON-ready; ``from_json`` gives the same status back."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> RunStatus:
        """What ``to_json`` wrote."""
        tables = tuple(TableStatus(**one) for one in content.get("tables", ()))
        application = content.get("application")
        return cls(
            **{
                **content,
                "tables": tables,
                "application": ApplicationStatus.from_json(application) if application else None,
            }
        )
