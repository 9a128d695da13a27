"""The copier's arithmetic: chunk sizes and stripes; and the registry of chunks in flight."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from dbmigrate.copying.in_flight import ChunksInFlight
from dbmigrate.copying.sizing import FIRST_ROWS, ChunkSizer
from dbmigrate.domain.schema import Column, Index, Table, TableName
from dbmigrate.mysql.cuts import cut_span, find_stride

ORDERS, LINES = TableName("shop", "orders"), TableName("shop", "lines")


def test_chunks_grow_while_they_are_quick_and_small() -> None:
    """Twice as many rows at most, from one chunk to the next."""
    sizer = ChunkSizer(target_seconds=0.5, max_bytes=4_000_000)
    sizer.record(rows=FIRST_ROWS, size_bytes=FIRST_ROWS * 100, seconds=0.01)
    assert sizer.rows == 2 * FIRST_ROWS


def test_chunks_shrink_to_the_target_time() -> None:
    """A chunk that took four times too long is followed by one a quarter its size."""
    sizer = ChunkSizer(target_seconds=0.5, max_bytes=4_000_000)
    sizer.record(rows=1000, size_bytes=1000, seconds=2.0)
    assert sizer.rows == 250


@given(st.integers(1, 10_000_000), st.integers(1, 5000), st.floats(0.0001, 60))
def test_the_byte_budget_holds_whatever_the_rows(row_bytes: int, rows: int, seconds: float) -> None:
    """The next chunk of equal rows fits the budget, or is a single row."""
    sizer = ChunkSizer(target_seconds=0.5, max_bytes=4_000_000)
    sizer.record(rows=rows, size_bytes=rows * row_bytes, seconds=seconds)
    assert sizer.rows == 1 or sizer.rows * row_bytes <= 4_000_000


@given(st.integers(1, 10_000_000), st.integers(1, 5000), st.integers(1, 10_000_000), st.integers(1, 10_000_000))
def test_a_piece_fits_what_was_asked_for_and_one_statement(row_bytes: int, rows: int, asked: int, statement: int) -> None:
    """Whatever the chunk's own budget is; or it is a single row."""
    sizer = ChunkSizer(target_seconds=0.5, max_bytes=16_000_000, max_piece_bytes=statement)
    sizer.record(rows=rows, size_bytes=rows * row_bytes, seconds=0.1)
    fitting = sizer.find_fitting(asked)
    assert fitting == 1 or fitting * row_bytes <= min(asked, statement)


@given(st.integers(1, 10_000_000), st.integers(100_000, 10_000_000))
def test_the_first_chunk_is_one_piece_that_fits_one_statement_by_the_servers_guess(guess: int, statement: int) -> None:
    """Nothing was measured yet."""
    sizer = ChunkSizer(target_seconds=0.5, max_bytes=16_000_000, max_piece_bytes=statement, row_bytes=guess)
    assert sizer.find_fitting(1) == sizer.rows
    assert sizer.rows == 1 or sizer.rows * guess <= statement


def test_a_chunk_that_did_not_fit_is_halved_down_to_one_row() -> None:
    """There is always a next size, until one row is left."""
    sizer = ChunkSizer(target_seconds=0.5, max_bytes=4_000_000)
    for _ in range(20):
        sizer.shrink()
    assert sizer.rows == 1


@given(st.integers(-(2**63), 2**64 - 1), st.integers(0, 2**40), st.integers(1, 200))
def test_integer_stripes_cover_every_key_once(low: int, width: int, wanted: int) -> None:
    """Keys at and below zero, and beyond the signed range, are in exactly one stripe."""
    high = low + width
    edges = cut_span(low, high, wanted)
    assert edges == sorted(set(edges))
    assert len(edges) < wanted or wanted == 1
    assert all(low <= edge < high for edge in edges)


@given(st.integers(1, 10**6), st.integers(1, 10**9), st.integers(1, 10**5))
def test_a_stride_promises_at_most_twice_the_rows_asked_for(estimated: int, span: int, rows: int) -> None:
    """Integers are distinct, so a range holds no more rows than it is wide."""
    primary = Index("PRIMARY", ("id",), is_unique=True, is_primary=True, prefix_lengths=(None,))
    column = Column("id", 0, "bigint", "bigint", False)
    table = Table(ORDERS, "InnoDB", (column,), (primary,), (), primary, "", estimated_rows=estimated)
    stride = find_stride(table, [b"7", str(7 + span - 1).encode()], rows)
    assert (stride is None) == (rows * span // estimated > 2 * rows)
    assert stride is None or rows <= stride <= 2 * rows


def test_waiting_ends_with_the_chunks_that_were_in_flight_at_the_call() -> None:
    """A chunk that starts later, and chunks of other tables, do not matter."""
    in_flight = ChunksInFlight()
    first, later, passed = threading.Event(), threading.Event(), threading.Event()
    entered = threading.Barrier(2)

    def hold(table: TableName, release: threading.Event) -> None:
        with in_flight.running(table):
            entered.wait()
            release.wait(5)

    threads = [threading.Thread(target=hold, args=(ORDERS, first)), threading.Thread(target=hold, args=(LINES, later))]
    threads[0].start()
    entered.wait()
    waiter = threading.Thread(target=lambda: (in_flight.wait_for({ORDERS}), passed.set()))
    waiter.start()
    threads[1].start()
    entered.wait()
    assert not passed.wait(0.05)
    first.set()
    assert passed.wait(5)
    later.set()
    for thread in threads:
        thread.join()
