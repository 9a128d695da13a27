"""Which rows: predicates as text, and that ranges hold exactly their keys."""

from __future__ import annotations

import itertools
import re
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from dbmigrate.domain.schema import Column, Index, Table, TableName
from dbmigrate.mysql.key_predicates import KeyRange, keys_predicate, own_keys_predicate, range_predicate


def _holds(predicate: str, values: dict[str, int]) -> bool:
    """Evaluate a predicate over small integers, SQL turned into Python."""
    text = predicate.replace("`", "").replace(" AND ", " and ").replace(" OR ", " or ").replace("TRUE", "True")
    text = text.replace("<=", "≤").replace(">=", "≥").replace(" = ", " == ").replace("≤", "<=").replace("≥", ">=")
    return bool(eval(text, {}, dict(values)))


def test_a_range_without_ends_is_the_whole_table() -> None:
    assert range_predicate(["id"], KeyRange()) == "TRUE"


def test_a_single_column_range_is_open_below_and_closed_above() -> None:
    assert range_predicate(["id"], KeyRange(b"-5", b"10")) == "(`id` > -5) AND (`id` <= 10)"


small = st.integers(-2, 2)


@given(st.lists(small, min_size=1, max_size=3), st.data())
def test_composite_ranges_compare_as_tuples_do(lower: list[int], data: st.DataObject) -> None:
    """Every combination of values is inside exactly when the tuples say so."""
    upper = [data.draw(small) for _ in lower]
    names = [f"k{i}" for i in range(len(lower))]
    encode = [",".join(map(str, key)).encode() for key in (lower, upper)]
    predicate = range_predicate(names, KeyRange(*encode))
    for values in itertools.product(range(-3, 4), repeat=len(names)):
        expected = tuple(lower) < values <= tuple(upper)
        assert _holds(predicate, dict(zip(names, values, strict=True))) == expected


def _table(**kinds: str) -> Table:
    columns = tuple(Column(name, number, kind, kind, False) for number, (name, kind) in enumerate(kinds.items()))
    return Table(TableName("shop", "orders"), "InnoDB", columns, (), (), None, "")


def test_keys_of_one_and_of_many_columns() -> None:
    assert keys_predicate(_table(id="int"), ["id"], [b"1", b"2"]) == "`id` IN (1,2)"
    both = _table(a="int", b="binary")
    assert keys_predicate(both, ["a", "b"], [b"1,X'00'", b"2,X'FF'"]) == "(`a`,`b`) IN ((1,X'00'),(2,X'FF'))"


def test_keys_by_number_beside_other_columns_are_spelled_out() -> None:
    """MySQL finds nothing by the short form."""
    predicate = keys_predicate(_table(e="enum", n="int"), ["e", "n"], [b"1,2", b"3,4"])
    assert predicate == "((`e` = 1 AND `n` = 2) OR (`e` = 3 AND `n` = 4))"
    assert keys_predicate(_table(e="enum"), ["e"], [b"1", b"2"]) == "`e` IN (1,2)"


def _keyed(kind: str) -> Table:
    primary = Index("PRIMARY", ("id",), is_unique=True, is_primary=True, prefix_lengths=(None,))
    return Table(TableName("shop", "orders"), "InnoDB", (Column("id", 0, kind, kind, False),), (), (), primary, "")


def _find(predicate: str) -> set[int]:
    """The numbers for which a predicate over ``id`` is true."""
    ranges = re.findall(r"BETWEEN (-?\d+) AND (-?\d+)", predicate)
    found = {number for first, last in ranges for number in range(int(first), int(last) + 1)}
    listed = re.fullmatch(r"`id` IN \((.*)\)", predicate)
    return found | set(map(int, listed[1].split(","))) if listed else found


@given(st.lists(st.tuples(st.integers(-500, 500), st.integers(1, 90)), min_size=1, max_size=6), st.randoms())
def test_runs_of_keys_hold_exactly_these_keys(runs: list[tuple[int, int]], random: Random) -> None:
    """Whatever the runs and the order in which their keys came."""
    numbers = list({number for first, size in runs for number in range(first, first + size)})
    random.shuffle(numbers)
    predicate = own_keys_predicate(_keyed("bigint"), [b"%d" % number for number in numbers])
    assert _find(predicate) == set(numbers)


def test_only_long_runs_of_integers_become_ranges() -> None:
    keys = [b"%d" % number for number in (*range(100, 140), *range(-20, 0))]
    assert own_keys_predicate(_keyed("int"), keys) == "(`id` BETWEEN -20 AND -1 OR `id` BETWEEN 100 AND 139)"
    assert own_keys_predicate(_keyed("decimal"), keys).startswith("`id` IN (")
    assert own_keys_predicate(_keyed("int"), keys[::2]).startswith("`id` IN (")
    assert own_keys_predicate(_keyed("int"), [b"7"]) == "`id` IN (7)"
