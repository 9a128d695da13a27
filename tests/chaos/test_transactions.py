"""Transactions that are large, long, forgotten or prepared, in the way of a moving shop."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from moves import Move

from dbmigrate.domain.flavours import Flavour
from dbmigrate.domain.routes import Side
from dbmigrate.throwaway.shop_writers import Writers

MYSQL = pytest.param(Flavour.MYSQL, marks=[pytest.mark.mysql, pytest.mark.slow])
PrivateMove = Callable[..., Move]
WAITING = '[cutover]\napproval = "required"\nmax_write_pause_seconds = 5.0\nretry_seconds = 0.2\n'


def cutover(fence: str, attempts: int = 2) -> str:
    return (
        f'[cutover]\napproval = "auto"\nmax_write_pause_seconds = 1.0\nretry_seconds = 0.2\nmax_attempts = {attempts}\n'
        f'fence = "{fence}"\n'
    )


# --- in the way of the switch -------------------------------------------------------------------------------------


class Forgotten:
    """Somebody's transaction with a change that is not committed."""

    def __init__(self, move: Move, kind: str) -> None:
        self.kind = kind
        self._move = move
        self._connection = move.pair.source.connect(user="shop_app", password="app")
        self.id = self._connection.thread_id()
        self._cursor = self._connection.cursor()
        self._run("XA START 'forgotten'" if kind.startswith("xa") else "BEGIN")
        self._run("UPDATE vault SET owner = 'the forgotten' WHERE id = 1")
        self._busy: threading.Thread | None = None
        if kind == "busy":
            self._busy = threading.Thread(target=self._stay_busy, daemon=True)
            self._busy.start()
        if kind.startswith("xa"):
            self._run("XA END 'forgotten'", "XA PREPARE 'forgotten'")
        if kind == "xa without a session":
            self._connection.close()
        time.sleep(1.1)  # the servers count whole seconds

    def _run(self, *statements: str) -> None:
        for statement in statements:
            self._cursor.execute(statement)

    def _stay_busy(self) -> None:
        with contextlib.suppress(Exception):
            self._run("UPDATE vault SET owner = 'the secret 🎁', visits = SLEEP(300) WHERE id = 1")

    def end(self) -> None:
        """As its owner ends it: committed, or killed where it is busy."""
        if self.kind == "busy":
            self._move.pair.source.server.execute(f"KILL {self.id}")
        elif self.kind == "xa without a session":
            with self._move.pair.source.connect() as connection, connection.cursor() as cursor:
                cursor.execute("XA COMMIT 'forgotten'")
        else:
            self._run("XA COMMIT 'forgotten'" if self.kind.startswith("xa") else "COMMIT")

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._connection.close()
        with contextlib.suppress(Exception):
            self._move.pair.source.server.execute("XA ROLLBACK 'forgotten'")


@pytest.mark.parametrize("kind", ["idle", "busy", "xa", "xa without a session"])
@pytest.mark.parametrize("fence", ["read_only", "lock_tables"])
@pytest.mark.parametrize("flavour", [pytest.param(Flavour.MARIADB, marks=pytest.mark.slow), MYSQL])
def test_an_open_transaction_undoes_the_switch_by_name_and_holds_nobody_up(
    flavour: Flavour, fence: str, kind: str, private_move: PrivateMove
) -> None:
    hold_the_switch_up(flavour, fence, kind, private_move)


def test_an_idle_transaction_undoes_the_switch_by_name(private_move: PrivateMove) -> None:
    """The everyday sample of the cases above."""
    hold_the_switch_up(Flavour.MARIADB, "lock_tables", "idle", private_move)


def hold_the_switch_up(flavour: Flavour, fence: str, kind: str, private_move: PrivateMove) -> None:
    move = private_move(flavour, text=cutover(fence))
    move.pair.source.execute(
        "CREATE TABLE vault (id INT NOT NULL PRIMARY KEY, owner VARCHAR(40) NOT NULL, visits INT NOT NULL DEFAULT 0)",
        "INSERT INTO vault (id, owner) VALUES (1, 'nobody')",
    )  # a row that the shop's customers never wait for
    with Writers(move.connect_to_owner, threads=2, rate=60) as writers:
        forgotten = Forgotten(move, kind)
        try:
            result = move.run("run", "--until", "cutover", expect=3)
            err = result.stderr
            assert "undone 2 times" in err
            if kind == "xa without a session" or (kind == "xa" and flavour is Flavour.MYSQL and fence == "read_only"):
                # MySQL parts a prepared transaction from its session at once.
                assert "XA RECOVER" in err or fence == "lock_tables", err
            elif kind != "xa" or flavour is Flavour.MARIADB:
                assert f"connection {forgotten.id} of shop_app@127.0.0.1" in err, err
                assert "open for" in err
                assert " s, 1 rows changed" in err
            if kind == "busy":
                assert "UPDATE vault SET owner = ?, visits = SLEEP(?) WHERE id = ?" in err
            assert "the secret" not in err
            assert move.read_owner() is Side.SOURCE
            pauses = move.status()["switches"]
            assert pauses == []
            before = writers.committed
            while writers.committed < before + 10:
                time.sleep(0.02)
            assert max(writers.pause_gaps_ms) < 10_000
            forgotten.end()
            move.finish(writers)
        finally:
            forgotten.close()
    owner = move.pair.target.execute("SELECT owner FROM vault WHERE id = 1")[0][0]
    assert owner == ("nobody" if kind == "busy" else "the forgotten")


