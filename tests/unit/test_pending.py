"""Pending keys: coalescing, snapshots, and a position that is never ahead of a key."""

from __future__ import annotations

from dbmigrate.domain.keys import MovedKey
from dbmigrate.domain.positions import Position
from dbmigrate.domain.schema import TableName
from dbmigrate.streaming.pending import PendingKeys
from dbmigrate.streaming.touched import TouchedKeys

ORDERS = TableName("shop", "orders")
START, LATER = Position("binlog.000001", 4), Position("binlog.000001", 900)


def test_ten_changes_of_a_row_are_one_key() -> None:
    pending = PendingKeys(START)
    pending.add({ORDERS: [b"1"] * 10}, LATER, None)
    assert pending.backlog == 1


def test_a_snapshot_carries_the_position_that_its_keys_reach() -> None:
    pending = PendingKeys(START, beat=3)
    pending.add({ORDERS: [b"1"]}, LATER, 4)
    snapshot = pending.take()
    assert (list(snapshot.keys[ORDERS]), snapshot.position, snapshot.beat) == ([b"1"], LATER, 4)
    assert pending.take().is_empty


def test_keys_being_flushed_count_as_backlog_until_they_are_equal() -> None:
    pending = PendingKeys(START)
    pending.add({ORDERS: [b"1", b"2"]}, LATER, None)
    pending.take()
    assert pending.backlog == 2
    pending.finish()
    assert pending.backlog == 0


def test_a_failed_flush_puts_its_keys_before_newer_ones() -> None:
    pending = PendingKeys(START)
    pending.add({ORDERS: [b"1"]}, LATER, None)
    snapshot = pending.take()
    pending.add({ORDERS: [b"2", b"1"]}, LATER, None)
    pending.put_back(snapshot)
    assert list(pending.take().keys[ORDERS]) == [b"1", b"2"]


def test_truncate_keeps_the_keys_before_it_because_their_rows_may_have_cascaded() -> None:
    pending = PendingKeys(START)
    pending.add({ORDERS: [MovedKey(b"1")]}, START, None)
    pending.add_truncated(ORDERS, LATER)
    pending.add({ORDERS: [b"9"]}, LATER, None)
    snapshot = pending.take()
    assert snapshot.truncated == (ORDERS,)
    assert list(snapshot.keys[ORDERS]) == [b"1", b"9"]
    assert snapshot.moved == {ORDERS: {b"1"}}


def test_touched_keys_are_handed_out_once() -> None:
    touched = TouchedKeys()
    touched.add({ORDERS: [b"1", b"1", b"2"]})
    taken = touched.take()
    assert taken is not None
    assert sorted(taken[ORDERS]) == [b"1", b"2"]
    assert touched.take() == {}
