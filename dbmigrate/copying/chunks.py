"""One chunk: barrier, plain reads, write and cursor in one transaction.

A chunk that is loaded is read in pieces, each while the piece before is being loaded: neither server waits for the
other (record 20 of the decisions).

It is safe against everything the application does meanwhile (DESIGN section 2). It is also safe against being done
twice, by a worker that counts as lost and the one that took its place: both began while the chunk's ticket was held, so
what each read is as new as everything flushed before; the cursor lets one of them commit; and the ticket is given back,
which lets the stream flush into the chunk again, only after the stripe was claimed anew, so that the other cannot
commit any more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain

from dbmigrate.domain.errors import TransientError
from dbmigrate.domain.keys import Key
from dbmigrate.domain.routes import Route, Side
from dbmigrate.mysql.bulk_load import LoadPlan
from dbmigrate.mysql.sessions import Session
from dbmigrate.mysql.statements import KeyRange, build_boundary_probe
from dbmigrate.mysql.stripes import StripeState, build_cursor_save
from dbmigrate.mysql.transfer import RowLiterals, StreamedRows, load_rows, read_range, write_rows
from dbmigrate.mysql.workplace import Workplace


@dataclass(frozen=True, slots=True)
class ChunkTask:
    """The next ``wanted`` rows of a stripe: to be loaded by ``plan``, ``piece_rows`` at a time, or inserted at once."""

    route: Route
    stripe: StripeState
    wanted: int
    piece_rows: int
    plan: LoadPlan | None


@dataclass(frozen=True, slots=True)
class CopiedChunk:
    """The stripe after a chunk of ``rows`` rows, ``size_bytes`` of literals and ``seconds`` of work. The origin was read for
    ``read_seconds``: until its last rows began to arrive."""

    stripe: StripeState
    rows: int
    size_bytes: int
    seconds: float
    read_seconds: float


class StaleStripeError(TransientError):
    """The stripe was claimed anew or has come further since the task was made; nothing was written."""


def copy_chunk(workplace: Workplace, task: ChunkTask) -> CopiedChunk:
    """Copy the rows of a task, or nothing. The caller holds the chunk's ticket.

    Raises:
        ResultCutError: they do not fit one statement.
        StaleStripeError: somebody else has done it or was told to.
        DbmigrateError: a server says no or is gone.
    """
    origin, destination = workplace.servers[Side.SOURCE], workplace.servers[Side.TARGET]
    route, stripe, began = task.route, task.stripe, workplace.clock()
    workplace.on_step("copy.chunk.begin")
    origin.heartbeat.pass_barrier()
    workplace.on_step("copy.chunk.barrier")
    with origin.pool.borrow() as reader:
        reading = _Reading(workplace, reader, task)
        pieces = reading.read()
        first = next(pieces)
        workplace.on_step("copy.chunk.read")
        with destination.pool.borrow() as session, workplace.require_tenure(Side.TARGET).transaction(session):
            most = destination.max_packet_bytes
            if isinstance(first, RowLiterals):
                write_rows(session, route, first, max_packet_bytes=most)
            elif task.plan:
                load_rows(session, route, chain((first,), pieces), task.plan, max_packet_bytes=most)
            workplace.on_step("copy.chunk.written")
            done = reading.advance()
            save = build_cursor_save(workplace.migration_id, done, before=stripe)
            if session.execute(save, doing="saving a cursor").affected != 1:
                raise StaleStripeError("the stripe has come further meanwhile", place=str(stripe.table), hint="run again")
    workplace.on_step("copy.chunk.committed")
    rows = done.rows - stripe.rows
    return CopiedChunk(done, rows, reading.size_bytes, workplace.clock() - began, reading.seconds)


class _Reading:
    """The pieces of one chunk, read when they are asked for, and how far that has come."""

    def __init__(self, workplace: Workplace, session: Session, task: ChunkTask) -> None:
        self._workplace, self._session, self._task = workplace, session, task
        self._upper = task.stripe.cursor
        self._rows = 0
        self.size_bytes = 0
        self.seconds = 0.0

    def read(self) -> Iterator[RowLiterals | StreamedRows]:
        """One piece or more, up to the rows wanted or the end of the stripe; literals where they are inserted."""
        task, began = self._task, self._workplace.clock()
        size = min(task.wanted, task.piece_rows) if task.plan else task.wanted
        for number in range(-(-task.wanted // size)):
            keys = KeyRange(self._upper, self._find_upper(size))
            piece = self._read_piece(keys)
            self._upper = keys.upper
            self._rows += piece.count
            self.size_bytes += piece.size_bytes
            self.seconds = self._workplace.clock() - began
            if number:
                self._workplace.on_step("copy.chunk.piece")
            yield piece
            if self._upper == task.stripe.upper:
                return

    def _read_piece(self, keys: KeyRange) -> RowLiterals | StreamedRows:
        if self._task.plan:
            return StreamedRows(self._session, self._task.route, keys, self._task.plan)
        return read_range(self._session, self._task.route, keys)

    def _find_upper(self, rows: int) -> Key | None:
        origin, stripe = self._task.route.origin, self._task.stripe
        probe = build_boundary_probe(origin, KeyRange(self._upper, stripe.upper), rows)
        return self._session.fetch_value(probe, doing=f"probing {self._task.route.name}") or stripe.upper

    def advance(self) -> StripeState:
        """The stripe after the pieces that were read."""
        stripe = self._task.stripe
        return replace(stripe, cursor=self._upper, rows=stripe.rows + self._rows, is_done=self._upper == stripe.upper)
