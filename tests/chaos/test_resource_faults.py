"""Disks that fill up, and servers that become read-only, while the shop sells."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chaos.equality import require_equal
from chaos.persistent_run import PersistentRun
from chaos.small_pieces import SMALL_PIECES
from moves import Move

from dbmigrate.domain.routes import Side
from dbmigrate.throwaway.local_servers import LocalServer
from dbmigrate.throwaway.shop_writers import Writers

BuildMove = Callable[..., Move]
ServerFactory = Callable[..., LocalServer]

# Small files, so that a small disk holds them.
SMALL_SERVER = {
    "innodb_log_file_size": "8M", "innodb_buffer_pool_size": "32M", "innodb_data_file_path": "ibdata1:12M:autoextend",
    "innodb_temp_data_file_path": "ibtmp1:4M:autoextend",
}  # fmt: skip


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, of 200 MB, in memory."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", str(place)]).returncode:
        pytest.skip("mounting needs root")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def server_on_small_disk(small_disk: Path) -> Iterator[LocalServer]:
    server = LocalServer.mariadb(small_disk, name="small", options=SMALL_SERVER)
    server.start()
    yield server
    server.kill()


def _fill(disk: Path, *, leaving: int) -> Path:
    """A file that takes all but ``leaving`` bytes of the disk."""
    ballast = disk / "ballast"
    found = os.statvfs(disk)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(4096, found.f_bavail * found.f_bsize - leaving))
    return ballast


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_disk_of_the_target_fills_up_and_is_emptied_again(
    server_on_small_disk: LocalServer, small_disk: Path, server_factory: ServerFactory, build_move: BuildMove
) -> None:
    move = build_move(server_factory(), server_on_small_disk, SMALL_PIECES, rows=8_000)
    with Writers(move.connect_to_owner, threads=2, rate=40, give_up_seconds=300) as writers:
        run = PersistentRun(move)
        for phase in ("copy", "verify"):
            run.await_phase(phase, "soak")
            ballast = _fill(small_disk, leaving=256 * 1024)
            time.sleep(8)
            ballast.unlink()
        run.await_phase("soak", timeout=240)
        time.sleep(0.3)
    run.finish()
    require_equal(move, writers)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_disk_of_the_source_fills_up_and_is_emptied_again(
    server_on_small_disk: LocalServer, small_disk: Path, server_factory: ServerFactory, build_move: BuildMove
) -> None:
    """The heartbeat cannot be committed: nothing that needs it goes on, and nothing is lost."""
    move = build_move(server_on_small_disk, server_factory(), SMALL_PIECES, rows=8_000)
    with Writers(move.connect_to_owner, threads=2, rate=40, give_up_seconds=300) as writers:
        run = PersistentRun(move)
        for phase in ("copy", "verify", "soak"):
            run.await_phase(phase, "soak")
            ballast = _fill(small_disk, leaving=64 * 1024)
            time.sleep(8)
            ballast.unlink()
        run.await_phase("soak", timeout=240)
        time.sleep(0.3)
    run.finish()
    require_equal(move, writers)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_table_that_is_full_is_named_and_the_run_goes_on_after_it(
    server_factory: ServerFactory, build_move: BuildMove
) -> None:
    """The table space of the target has a limit; raised, the next run copies the rest."""
    limited = {
        "innodb_file_per_table": "OFF", "innodb_data_file_path": "ibdata1:12M:autoextend:max:16M",
        "innodb_undo_tablespaces": "0",
    }  # fmt: skip
    target = server_factory(**limited)
    move = build_move(server_factory(), target, SMALL_PIECES.replace("= 800", "= 50000"), rows=150_000)
    with Writers(move.connect_to_owner, threads=1, rate=20, give_up_seconds=300) as writers:
        said = move.run("run", "--until", "cutover", "--yes", expect=4, timeout=240).stderr
        assert "1114" in said, said
        assert "free disk space" in said, said
        assert move.read_phase() == "copy"
        target.stop()
        target.options["innodb_data_file_path"] = "ibdata1:12M:autoextend"
        target.start()
        move.run("run", "--yes", "--until", "cutover", timeout=240)
    move.run("run", "--until", "soak")
    require_equal(move, writers)


@pytest.mark.timeout(600)
@pytest.mark.slow
@pytest.mark.parametrize("phase", ["copy", "verify"])
def test_a_target_that_becomes_read_only_for_the_programs_account(phase: str, shop_move: Move) -> None:
    """Without the privilege to pass it the run ends, says so, and goes on when the server is writable again."""
    shop_move.pair.target.server.create_user("mover", "secret", "ALL PRIVILEGES ON *.*")
    shop_move.pair.target.server.execute("REVOKE SUPER, READ ONLY ADMIN ON *.* FROM 'mover'@'127.0.0.1'")
    shop_move.pair.target.server.execute("SET GLOBAL log_bin_trust_function_creators = ON")
    shop_move.target_url = shop_move.pair.target.url.replace("root@", "mover@")
    shop_move.environment["TARGET_PASSWORD"] = "secret"
    shop_move.write(SMALL_PIECES.replace("[cutover]", '[cutover]\nfence = "lock_tables"'))
    with Writers(shop_move.connect_to_owner, threads=1, rate=20, give_up_seconds=300) as writers:
        process = shop_move.start("run", "--yes")
        shop_move.await_phase(phase, process=process)
        shop_move.pair.target.server.execute("SET GLOBAL read_only = 1")
        _, err = process.communicate(timeout=200)
        assert process.returncode == 4, err
        assert "read-only" in err, err
        shop_move.pair.target.server.execute("SET GLOBAL read_only = 0")
        shop_move.pair.target.server.execute("UPDATE _dbmigrate.migration SET lease_until = NULL")
        shop_move.run("run", "--yes", "--until", "cutover", timeout=240)
    assert shop_move.read_owner() is Side.TARGET
    shop_move.run("run", "--until", "soak")
    require_equal(shop_move, writers)
