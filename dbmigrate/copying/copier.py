"""Copying every stripe of every table, chunk by chunk.

What must be known in one place is known here: the tickets of the chunks in flight, the throttle, how large a chunk is
and which comes next. The chunks themselves are copied wherever the chunk executor has them copied (``chunks``), and any
failure is answered by claiming the stripe anew and going on from where it really is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Executor, Future, wait
from dataclasses import dataclass
from functools import partial

from dbmigrate.copying.chunks import copy_chunk
from dbmigrate.copying.in_flight import ChunksInFlight
from dbmigrate.copying.loading import choose_load
from dbmigrate.copying.reading import ChunkTask
from dbmigrate.copying.sizing import LOADED_PIECE_BYTES, PIECE_BYTES, SHORT_READ_BYTES, SHORT_READ_ROWS, ChunkSizer
from dbmigrate.copying.stripes import plan_stripes
from dbmigrate.domain.routes import Route
from dbmigrate.domain.schema import TableName
from dbmigrate.mysql.bulk_load import Way
from dbmigrate.mysql.control import ControlStore
from dbmigrate.mysql.faults import TooLargeError
from dbmigrate.mysql.servers import Server
from dbmigrate.mysql.stripes import StripeState, claim_stripe, load_stripes, save_stripes
from dbmigrate.mysql.throttle import Throttle
from dbmigrate.mysql.transfer import ResultCutError
from dbmigrate.mysql.workplace import ChunkExecutor

PLANNED_AT_ONCE = 100
"""Tables whose stripes are saved in one statement."""
MOST_AT_ONCE_BYTES = 4 * 1024 * 1024
"""Of one INSERT, which is held in memory three times over; and of one read of a source that is read seldom."""
MOST_SHORT_READS = 500
"""In one chunk, if there were no pauses between them: so that it takes about half a second at any share."""


@dataclass(frozen=True, slots=True)
class TableProgress:
    """How far the copy of one table is. ``estimated_rows`` is the server's guess, at least ``rows``."""

    table: TableName
    rows: int
    estimated_rows: int
    is_done: bool


@dataclass(frozen=True, slots=True)
class CopyLimits:
    """How the copy is cut and how wide it runs."""

    workers: int
    target_chunk_seconds: float
    max_chunk_bytes: int


