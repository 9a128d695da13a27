"""When two answers say the same: by type, order, rules; and what is told of those that do not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from dbmigrate.app.shadow.classes import Suspicion
from dbmigrate.app.shadow.comparison import Comparison, Verdict, ignores_all
from dbmigrate.app.shadow.reads import Reading, ResultColumn
from dbmigrate.app.shadow.recording import describe
from dbmigrate.app.shadow.settings import ShadowSettings
from dbmigrate.app.shadow.statements import limit_of, plan_statement
from dbmigrate.app.shadow.tables import TableFacts, TableId
from dbmigrate.domain.evidence import Mismatch, MismatchKind

MATCH, IGNORED, DIFFERENT = Verdict.MATCH, Verdict.IGNORED, Verdict.DIFFERENT
TINY, FLOAT, DOUBLE, TIMESTAMP, LONG, DATE, TIME, DATETIME, BIT, JSON, DECIMAL, SET, BLOB, TEXT = (
    1, 4, 5, 7, 3, 10, 11, 12, 16, 245, 246, 248, 252, 253
)  # fmt: skip
NO_RULES = ShadowSettings()


def find_table(table: TableId) -> TableFacts:
    """One table with a key."""
    return TableFacts(("id", "v", "note"), (("id",),)) if table.name == "t" else TableFacts()


def reading(names: str, codes: Sequence[int | None], rows: Sequence[tuple[Any, ...]], *, more: bool = False) -> Reading:
    """An answer with these columns."""
    columns = tuple(ResultColumn(name, code) for name, code in zip(names.split(), codes, strict=True))
    return Reading(columns, rows, is_truncated=more)


def judge(sql: str, control: Reading, candidate: Reading, settings: ShadowSettings = NO_RULES) -> Verdict:
    """The verdict on two answers to a statement; the same with the sides exchanged."""
    plan, limit = plan_statement(sql, find_table), limit_of(sql, ())
    assert plan.refusal == ""
    verdicts = {
        Comparison(plan, a.columns, b.columns, settings, limit=limit).compare(a, b).verdict
        for a, b in ((control, candidate), (candidate, control))
    }
    assert len(verdicts) == 1
    return verdicts.pop()


@pytest.mark.parametrize(
    ("control", "candidate", "is_same"),
    [
        ((LONG, 5), (LONG, 5), True), ((LONG, 5), (LONG, 6), False), ((LONG, None), (LONG, 0), False),
        ((LONG, None), (LONG, None), True), ((TEXT, None), (TEXT, ""), False),
        ((DECIMAL, Decimal("1.50")), (DECIMAL, Decimal("1.5")), True), ((DECIMAL, Decimal("1.5")), (LONG, 1), False),
        ((DECIMAL, Decimal(3)), (LONG, 3), True), ((DECIMAL, Decimal("-0.0")), (DECIMAL, Decimal(0)), True),
        ((DECIMAL, Decimal("12345678901234567890123456789.01")), (DECIMAL, Decimal("12345678901234567890123456789.02")), False),
        ((FLOAT, 0.1), (FLOAT, 0.10000000149), True), ((FLOAT, 1.00001), (FLOAT, 1.00002), False),
        ((FLOAT, 16777200.0), (DOUBLE, 16777216.0), True), ((FLOAT, -0.0), (FLOAT, 0.0), True),
        ((DOUBLE, 0.1 + 0.2), (DOUBLE, 0.3), True), ((DOUBLE, 1.0), (DOUBLE, 1.00000000000001), False),
        ((DOUBLE, -0.0), (DOUBLE, 0.0), True), ((DOUBLE, 0.1), (DECIMAL, Decimal("0.1")), True),
        ((DOUBLE, 1.7976931348623157e308), (DOUBLE, "1.7976931348623157e308"), True),
        ((DATETIME, datetime(2024, 1, 2, 3, 4, 5, 600000)), (DATETIME, "2024-01-02 03:04:05.6"), True),
        ((DATETIME, datetime(2024, 1, 2, 3, 4, 5, 1)), (DATETIME, datetime(2024, 1, 2, 3, 4, 5)), False),
        ((DATETIME, datetime(2024, 1, 2)), (DATE, date(2024, 1, 2)), True),
        ((DATETIME, "0000-00-00 00:00:00"), (DATETIME, "0000-00-00 00:00:00.000000"), True),
        ((DATETIME, "0000-00-00 00:00:00"), (DATETIME, None), False),
        ((TIME, timedelta(hours=-5, microseconds=-10)), (TIME, "-05:00:00.00001"), True),
        ((TIME, timedelta(hours=838)), (TIME, "838:00:00"), True), ((TIME, timedelta(hours=5)), (TIME, "-05:00:00"), False),
        ((TEXT, "2024-01-02 00:00:00"), (TEXT, "2024-01-02"), False),
        ((JSON, '{"a": 1, "b": [1.0, null]}'), (BLOB, '{"b":[1,null],"a":1}'), True),
        ((JSON, '{"a": true}'), (JSON, '{"a": 1}'), False), ((JSON, "[1, 2]"), (JSON, "[2, 1]"), False),
        ((JSON, '"1"'), (JSON, "1"), False), ((JSON, "null"), (JSON, None), False), ((JSON, "{bad"), (JSON, "{bad"), True),
        ((BLOB, '{"a": 1}'), (BLOB, '{"a":1}'), False),
        ((BIT, b"\x05"), (TINY, 5), True), ((BIT, b"\x00\x05"), (BIT, b"\x05"), True), ((BIT, b"\x05"), (BIT, b"\x06"), False),
        ((SET, {"a", "b"}), (TEXT, "b,a"), True), ((SET, "a"), (SET, "a,b"), False), ((SET, ""), (SET, set()), True),
        ((BLOB, b"caf\xc3\xa9"), (TEXT, "café"), True), ((BLOB, b"\xff"), (BLOB, b"\xfe"), False),
        ((BLOB, b"a\x00"), (BLOB, b"a"), False), ((TEXT, "a"), (TEXT, "A"), False), ((TEXT, "a"), (TEXT, "a "), False),
        ((TEXT, "1"), (LONG, 1), False),
    ],
)  # fmt: skip
def test_values_compare_by_their_type(control: tuple[int, Any], candidate: tuple[int, Any], is_same: bool) -> None:
    """Whatever a server or driver makes of a value, and whichever side is which."""
    sides = [reading("id v", [LONG, code], [(1, value)]) for code, value in (control, candidate)]
    assert judge("SELECT id, v FROM t", sides[0], sides[1]) is (MATCH if is_same else DIFFERENT)


ABC = [(1, "a"), (2, "b"), (3, "c")]


@pytest.mark.parametrize(
    ("sql", "rows", "verdict"),
    [
        ("SELECT id, v FROM t", ABC[::-1], MATCH),
        ("SELECT id, v FROM t ORDER BY v", ABC[::-1], MATCH),
        ("SELECT id, v FROM t ORDER BY v, id", ABC[::-1], DIFFERENT),
        ("SELECT id, v FROM t", ABC[:2], DIFFERENT),
        ("SELECT id, v FROM t", [*ABC, ABC[0]], DIFFERENT),
        ("SELECT id, v FROM t LIMIT 3", [(1, "a"), (2, "b"), (9, "z")], IGNORED),
        ("SELECT id, v FROM t LIMIT 4", ABC[::-1], MATCH),
        ("SELECT id, v FROM t LIMIT 4", [(1, "a"), (2, "b"), (9, "z")], DIFFERENT),
        ("SELECT id, v FROM t LIMIT 4", [*ABC, (4, "d")], IGNORED),
        ("SELECT id, v FROM t ORDER BY id LIMIT 3", [(1, "a"), (2, "b"), (9, "z")], DIFFERENT),
        ("SELECT id, v FROM t LIMIT 3 OFFSET 1", ABC, IGNORED),
        ("SELECT id, v FROM t", [], DIFFERENT),
    ],
)
def test_rows_compare_in_the_order_that_the_statement_promises(sql: str, rows: Any, verdict: Verdict) -> None:
    """As a bag unless the order is total; and not at all where a LIMIT may have picked other rows."""
    names, codes = "id v", [LONG, TEXT]
    assert judge(sql, reading(names, codes, ABC), reading(names, codes, rows)) is verdict


@pytest.mark.parametrize(
    ("sql", "verdict"),
    [
        ("SELECT DISTINCT v FROM t", IGNORED), ("SELECT v FROM t GROUP BY v", IGNORED), ("SELECT MIN(v) FROM t", IGNORED),
        ("SELECT v FROM t UNION SELECT v FROM t", IGNORED), ("SELECT v FROM t", DIFFERENT),
    ],
)  # fmt: skip
def test_either_form_of_text_may_represent_a_group(sql: str, verdict: Verdict) -> None:
    """Text that only a collation calls equal is ignored there, never a match, and a difference elsewhere."""
    sides = [reading("v", [TEXT], [(value,)]) for value in ("Café", "CAFE ")]
    assert judge(sql, *sides) is verdict
    assert judge(sql, sides[0], reading("v", [TEXT], [("Cafes",)])) is DIFFERENT


@pytest.mark.parametrize(
    ("sql", "rules", "verdict"),
    [
        ("SELECT id, v FROM t", ("t.v",), IGNORED), ("SELECT id, v FROM t", ("T.V",), IGNORED),
        ("SELECT id, v FROM t", ("*.v",), IGNORED), ("SELECT id, v FROM t", ("other.v",), DIFFERENT),
        ("SELECT id, v FROM t", ("t.note",), DIFFERENT), ("SELECT id, v + 1 AS v FROM t", ("t.v",), IGNORED),
        ("SELECT id, note AS v FROM t", ("t.v",), DIFFERENT), ("SELECT x.id, x.v FROM t x", ("t.?",), IGNORED),
    ],
)  # fmt: skip
def test_ignored_columns_do_not_count(sql: str, rules: tuple[str, ...], verdict: Verdict) -> None:
    """By the table's name, whatever the statement calls the column; other columns and rows still count."""
    settings = ShadowSettings(ignore_columns=rules)
    control = reading("id v", [LONG, LONG], [(1, 10)])
    assert judge(sql, control, reading("id v", [LONG, LONG], [(1, 11)]), settings) is verdict
    assert judge(sql, control, reading("id v", [LONG, LONG], [(2, 10)]), settings) is DIFFERENT


