"""Rows that foreign keys change by themselves, while the chunk that holds them is in hand or is still to come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from databases import Pair

from .changes import diagonal
from .racing import Moment, Race

_NUMBERS = "(SELECT a.d + 10 * b.d + 100 * c.d + 1 AS n FROM digit a, digit b, digit c) n WHERE n.n <="
# Tables are copied in the order of their names here: authors first, or pages first.
TABLES = """
CREATE TABLE {author} (id INT PRIMARY KEY, name VARCHAR(20));
CREATE TABLE {book} (id INT PRIMARY KEY, author_id INT, title VARCHAR(20), KEY (author_id),
  FOREIGN KEY (author_id) REFERENCES {author} (id) ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE {page} (id INT PRIMARY KEY, book_id INT, text VARCHAR(20), KEY (book_id),
  FOREIGN KEY (book_id) REFERENCES {book} (id) ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE {review} (id INT PRIMARY KEY, book_id INT, text VARCHAR(20), KEY (book_id),
  FOREIGN KEY (book_id) REFERENCES {book} (id) ON DELETE SET NULL ON UPDATE CASCADE);
INSERT INTO {author} SELECT n.n, 'a' FROM {numbers} 100;
INSERT INTO {book} SELECT n.n, (n.n + 1) DIV 2, 'b' FROM {numbers} 200;
INSERT INTO {page} SELECT n.n, n.n, 'p' FROM {numbers} 200;
INSERT INTO {review} SELECT n.n, n.n, 'r' FROM {numbers} 200
"""
ORDERS = {
    "parents-first": {"author": "a_author", "book": "b_book", "page": "c_page", "review": "d_review"},
    "children-first": {"author": "d_author", "book": "c_book", "page": "a_page", "review": "b_review"},
}
STEPS = ("begin", "barrier", "read", "written", "committed")
# Author n has written the books 2n - 1 and 2n, of one page and one review each.
CHANGES: dict[str, tuple[str, ...]] = {
    "parents-deleted": ("DELETE FROM {author} WHERE id IN (10, 40, 90)",),
    "parents-moved": ("UPDATE {author} SET id = id + 1000 WHERE id IN (10, 40, 90)",),
    "middle-deleted": ("DELETE FROM {book} WHERE id IN (10, 80, 190)",),
    "middle-moved": ("UPDATE {book} SET id = id + 1000 WHERE id IN (10, 80, 190)",),
    "middle-given-to-a-parent-that-is-deleted": (
        "UPDATE {book} SET author_id = 50 WHERE id IN (10, 80, 190)",
        "DELETE FROM {author} WHERE id = 50",
    ),
    "middle-lost-with-its-parent-and-inserted-again": (
        "UPDATE {book} SET author_id = 50 WHERE id IN (10, 80, 190)",
        "DELETE FROM {author} WHERE id = 50",
        "INSERT INTO {book} VALUES (10, 1, 'again'), (80, 1, 'again'), (190, 1, 'again')",
    ),
    "parents-deleted-and-their-children-inserted-again": (
        "DELETE FROM {author} WHERE id IN (10, 40, 90)",
        "INSERT INTO {author} VALUES (10, 'again'), (40, 'again')",
        "INSERT INTO {book} VALUES (19, 10, 'again'), (80, 40, 'again'), (180, 1, 'again')",
        "INSERT INTO {page} VALUES (19, 80, 'again')",
    ),
}


def slow(name: str) -> Any:
    """Not for every day."""
    return pytest.param(name, marks=pytest.mark.slow)


def _build(order: str) -> list[str]:
    return [statement.strip() for statement in TABLES.format(**ORDERS[order], numbers=_NUMBERS).split(";")]


@pytest.fixture(params=["children-first", pytest.param("parents-first", marks=pytest.mark.slow)])
def family(
    request: pytest.FixtureRequest, window_pair: Pair, race_factory: Callable[..., Race]
) -> tuple[Race, dict[str, str]]:
    """A race of four tables, and what they are called."""
    return race_factory(window_pair, *_build(request.param)), ORDERS[request.param]


@pytest.mark.parametrize("table", [slow("author"), slow("book"), "page", slow("review")])
@pytest.mark.parametrize(("step", "change"), diagonal(STEPS, CHANGES, everyday=5))
def test_while_a_chunk_is_in_hand(step: str, table: str, change: str, family: tuple[Race, dict[str, str]]) -> None:
    race, names = family
    statements = [s.format(**names) for s in CHANGES[change]]
    race.at(Moment(f"copy.chunk.{step}", 2, names[table]), lambda: race.write_source(*statements))
    race.move()
    race.require_equal()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "change"),
    diagonal(
        ["begin", "batch.read", "barrier", "batch.committed", "chunks_done", "batch.written"],
        CHANGES,
        everyday=0,
        times=3,
    ),
)
def test_while_the_middle_is_flushed(step: str, change: str, family: tuple[Race, dict[str, str]]) -> None:
    """First the middle rows get another parent; the cascade comes during the flush of that."""
    race, names = family
    statements = [s.format(**names) for s in CHANGES[change]]
    first = "UPDATE {book} SET author_id = 40 WHERE id IN (10, 19, 190)".format(**names)
    race.provoke(lambda: race.write_source(first), f"flush.{step}", lambda: race.write_source(*statements))
    race.move()
    race.require_equal()


def test_a_cascade_comes_after_the_last_generation_was_read_and_before_the_middle_was(
    window_pair: Pair, race_factory: Callable[..., Race], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches one after the other: page 10 is written as it was, its book is found gone, and the cause is yet to come."""
    monkeypatch.setattr("dbmigrate.workflow.migration.FLUSH_WORKERS", 1)
    race = race_factory(window_pair, *_build("children-first"))
    race.provoke(
        lambda: race.write_source(
            "UPDATE a_page SET text = 'first' WHERE id = 10", "UPDATE c_book SET author_id = 50 WHERE id = 10"
        ),
        "flush.batch.read",
        lambda: race.write_source("DELETE FROM d_author WHERE id = 50"),
    )
    race.move()
    race.require_equal()
    race.require_everywhere("SELECT COUNT(*) FROM a_page WHERE id = 10", (0,))


TREE = (
    "CREATE TABLE category (id INT PRIMARY KEY, parent_id INT, name VARCHAR(20), KEY (parent_id), "
    "FOREIGN KEY (parent_id) REFERENCES category (id) ON DELETE CASCADE)",
    f"INSERT INTO category SELECT n.n, IF(n.n <= 130, n.n + 70, NULL), 'c' FROM {_NUMBERS} 200 ORDER BY n.n DESC",
)


@pytest.mark.parametrize("step", ["read", slow("begin"), slow("barrier"), slow("written"), slow("committed")])
def test_a_tree_loses_a_branch_whose_leaves_are_copied_and_whose_root_is_not(
    step: str, window_pair: Pair, race_factory: Callable[..., Race]
) -> None:
    """40 and 60 hang on 110 and 130, these on 180 and 200; the chunk in hand ends at 100."""
    race = race_factory(window_pair, *TREE)
    race.at(Moment(f"copy.chunk.{step}", 2), lambda: race.write_source("DELETE FROM category WHERE id IN (180, 200)"))
    race.move()
    race.require_equal()
    race.require_everywhere("SELECT COUNT(*) FROM category WHERE id IN (40, 60, 110, 130, 180, 200)", (0,))


def test_a_tree_loses_a_branch_that_has_just_been_hung_up_elsewhere(
    window_pair: Pair, race_factory: Callable[..., Race]
) -> None:
    race = race_factory(window_pair, *TREE)
    race.provoke(
        lambda: race.write_source("UPDATE category SET parent_id = 200 WHERE id = 110"), "flush.barrier",
        lambda: race.write_source("DELETE FROM category WHERE id = 200"),
    )  # fmt: skip
    race.move()
    race.require_equal()
    race.require_everywhere("SELECT COUNT(*) FROM category WHERE id IN (40, 110, 200)", (0,))
