"""Private servers as the tests and the demo need them: durable, killable, gone when their owner is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pymysql
import pytest
from databases import Pair

from dbmigrate.domain.errors import FatalError
from dbmigrate.domain.flavours import Flavour
from dbmigrate.throwaway import local_servers, server_binaries
from dbmigrate.throwaway.local_servers import LocalServer
from dbmigrate.throwaway.server_binaries import find_server_binary

FLAVOURS = (
    pytest.param(Flavour.MARIADB, id="mariadb"),
    pytest.param(Flavour.MYSQL, id="mysql", marks=pytest.mark.mysql),
)


def is_alive(pid: int) -> bool:
    """Whether the process exists and is not merely waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(pid: int, seconds: float = 10) -> bool:
    """Whether the process went within the time given."""
    deadline = time.monotonic() + seconds
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not is_alive(pid)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_server_has_the_settings_a_move_needs(server_factory: Callable[..., LocalServer], flavour: Flavour) -> None:
    server = server_factory(flavour)
    read = server.execute(
        "SELECT @@log_bin, @@binlog_format, @@binlog_row_image, @@sync_binlog, "
        "@@innodb_flush_log_at_trx_commit, @@local_infile, @@max_allowed_packet, @@server_id"
    )
    assert read == ((1, "ROW", "FULL", 1, 1, 1, 64 << 20, server.server_id),)
    if flavour is Flavour.MYSQL:
        assert server.execute("SELECT @@gtid_mode, @@secure_file_priv") == (("ON", ""),)
    assert server.url("shop") == f"{flavour.name.lower()}://root@127.0.0.1:{server.port}/shop"
    assert server.password not in repr(server)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_committed_rows_survive_a_kill(server_factory: Callable[..., LocalServer], flavour: Flavour) -> None:
    server = server_factory(flavour)
    server.execute("CREATE DATABASE shop", "CREATE TABLE shop.t (id INT PRIMARY KEY)", "INSERT INTO shop.t VALUES (7)")
    port, pid = server.port, server.pid
    assert pid is not None
    server.kill()
    assert not is_alive(pid)
    with pytest.raises(pymysql.err.OperationalError):
        server.connect()
    server.start()
    assert server.port == port
    assert server.execute("SELECT id FROM shop.t") == ((7,),)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_accounts_need_their_password(server_factory: Callable[..., LocalServer], flavour: Flavour) -> None:
    server = server_factory(flavour)
    with pytest.raises(pymysql.err.OperationalError, match="Access denied"):
        server.connect(password="")
    server.execute("CREATE DATABASE shop")
    server.create_user("app", "made-up", "SELECT ON shop.*")
    with server.connect(user="app", password="made-up", database="shop") as connection:
        assert connection.open
    everything_left = b"".join(path.read_bytes() for path in server.directory.iterdir() if path.is_file())
    assert server.password.encode() not in everything_left


def test_options_of_the_caller_win(server_factory: Callable[..., LocalServer]) -> None:
    server = server_factory(Flavour.MARIADB, sync_binlog="0", lower_case_table_names="1", skip_log_bin="")
    assert server.execute("SELECT @@sync_binlog, @@lower_case_table_names, @@log_bin") == ((0, 1, 0),)


def test_two_servers_have_distinct_identities(server_factory: Callable[..., LocalServer]) -> None:
    first, second = server_factory(), server_factory()
    assert first.server_id != second.server_id
    assert first.port != second.port


def test_restart_keeps_the_port_and_stop_is_repeatable(server_factory: Callable[..., LocalServer]) -> None:
    server = server_factory()
    port = server.port
    server.restart()
    assert (server.port, server.execute("SELECT 1")) == (port, ((1,),))
    pid = server.pid
    assert pid is not None
    server.stop()
    server.stop()
    assert not is_alive(pid)
    assert server.pid is None


def test_frozen_server_hangs_and_can_still_be_stopped(server_factory: Callable[..., LocalServer]) -> None:
    server = server_factory()
    with server.connect(read_timeout=1) as connection:
        server.freeze()
        with pytest.raises(pymysql.err.OperationalError), connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        server.thaw()
    assert server.execute("SELECT 1") == ((1,),)
    server.freeze()
    server.stop()
    assert not server.is_running


