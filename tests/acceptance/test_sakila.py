"""A real database moves with live traffic, in every direction between MariaDB 10.11 and MySQL 9.7, and back.

Sakila has geometries, a spatial and a full-text index, views, triggers, routines, cyclic and cascading foreign keys.
Its files are not part of the project: without them (DBMIGRATE_SHARED_DATA) this test is skipped, and the small shop of
``test_shop_moves.py`` stands in for it.
"""

from __future__ import annotations

import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dbmigrate.throwaway.row_comparison import compare

Factory = Callable[..., Any]
AUTO = '[cutover]\napproval = "auto"\nmax_write_pause_seconds = 5.0\n'


def _find_sakila() -> Path | None:
    shared = os.environ.get("DBMIGRATE_SHARED_DATA", str(Path(__file__).parents[3] / "shared" / "data"))
    directory = Path(shared) / "sakila"
    return directory if (directory / "schema.sql").exists() else None


def _split_statements(text: str) -> Iterator[str]:
    """The statements of a dump, DELIMITER lines obeyed."""
    delimiter, pending = ";", ""
    for line in text.splitlines():
        if line.upper().startswith("DELIMITER "):
            delimiter = line.split()[1]
            continue
        if not pending and (not line.strip() or line.startswith("--")):
            continue
        pending += line + "\n"
        if line.rstrip().endswith(delimiter):
            yield pending.rstrip().removesuffix(delimiter)
            pending = ""


def _load(database: Any, directory: Path) -> None:
    """Load the dump into the pair's schema under its own name."""
    connection = database.connect()
    with connection.cursor() as cursor:
        cursor.execute("SET foreign_key_checks = 0, sql_mode = ''")
        for name in ("schema.sql", "data.sql"):
            for statement in _split_statements((directory / name).read_text()):
                if re.match(r"(?i)\s*(DROP|CREATE) SCHEMA|\s*USE ", statement):
                    continue
                cursor.execute(statement.replace("sakila.", ""))
    connection.close()


_WRITES = (
    "UPDATE film SET title = CONCAT(LEFT(title, 20), {n}), rental_rate = {n} % 10 WHERE film_id = {n} % 1000 + 1",
    "UPDATE address SET phone = {n}, location = POINT({n}, 2) WHERE address_id = {n} % 600 + 1",
    "UPDATE rental SET return_date = NOW() WHERE rental_id = {n} % 16000 + 1",
    "INSERT INTO payment (customer_id, staff_id, rental_id, amount, payment_date) VALUES ({n} % 599 + 1, 1, NULL, 1.5, NOW())",
    "DELETE FROM payment WHERE payment_id = {n} % 16000 + 1",
    "DELETE FROM rental WHERE rental_id = {n} % 16000 + 1",
    "INSERT INTO film (title, description, language_id) VALUES ('NEW {n}', 'text', 1)",
    "UPDATE customer SET email = CONCAT({n}, '@example.org') WHERE customer_id = {n} % 599 + 1",
    "UPDATE store SET store_id = store_id WHERE store_id = 1",
    "REPLACE INTO film_category (film_id, category_id) VALUES ({n} % 1000 + 1, {n} % 16 + 1)",
)


class _Traffic:
    """Three writers that follow the owner."""

    def __init__(self, move: Any) -> None:
        self._move = move
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(seed,)) for seed in range(3)]
        self.committed = 0
        self.errors: set[str] = set()

    def __enter__(self) -> _Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _write(self, seed: int) -> None:
        chance = random.Random(seed)
        connection = None
        while not self._stopping.is_set():
            try:
                connection = connection or self._move.connect_to_owner()
                with connection.cursor() as cursor:
                    cursor.execute("SET SESSION innodb_lock_wait_timeout = 2")
                    connection.begin()
                    for _ in range(2):
                        cursor.execute(chance.choice(_WRITES).format(n=chance.randrange(100_000)))
                    connection.commit()
                self.committed += 1
            except Exception as error:
                self.errors.add(str(error)[:80])
                if connection is not None:
                    connection.close()
                connection = None
            time.sleep(0.005)


def _definitions(database: Any) -> dict[str, set[str]]:
    """What objects a side has, by kind."""
    queries = {
        "tables": "SELECT table_name FROM information_schema.tables WHERE table_schema = '{s}' AND table_type = 'BASE TABLE'",
        "views": "SELECT table_name FROM information_schema.views WHERE table_schema = '{s}'",
        "routines": "SELECT routine_name FROM information_schema.routines WHERE routine_schema = '{s}'",
        "triggers": "SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = '{s}'",
        "indexes": "SELECT DISTINCT CONCAT(table_name, '.', index_name) FROM information_schema.statistics WHERE table_schema = '{s}'",
        "foreign keys": "SELECT constraint_name FROM information_schema.referential_constraints WHERE constraint_schema = '{s}'",
    }
    return {kind: {row[0] for row in database.execute(sql.format(s=database.schema))} for kind, sql in queries.items()}


def _compare(pair: Any) -> None:
    source, target = pair.source.server.connect(), pair.target.server.connect()
    result = compare(source, target, pair.source.schema)
    assert result.differing == 0, result.first
    assert result.rows > 40_000


def test_sakila_moves_with_live_traffic_and_comes_back(flavour_pair: Any, move_factory: Factory) -> None:
    """Cut over, sell on the target, revert, sell on the source, cut over again: row by row equal each time."""
    directory = _find_sakila()
    if directory is None:
        pytest.skip("the sakila files are not at hand (DBMIGRATE_SHARED_DATA)")
    _load(flavour_pair.source, directory)
    before = _definitions(flavour_pair.source)
    move = move_factory(flavour_pair, AUTO)
    move.create_application_user()
    with _Traffic(move) as traffic:
        move.run("run", "--until", "cutover")
        time.sleep(1)
        move.run("revert")
        time.sleep(1)
        move.run("run", "--until", "cutover")
        time.sleep(1)
    move.run("run", "--until", "soak")
    assert traffic.committed > 100, traffic.errors
    _compare(flavour_pair)
    after = _definitions(flavour_pair.target)
    assert after == before
    assert len(flavour_pair.target.execute("SELECT * FROM customer_list")) == 599
    assert len(flavour_pair.target.execute("SELECT * FROM sales_by_film_category")) == 16
    assert flavour_pair.target.execute("SELECT inventory_in_stock(1)")[0][0] in (0, 1)
    flavour_pair.target.execute("UPDATE film SET title = 'TRIGGERED' WHERE film_id = 1")
    assert flavour_pair.target.execute("SELECT title FROM film_text WHERE film_id = 1") == (("TRIGGERED",),)
