"""What an application instance reports about itself, as values that can be added up, compared and written as JSON.

The library in the application counts, the control tables carry the counts, the gates of ``dual_write``,
``shadow_read`` and ``ramp_reads`` read them. They live here, apart from all three, because these are the words in
which the two halves of the program talk: a process with one version of the library and a runner with another must
understand each other, so what is unknown in JSON is ignored, and what is missing counts as zero.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from enum import Enum
from itertools import accumulate
from typing import Any, Self

from dbmigrate.domain.phases import Phase

_FIRST_BOUND_SECONDS = 0.0001
_GROWTH = 1.2
_BUCKETS = 80

LATENCY_BOUNDS_SECONDS: tuple[float, ...] = tuple(
    round(_FIRST_BOUND_SECONDS * _GROWTH**step, 9) for step in range(_BUCKETS - 1)
)
"""Upper bounds of all buckets but the last, which has none: 0.1 ms to 150 s, each 1.2 times the one before, so a
percentile is at most 20 % off and a ratio of two of them compares like with like. Part of the format: instances of
different versions add their counts up."""

_NO_SAMPLES: tuple[int, ...] = (0,) * _BUCKETS


@dataclass(frozen=True, slots=True)
class LatencyHistogram:
    """How many samples fell into each bucket of ``LATENCY_BOUNDS_SECONDS``."""

    counts: tuple[int, ...] = _NO_SAMPLES

    def __post_init__(self) -> None:
        if len(self.counts) != _BUCKETS or any(count < 0 for count in self.counts):
            raise ValueError(f"a histogram has {_BUCKETS} counts, none of them negative")

    @property
    def samples(self) -> int:
        """How many there are."""
        return sum(self.counts)

    def with_sample(self, seconds: float) -> Self:
        """The same with one more; a negative time (a clock that was set back) counts as none at all."""
        bucket = bisect_left(LATENCY_BOUNDS_SECONDS, seconds)
        return type(self)((*self.counts[:bucket], self.counts[bucket] + 1, *self.counts[bucket + 1 :]))

    def merge(self, other: LatencyHistogram) -> Self:
        """Both together."""
        return type(self)(tuple(a + b for a, b in zip(self.counts, other.counts, strict=True)))

    def since(self, earlier: LatencyHistogram) -> Self:
        """Only the samples that came after ``earlier``, a former state of the same histogram."""
        return type(self)(tuple(max(0, a - b) for a, b in zip(self.counts, earlier.counts, strict=True)))

    def percentile(self, q: float) -> float | None:
        """The time in seconds that ``q`` percent (0 to 100) of the samples did not exceed; None without samples.

        Inside a bucket samples are taken as spread evenly on the logarithmic scale; above the last bound the last
        bound is returned.
        """
        if not 0 <= q <= 100:
            raise ValueError(f"{q} is no percentage")
        if not self.samples:
            return None
        rank = max(1, math.ceil(self.samples * q / 100))
        up_to = list(accumulate(self.counts))
        bucket = bisect_left(up_to, rank)
        if bucket >= len(LATENCY_BOUNDS_SECONDS):
            return LATENCY_BOUNDS_SECONDS[-1]
        share = (rank - (up_to[bucket] - self.counts[bucket])) / self.counts[bucket]
        return float(LATENCY_BOUNDS_SECONDS[bucket] * _GROWTH ** (share - 1))

    def to_json(self) -> list[int]:
        """The counts, without the empty buckets at the end."""
        used = max((number for number, count in enumerate(self.counts, start=1) if count), default=0)
        return list(self.counts[:used])

    @classmethod
    def from_json(cls, given: Iterable[int]) -> Self:
        """The inverse of ``to_json``.

        Raises:
            ValueError: more counts than there are buckets, or no counts at all.
        """
        counts = tuple(int(count) for count in given)
        return cls(counts + _NO_SAMPLES[len(counts) :])


class _Counts:
    """What is cumulative since an instance entered its phase: added up field by field, over instances."""

    __slots__ = ()

    def merge(self, other: Self) -> Self:
        """Both together."""
        values: dict[str, Any] = {}
        for each in fields(self):  # type: ignore[arg-type]  # every subclass is a dataclass
            mine, theirs = getattr(self, each.name), getattr(other, each.name)
            values[each.name] = mine.merge(theirs) if isinstance(mine, LatencyHistogram) else mine + theirs
        return type(self)(**values)

    def since(self, earlier: Self) -> Self:
        """Only what was counted after ``earlier``, a former state of the same counts. Never negative."""
        values: dict[str, Any] = {}
        for each in fields(self):  # type: ignore[arg-type]
            mine, theirs = getattr(self, each.name), getattr(earlier, each.name)
            values[each.name] = mine.since(theirs) if isinstance(mine, LatencyHistogram) else max(0, mine - theirs)
        return type(self)(**values)

    def to_json(self) -> dict[str, Any]:
        """A JSON object with one key a field."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}  # type: ignore[arg-type]
        return {k: v.to_json() if isinstance(v, LatencyHistogram) else v for k, v in values.items()}

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Self:
        """The inverse of ``to_json``; unknown keys are ignored, missing ones are zero."""
        values: dict[str, Any] = {}
        for each in fields(cls):  # type: ignore[arg-type]
            if each.name in given:
                value = given[each.name]
                values[each.name] = LatencyHistogram.from_json(value) if isinstance(value, list) else int(value)
        return cls(**values)


