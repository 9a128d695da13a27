"""What can be wrong before and during a move: a clear message, the right exit code, and nothing lost."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

Factory = Callable[..., Any]
AUTO = '[cutover]\napproval = "auto"\n'


@pytest.fixture
def shop(mariadb_pair: Any) -> Any:
    """A pair whose source holds one small table."""
    mariadb_pair.source.execute(
        "CREATE TABLE orders (id INT PRIMARY KEY, total DECIMAL(10,2))",
        "INSERT INTO orders SELECT seq, seq / 10 FROM seq_1_to_1000",
    )
    return mariadb_pair


def test_a_wrong_password_says_which_server_and_never_the_password(shop: Any, move_factory: Factory) -> None:
    move = move_factory(shop)
    move.environment["SOURCE_PASSWORD"] = "not-the-password"
    result = move.run("run", expect=2)
    assert f"source 127.0.0.1:{shop.source.server.port}" in result.stderr
    assert "does not let this account in" in result.stderr
    assert "not-the-password" not in result.stdout + result.stderr


def test_an_unreachable_host_says_so_at_once(shop: Any, move_factory: Factory) -> None:
    move = move_factory(shop)
    move.path.write_text(move.path.read_text().replace(f":{shop.target.server.port}/", ":1/"))
    began = time.monotonic()
    result = move.run("run", expect=4)
    assert "cannot be reached" in result.stderr
    assert "target 127.0.0.1:1" in result.stderr
    assert time.monotonic() - began < 20


def test_an_unknown_key_and_a_bad_value_are_reported_together(shop: Any, move_factory: Factory) -> None:
    move = move_factory(shop, '[copy]\nworkerz = 4\nworkers = "many"\n')
    result = move.run("run", expect=2)
    assert "workerz" in result.stderr
    assert "did you mean" in result.stderr
    assert 'found "many"' in result.stderr


def test_a_missing_configuration_file_is_a_configuration_error(shop: Any, move_factory: Factory) -> None:
    move = move_factory(shop)
    move.path.unlink()
    assert str(move.path.name) in move.run("run", expect=2).stderr


def test_a_table_without_a_key_is_refused_with_the_statement_that_helps(shop: Any, move_factory: Factory) -> None:
    shop.source.execute("CREATE TABLE log (line TEXT)")
    result = move_factory(shop).run("run", expect=3)
    assert "log" in result.stderr
    assert "ADD PRIMARY KEY" in result.stderr
    assert shop.source.server.execute("SHOW DATABASES LIKE '\\_dbmigrate'") == ()


def test_a_target_that_holds_rows_is_refused_and_keeps_them(shop: Any, move_factory: Factory) -> None:
    shop.target.execute(
        "CREATE TABLE orders (id INT PRIMARY KEY, total DECIMAL(10,2))", "INSERT INTO orders VALUES (5, 5)"
    )
    result = move_factory(shop).run("run", expect=3)
    assert "orders" in result.stderr
    assert shop.target.execute("SELECT COUNT(*) FROM orders") == ((1,),)


def test_check_reports_all_obstacles_at_once(shop: Any, move_factory: Factory) -> None:
    shop.source.execute("CREATE TABLE log (line TEXT)", "CREATE TABLE old (id INT PRIMARY KEY) ENGINE=MyISAM")
    shop.target.execute(
        "CREATE TABLE orders (id INT PRIMARY KEY, total DECIMAL(10,2))", "INSERT INTO orders VALUES (5, 5)"
    )
    result = move_factory(shop).run("check", expect=3)
    for name in ("log", "old", "orders"):
        assert name in result.stdout


def test_a_source_that_logs_statements_is_refused(
    server_factory: Factory, mariadb_pair: Any, move_factory: Factory
) -> None:
    server = server_factory(binlog_format="STATEMENT")
    server.execute("CREATE DATABASE shop", "CREATE TABLE shop.orders (id INT PRIMARY KEY)")
    pair = type(mariadb_pair)(type(mariadb_pair.source)(server, "shop"), mariadb_pair.target)
    result = move_factory(pair).run("run", expect=3)
    assert "binlog_format" in result.stderr
    assert "ROW" in result.stderr


def test_a_misspelt_option_is_a_usage_error(shop: Any, move_factory: Factory) -> None:
    assert "No such option" in move_factory(shop).run("run", "--untill", "copy", expect=2).stderr


def test_commands_before_the_first_run_say_what_to_do(shop: Any, move_factory: Factory) -> None:
    move = move_factory(shop)
    for command in ("status", "approve", "pause", "verify"):
        assert "has not been started" in move.run(command, expect=3).stderr


def test_a_second_runner_is_refused_with_who_and_since_when(shop: Any, move_factory: Factory) -> None:
    move = move_factory(shop, AUTO)
    first = move.start("run")
    move.await_phase("soak", process=first)
    result = move.run("run", expect=3)
    assert "another runner works on this migration" in result.stderr
    assert f":{first.pid}" in result.stderr
    assert "since 20" in result.stderr
    assert first.poll() is None


def test_ctrl_c_stops_cleanly_and_says_how_to_go_on(shop: Any, move_factory: Factory) -> None:
    shop.source.execute("INSERT INTO orders SELECT seq, 1 FROM seq_1001_to_200000")
    move = move_factory(shop, AUTO + "[copy]\nworkers = 1\n[throttle]\nmax_rows_per_second = 20000\n")
    process = move.start("run")
    move.await_phase("copy", process=process)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _out, err = process.communicate(timeout=30)
    assert process.returncode == 4, err
    assert "stopped cleanly" in err
    assert f"dbmigrate run -c {move.path}" in err
    move.write(AUTO)
    move.run("run", "--until", "cutover")
    assert shop.target.execute("SELECT COUNT(*), SUM(id) FROM orders") == shop.source.execute(
        "SELECT COUNT(*), SUM(id) FROM orders"
    )


def test_a_binlog_purged_under_the_stream_is_repaired_by_verification(shop: Any, move_factory: Factory) -> None:
    move = move_factory(shop, AUTO)
    move.run("run", "--until", "catch_up")
    shop.source.execute("UPDATE orders SET total = 77 WHERE id = 7", "DELETE FROM orders WHERE id = 8")
    shop.source.server.execute("FLUSH BINARY LOGS", "FLUSH BINARY LOGS")
    last = shop.source.server.execute("SHOW BINARY LOGS")[-1][0]
    shop.source.server.execute(f"PURGE BINARY LOGS TO '{last}'")
    move.run("run", "--until", "cutover")
    assert shop.target.execute("SELECT total FROM orders WHERE id = 7") == shop.source.execute(
        "SELECT total FROM orders WHERE id = 7"
    )
    assert shop.target.execute("SELECT COUNT(*) FROM orders") == ((999,),)


def test_ddl_on_a_moving_table_stops_with_the_statement_and_the_next_step(shop: Any, move_factory: Factory) -> None:
    move = move_factory(shop, '[cutover]\napproval = "required"\n')
    process = move.start("run")
    move.await_phase("cutover", process=process)
    shop.source.execute("ALTER TABLE orders ADD COLUMN note INT")
    _out, err = process.communicate(timeout=60)
    assert process.returncode == 4, err
    assert "ADD COLUMN note" in err
    assert "dbmigrate abort" in err


def test_rows_logged_as_statements_stop_the_stream_and_a_resync_repairs_them(shop: Any, move_factory: Factory) -> None:
    move = move_factory(shop, AUTO)
    move.run("run", "--until", "catch_up")
    shop.source.execute(
        "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "SET SESSION binlog_format = 'STATEMENT'",
        "UPDATE orders SET total = 77 WHERE id = 7",
    )
    result = move.run("run", "--until", "cutover", expect=4)
    assert "binlog_format" in result.stderr
    assert "dbmigrate run --resync" in result.stderr
    move.run("run", "--until", "cutover", "--resync")
    assert shop.target.execute("SELECT total FROM orders WHERE id = 7")[0][0] == 77
