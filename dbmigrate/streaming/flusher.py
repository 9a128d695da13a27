"""Making pending keys equal: barrier, re-read by key, REPLACE what exists, delete what does not.

Rounds of one stream never overlap, the batches inside a round share no key, and a table whose batches could disturb
each other is flushed one batch after the other; so no two batches with the same key ever run at once.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Executor, Future, wait

from dbmigrate.domain.keys import Key
from dbmigrate.domain.routes import Route
from dbmigrate.domain.schema import TableName
from dbmigrate.domain.steps import StepHook, no_step
from dbmigrate.mysql.bulk_load import LoadPlan
from dbmigrate.mysql.faults import ServerRefusedError, TooLargeError
from dbmigrate.mysql.key_predicates import has_integer_key
from dbmigrate.mysql.servers import Server
from dbmigrate.mysql.sessions import ServerWarnedError
from dbmigrate.mysql.statements import build_holders, build_truncate, build_unique_values
from dbmigrate.mysql.tenure import Tenure
from dbmigrate.mysql.transfer import ResultCutError, delete_keys, load_rows, read_keys, write_rows
from dbmigrate.streaming.cascades import Cascades, Keys, find_silent_uniques
from dbmigrate.streaming.loading import LEAST_LOADED_KEYS, choose_load
from dbmigrate.streaming.pending import Snapshot

log = logging.getLogger(__name__)

BATCH_KEYS = 1_000
BATCH_BYTES = 4 * 1024 * 1024
SPARING_KEYS, MOST_SPARING_BATCHES = 20, 50
"""Keys of a batch, and batches of a round, where the origin has no room: what it writes waits for the batch it meets (record 19 of
the decisions). A round of more keys than both allow has larger batches, for the stream must keep up."""
MOST_JOINS = 10
DUPLICATE_ENTRY = 1062

WaitForChunks = Callable[[Collection[TableName]], None]


class Flusher:
    """Flushes snapshots of pending keys, in rounds.

    ``is_mirrored``: an application may mirror its writes to the destination meanwhile.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        *,
        origin: Server,
        destination: Server,
        tenure: Tenure,
        executor: Executor,
        is_mirrored: bool = False,
        wait_for_chunks: WaitForChunks = lambda tables: None,
        on_step: StepHook = no_step,
    ) -> None:
        self._routes = {route.name: route for route in routes}
        self._cascades = Cascades(routes)
        self._origin, self._destination = origin, destination
        self._tenure, self._executor = tenure, executor
        self._wait_for_chunks, self._on_step = wait_for_chunks, on_step
        self._batch_keys = {name: _first_batch_keys(route) for name, route in self._routes.items()}
        self._loads = {
            name: choose_load(
                route, destination.load_settings, origin=origin.version, destination=destination.version, is_mirrored=is_mirrored
            )
            for name, route in self._routes.items()
        }
        self.spares_origin: Callable[[], bool] = lambda: False
        """Whether rows are read again a few at a time now, one batch after the other."""
        self._vanished: Keys = {}
        self._vanished_lock = threading.Lock()
        self._joined: deque[tuple[TableName, Key]] = deque()  # keys that joined a batch while it was written
        self._passes = {name: route.allows_parallel_batches for name, route in self._routes.items()}

    @property
    def marks_inserts(self) -> frozenset[TableName]:
        """Tables whose inserted rows must come marked as moved, for their children to be looked up."""
        return self._cascades.in_the_middle

    def flush(self, snapshot: Snapshot) -> Keys:
        """Make every key of the snapshot equal; returns the keys written or deleted, cascaded ones included.

        Raises:
            DbmigrateError: some batches may be written, none is lost: put the snapshot back and flush it again.
        """
        self._vanished = {}
        keys: Keys = {table: dict(found) for table, found in snapshot.keys.items() if table in self._routes}
        self._on_step("flush.begin")
        waited_for = {*keys, *snapshot.truncated, *self._cascades.find_descendants(snapshot.moved)}
        self._wait_for_chunks(self._cascades.add_looked_up(waited_for))
        self._on_step("flush.chunks_done")
        self._origin.heartbeat.pass_barrier()
        self._on_step("flush.barrier")
        self._cascades.add_children(keys, snapshot.moved, origin=self._origin.pool, destination=self._destination.pool)
        for table in snapshot.truncated:
            self._truncate(table)
        self._write(keys)
        while self._vanished:
            self._follow_vanished(keys)
        while self._joined:
            table, key = self._joined.popleft()
            keys.setdefault(table, {})[key] = None
        return keys

    def _write(self, keys: Keys) -> None:
        self._run([task for table, found in keys.items() for task in self._tasks(table, list(found))])

    def _follow_vanished(self, keys: Keys) -> None:
        """Rows were gone that a cascade may have removed, whose cause is still to come: what they took along, now.

        Once they are gone from the destination too, the cause would no longer lead there.
        """
        vanished, self._vanished = self._vanished, {}
        self._wait_for_chunks(self._cascades.find_descendants(vanished))
        self._origin.heartbeat.pass_barrier()
        gone = {table: list(found) for table, found in vanished.items()}
        orphans = self._cascades.find_orphans_of(gone, self._destination.pool)
        if orphans:
            moved = {table: list(found) for table, found in orphans.items()}
            self._cascades.add_children(orphans, moved, origin=self._origin.pool, destination=self._destination.pool)
            self._write(orphans)
            for table, found in orphans.items():
                keys.setdefault(table, {}).update(found)

    def _truncate(self, table: TableName) -> None:
        pool = self._destination.pool
        # TRUNCATE commits by itself, so the lease is held by a transaction beside it.
        with pool.borrow() as guard, self._tenure.transaction(guard), pool.borrow() as session:
            session.execute(build_truncate(self._routes[table].destination.name), doing=f"truncating {table}")

    def _tasks(self, table: TableName, keys: list[Key]) -> list[Callable[[], None]]:
        """Work that may run at the same time: one task a batch, or one for all where batches may not overlap."""
        size, is_sparing = self._batch_keys[table], self.spares_origin()
        if is_sparing:
            size = min(size, max(SPARING_KEYS, len(keys) // MOST_SPARING_BATCHES))
        if has_integer_key(self._routes[table].origin):
            keys.sort(key=int)  # neighbours in one batch are read as ranges
        batches = [keys[start : start + size] for start in range(0, len(keys), size)]
        if self._passes[table] and not is_sparing:
            return [lambda batch=batch: self._flush_batch(table, batch) for batch in batches]  # type: ignore[misc]
        return [lambda: self._flush_in_order(table, batches)]

    def _flush_in_order(self, table: TableName, batches: Sequence[Sequence[Key]]) -> None:
        for batch in batches:
            self._flush_batch(table, batch)

    def _run(self, tasks: list[Callable[[], None]]) -> None:
        if len(tasks) == 1:
            tasks[0]()  # saves the hand-over to another thread: most rounds of a quiet shop are one batch
            return
        futures: list[Future[None]] = [self._executor.submit(task) for task in tasks]
        wait(futures)
        for future in futures:
            future.result()

    def _flush_batch(self, table: TableName, keys: Sequence[Key]) -> None:
        route = self._routes[table]
        transfer = self._transfer_batch_with_holders if find_silent_uniques(route) else self._transfer_batch
        try:
            self._destination.retry.retrying(lambda: transfer(route, keys), idempotent=True)
        except ResultCutError as cut:
            if len(keys) == 1:
                raise TooLargeError(
                    "a row is too large to move", place=str(table), cause=f"the row with key {keys[0].decode()}",
                    hint="raise max_allowed_packet on both servers (a binary value needs twice its size)",
                ) from cut  # fmt: skip
            self._batch_keys[table] = max(1, min(self._batch_keys[table], len(keys) // 2))
            middle = len(keys) // 2
            self._flush_batch(table, keys[:middle])
            self._flush_batch(table, keys[middle:])

    def _transfer_batch_with_holders(self, route: Route, keys: Sequence[Key]) -> None:
        """Like ``_transfer_batch``, where REPLACE could evict a row that foreign keys changed without an event.

        No event would bring such a row back. So rows are inserted, and whoever holds one of their unique values on the
        destination joins the batch, which begins anew.
        """
        batch = dict.fromkeys(keys)
        for _ in range(MOST_JOINS):
            try:
                self._move_rows(route, list(batch), evicts=False)
            except ServerRefusedError as refused:
                if refused.number != DUPLICATE_ENTRY:
                    raise
                batch.update(dict.fromkeys(self._find_holders(route, list(batch))))
                continue
            self._joined.extend((route.name, key) for key in batch if key not in set(keys))
            return
        # Their values are equal under the destination's collation only: REPLACE decides, verification reports it.
        self._transfer_batch(route, keys)

    def _find_holders(self, route: Route, keys: Sequence[Key]) -> set[Key]:
        holders: set[Key] = set()
        for unique in find_silent_uniques(route):
            with self._origin.pool.borrow() as session:
                rows = session.execute(build_unique_values(route, unique, keys), doing=f"reading {route.name}").rows
            if values := list({row[0] for row in rows if row[0] is not None}):
                with self._destination.pool.borrow() as session:
                    rows = session.execute(build_holders(route, unique, values), doing=f"reading {route.name}").rows
                holders |= {row[0] for row in rows if row[0] is not None}
        return holders

    def _transfer_batch(self, route: Route, keys: Sequence[Key]) -> None:
        """Loaded where the batch is large enough; what a load cannot do, literals decide.

        So a stream fails as one that never loads: with the number of the server's refusal, which leads to its cause.
        And it goes on where somebody turns off ``local_infile``.
        """
        plan = self._loads[route.name] if len(keys) >= LEAST_LOADED_KEYS else None
        if plan is not None:
            try:
                self._move_rows(route, keys, plan=plan)
            except (ServerRefusedError, ServerWarnedError) as refused:
                log.info("%s is written as literals from now on: %s", route.name, refused)
                self._loads[route.name] = None
            else:
                return
        self._move_rows(route, keys)

    def _move_rows(
        self, route: Route, keys: Sequence[Key], *, plan: LoadPlan | None = None, evicts: bool = True
    ) -> None:
        """Make the destination's rows with these keys equal, in one transaction: nothing of it stays on an error.

        With ``plan`` they are loaded, which always evicts.
        """
        with self._origin.pool.borrow() as session:
            rows = read_keys(session, route, keys, plan=plan)
        self._on_step("flush.batch.read")
        with self._destination.pool.borrow() as session, self._tenure.transaction(session):
            if rows.count < len(keys) or not evicts:
                # Some keys are gone, or mean the same row under a collation: delete first, then write what exists.
                delete_keys(session, route, keys)
            most = self._destination.max_packet_bytes
            if plan:
                load_rows(session, route, (rows,), plan, max_packet_bytes=most)
            else:
                write_rows(session, route, rows, max_packet_bytes=most, evicts=evicts)
            self._on_step("flush.batch.written")
        if rows.count < len(keys) and self._cascades.may_vanish(route.name):
            with self._vanished_lock:
                self._vanished.setdefault(route.name, {}).update(dict.fromkeys(keys))
        self._on_step("flush.batch.committed")


def _first_batch_keys(route: Route) -> int:
    table = route.origin
    row_bytes = table.data_bytes // table.estimated_rows if table.estimated_rows else 0
    return max(1, min(BATCH_KEYS, BATCH_BYTES // row_bytes)) if row_bytes else BATCH_KEYS