def test_failed_start_tells_the_end_of_the_error_log(server_factory: Callable[..., LocalServer]) -> None:
    with pytest.raises(FatalError) as caught:
        server_factory(Flavour.MARIADB, no_such_option="1")
    assert "no_such_option" in caught.value.cause
    assert caught.value.place.endswith("error.log")


def test_port_taken_between_choice_and_start_is_replaced(
    server_factory: Callable[..., LocalServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = server_factory()
    ports = iter([first.port])
    find = local_servers._find_free_port
    monkeypatch.setattr(local_servers, "_find_free_port", lambda: next(ports, None) or find())
    second = server_factory()
    assert second.port != first.port
    assert second.execute("SELECT @@port") == ((second.port,),)


def test_deep_directory_gets_a_socket_elsewhere(tmp_path: Path) -> None:
    with LocalServer.mariadb(tmp_path / ("d" * 120), name="deep") as server:
        assert server.execute("SELECT 1") == ((1,),)
        assert server.socket.is_socket()
        folder = server.socket.parent
    assert not folder.exists()


def test_server_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    """Killed with SIGKILL, the owner runs no clean-up; the kernel has to end the server."""
    script = (
        "import sys, time\nfrom pathlib import Path\n"
        "from dbmigrate.throwaway.local_servers import LocalServer\n"
        f"server = LocalServer.mariadb(Path({str(tmp_path)!r}), name='orphan')\n"
        "server.start()\nprint(server.pid, flush=True)\ntime.sleep(60)\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    assert is_alive(pid)
    owner.send_signal(signal.SIGKILL)
    owner.communicate()
    assert wait_until_gone(pid)


def test_server_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    server = LocalServer.mariadb(tmp_path, name="threaded")
    thread = Thread(target=server.start)
    thread.start()
    thread.join()
    try:
        time.sleep(0.2)
        assert server.execute("SELECT 1") == ((1,),)
    finally:
        server.stop()


def test_template_is_made_once_by_processes_that_ask_together(tmp_path: Path) -> None:
    """Two first runs side by side, each of which needs a template that is not there yet."""
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from dbmigrate.throwaway.local_servers import LocalServer\n"
        "with LocalServer.mariadb(Path(sys.argv[1]), name=sys.argv[2]) as server:\n"
        "    print(server.execute('SELECT COUNT(*) FROM mysql.db')[0][0])\n"
    )
    environment = os.environ | {"DBMIGRATE_CACHE": str(tmp_path / "cache")}
    runs = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path), name], env=environment, stdout=subprocess.PIPE)
        for name in ("one", "two")
    ]
    assert [run.communicate(timeout=120)[0].strip() for run in runs] == [b"0", b"0"]
    made = [path for path in (tmp_path / "cache/templates").iterdir() if path.is_dir()]
    assert len(made) == 1


def test_missing_server_program_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(FatalError) as caught:
        find_server_binary(Flavour.MYSQL, tmp_path)
    assert ".ci/mysql" in caught.value.hint
    assert server_binaries.MYSQL_TREE_VARIABLE in caught.value.hint


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_server_runs_for_an_ordinary_user() -> None:
    """The interpreter may be in root's home, so privileges are dropped once everything is imported."""
    script = (
        "import encodings.idna, os, sys\nfrom pathlib import Path\n"
        "from dbmigrate.throwaway.local_servers import LocalServer\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "with LocalServer.mariadb(Path(sys.argv[1]), name='plain') as server:\n"
        "    print(server.execute('SELECT 41 + 1')[0][0])\n"
    )
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o777)
        environment = os.environ | {"DBMIGRATE_CACHE": f"{directory}/cache"}
        done = subprocess.run(
            [sys.executable, "-c", script, directory],
            env=environment,
            cwd=directory,
            capture_output=True,
            text=True,
        )
    assert (done.returncode, done.stdout.strip()) == (0, "42"), done.stderr


@pytest.mark.parametrize("side", ["source", "target"])
def test_pairs_give_fresh_schemas_on_two_servers(flavour_pair: Pair, side: str) -> None:
    assert flavour_pair.source.server is not flavour_pair.target.server
    database = getattr(flavour_pair, side)
    assert database.execute("SHOW TABLES") == ()
    database.execute("CREATE TABLE t (id INT PRIMARY KEY)")
