"""What happens to a binlog while the shop is moved: purged, reset, rotated, reconfigured, damaged, statements in it.

Either the move notices and repairs by itself, or it stops at a named place with a next step that works.
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from databases import encrypting
from moves import Move

from dbmigrate.domain.flavours import Flavour
from dbmigrate.throwaway.shop_writers import Writers

WAITING = '[cutover]\napproval = "required"\nmax_write_pause_seconds = 5.0\nretry_seconds = 0.2\n'
MYSQL = pytest.param(Flavour.MYSQL, marks=[pytest.mark.mysql, pytest.mark.slow])
BOTH = [pytest.param(Flavour.MARIADB, marks=pytest.mark.slow), MYSQL]
BOTH_EVERYDAY = [Flavour.MARIADB, MYSQL]
PrivateMove = Callable[..., Move]


def writing(move: Move, **options: Any) -> Writers:
    return Writers(move.connect_to_owner, **({"threads": 2, "rate": 80} | options))


def await_writes(writers: Writers, more: int = 20) -> None:
    wanted = writers.committed + more
    while writers.committed < wanted:
        time.sleep(0.02)


def await_condition(holds: Callable[[], object], timeout: float = 90) -> None:
    until = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.05)


def end_of(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, err = process.communicate(timeout=120)
    return process.returncode, err


def run_to_waiting(move: Move) -> subprocess.Popen[str]:
    """A runner that has copied and verified, streams, and waits for approval."""
    process = move.start("run")
    move.await_phase("cutover", process=process)
    return process


def purge(move: Move) -> None:
    source = move.pair.source.server
    source.execute("FLUSH BINARY LOGS")
    last = source.execute("SHOW BINARY LOGS")[-1][0]
    source.execute(f"PURGE BINARY LOGS TO '{last}'")


def reset(move: Move) -> None:
    is_mariadb = move.pair.source.server.flavour is Flavour.MARIADB
    move.pair.source.server.execute("RESET MASTER" if is_mariadb else "RESET BINARY LOGS AND GTIDS")


def was_resynced(move: Move) -> bool:
    return bool(move.pair.target.server.execute("SELECT 1 FROM _dbmigrate.evidence WHERE kind = 'resync'"))


@contextlib.contextmanager
def repeating(work: Callable[[], object], every_seconds: float) -> Iterator[None]:
    stopping = threading.Event()
    failures: list[BaseException] = []

    def loop() -> None:
        try:
            while not stopping.wait(every_seconds):
                work()
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()
    assert not failures, failures


# --- purged and reset ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [(), pytest.param(("--resync",), marks=pytest.mark.slow)])
@pytest.mark.parametrize("flavour", BOTH_EVERYDAY)
def test_purged_while_the_runner_was_stopped(
    flavour: Flavour, arguments: tuple[str, ...], private_move: PrivateMove
) -> None:
    move = private_move(flavour, text=WAITING)
    with writing(move) as writers:
        move.stop(run_to_waiting(move))
        await_writes(writers)
        purge(move)
        await_writes(writers)
        move.finish(writers, *arguments)
    assert was_resynced(move)


@pytest.mark.parametrize("flavour", BOTH)
def test_purged_in_soak_while_the_runner_was_stopped_and_reverted(flavour: Flavour, private_move: PrivateMove) -> None:
    move = private_move(flavour)
    with writing(move) as writers:
        move.run("run", "--until", "cutover")
        await_writes(writers)
        target = move.pair.target.server
        target.execute("FLUSH BINARY LOGS")
        target.execute(f"PURGE BINARY LOGS TO '{target.execute('SHOW BINARY LOGS')[-1][0]}'")
        await_writes(writers)
        move.run("revert")
        await_writes(writers)
        move.finish(writers)
    assert was_resynced(move)


@pytest.mark.slow
def test_purged_over_and_over_while_running(private_move: PrivateMove) -> None:
    move = private_move(max_binlog_size="65536")
    with writing(move, rate=150) as writers, repeating(lambda: purge(move), 0.2):
        move.finish(writers)


@pytest.mark.parametrize("flavour", BOTH)
@pytest.mark.parametrize("catches_up", [False, True])
def test_reset_while_the_runner_was_stopped(catches_up: bool, flavour: Flavour, private_move: PrivateMove) -> None:
    """``catches_up``: the numbers begin anew and pass the checkpoint's, so that it looks valid."""
    move = private_move(flavour, text=WAITING, rows=500)
    source = move.pair.source
    with writing(move) as writers:
        move.stop(run_to_waiting(move))
        await_writes(writers)
        reset(move)
        await_writes(writers)
        if catches_up:
            text = move.pair.target.server.execute("SELECT position FROM _dbmigrate.checkpoint")[0][0]
            source.execute("CREATE TABLE _noise (id INT PRIMARY KEY AUTO_INCREMENT, t LONGTEXT)")
            with source.connect() as connection, connection.cursor() as cursor:
                for _ in range(1_500):
                    cursor.execute("INSERT INTO _noise (t) VALUES (REPEAT('x', 2000))")
            assert text
        move.write(WAITING, tables='[tables]\nexclude = ["_*"]\n')
        move.finish(writers)
    assert was_resynced(move)


