"""What the store's customers were promised, and when: records of every request, and the arithmetic of gaps.

Apart from ``load``, which asks over HTTP, and ``audit``, which looks into the database, so that what is remembered and
what is computed from it can be tested without either. No I/O and no clock here.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from itertools import pairwise
from typing import Any

_MS = 1000.0


class Outcome(enum.Enum):
    """What a request came to, as far as its sender can know."""

    DONE = "done"
    """2xx: promised."""
    REFUSED = "refused"
    """409, out of stock: a normal answer; nothing was done."""
    REJECTED = "rejected"
    """Any other 4xx: a failed request; nothing was done."""
    UNKNOWN = "unknown"
    """5xx or no answer: a failed request; it may have been done or not."""

    @property
    def is_failure(self) -> bool:
        """Whether the request counts as failed."""
        return self in (Outcome.REJECTED, Outcome.UNKNOWN)


@dataclass(slots=True)
class OrderRecord:
    """One order that was asked for. ``lines`` are product and quantity, in their order."""

    token: str
    customer_id: int
    lines: tuple[tuple[int, int], ...]
    outcome: Outcome
    total: Decimal = Decimal(0)
    """What the answer said; 0 without one."""
    cancel: Outcome | None = None
    """None: nobody asked to cancel it."""


@dataclass(frozen=True, slots=True)
class DeliveryRecord:
    """One restock that was asked for."""

    token: str
    product_id: int
    quantity: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class RenameRecord:
    """One renaming that was asked for. A customer is always renamed by the same worker, so the latest one counts."""

    customer_id: int
    name: str
    outcome: Outcome


@dataclass
class Journal:
    """What one worker remembers. Times are ``time.monotonic()`` of the program that asked, in seconds."""

    orders: list[OrderRecord] = field(default_factory=list)
    deliveries: list[DeliveryRecord] = field(default_factory=list)
    renames: list[RenameRecord] = field(default_factory=list)
    requests: int = 0
    refused: int = 0
    failed: int = 0
    unknown_writes: int = 0
    errors: list[str] = field(default_factory=list)
    written_at: list[float] = field(default_factory=list)
    """When each successful write was answered, in rising order."""
    write_latencies: list[float] = field(default_factory=list)
    read_latencies: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Spread:
    """Three points of a distribution, in milliseconds; all 0 where there is nothing."""

    p50: float
    p99: float
    max: float

    @classmethod
    def of(cls, milliseconds: Iterable[float]) -> Spread:
        """Each point is a value that was seen: the nearest rank, never a value between two."""
        ranked = sorted(milliseconds)
        if not ranked:
            return cls(0.0, 0.0, 0.0)
        return cls(pick_percentile(ranked, 50), pick_percentile(ranked, 99), ranked[-1])


def pick_percentile(ranked: Sequence[float], percent: float) -> float:
    """The nearest rank in ``ranked``, which is sorted and not empty."""
    return ranked[max(math.ceil(len(ranked) * percent / 100), 1) - 1]


def find_gaps(
    written_at: Sequence[float], *, began_at: float, ended_at: float, window: tuple[float, float] | None = None
) -> list[float]:
    """The times between two successful writes of one worker, in milliseconds; all that reach into ``window``.

    A gap that no write has ended counts up to ``ended_at``, and a worker that never wrote is one gap from
    ``began_at``: a store that hangs must not look like one without gaps.
    """
    first, last = window or (began_at, ended_at)
    points = [*(written_at or [began_at]), ended_at]
    return [(after - before) * _MS for before, after in pairwise(points) if after > first and before < last]


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What a load came to. Everything from ``lost_orders`` to ``wrong_stocks`` must be 0; see ``is_clean``."""

    seconds: float
    requests: int
    failed_requests: int
    out_of_stock: int
    """Answers 409: no failures."""
    unknown_outcomes: int
    """Writes among the failed requests that may have been done."""
    orders: int
    cancels: int
    restocks: int
    renames: int
    """Acknowledged."""
    lost_orders: int
    """Acknowledged, but absent, or with other lines, total, customer or payment."""
    doubled_orders: int
    """Tokens that are there twice, and orders that were charged or refunded twice."""
    unasked_orders: int
    """Refused, but there all the same; or this load's, but not in its journal."""
    lost_cancels: int
    lost_restocks: int
    lost_renames: int
    wrong_stocks: int
    """Products, of the whole store, whose stock is not what deliveries and standing orders make it."""
    write_gap_ms: Spread
    write_ms: Spread
    read_ms: Spread
    errors: tuple[str, ...] = ()
    """The first failed requests, for a person."""

    @property
    def is_clean(self) -> bool:
        """No failed request, nothing lost, doubled or made up."""
        return not (
            self.failed_requests
            or self.lost_orders
            or self.doubled_orders
            or self.unasked_orders
            or self.lost_cancels
            or self.lost_restocks
            or self.lost_renames
            or self.wrong_stocks
        )

    def to_json(self) -> dict[str, Any]:
        """For ``json.dumps``."""
        return {name: _round(value) for name, value in asdict(self).items()}


def _round(value: Any) -> Any:
    """Times to a microsecond: more digits are noise."""
    if isinstance(value, dict):
        return {key: _round(member) for key, member in value.items()}
    if isinstance(value, tuple):
        return list(value)
    return round(value, 3) if isinstance(value, float) else value
