"""Shadow reads in the application: which reads of a session are repeated, and what the follower does for the reader.

Apart from ``shadow``, which compares two answers and knows nothing of sessions, fence rows or control tables. A sample
is drawn by transaction, because listening costs the reads of a connection something: nine in ten transactions never
notice that the others are sampled.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine.cursor import FullyBufferedCursorFetchStrategy

from dbmigrate.domain.evidence import Mismatch, ShadowCounts
from dbmigrate.domain.routes import Direction, Side
from dbmigrate.mysql.application_rules import ApplicationRules
from dbmigrate.mysql.evidence import save_mismatch
from dbmigrate.mysql.stream_progress import read_newest_beat, read_reached_beat

if TYPE_CHECKING:
    from dbmigrate.app.instance import Instance
    from dbmigrate.app.shadow import ShadowReader, ShadowSettings
    from dbmigrate.app.unit import Unit

log = logging.getLogger(__name__)

_MOST_MISMATCHES = 500
"""So many wait to be saved; of more the latest."""


class Shadowing:
    """Thread-safe; one per instance. Nothing is loaded or started before a row asks for shadow reads."""

    def __init__(self, instance: Instance, *, draw: Callable[[], float] = random.random) -> None:
        self._instance, self._draw = instance, draw
        self._rules: ApplicationRules | None = None
        self._reader: ShadowReader | None = None
        self._stream = StreamWatch(instance.engines[Side.SOURCE])
        self._mismatches: deque[Mismatch] = deque(maxlen=_MOST_MISMATCHES)

    # --- the user's thread ---

    def sample(self, connection: sa.Connection, unit: Unit) -> None:
        """A transaction of this unit begins on this connection: perhaps its reads are repeated."""
        row, reader = self._instance.known, self._reader
        if row is None or row.shadow_share <= 0 or reader is None or self._draw() * 100 >= row.shadow_share:
            return
        if connection.engine is self._instance.engines[row.owner]:
            self._instance.units[connection] = unit
            event.listen(connection, "before_cursor_execute", self._before)
            event.listen(connection, "after_cursor_execute", self._after)

    def _before(self, connection: sa.Connection, cursor: Any, sql: str, given: Any, context: Any, many: bool) -> None:
        unit = self._instance.units.get(connection)
        if many or unit is None or unit.write_side is not None or _is_streamed(context):
            return
        reader = self._reader
        if reader is not None and reader.wants(sql, 100):
            context._dbmigrate_shadowed_at = time.perf_counter()

    def _after(self, connection: sa.Connection, cursor: Any, sql: str, given: Any, context: Any, many: bool) -> None:
        began_at = getattr(context, "_dbmigrate_shadowed_at", None)
        reader = self._reader
        if began_at is None or reader is None or cursor.description is None:
            return
        from dbmigrate.app.shadow import ControlRead, columns_of

        if cursor.rowcount is not None and cursor.rowcount > reader.settings.max_rows:
            return  # it would be ignored, and is not read ahead for that
        seconds = time.perf_counter() - began_at
        rows = list(cursor.fetchall())
        context.cursor_fetch_strategy = FullyBufferedCursorFetchStrategy(cursor, initial_buffer=rows)
        reader.submit(ControlRead(sql, given, columns_of(cursor.description), rows, seconds))

    # --- the follower's thread ---

    def follow(self, rules: ApplicationRules) -> None:
        """These rules hold from now on. Others than before begin with a new reader and count from zero."""
        row = self._instance.known
        if row is None or row.shadow_share <= 0:
            self._close_reader()
        elif self._reader is None or rules != self._rules:
            self._close_reader()
            self._reader = self._make_reader(rules)
        self._rules = rules

    def watch(self, origin: sa.Engine, target: sa.Engine) -> None:
        """See how far the stream is, if somebody waits for it.

        Raises:
            SQLAlchemyError: the account may not see it, or a server is away.
        """
        self._stream.look(self._instance.migration_id, origin, target)

    def save_mismatches(self, target: sa.Engine) -> None:
        """Save what was found; what could not be saved is kept for another time.

        Raises:
            SQLAlchemyError: the account may not, or the server is away.
        """
        found = [self._mismatches.popleft() for _ in range(len(self._mismatches))]
        if not found:
            return
        try:
            with target.begin() as connection:
                for mismatch in found:
                    save_mismatch(connection, self._instance.migration_id, mismatch)
        except BaseException:
            self._mismatches.extendleft(reversed(found))
            raise

    def _make_reader(self, rules: ApplicationRules) -> ShadowReader:
        from dbmigrate.app.shadow import ShadowReader

        return ShadowReader(
            self._instance.engines[Side.TARGET], _settings_of(rules), self._mismatches.append, self._stream,
            instance_id=self._instance.instance_id,
        )  # fmt: skip

    def _close_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def counts(self) -> ShadowCounts:
        """Since the phase began, or the rules changed."""
        reader = self._reader
        return reader.counts() if reader is not None else ShadowCounts()

    def reset(self) -> None:
        """A new phase: count from zero."""
        reader = self._reader
        if reader is not None:
            reader.reset()

    def close(self) -> None:
        """No more reads are repeated."""
        self._close_reader()
        self._stream.close()


class StreamWatch:
    """Lets the reader's threads wait for the stream, with one look for all of them. A ``Recheck``."""

    def __init__(self, control_engine: sa.Engine) -> None:
        self.control_engine = control_engine
        self._changed = threading.Condition()
        self._asked = 0
        self._marks: dict[int, int] = {}
        self._waiting = 0
        self._reached = -1
        self._is_closed = False

    def wait_for_stream(self, timeout_seconds: float) -> bool:
        """See ``Recheck``."""
        with self._changed:
            self._asked += 1
            mine = self._asked
            self._waiting += 1
            try:
                return self._changed.wait_for(lambda: self._is_closed or self._has_passed(mine), timeout_seconds) and (
                    not self._is_closed
                )
            finally:
                self._waiting -= 1
                if not self._waiting:
                    self._marks.clear()
                    self._reached = -1

    def _has_passed(self, asked: int) -> bool:
        """Whether the stream has passed what was there at some look after the question."""
        return any(last >= asked and mark <= self._reached for last, mark in self._marks.items())

    def look(self, migration_id: str, origin: sa.Engine, target: sa.Engine) -> None:
        """Look at both sides, if somebody waits."""
        with self._changed:
            if not self._waiting:
                return
            asked = self._asked
            is_marked = asked in self._marks
        beat = None
        if not is_marked:
            with origin.connect() as connection:
                beat = read_newest_beat(connection, migration_id)
        with target.connect() as connection:
            reached = read_reached_beat(connection, migration_id, Direction.FORWARD)
        with self._changed:
            if beat is not None:
                self._marks[asked] = beat + 1
            if reached is not None:
                self._reached = reached
            passed = [last for last, mark in self._marks.items() if mark <= self._reached]
            for last in passed[:-1]:
                del self._marks[last]  # the latest of them covers every earlier question
            self._changed.notify_all()

    def close(self) -> None:
        """Nobody waits any longer."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()


def _is_streamed(context: Any) -> bool:
    """Whether the caller takes the rows bit by bit: they are not read ahead behind his back."""
    options = context.execution_options
    return bool(context._is_server_side or options.get("yield_per") or options.get("stream_results"))


def _settings_of(rules: ApplicationRules) -> ShadowSettings:
    from dbmigrate.app.shadow import ShadowSettings

    return ShadowSettings(
        threads=rules.shadow_threads, queue=rules.shadow_queue, timeout_seconds=rules.shadow_timeout_seconds,
        may_store_values=rules.shadow_may_store_values, ignore_columns=rules.shadow_ignore,
        ignore_statements=rules.shadow_ignore_statements,
    )  # fmt: skip
