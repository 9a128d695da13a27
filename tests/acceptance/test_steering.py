"""Approving, pausing, verifying, aborting and reverting, as an operator does it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

Factory = Callable[..., Any]
AUTO = '[cutover]\napproval = "auto"\n'


@pytest.fixture
def shop(mariadb_pair: Any) -> Any:
    """A pair whose source holds two tables, one with a trigger."""
    mariadb_pair.source.execute(
        "CREATE TABLE orders (id INT AUTO_INCREMENT PRIMARY KEY, total DECIMAL(10,2), note VARCHAR(20))",
        "CREATE TABLE log (id INT AUTO_INCREMENT PRIMARY KEY, line VARCHAR(50))",
        "INSERT INTO orders (total, note) SELECT seq / 10, CONCAT('n', seq) FROM seq_1_to_5000",
        "CREATE TRIGGER orders_ai AFTER INSERT ON orders FOR EACH ROW INSERT INTO log (line) VALUES (NEW.id)",
    )
    return mariadb_pair


def _rows(database: Any) -> tuple[Any, ...]:
    return database.execute("SELECT * FROM orders ORDER BY id"), database.execute("SELECT * FROM log ORDER BY id")


def test_the_cutover_waits_for_an_approval_and_takes_place_after_it(shop: Any, move_factory: Factory) -> None:
    move = move_factory(shop)
    process = move.start("run")
    move.await_phase("cutover", process=process)
    assert move.read_owner().value == "source"
    assert "approved" in move.run("approve", "--as", "the operator").stdout
    move.await_phase("soak", process=process)
    assert move.read_owner().value == "target"
    shop.target.execute("INSERT INTO orders (total) VALUES (1)")
    assert shop.target.execute("SELECT COUNT(*) FROM log") == ((1,),)
    move.run("revert")
    assert process.wait(timeout=60) == 0
    assert move.read_owner().value == "source"
    assert _rows(shop.source) == _rows(shop.target)
    shop.source.execute("INSERT INTO orders (total) VALUES (2)")
    assert shop.source.execute("SELECT COUNT(*) FROM log") == ((2,),)
    history = [(t["from"], t["to"]) for t in move.status()["transitions"]]
    assert history[-3:] == [("cutover", "soak"), ("soak", "reverting"), ("reverting", "catch_up")]


def test_revert_without_a_live_runner_loses_nothing(shop: Any, move_factory: Factory) -> None:
    move = move_factory(shop, AUTO)
    move.run("run", "--until", "cutover")
    shop.target.execute("UPDATE orders SET total = 5 WHERE id < 100", "DELETE FROM orders WHERE id = 100")
    move.run("revert")
    assert _rows(shop.source) == _rows(shop.target)
    assert shop.source.execute("SELECT COUNT(*) FROM orders WHERE total = 5 AND id < 100") == ((99,),)


def test_abort_leaves_the_source_as_it_was_found_and_allows_a_new_start(shop: Any, move_factory: Factory) -> None:
    move = move_factory(shop, AUTO)
    before = shop.source.server.execute("SHOW DATABASES"), shop.source.execute("SHOW TRIGGERS"), _rows(shop.source)
    move.run("run", "--until", "verify")
    move.run("abort")
    after = shop.source.server.execute("SHOW DATABASES"), shop.source.execute("SHOW TRIGGERS"), _rows(shop.source)
    assert before == after
    assert shop.target.execute("SHOW TABLES") == ()
    move.run("run", "--until", "cutover")
    assert _rows(shop.source) == _rows(shop.target)


def test_abort_after_the_switch_is_refused(shop: Any, move_factory: Factory) -> None:
    move = move_factory(shop, AUTO)
    move.run("run", "--until", "cutover")
    assert "dbmigrate revert" in move.run("abort", expect=3).stderr


def test_a_single_changed_byte_is_found_named_and_repaired(shop: Any, move_factory: Factory) -> None:
    move = move_factory(shop)
    move.run("run", "--until", "verify")
    shop.target.execute("UPDATE orders SET note = 'n78' WHERE id = 77")
    result = json.loads(move.run("verify", "--json", expect=1).stdout)
    assert result["mismatches"] == 1
    assert result["examples"] == [{"table": f"{shop.source.schema}.orders", "key": "77", "columns": ["note"]}]
    assert "n78" not in json.dumps(result)
    assert json.loads(move.run("verify", "--repair", "--json").stdout)["mismatches"] == 0
    assert _rows(shop.source) == _rows(shop.target)


def test_missing_and_surplus_rows_are_found_too(shop: Any, move_factory: Factory) -> None:
    move = move_factory(shop)
    move.run("run", "--until", "verify")
    shop.target.execute("DELETE FROM orders WHERE id = 1", "INSERT INTO orders (id, total) VALUES (999999, 1)")
    found = json.loads(move.run("verify", "--json", expect=1).stdout)
    assert sorted(e["key"] for e in found["examples"]) == ["1", "999999"]
    move.run("verify", "--repair")
    assert _rows(shop.source) == _rows(shop.target)


def test_verify_repairs_through_a_live_runner(shop: Any, move_factory: Factory) -> None:
    move = move_factory(shop)
    process = move.start("run")
    move.await_phase("cutover", process=process)
    shop.target.execute("DELETE FROM orders WHERE id BETWEEN 10 AND 20")
    move.run("verify", expect=1)
    move.run("verify", "--repair")
    assert _rows(shop.source) == _rows(shop.target)


def test_a_mismatch_names_the_columns_that_differ_whatever_charset_a_side_has(
    mariadb_pair: Any, move_factory: Factory
) -> None:
    columns = "(id INT PRIMARY KEY, name VARCHAR(20) CHARACTER SET {}, state ENUM('a', 'b') CHARACTER SET {}, total DOUBLE NULL)"
    mariadb_pair.source.execute(
        f"CREATE TABLE things {columns.format('gbk', 'latin1')}", "INSERT INTO things VALUES (1, '中国', 'a', 1.5), (2, 'x', 'b', NULL)",
    )  # fmt: skip
    mariadb_pair.target.execute(f"CREATE TABLE things {columns.format('utf8mb4', 'utf8mb4')}")
    move = move_factory(mariadb_pair, AUTO)
    move.run("run", "--until", "catch_up")
    move.run("verify")
    mariadb_pair.target.execute("UPDATE things SET total = -1.5 WHERE id = 1", "UPDATE things SET total = 0 WHERE id = 2")
    (first, second) = json.loads(move.run("verify", "--json", expect=1).stdout)["examples"]
    assert first["columns"] == second["columns"] == ["total"]


def test_indexes_of_large_tables_wait_for_the_rows_and_those_of_small_ones_do_not(
    mariadb_pair: Any, move_factory: Factory
) -> None:
    columns = "(id INT PRIMARY KEY, note CHAR(200), number INT, KEY note (note), UNIQUE KEY number (number))"
    mariadb_pair.source.execute(
        f"CREATE TABLE large {columns}", f"CREATE TABLE small {columns}", "CREATE TABLE nothing (id INT PRIMARY KEY, KEY again (id))",
        "INSERT INTO large SELECT seq, CONCAT('note ', seq), seq FROM seq_1_to_20000",
        "INSERT INTO small SELECT seq, CONCAT('note ', seq), seq FROM seq_1_to_200", "ANALYZE TABLE large, small, nothing",
    )  # fmt: skip
    move = move_factory(mariadb_pair, AUTO)
    move.run("run", "--until", "expand")
    asked = (
        "SELECT table_name, index_name, column_name, non_unique FROM information_schema.statistics "
        "WHERE table_schema = '{}' ORDER BY 1, 2"
    )
    before = mariadb_pair.target.execute(asked.format(mariadb_pair.target.schema))
    assert [row[1] for row in before if row[0] == "large"] == ["number", "PRIMARY"]  # a unique one never waits
    assert [row[1] for row in before if row[0] == "small"] == ["note", "number", "PRIMARY"]
    move.run("run", "--until", "catch_up")
    wanted = mariadb_pair.source.execute(asked.format(mariadb_pair.source.schema))
    assert mariadb_pair.target.execute(asked.format(mariadb_pair.target.schema)) == wanted


def test_pause_holds_the_copy_and_resume_lets_it_go_on(shop: Any, move_factory: Factory) -> None:
    shop.source.execute("INSERT INTO orders (total) SELECT 1 FROM seq_1_to_100000")
    move = move_factory(shop, AUTO + "[throttle]\nmax_rows_per_second = 20000\n")
    process = move.start("run", "--until", "copy")
    move.await_phase("copy", process=process)
    assert "paused" in move.run("pause").stdout
    time.sleep(2)
    held = shop.target.execute("SELECT COUNT(*) FROM orders")
    time.sleep(1.5)
    assert shop.target.execute("SELECT COUNT(*) FROM orders") == held
    assert held != ((105000,),)
    assert move.status()["is_paused"]
    move.run("resume")
    assert process.wait(timeout=60) == 0
    assert shop.target.execute("SELECT COUNT(*) FROM orders") == ((105000,),)


def test_auto_increment_goes_on_where_the_source_stopped(shop: Any, move_factory: Factory) -> None:
    shop.source.execute("ALTER TABLE orders AUTO_INCREMENT = 70000")
    move = move_factory(shop, AUTO)
    move.run("run", "--until", "cutover")
    shop.target.execute("INSERT INTO orders (total) VALUES (1)")
    assert shop.target.execute("SELECT MAX(id) FROM orders") == ((70000,),)


def test_filters_renames_and_expressions_reshape_the_target(shop: Any, move_factory: Factory) -> None:
    shop.target.execute(
        "CREATE TABLE sales (id INT PRIMARY KEY, total_cents BIGINT NOT NULL, note VARCHAR(20))",
    )
    tables = (
        '[tables]\nexclude = ["log"]\n[tables.orders]\nrename = "sales"\nwhere = "id > 100"\nomit = ["total"]\n'
        'columns = { total_cents = "ROUND(total * 100)" }\n'
    )
    move = move_factory(shop, AUTO, tables=tables)
    move.run("run", "--until", "verify")
    expected = shop.source.execute(
        "SELECT id, CAST(total * 100 AS SIGNED), note FROM orders WHERE id > 100 ORDER BY id"
    )
    assert shop.target.execute("SELECT id, total_cents, note FROM sales ORDER BY id") == expected


def test_lock_tables_fences_writers_that_ignore_the_move(shop: Any, move_factory: Factory) -> None:
    move = move_factory(shop, '[cutover]\napproval = "auto"\nfence = "lock_tables"\n')
    move.create_application_user()
    move.run("run", "--until", "cutover")
    application = shop.source.connect(user="shop_app", password="app")
    with application.cursor() as cursor:
        for statement in (
            "INSERT INTO orders (total) VALUES (1)",
            "UPDATE orders SET total = 2 WHERE id = 1",
            "DELETE FROM orders WHERE id = 1",
        ):
            with pytest.raises(Exception, match="this database has moved"):
                cursor.execute(statement)
    shop.target.execute("UPDATE orders SET total = 3 WHERE id = 1")
    move.run("revert")
    assert _rows(shop.source) == _rows(shop.target)
    with application.cursor() as cursor:
        cursor.execute("UPDATE orders SET total = 4 WHERE id = 1")
    assert shop.source.execute("SELECT total FROM orders WHERE id = 1")[0][0] == 4


def test_orphaned_foreign_keys_are_reported(shop: Any, move_factory: Factory) -> None:
    shop.source.execute(
        "CREATE TABLE parent (id INT PRIMARY KEY)",
        "CREATE TABLE child (id INT PRIMARY KEY, parent_id INT, CONSTRAINT c_p FOREIGN KEY (parent_id) REFERENCES parent (id))",
        "SET foreign_key_checks = 0",
        "INSERT INTO child VALUES (1, 7), (2, NULL)",
    )
    move = move_factory(shop)
    move.run("run", "--until", "verify")
    content = move.status()["verification"]
    assert content["mismatches"] == 0
    assert content["orphans"] == [{"table": f"{shop.target.schema}.child", "foreign_key": "c_p", "rows": 1}]


def test_a_restarted_runner_verifies_again_before_it_switches(shop: Any, move_factory: Factory) -> None:
    """What the first runner flushed after its verification is not known to the second."""
    move = move_factory(shop, AUTO)
    move.run("run", "--until", "verify")
    shop.target.execute("UPDATE orders SET note = 'wrong' WHERE id = 5")
    assert "1 rows differ" in move.run("run", "--until", "cutover", expect=1).stderr
    assert move.read_owner().value == "source"
    move.run("verify", "--repair")
    move.run("run", "--until", "cutover")
    assert _rows(shop.source) == _rows(shop.target)


def test_abort_takes_back_views_and_routines_too(shop: Any, move_factory: Factory) -> None:
    shop.source.execute(
        "CREATE VIEW totals AS SELECT SUM(total) FROM orders", "CREATE FUNCTION two() RETURNS INT DETERMINISTIC RETURN 2"
    )
    shop.target.execute("CREATE VIEW kept AS SELECT 1")
    move = move_factory(shop, AUTO)
    move.run("run", "--until", "verify")
    move.run("abort")
    assert shop.target.execute("SHOW TABLES") == (("kept",),)
    schema = shop.target.schema
    routines = f"SELECT COUNT(*) FROM information_schema.routines WHERE routine_schema = '{schema}'"
    assert shop.target.execute(routines) == ((0,),)


def test_fence_rows_that_contradict_each_other_hold_the_migration_for_a_person(shop: Any, move_factory: Factory) -> None:
    move = move_factory(shop, AUTO)
    move.run("run", "--until", "verify")
    epoch = shop.target.server.execute("SELECT epoch FROM _dbmigrate.fence")[0][0]
    shop.target.server.execute("UPDATE _dbmigrate.fence SET owner = 'target'")
    for _ in range(2):
        assert "contradict" in move.run("run", "--until", "cutover", expect=5).stderr
        assert move.read_phase() == "held"
    shop.target.server.execute(f"UPDATE _dbmigrate.fence SET owner = 'source', epoch = {epoch}")
    move.run("run", "--until", "cutover")
    assert move.read_owner().value == "target"


def test_sequences_go_on_where_the_source_stopped(shop: Any, move_factory: Factory) -> None:
    shop.source.execute(
        "CREATE SEQUENCE numbers START WITH 500 CACHE 10",
        "CREATE TABLE tickets (id INT PRIMARY KEY DEFAULT nextval(numbers), note INT)",
        "INSERT INTO tickets (note) VALUES (1), (2), (3)",
    )
    move = move_factory(shop, AUTO)
    move.run("run", "--until", "cutover")
    shop.target.execute("INSERT INTO tickets (note) VALUES (4)")
    ids = [row[0] for row in shop.target.execute("SELECT id FROM tickets ORDER BY id")]
    assert ids[:3] == [500, 501, 502]
    assert ids[3] > 502