def test_ignored_tables_and_statements_are_not_compared_at_all() -> None:
    """By the table, the digest, or a regular expression."""
    plan = plan_statement("SELECT id, v FROM t WHERE id = 5", find_table)
    for settings in (
        ShadowSettings(ignore_columns=("t.*",)),
        ShadowSettings(ignore_statements=(plan.digest,)),
        ShadowSettings(ignore_statements=(r"from t where id = \?",)),
    ):
        assert ignores_all(plan, settings)
    assert not ignores_all(plan, ShadowSettings(ignore_columns=("u.*",), ignore_statements=("FROM u",)))


def test_star_compares_columns_by_name() -> None:
    """The target may have them in another order, but not other ones."""
    control = reading("id v note", [LONG, LONG, TEXT], [(1, 2, "x")])
    assert judge("SELECT * FROM t", control, reading("note id v", [TEXT, LONG, LONG], [("x", 1, 2)])) is MATCH
    assert judge("SELECT * FROM t", control, reading("note id v", [TEXT, LONG, LONG], [("x", 1, 3)])) is DIFFERENT
    assert judge("SELECT * FROM t", control, reading("id w note", [LONG, LONG, TEXT], [(1, 2, "x")])) is DIFFERENT
    more = reading("id v note w", [LONG, LONG, TEXT, LONG], [(1, 2, "x", 0)])
    assert judge("SELECT * FROM t", control, more) is DIFFERENT


