"""Passwords are rotated, privileges revoked and accounts locked while the program runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chaos.equality import require_equal
from chaos.persistent_run import PersistentRun
from chaos.small_pieces import SMALL_PIECES
from databases import list_connections
from moves import Move

from dbmigrate.domain.routes import Side
from dbmigrate.throwaway.shop_writers import Writers

MOVER = "'mover'@'127.0.0.1'"


@pytest.fixture
def mover(shop_move: Move) -> Iterator[Move]:
    """The program under an account of its own, its password in a file."""
    shop_move.source_url = shop_move.pair.source.url.replace("root@", "mover@")
    shop_move.target_url = shop_move.pair.target.url.replace("root@", "mover@")
    for database in (shop_move.pair.source, shop_move.pair.target):
        database.server.create_user("mover", "first", "ALL PRIVILEGES ON *.*")
    secret = _password_file(shop_move)
    secret.write_text("first\n")
    secret.chmod(0o600)
    shop_move.write(SMALL_PIECES)
    text = shop_move.path.read_text()
    for name in ("SOURCE_PASSWORD", "TARGET_PASSWORD"):
        text = text.replace(f'password_env = "{name}"', f'password_file = "{secret}"')
    shop_move.path.write_text(text)
    yield shop_move
    for database in (shop_move.pair.source, shop_move.pair.target):
        database.server.execute(f"DROP USER IF EXISTS {MOVER}")


def _password_file(move: Move) -> Path:
    return move.path.with_name("password")


def _disconnect(move: Move) -> None:
    """End the program's connections, so that it has to log in again."""
    for database in (move.pair.source, move.pair.target):
        for connected in list_connections(database.server):
            if connected.user != "mover":
                continue
            try:
                database.execute(f"KILL CONNECTION {connected.id}")
            except Exception:
                continue


def _on_both(move: Move, statement: str) -> None:
    for database in (move.pair.source, move.pair.target):
        database.server.execute(statement)


@pytest.mark.slow
def test_a_rotated_password_is_read_again_for_each_connection(mover: Move) -> None:
    with Writers(mover.connect_to_owner, threads=2, rate=60, give_up_seconds=300) as writers:
        run = PersistentRun(mover)
        run.codes = (2, 3, 4)  # 2: whoever logs in between the two halves of the rotation is not let in
        run.await_phase("copy")
        _password_file(mover).write_text("second\n")
        _on_both(mover, f"ALTER USER {MOVER} IDENTIFIED BY 'second'")
        _disconnect(mover)
        run.await_phase("soak")
    run.finish()
    require_equal(mover, writers)


# How the account is spoiled, and mended again; which exit code says so, and which words.
SPOILED: dict[str, tuple[str, str, tuple[int, ...], tuple[str, ...]]] = {
    "password": (
        f"ALTER USER {MOVER} IDENTIFIED BY 'other'", f"ALTER USER {MOVER} IDENTIFIED BY 'first'",
        (2,), ("does not let this account in", "1045"),
    ),
    "locked": (
        f"ALTER USER {MOVER} ACCOUNT LOCK", f"ALTER USER {MOVER} ACCOUNT UNLOCK", (2, 4), ("4151",),
    ),
    "privilege": (
        f"REVOKE ALL PRIVILEGES ON *.* FROM {MOVER}", f"GRANT ALL PRIVILEGES ON *.* TO {MOVER}",
        (2, 3), ("denied",),
    ),
}  # fmt: skip


@pytest.mark.timeout(600)
@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("phase", ["copy", "verify", "soak"])
@pytest.mark.parametrize("kind", list(SPOILED))
@pytest.mark.slow
def test_an_account_that_is_spoiled_in_the_middle(kind: str, phase: str, side: Side, mover: Move) -> None:
    """The run ends and names the cause; mended, it goes on where it stood."""
    spoil, mend, codes, words = SPOILED[kind]
    server = (mover.pair.source if side is Side.SOURCE else mover.pair.target).server
    with Writers(mover.connect_to_owner, threads=2, rate=60, give_up_seconds=300) as writers:
        process: Any = mover.start("run", "--yes")
        mover.await_phase(phase, "soak", process=process, timeout=120)
        server.execute(spoil)
        _disconnect(mover)
        _, err = process.communicate(timeout=240)
        assert process.returncode in codes, (process.returncode, err)
        assert any(word in err for word in words), err
        server.execute(mend)
        mover.pair.target.server.execute("UPDATE _dbmigrate.migration SET lease_until = NULL")
        mover.run("run", "--yes", "--until", "cutover", timeout=240)
        time.sleep(0.3)
    mover.run("run", "--until", "soak")
    require_equal(mover, writers)


