"""Reading the rows of one chunk: in pieces, each when it is asked for, or in short reads that leave the origin time between them.

A piece is bounded by keys that are looked up before. For short reads those of many are looked up at once, because a
statement of its own would cost the origin as much as the few rows between two of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from dbmigrate.domain.keys import Key
from dbmigrate.domain.routes import Route
from dbmigrate.mysql.bulk_load import LoadPlan
from dbmigrate.mysql.key_predicates import KeyRange
from dbmigrate.mysql.sessions import Session
from dbmigrate.mysql.statements import build_boundary_probe, build_next_keys
from dbmigrate.mysql.stripes import StripeState
from dbmigrate.mysql.transfer import RowLiterals, StreamedRows, read_few, read_range
from dbmigrate.mysql.workplace import Workplace

MOST_PAUSE_SECONDS = 1.0
"""Between two short reads: their chunk's transaction is open meanwhile."""
KEYS_AT_ONCE = 200
"""A read of its own, so short as well."""
LEAST_READ_SECONDS = 0.0002
"""What a short read takes of the origin at least, whatever the clock and the network say."""
FIRST_READ_SECONDS = 0.0005
"""The same of the read before the first."""


@dataclass(frozen=True, slots=True)
class ChunkTask:
    """The next ``wanted`` rows of a stripe: to be loaded by ``plan``, ``piece_rows`` at a time, or inserted at once. Below a
    ``share`` of 1.0 pieces are read for no more of the time than that."""

    route: Route
    stripe: StripeState
    wanted: int
    piece_rows: int
    plan: LoadPlan | None
    share: float = 1.0


class ChunkReading:
    """The pieces of one chunk, and how far they have come. After them ``seconds`` says how long that took until the last rows
    began to arrive, ``paused_seconds`` of it between short reads."""

    def __init__(self, workplace: Workplace, session: Session, task: ChunkTask) -> None:
        self._workplace, self._session, self._task = workplace, session, task
        self._upper = task.stripe.cursor
        self._rows = 0
        self._way_seconds, self._last_seconds = 0.0, FIRST_READ_SECONDS
        self.size_bytes = 0
        self.seconds, self.paused_seconds = 0.0, 0.0

    def read(self) -> Iterator[RowLiterals | StreamedRows]:
        """One piece or more, up to the rows wanted or the end of the stripe; literals where they are inserted.

        Raises:
            ResultCutError: the server cut a result.
        """
        task, began = self._task, self._workplace.clock()
        size = min(task.wanted, task.piece_rows) if task.plan else task.wanted
        for number, upper in enumerate(self._find_uppers(size, -(-task.wanted // size))):
            asked = self._workplace.clock()
            piece = self._read_piece(KeyRange(self._upper, upper))
            now = self._workplace.clock()
            self._last_seconds = max(LEAST_READ_SECONDS, now - asked - self._way_seconds)
            self._upper = upper
            self._rows += piece.count
            self.size_bytes += piece.size_bytes
            self.seconds = now - began
            if number:
                self._workplace.on_step("copy.chunk.piece")
            yield piece
            if upper == task.stripe.upper:
                return

    def _read_piece(self, keys: KeyRange) -> RowLiterals | StreamedRows:
        task = self._task
        if task.share < 1.0 and task.piece_rows > 1:  # one row may be of any length
            return read_few(self._session, task.route, keys, task.plan)
        if task.plan:
            return StreamedRows(self._session, task.route, keys, task.plan)
        return read_range(self._session, task.route, keys)

    def _find_uppers(self, size: int, count: int) -> Iterator[Key | None]:
        """The last key of each piece, the end of the stripe where it comes before."""
        if self._task.share < 1.0:
            yield from self._find_uppers_of_short_reads(size, count)
            return
        origin, stripe = self._task.route.origin, self._task.stripe
        for _ in range(count):
            probe = build_boundary_probe(origin, KeyRange(self._upper, stripe.upper), size)
            yield self._session.fetch_value(probe, doing=f"probing {self._task.route.name}") or stripe.upper

    def _find_uppers_of_short_reads(self, size: int, count: int) -> Iterator[Key | None]:
        began = self._workplace.clock()
        self._session.ping()
        self._way_seconds = self._workplace.clock() - began
        at_once = max(1, KEYS_AT_ONCE // size)
        for start in range(0, count, at_once):
            rows = size * min(at_once, count - start)
            self._pause()
            keys = self._read_keys(rows)
            for upper in keys[size - 1 :: size] if len(keys) == rows else [*keys[size - 1 :: size], self._task.stripe.upper]:
                self._pause()
                yield upper

    def _read_keys(self, rows: int) -> list[Key]:
        sql = build_next_keys(self._task.route.origin, KeyRange(self._upper, self._task.stripe.upper), rows)
        return [row[0] for row in self._session.execute(sql, doing=f"probing {self._task.route.name}").rows if row[0]]

    def _pause(self) -> None:
        pause = min(MOST_PAUSE_SECONDS, self._last_seconds * (1 / self._task.share - 1))
        self._workplace.pause(pause)
        self.paused_seconds += pause

    def advance(self) -> StripeState:
        """The stripe after the pieces that were read."""
        stripe = self._task.stripe
        return replace(stripe, cursor=self._upper, rows=stripe.rows + self._rows, is_done=self._upper == stripe.upper)