@pytest.mark.parametrize("flavour", BOTH)
def test_reset_while_running(flavour: Flavour, private_move: PrivateMove) -> None:
    move = private_move(flavour, text=WAITING)
    with writing(move) as writers:
        process = run_to_waiting(move)
        await_writes(writers)
        reset(move)
        await_condition(lambda: was_resynced(move) or process.poll() is not None)
        if process.poll() is None:
            move.stop(process)
            move.finish(writers)
        else:
            code, err = end_of(process)
            assert code == 4, err
            assert "dbmigrate run --resync" in err
            move.finish(writers, "--resync")


# --- rotated ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flavour", BOTH)
def test_rotated_every_50_ms_and_transactions_larger_than_a_file(flavour: Flavour, private_move: PrivateMove) -> None:
    move = private_move(flavour, max_binlog_size="4096", rows=20_000)
    flush = move.pair.source.connect().cursor()
    with writing(move) as writers, repeating(lambda: flush.execute("FLUSH BINARY LOGS"), 0.05):
        move.finish(writers)
    assert not was_resynced(move)


# --- formats ------------------------------------------------------------------------------------------------------


FORMATS = {
    "compressed": {"log_bin_compress": "ON", "log_bin_compress_min_len": "10"},
    "without checksums": {"binlog_checksum": "NONE"},
    "minimal images": {"binlog_row_image": "MINIMAL"},
    "no blobs": {"binlog_row_image": "NOBLOB"},
    "full metadata": {"binlog_row_metadata": "FULL"},
}
MYSQL_FORMATS = {
    "compressed": {"binlog_transaction_compression": "ON"},
    "without checksums": {"binlog_checksum": "NONE"},
    "partial json": {"binlog_row_value_options": "PARTIAL_JSON", "binlog_row_image": "MINIMAL"},
    "full metadata": {"binlog_row_metadata": "FULL"},
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flavour", "name"),
    [
        *((Flavour.MARIADB, name) for name in [*FORMATS, "encrypted"]),
        *(pytest.param(Flavour.MYSQL, name, marks=pytest.mark.mysql) for name in MYSQL_FORMATS),
    ],
)
def test_every_format_of_the_binlog_moves_the_shop(
    flavour: Flavour, name: str, private_move: PrivateMove, tmp_path: Path
) -> None:
    formats = FORMATS if flavour is Flavour.MARIADB else MYSQL_FORMATS
    move = private_move(flavour, **(encrypting(tmp_path) if name == "encrypted" else formats[name]))
    with writing(move) as writers:
        move.finish(writers)


@pytest.mark.parametrize("flavour", BOTH_EVERYDAY)
def test_format_changed_at_run_time(flavour: Flavour, private_move: PrivateMove) -> None:
    """Globally and by sessions, each change with the shop selling."""
    move = private_move(flavour, text=WAITING)
    source = move.pair.source.server
    compress = "log_bin_compress" if flavour is Flavour.MARIADB else "binlog_transaction_compression"
    changes = [
        ("binlog_checksum", "NONE"), ("binlog_row_image", "MINIMAL"), (compress, "ON"), ("binlog_checksum", "CRC32"),
        ("binlog_row_metadata", "FULL"), ("binlog_row_image", "NOBLOB"), (compress, "OFF"),
        ("binlog_row_metadata", "MINIMAL"), ("binlog_row_image", "FULL"),
    ]  # fmt: skip
    with writing(move) as writers:
        process = run_to_waiting(move)
        for variable, value in changes:
            source.execute(f"SET GLOBAL {variable} = {value}")
            with move.pair.source.connect() as connection, connection.cursor() as cursor:
                for image in ("MINIMAL", "NOBLOB", "FULL"):
                    cursor.execute(f"SET SESSION binlog_row_image = {image}")
                    cursor.execute("UPDATE products SET title = CONCAT(title, '.') ORDER BY RAND() LIMIT 3")
                    cursor.execute("UPDATE coupons SET code = CONCAT('.', code), used = 7 ORDER BY code LIMIT 1")
            await_writes(writers, 5)
        assert process.poll() is None
        move.stop(process)
        move.finish(writers)
    assert not was_resynced(move)


# --- statements ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["update", "load data"])
def test_rows_changed_by_a_statement_stop_the_move_by_name_and_resync_repairs(
    kind: str, private_move: PrivateMove, tmp_path: Path
) -> None:
    move = private_move(text=WAITING)
    source = move.pair.source
    (tmp_path / "rows.txt").write_text("\n".join(f"C{n}\t{n % 90}\t0\t2031-01-01" for n in range(500)))
    statement = {
        "update": "UPDATE products SET title = CONCAT('changed ', id)",
        "load data": f"LOAD DATA INFILE '{tmp_path}/rows.txt' INTO TABLE coupons",
    }[kind]
    with writing(move) as writers:
        process = run_to_waiting(move)
        source.execute("SET SESSION binlog_format = STATEMENT", statement)
        code, err = end_of(process)
        assert code == 4, err
        assert "binlog.0" in err
        assert statement[:24] in err
        assert "dbmigrate run --resync" in err
        again = move.run("run", expect=4).stderr
        assert statement[:24] in again
        move.finish(writers, "--resync")