@pytest.mark.parametrize("flavour", [pytest.param(Flavour.MARIADB, marks=pytest.mark.slow), MYSQL])
@pytest.mark.parametrize("fence", ["read_only", "lock_tables"])
def test_xa_transactions_that_commit_around_the_switch_are_never_lost(
    fence: str, flavour: Flavour, private_move: PrivateMove
) -> None:
    """What a coordinator was told is committed is on the target, whichever side of the fence it happened on."""
    move = private_move(flavour, text=cutover(fence, attempts=20))
    committed: list[int] = []
    stopping = threading.Event()
    move.pair.source.execute("CREATE TABLE pledges (id INT NOT NULL PRIMARY KEY)")

    def _recover(cursor: Any) -> Any:
        with contextlib.suppress(Exception):
            cursor.execute("XA RECOVER")
            return [(row[0], row[1] + row[2], row[2], row[3]) for row in cursor.fetchall()]
        return ()

    def pledge(first: int) -> None:
        number = first
        while not stopping.is_set():
            number += 4
            with contextlib.suppress(Exception), contextlib.closing(move.connect_to_owner()) as connection:
                cursor = connection.cursor()
                for _, length, _, name in list(_recover(cursor)):  # what an attempt of ours has left in doubt
                    text = name[:length] if isinstance(name, str) else name[:length].decode()
                    if int(text[1:]) % 4 == first:
                        cursor.execute(f"XA ROLLBACK '{text}'")
                cursor.execute(f"XA START 'p{number}'")
                cursor.execute(f"INSERT INTO pledges VALUES ({number})")
                cursor.execute(f"XA END 'p{number}'")
                time.sleep(0.01)
                cursor.execute(f"XA PREPARE 'p{number}'")
                time.sleep(0.01)
                cursor.execute(f"XA COMMIT 'p{number}'")
                committed.append(number)

    threads = [threading.Thread(target=pledge, args=(first,), daemon=True) for first in range(4)]
    with Writers(move.connect_to_owner, threads=2, rate=60) as writers:
        for thread in threads:
            thread.start()
        move.run("run", "--until", "cutover")
        time.sleep(0.5)
        stopping.set()
        for thread in threads:
            thread.join()
    move.run("run", "--until", "soak")
    move.require_equal(writers)
    there = {number for (number,) in move.pair.target.execute("SELECT id FROM pledges")}
    assert len(committed) > 20
    assert set(committed) <= there


# --- large --------------------------------------------------------------------------------------------------------


def create_bulk(move: Move, rows: int) -> None:
    digits = "(SELECT 0 d UNION ALL " + " UNION ALL ".join(f"SELECT {n}" for n in range(1, 10)) + ")"
    places = len(str(rows - 1))
    number = " + ".join(f"d{p}.d * {10**p}" for p in range(places))
    tables = " JOIN ".join(f"{digits} d{p}" for p in range(places))
    move.pair.source.execute(
        "CREATE TABLE bulk (id INT NOT NULL PRIMARY KEY, a INT NOT NULL, t VARCHAR(60) NOT NULL, KEY a (a))",
        f"INSERT INTO bulk SELECT n, n, SHA1(n) FROM (SELECT {number} AS n FROM {tables}) x WHERE n < {rows}",
    )


def read_peak_megabytes(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


def await_drained(move: Move, process: Any, marker: str, timeout: float = 240) -> None:
    """Until the target shows the last row of the transaction."""
    until = time.monotonic() + timeout
    while not move.pair.target.execute(marker)[0][0]:
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.1)


def test_a_transaction_of_100_000_rows_while_streaming(private_move: PrivateMove) -> None:
    move = private_move(text=WAITING)
    create_bulk(move, 100_000)
    with Writers(move.connect_to_owner, threads=2, rate=60) as writers:
        process = move.start("run")
        move.await_phase("cutover", process=process)
        move.pair.source.execute("UPDATE bulk SET a = a + 1000000")
        await_drained(move, process, "SELECT MIN(a) >= 1000000 FROM bulk")
        move.stop(process)
        move.finish(writers)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("flavour", [Flavour.MARIADB, MYSQL])
def test_a_transaction_of_1_000_000_rows_takes_bounded_memory_and_survives_a_kill(
    flavour: Flavour, private_move: PrivateMove, record_property: Callable[[str, object], None]
) -> None:
    move = private_move(flavour, text=WAITING)
    create_bulk(move, 1_000_000)
    with Writers(move.connect_to_owner, threads=1, rate=20, give_up_seconds=300) as writers:
        process = move.start("run")
        move.await_phase("cutover", process=process, timeout=300)
        before = read_peak_megabytes(process.pid)
        move.pair.source.execute("UPDATE bulk SET a = a + 10000000")
        until = time.monotonic() + 240
        while not move.pair.target.execute("SELECT MAX(a) >= 10000000 FROM bulk")[0][0]:
            assert time.monotonic() < until
            time.sleep(0.05)
        killed_at = read_peak_megabytes(process.pid)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        done = move.pair.target.execute("SELECT SUM(a >= 10000000) FROM bulk")[0][0]
        assert 0 < done < 1_000_000
        move.release_lease()
        process = move.start("run")
        await_drained(move, process, "SELECT MIN(a) >= 10000000 FROM bulk")
        peak = read_peak_megabytes(process.pid)
        record_property("peak_megabytes", f"{before:.0f} waiting, {killed_at:.0f} at the kill, {peak:.0f} resumed, {done} rows")
        assert peak < 1_000
        move.stop(process)
        move.finish(writers)
