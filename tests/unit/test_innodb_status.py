"""Transactions read from InnoDB's status, where MySQL cannot list them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dbmigrate.mysql.open_transactions import OpenTransaction, parse_status

STATUS = """
------------
TRANSACTIONS
------------
Trx id counter 1578
LIST OF TRANSACTIONS FOR EACH SESSION:
---TRANSACTION 375300986764432, not started
0 lock struct(s), heap size 1128, 0 row lock(s)
---TRANSACTION 1576, ACTIVE 2 sec
2 lock struct(s), heap size 1128, 1 row lock(s), undo log entries 3
MySQL thread id 17, OS thread handle 140359446410944, query id 39 127.0.0.1 root
---TRANSACTION 1575, ACTIVE (PREPARED) 61 sec recovered trx
1 lock struct(s), heap size 1128, 0 row lock(s), undo log entries 1
---TRANSACTION 1573, ACTIVE 3 sec fetching rows
mysql tables in use 1, locked 1
LOCK WAIT 2 lock struct(s), heap size 1128, 1 row lock(s)
MySQL thread id 14, OS thread handle 140359448524480, query id 24 127.0.0.1 root User sleep
UPDATE d.t SET s = '{text}' WHERE id = 1
--------
FILE I/O
--------
"""

FOUND = [
    OpenTransaction("1576", 17, "", 2, "", rows_changed=3),
    OpenTransaction("1575", 0, "", 61, "", rows_changed=1),
    OpenTransaction("1573", 14, "", 3, ""),
]


def test_the_entries_of_a_status() -> None:
    assert list(parse_status(STATUS.format(text="???? gift"))) == FOUND


def test_a_status_without_transactions() -> None:
    assert list(parse_status("")) == []


_LINES = st.sampled_from(
    [
        "",
        "---TRANSACTION 99, ACTIVE 4 sec",
        "undo log entries 7",
        "MySQL thread id 1, OS",
        "---TRANSACTION 1576, not started",
    ]
)


@given(st.lists(_LINES | st.text(), max_size=6))
def test_a_statement_that_imitates_entries_hides_none(lines: list[str]) -> None:
    found = list(parse_status(STATUS.format(text="\n".join(lines))))
    assert found[:2] == FOUND[:2]
    assert (found[2].id, found[2].connection_id, found[2].seconds) == ("1573", 14, 3)