def test_columns_of_one_name_are_told_apart() -> None:
    """By their place."""
    sql = "SELECT a.v, b.v FROM t a JOIN t b ON a.id = b.id"
    control = reading("v v", [LONG, LONG], [(1, 2)])
    assert judge(sql, control, reading("v v", [LONG, LONG], [(1, 2)])) is MATCH
    assert judge(sql, control, reading("v v", [LONG, LONG], [(2, 1)])) is DIFFERENT


def test_sums_of_doubles_may_round_differently() -> None:
    """Servers add up in different orders; a stored double has no such excuse."""
    sides = [reading("v", [DOUBLE], [(value,)]) for value in (1234.56789012345, 1234.56789012399)]
    assert judge("SELECT SUM(v) FROM t", *sides) is MATCH
    assert judge("SELECT v FROM t", *sides) is DIFFERENT
    assert judge("SELECT SUM(v) FROM t", sides[0], reading("v", [DOUBLE], [(1234.5679,)])) is DIFFERENT


def test_candidate_with_more_rows_than_are_taken_differs() -> None:
    """Even if those that were taken are the same."""
    sides = [reading("id v", [LONG, TEXT], ABC), reading("id v", [LONG, TEXT], ABC, more=True)]
    plan = plan_statement("SELECT id, v FROM t", find_table)
    comparison = Comparison(plan, sides[0].columns, sides[1].columns, NO_RULES)
    assert comparison.compare(*sides).verdict is DIFFERENT