class Copier:
    """Copies all tables of a migration; resumes from the stripes saved in the control tables."""

    def __init__(
        self,
        routes: Sequence[Route],
        *,
        origin: Server,
        destination: Server,
        store: ControlStore,
        chunks: ChunkExecutor,
        in_flight: ChunksInFlight,
        throttle: Throttle,
        limits: CopyLimits,
        on_rows: Callable[[TableName, int], None] = lambda table, rows: None,
    ) -> None:
        self._routes: Mapping[TableName, Route] = {route.name: route for route in routes}
        self._origin, self._destination = origin, destination
        self._store, self._chunks = store, chunks
        self._in_flight, self._throttle = in_flight, throttle
        self._limits, self._on_rows = limits, on_rows
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._stripes: dict[tuple[TableName, int], StripeState] = {}
        self._loads = {
            name: choose_load(
                route, destination.load_settings, origin=origin.version, destination=destination.version, workers=limits.workers
            )
            for name, route in self._routes.items()
        }
        self._sizers = {name: self._build_sizer(route) for name, route in self._routes.items()}

    def _build_sizer(self, route: Route) -> ChunkSizer:
        table = route.origin
        half = min(self._origin.max_packet_bytes, self._destination.max_packet_bytes) // 2
        is_loaded = self._loads[route.name] is not None
        return ChunkSizer(
            target_seconds=self._limits.target_chunk_seconds,
            max_bytes=self._limits.max_chunk_bytes if is_loaded else min(self._limits.max_chunk_bytes, MOST_AT_ONCE_BYTES, half),
            max_piece_bytes=half,
            row_bytes=table.data_bytes // table.estimated_rows if table.estimated_rows else 0,
        )

    # --- planning ---

    def plan(self) -> None:
        """Cut every table that has no stripes yet. Call after the stream's start position is established."""
        saved = self._load_stripes()
        planned = {stripe.table for stripe in saved}
        missing = [route for name, route in self._routes.items() if name not in planned]
        if missing:
            self._origin.heartbeat.pass_barrier()  # what the stream does not deliver any more is visible to all of them
        for start in range(0, len(missing), PLANNED_AT_ONCE):
            some = missing[start : start + PLANNED_AT_ONCE]
            self._origin.retry.retrying(lambda some=some: self._plan_tables(some), idempotent=True)  # type: ignore[misc]
        with self._lock:
            self._stripes = {(s.table, s.number): s for s in self._load_stripes() if s.table in self._routes}

    def _plan_tables(self, routes: Sequence[Route]) -> None:
        with self._origin.pool.borrow() as session:
            stripes = [s for route in routes for s in plan_stripes(session, route, workers=self._limits.workers)]
        self._store.call(lambda connection: save_stripes(connection, self._store.migration_id, stripes))

    def _load_stripes(self) -> tuple[StripeState, ...]:
        return self._store.call(lambda connection: load_stripes(connection, self._store.migration_id))

    # --- running ---

    def run(self, executor: Executor) -> bool:
        """Copy what is missing; True when everything is there, False when ``stop`` ended it early.

        Raises:
            DbmigrateError: the first failure of a worker; the others have stopped, the cursors are saved.
        """
        with self._lock:
            open_stripes = [s for s in self._stripes.values() if not s.is_done]
        largest_first = sorted(open_stripes, key=lambda s: -self._routes[s.table].origin.data_bytes)
        queue = iter(largest_first)
        take = threading.Lock()

        def work() -> None:
            while not self._stopping.is_set():
                with take:
                    stripe = next(queue, None)
                if stripe is None:
                    return
                self._copy_stripe(stripe)

        self._wait([executor.submit(work) for _ in range(self._limits.workers)])
        with self._lock:
            return all(s.is_done for s in self._stripes.values())

    def _wait(self, futures: list[Future[None]]) -> None:
        _, running = wait(futures, return_when=FIRST_EXCEPTION)
        if running:
            self._stopping.set()
        wait(futures)
        for future in futures:
            future.result()

    def stop(self) -> None:
        """End after the chunks in flight."""
        self._stopping.set()

    def _copy_stripe(self, stripe: StripeState) -> None:
        while not stripe.is_done:
            with self._throttle.reading(self._stopping.is_set) as share:
                if self._stopping.is_set():
                    return
                place = (stripe.table, stripe.number)
                copy = partial(self._copy_next, place, share)
                stripe = self._destination.retry.retrying(copy, idempotent=True)

    def _copy_next(self, place: tuple[TableName, int], share: float) -> StripeState:
        """Have the next rows of a stripe copied and return it with its new cursor."""
        stripe = self._stripes[place]
        if stripe.is_done:
            return stripe
        sizer = self._sizers[stripe.table]
        task = self._plan_chunk(stripe, share)
        with self._in_flight.running(stripe.table):
            try:
                copied = self._chunks.run(copy_chunk, task)
            except Exception as fault:  # whatever it was: who was at it may still be, and must not commit any more
                standing = self._note(self._claim(stripe))
                if not isinstance(fault, ResultCutError):
                    raise
                if task.wanted == 1:
                    raise TooLargeError(
                        "a row is too large to move", place=str(stripe.table),
                        cause=f"the row after key {(stripe.cursor or b'(start)').decode()} does not fit one statement",
                        hint="raise max_allowed_packet on both servers (a binary value needs twice its size)",
                    ) from fault  # fmt: skip
                sizer.shrink()
                return standing
            sizer.record(rows=copied.rows, size_bytes=copied.size_bytes, seconds=copied.seconds)
            self._throttle.record_read(copied.read_seconds)
            return self._note(copied.stripe)

    def _plan_chunk(self, stripe: StripeState, share: float) -> ChunkTask:
        sizer, plan = self._sizers[stripe.table], self._loads[stripe.table]
        is_statement = plan is not None and plan.way is not Way.LOAD_DATA
        piece_bytes = PIECE_BYTES if is_statement else min(PIECE_BYTES, LOADED_PIECE_BYTES)
        wanted, piece_rows = sizer.rows, sizer.find_fitting(piece_bytes)
        if share < 1.0:
            piece_rows = min(SHORT_READ_ROWS, sizer.find_fitting(SHORT_READ_BYTES))
            wanted = min(wanted, piece_rows * max(1, int(share * MOST_SHORT_READS)) if plan else piece_rows)
        elif self._throttle.spaces_chunks:  # read seldom, then quickly
            wanted = piece_rows = min(wanted, sizer.find_fitting(MOST_AT_ONCE_BYTES))
        if plan is not None and plan.most_rows:
            piece_rows = min(piece_rows, plan.most_rows)
            if wanted > piece_rows:
                wanted -= wanted % piece_rows  # each number of rows is another statement to prepare
        return ChunkTask(self._routes[stripe.table], stripe, wanted, piece_rows, plan, share)

    def _claim(self, stripe: StripeState) -> StripeState:
        return self._store.call(lambda connection: claim_stripe(connection, self._store.migration_id, stripe))

    def _note(self, stripe: StripeState) -> StripeState:
        """Keep how far a stripe is, and account for the rows since."""
        place = (stripe.table, stripe.number)
        with self._lock:
            rows, self._stripes[place] = stripe.rows - self._stripes[place].rows, stripe
        self._throttle.record_rows(rows)
        self._on_rows(stripe.table, rows)
        return stripe

    # --- progress ---

    def read_progress(self) -> tuple[TableProgress, ...]:
        """Rows copied so far, per table."""
        with self._lock:
            stripes = list(self._stripes.values())
        copied: dict[TableName, int] = dict.fromkeys(self._routes, 0)
        is_done: dict[TableName, bool] = dict.fromkeys(self._routes, True)
        for stripe in stripes:
            copied[stripe.table] += stripe.rows
            is_done[stripe.table] &= stripe.is_done
        return tuple(
            TableProgress(name, copied[name], max(copied[name], route.origin.estimated_rows), is_done[name])
            for name, route in self._routes.items()
        )
