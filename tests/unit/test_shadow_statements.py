"""What a statement promises about its answer: what is never repeated, what cannot be compared, what names a row."""

from __future__ import annotations

from typing import Any

import pytest

from dbmigrate.app.shadow import texts
from dbmigrate.app.shadow.statements import limit_of, plan_statement
from dbmigrate.app.shadow.tables import TableFacts, TableId

TABLES = {
    "orders": TableFacts(("id", "customer_id", "total", "note"), (("id",),)),
    "items": TableFacts(("order_id", "line", "product_id", "qty"), (("order_id", "line"),)),
    "products": TableFacts(("id", "sku", "name"), (("id",), ("sku",))),
    "log": TableFacts(("at", "text"), ()),
}


def find_table(table: TableId) -> TableFacts:
    """The tables of a shop; one of them has no key."""
    return TABLES.get(table.name, TableFacts())


def plan(sql: str) -> Any:
    """The plan of a statement on these tables."""
    return plan_statement(sql, find_table)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM orders FOR UPDATE", "SELECT * FROM orders WHERE id = 1 for  share skip locked",
        "SELECT * FROM orders LOCK IN SHARE MODE", "SELECT id INTO @x FROM orders", "SELECT 1 INTO OUTFILE 'x'",
        "SELECT GET_LOCK('a', 1)", "SELECT sleep (3)", "SELECT NEXTVAL(s)", "SELECT NEXT VALUE FOR s", "SELECT @a := 1",
        "SELECT /*!50000 id */ FROM orders", "UPDATE orders SET total = 1", "INSERT INTO a SELECT * FROM b",
        "WITH x AS (SELECT 1) DELETE FROM orders", "SHOW TABLES", "CALL p()", "", "SELECT/**/GET_LOCK/**/('a',1)",
    ],
)  # fmt: skip
def test_what_locks_writes_or_waits_is_never_repeated(sql: str) -> None:
    """Neither by the sampling on the user's thread nor by the plan."""
    assert not texts.may_be_repeated(sql)
    assert plan(sql).refusal


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM orders", " ( SELECT 1 )", "-- say\nSELECT 1", "/* x */ select 1", "WITH a AS (SELECT 1) SELECT * FROM a",
        "SELECT 'FOR UPDATE', \"INTO\", `into` FROM orders", "SELECT REPLACE(note, 'a', 'b') FROM orders",
        "SELECT note FROM orders -- FOR UPDATE", "SELECT INSERT(note, 1, 1, 'x') FROM orders",
    ],
)  # fmt: skip
def test_plain_reads_are_repeated(sql: str) -> None:
    """Words of SQL in literals, names and comments say nothing."""
    assert texts.may_be_repeated(sql)


@pytest.mark.parametrize(
    "what",
    [
        "NOW()", "now(6)", "RAND()", "UUID()", "UUID_SHORT()", "CONNECTION_ID()", "LAST_INSERT_ID()", "FOUND_ROWS()",
        "ROW_COUNT()", "VERSION()", "@x", "@@version", "CURRENT_TIMESTAMP", "CURRENT_DATE", "CURRENT_USER", "LOCALTIME",
        "UTC_TIMESTAMP", "UTC_DATE()", "SYSDATE()", "CURDATE()", "USER()", "DATABASE()", "UNIX_TIMESTAMP()", "ANY_VALUE(note)",
        "RANDOM_BYTES(3)", "ROW_NUMBER() OVER (ORDER BY total)", "GROUP_CONCAT(note)", "JSON_ARRAYAGG(note)",
    ],
)  # fmt: skip
def test_answers_that_vary_are_not_compared(what: str) -> None:
    """By what they call, wherever it stands."""
    assert plan(f"SELECT id, {what} FROM orders").refusal
    assert plan(f"SELECT id FROM orders WHERE note = {what}").refusal


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("SELECT 1", "no table"),
        ("SELECT * FROM information_schema.tables", "information_schema"),
        ("SELECT * FROM _dbmigrate.fence", "_dbmigrate"),
        ("SELECT * FROM orders WHERE id IN (SELECT order_id FROM items LIMIT 3)", "LIMIT inside"),
        ("SELECT * FROM (SELECT id FROM orders ORDER BY id LIMIT 3) x", "LIMIT inside"),
        ("SELECT customer_id, note FROM orders GROUP BY customer_id", "any row's"),
        ("SELECT customer_id, total + 1 FROM orders GROUP BY 1", "any row's"),
        ("SELECT TOP 3 FROM orders PIVOT whatever LIMIT 3", "not understood"),
    ],
)
def test_reason_is_given_for_what_is_not_compared(sql: str, reason: str) -> None:
    """In words that a person can act on."""
    assert reason in plan(sql).refusal