# --- damaged ------------------------------------------------------------------------------------------------------


def corrupt(move: Move, at: Callable[[bytes], int]) -> None:
    """Flip a byte of the binlog's last complete file, on a server that does not read it now."""
    server = move.pair.source.server
    server.execute("FLUSH BINARY LOGS")
    name = server.execute("SHOW BINARY LOGS")[-2][0]
    path = server.data_directory / name
    content = bytearray(path.read_bytes())
    content[at(bytes(content))] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize("flavour", BOTH)
def test_a_damaged_event_stops_the_move_at_its_place_and_resync_repairs(
    flavour: Flavour, private_move: PrivateMove
) -> None:
    move = private_move(flavour, text=WAITING)
    verify = "master_verify_checksum" if flavour is Flavour.MARIADB else "source_verify_checksum"
    with writing(move) as writers:
        move.stop(run_to_waiting(move))
        source = move.pair.source
        source.execute(
            "FLUSH BINARY LOGS", f"SET GLOBAL {verify} = OFF",
            "CREATE TABLE _mark (id INT PRIMARY KEY, t VARCHAR(40)) COMMENT 'the mark'",
            "INSERT INTO products (id, sku, title, price, attributes) VALUES (900001, 'damaged-mark', 't', 1, '{}')",
        )  # fmt: skip
        await_writes(writers)
        corrupt(move, lambda content: content.rindex(b"damaged-mark") + 3)  # in the row, not in the annotation
        move.write(WAITING, tables='[tables]\nexclude = ["_*"]\n')
        for _ in range(2):
            err = move.run("run", expect=4).stderr
            assert "binlog.0" in err, err
            assert "checksum" in err
            assert "dbmigrate run --resync" in err
        move.finish(writers, "--resync")


@pytest.mark.slow
def test_a_truncated_file_stops_the_move_and_resync_repairs(private_move: PrivateMove) -> None:
    move = private_move(text=WAITING)
    server = move.pair.source.server
    with writing(move) as writers:
        move.stop(run_to_waiting(move))
        await_writes(writers)
        server.execute("FLUSH BINARY LOGS")
        path = server.data_directory / server.execute("SHOW BINARY LOGS")[-2][0]
        content = path.read_bytes()
        path.write_bytes(content[: -len(content) // 3])
        result = move.run("run", "--until", "cutover", "--yes", expect=None)
        if result.returncode:
            assert result.returncode == 4
            assert "binlog.0" in result.stderr, result.stderr
            assert "dbmigrate run --resync" in result.stderr
            move.finish(writers, "--resync")
        else:
            assert was_resynced(move)
            move.finish(writers)


@pytest.mark.slow
def test_an_incident_stops_the_move_and_resync_repairs(private_move: PrivateMove) -> None:
    """The server itself says that changes are missing: a statement's rows did not fit its cache."""
    move = private_move(text=WAITING, binlog_stmt_cache_size="4096", max_binlog_stmt_cache_size="4096")
    source = move.pair.source
    with writing(move) as writers:
        process = run_to_waiting(move)
        source.execute("CREATE TABLE _memo (id INT PRIMARY KEY, t MEDIUMTEXT) ENGINE=MyISAM")
        with contextlib.suppress(Exception):
            source.execute("INSERT INTO _memo VALUES (1, REPEAT('x', 100)), (2, REPEAT('x', 100000))")
        code, err = end_of(process)
        assert code == 4, err
        assert "the server logged an incident" in err
        assert "binlog.0" in err
        assert "dbmigrate run --resync" in err
        move.write(WAITING, tables='[tables]\nexclude = ["_*"]\n')
        move.finish(writers, "--resync")


# --- other readers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flavour", BOTH)
def test_another_replica_with_our_server_id(flavour: Flavour, private_move: PrivateMove) -> None:
    """It takes our dump away; the reader goes on under another id instead of fighting for it."""
    from dbmigrate.domain.routes import Direction
    from dbmigrate.mysql.binlog import BinlogReader, read_current_position
    from dbmigrate.mysql.introspection import read_server_version
    from dbmigrate.workflow.migration import _server_id

    move = private_move(flavour, text=WAITING)
    server = move.pair.source.server
    with writing(move) as writers, server.connect() as connection:
        process = run_to_waiting(move)
        version = read_server_version(connection)
        other = BinlogReader(
            server.connect, version=version, start=read_current_position(connection, version), tables={},
            server_id=_server_id("move", Direction.FORWARD),
        )  # fmt: skip
        until = time.monotonic() + 5
        while time.monotonic() < until:
            other.read(timeout_seconds=0.2)  # raises where somebody takes its id
        move.run("cutover")
        other.close()
        move.stop(process)
        move.finish(writers)
    assert not was_resynced(move)
