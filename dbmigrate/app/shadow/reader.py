"""Repeats sampled reads on the other side, off the request path, and counts how the answers compare.

``wants`` and ``submit`` run on the user's thread: they never wait, never raise, and touch no server. All else happens in
a few daemon threads that belong to the reader. A thread that is stuck is left behind, with its connection, and another
takes its place, for at most as many threads again; then reads are dropped until one comes back. Nobody ever joins them
but ``close``, for as long as it is told to.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import random as random_module
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import sqlalchemy as sa

from dbmigrate.app.breaker import Breaker
from dbmigrate.app.shadow import texts
from dbmigrate.app.shadow.reads import ControlRead, Recheck
from dbmigrate.app.shadow.settings import ShadowSettings
from dbmigrate.app.shadow.tally import RateLimit, Tally
from dbmigrate.app.shadow.worker import Repeater, Stopped
from dbmigrate.domain.evidence import Mismatch, ShadowCounts

log = logging.getLogger(__name__)

_MEASURED_ROWS = 8
_IDLE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class _Job:
    read: ControlRead
    generation: int


class ShadowReader:
    """Repeats reads on ``candidate_engine``. Thread-safe; one per process and candidate.

    The engines are only taken as a description of how to connect: the reader's connections are its own, at most one a
    side for each of its threads. Threads start with the first read, and anew in a process that was forked. For an async
    application give ``AsyncEngine.sync_engine``; the threads have event loops of their own.

    ``record_mismatch`` is called from these threads, within the rate limit of the settings; what it raises is logged.
    ``random`` returns numbers from 0 to 1, ``clock`` monotonic seconds.
    """

    def __init__(
        self,
        candidate_engine: sa.Engine,
        settings: ShadowSettings,
        record_mismatch: Callable[[Mismatch], None],
        recheck: Recheck,
        *,
        instance_id: str = "",
        random: Callable[[], float] = random_module.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings, self.recheck, self.instance_id = settings, recheck, instance_id
        self.candidate_engine, self.random, self.clock = candidate_engine, random, clock
        self._record_mismatch = record_mismatch
        self._is_closed = False
        self._start_anew()
        anew = weakref.WeakMethod(self._start_anew)
        os.register_at_fork(after_in_child=lambda: (method := anew()) and method())

    def _start_anew(self) -> None:
        """As if nothing had been read yet. In the child of a fork there are no threads, and locks that nobody frees."""
        settings = self.settings
        self.tally = Tally()
        self.breaker = Breaker(
            failures=settings.breaker_failures, pause_seconds=settings.breaker_pause_seconds, clock=self.clock
        )
        self._rate_limit = RateLimit(settings.recorded_per_minute, self.clock)
        self._lock = threading.Lock()
        self._queue: queue.Queue[_Job | None] = queue.Queue(settings.queue)
        self.stopping = threading.Event()
        self._workers: list[_Worker] = []
        self._abandoned: list[_Worker] = []
        self._watch: threading.Thread | None = None

    # --- the user's thread ---

    def wants(self, statement_text: str, share_percent: float) -> bool:
        """Whether this read was drawn for the sample, and can be taken.

        False for what may not be repeated. A read that was drawn but cannot be taken, because the circuit breaker is
        open, the queue full or every thread stuck, counts as dropped.
        """
        try:
            if share_percent <= 0 or self.random() * 100 >= share_percent or self._is_closed:
                return False
            if not texts.may_be_repeated(statement_text):
                return False
            if self._queue.full() or self._is_stuck() or not self.breaker.lets_through():
                self.tally.add(self.tally.generation, "dropped")
                return False
        except Exception:
            log.debug("a read was not sampled", exc_info=True)
            return False
        return True

    def submit(self, read: ControlRead) -> None:
        """Take a read for comparison. One that is too large is ignored; one that finds the queue full is dropped."""
        try:
            generation = self.tally.generation
            if self._is_closed:
                return
            if len(read.rows) > self.settings.max_rows or _estimate_bytes(read.rows) > self.settings.max_bytes:
                self.tally.add(generation, "ignored")
                return
            self._ensure_threads()
            try:
                self._queue.put_nowait(_Job(read, generation))
            except queue.Full:
                self.tally.add(generation, "dropped")
        except Exception:
            log.debug("a read was not taken for comparison", exc_info=True)

    def counts(self) -> ShadowCounts:
        """What was counted since the last ``reset``.

        ``samples`` is the sum of matches, lag, moved, real, and of those ignored that were compared; ``ignored`` also
        counts what could not be compared at all.
        """
        return self.tally.read()

    def reset(self) -> None:
        """Count from zero; what is being compared at this moment is not counted any more."""
        self.tally.reset()

    def close(self, timeout: float = 0.0) -> None:
        """Take no more reads, forget those that wait, and wait at most ``timeout`` seconds for the threads to end."""
        self._is_closed = True
        self.stopping.set()
        until = time.monotonic() + timeout
        with self._lock:
            workers = [*self._workers, *self._abandoned]
        self._take_all()
        for worker in workers:
            worker.cancel()
            with contextlib.suppress(queue.Full):
                self._queue.put_nowait(None)  # wakes one that waits
        for worker in workers:
            worker.thread.join(max(0.0, until - time.monotonic()))

    def _is_stuck(self) -> bool:
        workers = self._workers
        return bool(workers) and all(worker.is_abandoned for worker in workers)

    def _ensure_threads(self) -> None:
        if self._watch is not None:
            return
        with self._lock:
            if self._watch is None:
                self._workers = [_Worker(self) for _ in range(self.settings.threads)]
                for worker in self._workers:
                    worker.thread.start()
                self._watch = threading.Thread(target=self._watch_over, name="dbmigrate-shadow-watch", daemon=True)
                self._watch.start()

    # --- the reader's threads ---

    def take(self) -> _Job | None:
        """The next read; None when there was none for a while."""
        try:
            return self._queue.get(timeout=_IDLE_SECONDS)
        except queue.Empty:
            return None

    def drop_waiting(self) -> None:
        """The breaker has opened: what waits is not tried any more."""
        for job in self._take_all():
            self.tally.add(job.generation, "dropped")

    def _take_all(self) -> list[_Job]:
        found: list[_Job] = []
        while True:
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                return found
            if job is not None:
                found.append(job)

    def record(self, mismatch: Mismatch) -> None:
        """Hand a mismatch on, unless there were too many of its kind."""
        if not self._rate_limit.lets_through(mismatch.statement_digest, mismatch.kind.value):
            return
        try:
            self._record_mismatch(mismatch)
        except Exception:
            log.warning("a mismatch could not be recorded", exc_info=True)

    def _watch_over(self) -> None:
        stopping = self.stopping
        interval = max(0.02, min(0.25, self.settings.timeout_seconds / 4))
        while not stopping.wait(interval):
            try:
                self._replace_stuck()
            except Exception:
                log.warning("the threads of the shadow reads could not be looked after", exc_info=True)

    def _replace_stuck(self) -> None:
        for worker in self._workers:
            worker.abandon_if_overdue()
        with self._lock:
            self._abandoned = [worker for worker in self._abandoned if worker.thread.is_alive()]
            for place, worker in enumerate(self._workers):
                if worker.thread.is_alive():
                    if not worker.is_abandoned or len(self._abandoned) >= self.settings.threads:
                        continue
                    self._abandoned.append(worker)
                self._workers[place] = _Worker(self)
                self._workers[place].thread.start()


class _Worker:
    """One thread and what it is doing."""

    def __init__(self, reader: ShadowReader) -> None:
        self._reader = reader
        self._lock = threading.Lock()
        self._due_at: float | None = None
        self._is_of_candidate = False
        self._job: _Job | None = None
        self.is_abandoned = False
        self._cancel: Callable[[], object] | None = None
        self.thread = threading.Thread(target=self._run, name="dbmigrate-shadow", daemon=True)

    def abandon_if_overdue(self) -> None:
        """If what it does takes longer than any limit of its own allows: count that, and let it end when it can."""
        with self._lock:
            job, due_at = self._job, self._due_at
            if job is None or due_at is None or time.monotonic() <= due_at:
                return
            self.is_abandoned, self._job = True, None
        self._fail(job, "timeouts", is_of_candidate=self._is_of_candidate)
        self.cancel()

    def cancel(self) -> None:
        """Interrupt it, where its driver can be interrupted."""
        cancel = self._cancel
        if cancel is not None:
            try:
                cancel()
            except RuntimeError:
                log.debug("its event loop has ended")

    def expect_within(self, seconds: float, *, is_of_candidate: bool = False) -> None:
        """See ``ExpectWithin``."""
        if self.is_abandoned or self._reader.stopping.is_set():
            raise Stopped
        self._is_of_candidate, self._due_at = is_of_candidate, time.monotonic() + seconds

    def _run(self) -> None:
        repeater = Repeater(self._reader, self.expect_within)
        if not self._reader.candidate_engine.dialect.is_async:
            self._work(repeater, lambda work: work())
            return
        import asyncio

        from sqlalchemy.util import greenlet_spawn

        loop = asyncio.new_event_loop()

        def run(work: Callable[[], Any]) -> Any:
            task = loop.create_task(greenlet_spawn(work))
            self._cancel = partial(loop.call_soon_threadsafe, task.cancel)
            try:
                return loop.run_until_complete(task)
            except asyncio.CancelledError:
                raise Stopped from None
            finally:
                self._cancel = None

        try:
            self._work(repeater, run)
        finally:
            loop.close()

    def _work(self, repeater: Repeater, run: Callable[[Callable[[], Any]], Any]) -> None:
        reader = self._reader
        try:
            while not self.is_abandoned and not reader.stopping.is_set():
                job = reader.take()
                if job is None:
                    run(repeater.rest)
                    continue
                self._do(repeater, job, run)
        except Stopped:
            log.debug("a thread of the shadow reads has ended")
        finally:
            try:
                run(repeater.close)
            except (Stopped, Exception):
                log.debug("connections were left behind", exc_info=True)

    def _do(self, repeater: Repeater, job: _Job, run: Callable[[Callable[[], Any]], Any]) -> None:
        self._job = job
        outcome = run(lambda: repeater.repeat(job.read))
        with self._lock:
            if self.is_abandoned:
                raise Stopped
            self._job, self._due_at = None, None
        if outcome.failure:
            self._fail(job, outcome.failure, is_of_candidate=outcome.is_of_candidate)
            return
        if outcome.has_answered:
            self._reader.breaker.succeeded()
        self._reader.tally.add(job.generation, *outcome.names, latencies=outcome.latencies)

    def _fail(self, job: _Job, name: str, *, is_of_candidate: bool) -> None:
        reader = self._reader
        reader.tally.add(job.generation, name)
        if is_of_candidate:
            reader.breaker.failed()
            if reader.breaker.is_open:
                reader.drop_waiting()


def _estimate_bytes(rows: Any) -> int:
    """From the first rows; exact enough to keep large results out of the queue."""
    first = rows[:_MEASURED_ROWS]
    if not first:
        return 0
    size = sum(len(value) if isinstance(value, (str, bytes)) else 8 for row in first for value in row)
    return int(size * len(rows) / len(first))
