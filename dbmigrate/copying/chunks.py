"""One chunk: barrier, plain read, write and cursor in one transaction.

It is safe against everything the application does meanwhile (DESIGN section 2). It is also safe against being done
twice, by a worker that counts as lost and the one that took its place: both began while the chunk's ticket was held, so
what each read is as new as everything flushed before; the cursor lets one of them commit; and the ticket is given back,
which lets the stream flush into the chunk again, only after the stripe was claimed anew, so that the other cannot
commit any more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from dbmigrate.domain.errors import TransientError
from dbmigrate.domain.keys import Key
from dbmigrate.domain.routes import Route, Side
from dbmigrate.mysql.bulk_load import LoadPlan
from dbmigrate.mysql.control import StripeState, build_cursor_save
from dbmigrate.mysql.sessions import Session
from dbmigrate.mysql.statements import KeyRange, build_boundary_probe
from dbmigrate.mysql.transfer import load_rows, read_range, write_rows
from dbmigrate.mysql.workplace import Workplace


@dataclass(frozen=True, slots=True)
class ChunkTask:
    """The next ``wanted`` rows of a stripe, to be loaded by ``plan`` or inserted."""

    route: Route
    stripe: StripeState
    wanted: int
    plan: LoadPlan | None


@dataclass(frozen=True, slots=True)
class CopiedChunk:
    """The stripe after a chunk of ``rows`` rows, ``size_bytes`` of literals and ``seconds`` of work, of which the origin
    was read for ``read_seconds``."""

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
    reading = workplace.clock()
    with origin.pool.borrow() as session:
        upper = _find_upper(session, task)
        rows = read_range(session, route, KeyRange(stripe.cursor, upper), plan=task.plan)
    read_seconds = workplace.clock() - reading
    workplace.on_step("copy.chunk.read")
    done = replace(stripe, cursor=upper, rows=stripe.rows + rows.count, is_done=upper == stripe.upper)
    with destination.pool.borrow() as session, workplace.require_tenure(Side.TARGET).transaction(session):
        most = destination.max_packet_bytes
        if task.plan:
            load_rows(session, route, rows, task.plan, max_packet_bytes=most)
        else:
            write_rows(session, route, rows, max_packet_bytes=most)
        workplace.on_step("copy.chunk.written")
        save = build_cursor_save(workplace.migration_id, done, before=stripe)
        if session.execute(save, doing="saving a cursor").affected != 1:
            raise StaleStripeError("the stripe has come further meanwhile", place=str(stripe.table), hint="run again")
    workplace.on_step("copy.chunk.committed")
    return CopiedChunk(done, rows.count, len(rows.text), workplace.clock() - began, read_seconds)


def _find_upper(session: Session, task: ChunkTask) -> Key | None:
    stripe = task.stripe
    probe = build_boundary_probe(task.route.origin, KeyRange(stripe.cursor, stripe.upper), task.wanted)
    return session.fetch_value(probe, doing=f"probing {task.route.name}") or stripe.upper