@dataclass(frozen=True, slots=True)
class WriteCounts(_Counts):
    """Write transactions of an instance, and what became of their mirrors.

    ``failed`` are transactions that could not commit on the owner for a reason of the move or its servers (not the
    application's own rollbacks and constraint errors). Of the committed ones, ``mirrored`` also committed on the other
    side, ``mirror_failed`` did not, ``mirror_skipped`` were not tried (opted out, or the circuit breaker was open).
    ``uncaptured`` are statements whose keys the library could not capture; the stream alone carries them.
    """

    transactions: int = 0
    failed: int = 0
    mirrored: int = 0
    mirror_failed: int = 0
    mirror_skipped: int = 0
    uncaptured: int = 0


@dataclass(frozen=True, slots=True)
class ShadowCounts(_Counts):
    """Reads repeated on the other side.

    ``samples`` were compared: each is one of ``matches``, ``ignored`` (equal but for an ignore rule), ``lag``,
    ``moved`` or ``real``. ``errors`` and ``timeouts`` came to no comparison, ``dropped`` were never started (queue
    full, circuit breaker open). Latencies: ``control`` is the owner's answer, ``candidate`` the other side's.
    """

    samples: int = 0
    matches: int = 0
    ignored: int = 0
    lag: int = 0
    moved: int = 0
    real: int = 0
    errors: int = 0
    timeouts: int = 0
    dropped: int = 0
    control: LatencyHistogram = LatencyHistogram()
    candidate: LatencyHistogram = LatencyHistogram()


@dataclass(frozen=True, slots=True)
class ReadCounts(_Counts):
    """Reads by the side that answered them.

    ``fallbacks`` are reads that the target failed and the owner then answered; ``errors`` those that no side
    answered.
    """

    owner: int = 0
    target: int = 0
    fallbacks: int = 0
    errors: int = 0
    owner_latency: LatencyHistogram = LatencyHistogram()
    target_latency: LatencyHistogram = LatencyHistogram()