@pytest.mark.parametrize(
    ("sql", "is_ordered", "is_limited", "key"),
    [
        ("SELECT * FROM orders", False, False, (0,)),
        ("SELECT note, id FROM orders ORDER BY note", False, False, (1,)),
        ("SELECT note, id FROM orders ORDER BY note, id", True, False, (1,)),
        ("SELECT o.note, o.id AS x FROM orders AS o ORDER BY x DESC", True, False, (1,)),
        ("SELECT note, id FROM orders ORDER BY 2", True, False, (1,)),
        ("SELECT note FROM orders ORDER BY id LIMIT 3", True, False, None),
        ("SELECT * FROM orders ORDER BY total LIMIT 5", False, True, (0,)),
        ("SELECT * FROM orders LIMIT 5", False, True, (0,)),
        ("SELECT * FROM orders WHERE id = %s LIMIT 1", False, False, (0,)),
        ("SELECT note FROM orders WHERE id = 5 AND total > 3 LIMIT 1", False, False, ()),
        ("SELECT note FROM orders WHERE id = 5 OR total > 3 LIMIT 1", False, True, None),
        ("SELECT note FROM orders WHERE id = customer_id LIMIT 1", False, True, None),
        ("SELECT id FROM products ORDER BY sku LIMIT 1", True, False, (0,)),
        ("SELECT text FROM log ORDER BY at LIMIT 2", False, True, None),
        ("SELECT COUNT(*), MAX(total) FROM orders LIMIT 1", False, False, ()),
        ("SELECT id, (SELECT COUNT(*) FROM items WHERE order_id = id) AS n FROM orders", False, False, (0,)),
        ("SELECT customer_id, SUM(total) FROM orders GROUP BY customer_id ORDER BY customer_id", True, False, (0,)),
        ("SELECT SUM(total), customer_id c FROM orders GROUP BY c ORDER BY 1 DESC LIMIT 3", False, True, (1,)),
        ("SELECT o.*, SUM(i.qty) FROM orders o JOIN items i ON i.order_id = o.id GROUP BY o.id ORDER BY o.id", True, False, (0,)),
        ("SELECT DISTINCT note FROM orders ORDER BY note", True, False, None),
        ("SELECT DISTINCT note, total FROM orders ORDER BY note LIMIT 2", False, True, None),
        ("SELECT i.* FROM items i WHERE i.order_id = %s ORDER BY i.line LIMIT 2", True, False, (0, 1)),
        ("SELECT i.*, p.name FROM items i JOIN products p ON p.id = i.product_id ORDER BY i.order_id, i.line", True, False, (0, 1)),
        ("SELECT i.*, p.name FROM items i JOIN products p ON p.id = i.product_id ORDER BY p.id LIMIT 3", False, True, (0, 1)),
        ("SELECT o.id FROM orders o LEFT JOIN items i ON i.order_id = o.id ORDER BY o.id", False, False, None),
        ("SELECT a FROM orders UNION SELECT b FROM items ORDER BY 1 LIMIT 4", False, True, None),
        ("WITH c AS (SELECT id FROM orders) SELECT c.id FROM c ORDER BY c.id LIMIT 4", False, True, None),
        ("SELECT * FROM orders o JOIN items i USING (id) ORDER BY o.id, i.order_id, i.line", True, False, None),
        ("SELECT RANK() OVER (ORDER BY total) r, id FROM orders", False, False, (1,)),
    ],
)  # fmt: skip
def test_order_and_key_are_told_from_the_statement(
    sql: str, is_ordered: bool, is_limited: bool, key: tuple[int, ...] | None
) -> None:
    """Rows have one order only if a key of each table decides it, and a LIMIT without one picks any rows."""
    found = plan(sql)
    assert (found.refusal, found.is_ordered, found.is_limited, found.key) == ("", is_ordered, is_limited, key)


def test_what_is_not_understood_is_compared_as_a_bag_of_rows() -> None:
    """The weaker thing is said: no order, no key, and text may come in either form."""
    found = plan("SELECT DISTINCT a FROM orders ?? nonsense (")
    assert (found.refusal, found.is_ordered, found.key, found.is_folded) == ("", False, None, True)


def test_statements_that_differ_in_values_share_a_digest() -> None:
    """Literals, the length of lists, comments and white space are not part of it; names are."""
    same = [
        "SELECT id FROM orders WHERE note = 'a''b' AND id IN (1, 2, 3)",
        "SELECT id  FROM orders /* x */ WHERE note = \"x\" AND id IN (%s, %s)",
        "SELECT id FROM orders WHERE note = %s AND id IN (-- a\n 7,8)",
    ]
    found = {plan(sql).digest for sql in same}
    assert len(found) == 1
    assert plan(same[0]).statement == "SELECT id FROM orders WHERE note = ? AND id IN (?)"
    assert plan("SELECT id FROM items WHERE note = 'a' AND id IN (1, 2)").digest not in found


def test_no_value_is_left_in_a_statement() -> None:
    """Not in any form that a literal can have."""
    sql = "SELECT t1.c2 FROM t1 WHERE a='se\\'cret' AND b=\"secret\" AND c=x'5ec7e7' AND d=0x5ec7e7 AND e=-42.5e3 AND f=_utf8'secret'"
    left = texts.normalised(sql)
    assert "t1.c2" in left
    assert not any(value in left for value in ("secret", "5ec7e7", "42"))


@pytest.mark.parametrize(
    ("sql", "parameters", "limit"),
    [
        ("SELECT a FROM t LIMIT 5", (), 5), ("SELECT a FROM t WHERE x = %s LIMIT %s", (9, 7), 7),
        ("SELECT a FROM t LIMIT %s, %s", (0, 7), 7), ("SELECT a FROM t LIMIT %s, %s", (3, 7), None),
        ("SELECT a FROM t LIMIT %s OFFSET %s", (7, 0), 7), ("SELECT a FROM t LIMIT 7 OFFSET 2", (), None),
        ("SELECT a FROM t WHERE x = %(x)s LIMIT %(n)s", {"n": 4, "x": 1}, 4), ("SELECT a FROM t", (), None),
        ("SELECT a FROM t WHERE x = 'LIMIT 3'", (), None), ("SELECT a FROM t LIMIT %s", (), None),
    ],
)  # fmt: skip
def test_limit_is_read_from_the_statement_and_its_parameters(sql: str, parameters: Any, limit: int | None) -> None:
    """Only where no rows are skipped, so that fewer rows than that are all rows."""
    assert limit_of(sql, parameters) == limit
