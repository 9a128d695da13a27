"""Walking every table, settling suspects, reporting mismatches.

A suspect becomes a mismatch only if, several times over, the origin's row did not change while the stream passed it
and the destination's row still differed. What keeps changing is settled by the stream, not by us.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future, as_completed
from dataclasses import dataclass, field

from dbmigrate.domain.keys import Key
from dbmigrate.domain.routes import Route, Side
from dbmigrate.domain.schema import ForeignKey, TableName
from dbmigrate.domain.steps import StepHook, no_step
from dbmigrate.mysql.cuts import cut_with_ends, find_stride
from dbmigrate.mysql.foreign_key_lookups import build_orphan_count
from dbmigrate.mysql.key_predicates import KeyRange
from dbmigrate.mysql.servers import Server
from dbmigrate.mysql.workplace import ChunkExecutor
from dbmigrate.verifying.comparing import TableComparison
from dbmigrate.verifying.ranges import RangeTask, compare_next

LOOKS = 3
"""How often a standing row must differ before it is a mismatch."""
MOVING_LOOKS = 20
"""How often a row that keeps changing is looked at; then it is left to the stream and counted."""
SUSPECTS_AT_ONCE = 500
SPARSEST = 4
"""The next chunk is found by walking the index where the last held less than one in so many of the rows wanted."""
LEAST_CHUNKS = 2
"""A part of a table holds at least so many chunks, as far as the estimate of its rows is right."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One row that differs. ``columns`` names what differs; values are not part of a report."""

    table: TableName
    key: Key
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OrphanedRows:
    """Rows on the destination whose foreign key points nowhere (loads ran with checks off)."""

    table: TableName
    foreign_key: str
    rows: int


@dataclass
class Verification:
    """The result of comparing every table. ``moving`` rows changed too often to be settled one by one."""

    rows: int = 0
    chunks: int = 0
    moving: int = 0
    is_complete: bool = False
    mismatches: list[Mismatch] = field(default_factory=list)
    orphans: list[OrphanedRows] = field(default_factory=list)
    tables: dict[TableName, int] = field(default_factory=dict)

    @property
    def is_clean(self) -> bool:
        """Whether everything was compared and nothing differs."""
        return self.is_complete and not self.mismatches


@dataclass
class _TableWork:
    """One table that is being compared in parts."""

    comparison: TableComparison
    open_parts: int
    stride: int | None
    rows: int = 0