@dataclass(frozen=True, slots=True)
class InstanceReport:
    """One application process and what it last said.

    ``epoch`` is the newest epoch of the fence row that the instance has seen and obeys: no transaction that it began
    under an earlier one is still undecided. ``phase`` is the phase of that epoch; the counts are cumulative since the
    instance entered it and begin again with the next phase, not with each epoch. ``seen_at`` is the server's
    time of the report (None before it was written). ``mapping_digest`` says which columns its models map
    (``domain.mappings``); empty from a version of the library that does not say.
    """

    instance_id: str
    host: str
    pid: int
    library_version: str
    epoch: int
    phase: Phase
    writes: WriteCounts = field(default_factory=WriteCounts)
    shadow: ShadowCounts = field(default_factory=ShadowCounts)
    reads: ReadCounts = field(default_factory=ReadCounts)
    seen_at: datetime | None = None
    mapping_digest: str = ""

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "instance_id": self.instance_id, "host": self.host, "pid": self.pid,
            "library_version": self.library_version, "epoch": self.epoch, "phase": self.phase.value,
            "seen_at": self.seen_at.isoformat() if self.seen_at else None,
            "writes": self.writes.to_json(), "shadow": self.shadow.to_json(), "reads": self.reads.to_json(),
            "mapping_digest": self.mapping_digest,
        }  # fmt: skip

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Self:
        """The inverse of ``to_json``.

        Raises:
            KeyError, ValueError: it does not say who reports, or for which phase.
        """
        return cls(
            str(given["instance_id"]), str(given["host"]), int(given["pid"]), str(given["library_version"]),
            int(given["epoch"]), Phase(given["phase"]), WriteCounts.from_json(given.get("writes", {})),
            ShadowCounts.from_json(given.get("shadow", {})), ReadCounts.from_json(given.get("reads", {})),
            datetime.fromisoformat(given["seen_at"]) if given.get("seen_at") else None,
            str(given.get("mapping_digest", "")),
        )  # fmt: skip


class MismatchKind(Enum):
    """Why a repeated read differed: only ``real`` counts against a gate."""

    LAG = "lag"
    MOVED = "moved"
    REAL = "real"


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One repeated read whose answer differed, described without the data of any row.

    ``statement`` has its literals taken out, ``statement_digest`` names its form. ``keys`` are hashes unless the
    configuration allows values; ``detail`` says in a sentence what differed.
    """

    kind: MismatchKind
    statement_digest: str
    statement: str
    tables: tuple[str, ...]
    key_columns: tuple[str, ...]
    columns: tuple[str, ...]
    keys: tuple[str, ...]
    detail: str
    found_at: datetime
    instance_id: str

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        lists = {k: list(v) for k, v in values.items() if isinstance(v, tuple)}
        return values | lists | {"kind": self.kind.value, "found_at": self.found_at.isoformat()}

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Self:
        """The inverse of ``to_json``.

        Raises:
            KeyError, ValueError: a part is missing or unknown.
        """
        lists = {name: tuple(map(str, given[name])) for name in ("tables", "key_columns", "columns", "keys")}
        return cls(
            kind=MismatchKind(given["kind"]), statement_digest=str(given["statement_digest"]),
            statement=str(given["statement"]), detail=str(given["detail"]),
            found_at=datetime.fromisoformat(given["found_at"]), instance_id=str(given["instance_id"]), **lists,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class EvidenceTotals:
    """What all live instances together have counted in one phase."""

    writes: WriteCounts = field(default_factory=WriteCounts)
    shadow: ShadowCounts = field(default_factory=ShadowCounts)
    reads: ReadCounts = field(default_factory=ReadCounts)

    @classmethod
    def of(cls, reports: Iterable[InstanceReport], phase: Phase) -> Self:
        """The sum over the reports that are about ``phase``; those of an earlier one say nothing about it."""
        totals = cls()
        for report in reports:
            if report.phase is phase:
                totals = cls(
                    totals.writes.merge(report.writes),
                    totals.shadow.merge(report.shadow),
                    totals.reads.merge(report.reads),
                )
        return totals

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {name: getattr(self, name).to_json() for name in ("writes", "shadow", "reads")}


def count_since(reports: Iterable[InstanceReport], earlier: Iterable[InstanceReport]) -> tuple[InstanceReport, ...]:
    """The reports with only what each instance has counted since its report in ``earlier``, where it has one.

    An instance that has begun to count anew meanwhile, in another phase, keeps all of its counts.
    """
    before = {(report.instance_id, report.phase): report for report in earlier}
    counted = []
    for report in reports:
        start = before.get((report.instance_id, report.phase))
        if start is not None:
            report = replace(
                report,
                writes=report.writes.since(start.writes),
                shadow=report.shadow.since(start.shadow),
                reads=report.reads.since(start.reads),
            )
        counted.append(report)
    return tuple(counted)