def mismatch_of(sql: str, control: Reading, candidate: Reading, *, may_store_values: bool) -> Mismatch:
    """What is recorded of a difference that lasts."""
    plan = plan_statement(sql, find_table)
    comparison = Comparison(plan, control.columns, candidate.columns, NO_RULES)
    compared = comparison.compare(control, candidate)
    assert compared.control is not None
    assert compared.candidate is not None
    suspicion = Suspicion(compared.control, compared.candidate)
    first = (compared.control, compared.candidate)
    return describe(
        plan, comparison, MismatchKind.REAL, first, suspicion, may_store_values=may_store_values,
        found_at=datetime(2026, 1, 1, tzinfo=UTC), instance_id="one",
    )  # fmt: skip


def test_mismatch_names_key_and_column() -> None:
    """Of the row that differs, and of no other."""
    control = reading("id v note", [LONG, LONG, TEXT], [(1, 10, "x"), (2, 20, "y"), (3, 30, "z")])
    candidate = reading("id v note", [LONG, LONG, TEXT], [(3, 30, "z"), (2, 21, "y"), (1, 10, "x")])
    found = mismatch_of("SELECT * FROM t WHERE note <> 'secret'", control, candidate, may_store_values=True)
    assert (found.tables, found.key_columns, found.columns, found.keys) == (("t",), ("id",), ("v",), ("2",))
    assert found.detail == "1 row differs; v is 20 on the owner, 21 on the candidate"
    assert found.statement == "SELECT * FROM t WHERE note <> ?"


def test_mismatch_without_a_key_names_the_columns() -> None:
    """The row is paired with the one that is most like it."""
    control = reading("note v", [TEXT, LONG], [("x", 1), ("y", 2)])
    found = mismatch_of("SELECT note, v FROM t", control, reading("note v", [TEXT, LONG], [("x", 1), ("y", 3)]),
                        may_store_values=False)  # fmt: skip
    assert (found.key_columns, found.columns) == ((), ("v",))


@pytest.mark.parametrize("sql", ["SELECT * FROM t", "SELECT note, v, id FROM t WHERE note = 'topsecret'"])
def test_values_are_hashed_unless_allowed(sql: str) -> None:
    """Nothing that a row holds is in the record: neither in keys nor in the sentence nor in the statement."""
    names = "id v note" if "*" in sql else "note v id"
    rows = [(77001, "topsecret", "topsecret")] if "*" in sql else [("topsecret", "topsecret", 77001)]
    other = [(77001, "topsecret2", "topsecret")] if "*" in sql else [("topsecret", "topsecret2", 77001)]
    codes = [None, None, None]
    text = json.dumps(mismatch_of(sql, reading(names, codes, rows), reading(names, codes, other),
                                  may_store_values=False).to_json())  # fmt: skip
    assert "#" in text
    assert "topsecret" not in text
    assert "77001" not in text
    shown = mismatch_of(sql, reading(names, codes, rows), reading(names, codes, other), may_store_values=True)
    assert "77001" in shown.keys
    assert "topsecret2" in shown.detail


def test_settings_refuse_what_cannot_be() -> None:
    """With the name of what is wrong."""
    with pytest.raises(ValueError, match="threads"):
        ShadowSettings(threads=0)
    with pytest.raises(ValueError, match="rechecks"):
        ShadowSettings(rechecks=0)
    with pytest.raises(ValueError, match="no regular expression"):
        ShadowSettings(ignore_statements=("(",))
