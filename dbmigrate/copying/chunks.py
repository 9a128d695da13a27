"""One chunk: barrier, plain reads, write and cursor in one transaction.

A chunk that is loaded is read in pieces, each while the piece before is being loaded: neither server waits for the
other (record 20 of the decisions). Where the source is to be spared a piece is a short read, with time between it and the
next (record 19).

It is safe against everything the application does meanwhile (DESIGN section 2). It is also safe against being done
twice, by a worker that counts as lost and the one that took its place: both began while the chunk's ticket was held, so
what each read is as new as everything flushed before; the cursor lets one of them commit; and the ticket is given back,
which lets the stream flush into the chunk again, only after the stripe was claimed anew, so that the other cannot
commit any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

from dbmigrate.copying.reading import ChunkReading, ChunkTask
from dbmigrate.domain.errors import TransientError
from dbmigrate.domain.routes import Side
from dbmigrate.mysql.stripes import StripeState, build_cursor_save
from dbmigrate.mysql.transfer import RowLiterals, load_rows, write_rows
from dbmigrate.mysql.workplace import Workplace


@dataclass(frozen=True, slots=True)
class CopiedChunk:
    """The stripe after a chunk of ``rows`` rows, ``size_bytes`` of literals and ``seconds`` of work, pauses apart. The origin was
    read for ``read_seconds``, until its last rows began to arrive."""

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
        reading = ChunkReading(workplace, reader, task)
        pieces = reading.read()
        first = next(pieces)
        workplace.on_step("copy.chunk.read")
        with destination.pool.borrow() as session, workplace.require_tenure(Side.TARGET).transaction(session):
            most = destination.max_packet_bytes
            if task.plan:
                load_rows(session, route, chain((first,), pieces), task.plan, max_packet_bytes=most)
            elif isinstance(first, RowLiterals):
                write_rows(session, route, first, max_packet_bytes=most)
            workplace.on_step("copy.chunk.written")
            done = reading.advance()
            save = build_cursor_save(workplace.migration_id, done, before=stripe)
            if session.execute(save, doing="saving a cursor").affected != 1:
                raise StaleStripeError("the stripe has come further meanwhile", place=str(stripe.table), hint="run again")
    workplace.on_step("copy.chunk.committed")
    rows = done.rows - stripe.rows
    seconds = workplace.clock() - began - reading.paused_seconds
    return CopiedChunk(done, rows, reading.size_bytes, seconds, reading.seconds)