class Verifier:
    """Compares all tables of a migration, large ones in up to ``parts`` parts at the same time.

    ``settle`` returns once everything the origin had committed before the call is on the destination (the
    stream's drain, or nothing where both sides stand still). Chunks are compared by ``chunks``, suspects judged here.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        *,
        origin: Server,
        destination: Server,
        begins_at: Side,
        chunks: ChunkExecutor,
        executor: Executor,
        pair_executor: Executor,
        settle: Callable[[], None],
        chunk_rows: int,
        parts: int = 1,
        wait_to_start: Callable[[Callable[[], bool]], None] = lambda should_stop: None,
        on_read: Callable[[float], None] = lambda seconds: None,
        on_chunk: Callable[[TableName, int], None] = lambda table, rows: None,
        on_step: StepHook = no_step,
    ) -> None:
        self._routes = routes
        self._origin, self._destination = origin, destination
        self._begins_at, self._chunks = begins_at, chunks
        self._executor, self._pair_executor = executor, pair_executor
        self._settle, self._chunk_rows, self._parts = settle, chunk_rows, parts
        self._wait_to_start, self._on_read = wait_to_start, on_read
        self._on_chunk, self._on_step = on_chunk, on_step
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._result = Verification()
        self._done_up_to: dict[TableName, Key | None] = {}

    def stop(self) -> None:
        """End after the chunks being compared."""
        self._stopping.set()

    def run(self, *, skip: Mapping[TableName, int] | None = None) -> Verification:
        """Compare every table but those in ``skip`` (already compared: name to rows).

        The result is complete unless ``stop`` was called.

        Raises:
            DbmigrateError: the first failure of a worker; the others have been told to stop.
        """
        skip = skip or {}
        self._result.tables.update(skip)
        self._result.rows += sum(skip.values())
        todo = [route for route in self._routes if route.name not in skip]
        todo.sort(key=lambda route: -route.origin.data_bytes)
        futures: list[Future[None]] = []
        try:
            for route in todo:  # the first are being compared while the others are cut
                edges = self._cut(route)
                parts = [KeyRange(*pair) for pair in itertools.pairwise([None, *edges, None])]
                work = _TableWork(
                    TableComparison(route, self._origin, self._destination, self._pair_executor), len(parts),
                    find_stride(route.origin, edges, self._chunk_rows),
                )  # fmt: skip
                futures += [
                    self._executor.submit(self._verify_part, work, keys, is_first=number == 0)
                    for number, keys in enumerate(parts)
                ]
            for future in as_completed(futures):
                future.result()
        except BaseException:
            self._stopping.set()  # the others end after the chunks being compared
            raise
        self._result.is_complete = not self._stopping.is_set()
        return self._result

    @property
    def result(self) -> Verification:
        """What has been found so far."""
        return self._result

    def _cut(self, route: Route) -> list[Key]:
        """Inner edges between parts that workers compare at the same time; together they hold every key there may be."""
        wanted = min(self._parts, route.origin.estimated_rows // (LEAST_CHUNKS * self._chunk_rows))

        def verb() -> list[Key]:
            with self._origin.pool.borrow() as session:
                return cut_with_ends(session, route.origin, wanted)

        return self._origin.retry.retrying(verb, idempotent=True) if wanted > 1 else []

    def _verify_part(self, work: _TableWork, keys: KeyRange, *, is_first: bool) -> None:
        """Compare a part chunk by chunk; whoever ends the last part of a table ends the table."""
        if self._stopping.is_set():
            return
        route = work.comparison.route
        if is_first:
            work.comparison.require_keys_find_rows()
        lower, rows, stride = keys.lower, 0, work.stride
        while not self._stopping.is_set():
            self._wait_to_start(self._stopping.is_set)
            task = RangeTask(route, self._begins_at, KeyRange(lower, keys.upper), self._chunk_rows, stride)
            upper, found = self._verify_next(work.comparison, task)
            rows += found
            if upper == keys.upper:
                break
            lower = upper
            stride = work.stride if SPARSEST * found >= self._chunk_rows else None  # a gap is not walked step by step
        else:
            return
        with self._lock:
            work.rows += rows
            work.open_parts -= 1
            if work.open_parts:
                return
        orphans = self._find_orphans(route)
        with self._lock:
            self._result.tables[route.name] = work.rows
            self._result.orphans += orphans

    def _find_orphans(self, route: Route) -> list[OrphanedRows]:
        """Rows of the destination without their parents, counted again after the stream has passed."""
        found = []
        for foreign_key in route.destination.foreign_keys:
            if self._count_orphans(foreign_key):
                self._settle()
                if rows := self._count_orphans(foreign_key):
                    found.append(OrphanedRows(route.destination.name, foreign_key.name, rows))
        return found

    def _count_orphans(self, foreign_key: ForeignKey) -> int:
        def verb() -> int:
            with self._destination.pool.borrow() as session:
                return int(session.fetch_value(build_orphan_count(foreign_key), doing="counting orphans") or 0)

        return self._destination.retry.retrying(verb, idempotent=True)

    def _verify_next(self, comparison: TableComparison, task: RangeTask) -> tuple[Key | None, int]:
        """Compare a chunk and judge what differs in it; the last of its keys, and its rows."""
        result = self._origin.retry.retrying(lambda: self._chunks.run(compare_next, task), idempotent=True)
        self._on_read(result.seconds)
        self._on_step("verify.range.compared")
        if not result.is_equal:
            suspects, absent = comparison.find_suspects(result.keys), set[Key]()
            for start in range(0, len(suspects), SUSPECTS_AT_ONCE):
                absent |= self._judge(comparison, suspects[start : start + SUSPECTS_AT_ONCE])
            if absent:
                comparison.require_found_by_key(result.keys, absent)
        with self._lock:
            self._result.rows += result.rows
            self._result.chunks += 1
        self._on_chunk(comparison.route.name, result.rows)
        return result.keys.upper, result.rows

    def verify_keys(self, keys: Mapping[TableName, Sequence[Key]]) -> Verification:
        """Judge these rows only: what changed since the last complete verification."""
        for route in self._routes:
            found = list(keys.get(route.name, ()))
            if found:
                comparison = TableComparison(route, self._origin, self._destination, self._pair_executor)
                for start in range(0, len(found), SUSPECTS_AT_ONCE):
                    self._judge(comparison, found[start : start + SUSPECTS_AT_ONCE])
                self._result.rows += len(found)
        self._result.is_complete = True
        return self._result

    def _judge(self, comparison: TableComparison, suspects: list[Key]) -> set[Key]:
        """Look at suspects again and again until each is equal, a mismatch, or moving too fast.

        Returns those that neither side has, by key.
        """
        standing: dict[Key, int] = dict.fromkeys(suspects, 0)
        absent: set[Key] = set()
        for _ in range(MOVING_LOOKS):
            if not standing:
                return absent
            keys = list(standing)
            before = comparison.read_origin_digests(keys)
            self._settle()
            destination = comparison.read_destination_digests(keys)
            differing = [key for key in keys if destination.get(key) != before.get(key)]
            after = comparison.read_origin_digests(differing) if differing else {}
            for key in keys:
                now = destination.get(key)
                if now == before.get(key) or now == after.get(key):
                    del standing[key]
                    if now is None:
                        absent.add(key)
                elif before.get(key) == after.get(key):
                    standing[key] += 1
                    if standing[key] >= LOOKS:
                        self._report(comparison, key)
                        del standing[key]
        with self._lock:
            self._result.moving += len(standing)
        return absent

    def _report(self, comparison: TableComparison, key: Key) -> None:
        mismatch = Mismatch(comparison.route.name, key, comparison.find_differing_columns(key))
        with self._lock:
            self._result.mismatches.append(mismatch)
