"""The protocol of a move as an executable model: what each test of this folder drives, and what it can break.

The model is three small modules without I/O, threads or clocks:

- ``servers``: two database servers. A commit is two atomic steps: it is *logged* (from here binlog readers get it, and
  locks and later writes see it), then it becomes *visible* to plain reads. Commits become visible in log order, and a
  commit returns, and gives its locks back, only then. A foreign key changes child rows without an event.
- ``program``: a runner. Every method is written like its counterpart in ``dbmigrate`` and gives control away
  (``yield``) wherever another actor could act in between: before and after each statement. The pending keys, the
  lookup of cascaded children, the decision about the owner and the transitions are the product's own code.
- ``world``: writers, crashes, take-overs, lost connections, and the scheduler that decides who does the next step.

Actors are generators. A step is one ``next``; a crash is ``close``. What a dead runner has sent may still be executed:
its actors may linger and act later, as if it had been frozen instead. This includes every late statement.

Assumptions, which the model does not prove: a server does what its isolation level says and loses no commit that it
has acknowledged; write transactions of one server are serialised by their locks; commits become visible in log order
(``check`` refuses servers that do not); the binlog has every row event with its full key (types, formats: other tests).
Left out: verification (the protocol must be right without it), DDL and TRUNCATE, purged binlogs, filters, renamed
columns, collations that make two literals one key, deadlock retries, counters, triggers and events.
"""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Protocol:
    """The rules that keep rows. All on is the protocol; a mutant switches one off.

    ``NOT_IN_THE_PROGRAM`` lists the rules that only a runner frozen past its lease makes necessary (or a network that
    cuts it off that long) and that the program does not follow so far.
    """

    flush_passes_barrier: bool = True
    chunk_passes_barrier: bool = True
    start_passes_barrier: bool = True
    flush_waits_for_chunks: bool = True
    flush_waits_for_child_chunks: bool = True
    unique_batches_are_serial: bool = True
    rounds_do_not_overlap: bool = True
    cascades_are_looked_up: bool = True
    cascades_are_looked_up_on_destination: bool = True
    vanished_rows_are_followed: bool = True
    orphans_are_sought_after_copy: bool = True
    checkpoint_follows_flush: bool = True
    cursor_is_saved_with_rows: bool = True
    drain_waits_for_flush: bool = True
    drain_is_a_heartbeat: bool = True
    fence_waits_for_writers: bool = True
    giving_side_commits_first: bool = True
    way_back_precedes_switch: bool = True
    writers_lock_fence_row: bool = True
    tenure_guards_writes: bool = True
    tenure_guards_switch: bool = True
    tenure_guards_read_only: bool = True
    recovery_reads_with_lock: bool = True
    checkpoint_checks_lease: bool = True
    phase_checks_lease: bool = True


PROGRAM = Protocol()

NOT_IN_THE_PROGRAM = ("checkpoint_checks_lease",)


def mutate(*switches: str) -> Protocol:
    """The program without these switches."""
    known = {field.name for field in fields(Protocol)}
    assert known.issuperset(switches), set(switches) - known
    return Protocol(**dict.fromkeys(switches, False))
