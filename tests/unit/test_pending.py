"""Pending keys: coalescing, snapshots, and a position that is never ahead of a key."""

from __future__ import annotations

import pytest

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


def _change(pending: PendingKeys, first: int, count: int) -> None:
    pending.add({ORDERS: [b"%d" % number for number in range(first, first + count)]}, LATER, None)


def test_a_flush_waits_while_changes_rush_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until they come more slowly; ten changes of a row are ten of them."""
    pending, waits = PendingKeys(START), 0

    def wait_for(condition: object, seconds: float) -> bool:
        nonlocal waits
        waits += 1
        if waits < 4:
            _change(pending, 0, 5_000)
        return False

    _change(pending, 0, 5_000)
    monkeypatch.setattr(pending._condition, "wait_for", wait_for)
    pending.wait_out_rush()
    assert (waits, pending.backlog) == (4, 5_000)


def test_a_rush_without_end_is_waited_for_a_quarter_second(monkeypatch: pytest.MonkeyPatch) -> None:
    pending, waited = PendingKeys(START), 0.0

    def wait_for(condition: object, seconds: float) -> bool:
        nonlocal waited
        waited += seconds
        _change(pending, 0, 6_000)
        return False

    _change(pending, 0, 6_000)
    monkeypatch.setattr(pending._condition, "wait_for", wait_for)
    pending.wait_out_rush()
    assert waited == pytest.approx(0.25)


def test_few_changes_are_flushed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pending = PendingKeys(START)
    _change(pending, 0, 5_000)
    pending.take()
    _change(pending, 0, 4_999)
    monkeypatch.setattr(pending._condition, "wait_for", None)
    pending.wait_out_rush()
