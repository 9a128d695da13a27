"""docker-compose.yml offers servers that dbmigrate can work with: every option exists and says what the move needs.

Read as text: the file is simple, and a parser of YAML would be a dependency for this test alone.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dbmigrate.domain.flavours import Flavour
from dbmigrate.throwaway.local_servers import LocalServer

COMPOSE = Path(__file__).parents[2] / "docker-compose.yml"

SERVICES = {"source": ("mariadb:10.11", Flavour.MARIADB), "target": ("mysql:9.7", Flavour.MYSQL)}
NEEDED = {"binlog_format": "ROW", "sync_binlog": "1", "innodb_flush_log_at_trx_commit": "1", "local_infile": "ON"}


def read_service(name: str) -> str:
    """The lines of one service."""
    found = re.search(rf"^  {name}:\n((?:    .*\n|\n)+)", COMPOSE.read_text(), re.MULTILINE)
    assert found, f"no service {name}"
    return found[1]


def read_options(name: str) -> dict[str, str]:
    """The options on a service's command line, by the names of their variables."""
    pairs = re.findall(r"^      - --([a-z-]+)=(\S+)", read_service(name), re.MULTILINE)
    return {option.replace("-", "_"): value for option, value in pairs}


@pytest.mark.parametrize("name", SERVICES)
def test_service_has_the_image_and_the_settings_of_a_move(name: str) -> None:
    image, _ = SERVICES[name]
    assert f"    image: {image}\n" in read_service(name)
    options = read_options(name)
    assert options.items() >= NEEDED.items()
    assert "log_bin" in options


def test_services_have_distinct_ids_and_ports_of_this_machine_only() -> None:
    assert read_options("source")["server_id"] != read_options("target")["server_id"]
    ports = re.findall(r'^      - "(.*):(\d+):(?:3306|8000)"', COMPOSE.read_text(), re.MULTILINE)
    assert [address for address, _ in ports] == ["127.0.0.1"] * 3
    assert len({port for _, port in ports}) == 3


def test_every_option_says_why_or_speaks_for_itself() -> None:
    plain = {"character_set_server"}
    for option in read_options("source").keys() - plain:
        spelled = option.replace("_", "-")
        assert re.search(rf"--{spelled}=\S+ +# \S", read_service("source")), f"--{spelled} has no reason beside it"


@pytest.mark.parametrize("name", ["source", pytest.param("target", marks=pytest.mark.mysql)])
def test_servers_accept_these_options(server_factory: Callable[..., LocalServer], name: str) -> None:
    options = read_options(name)
    server = server_factory(SERVICES[name][1], **options)
    read = {option: str(value) for option, value in server.execute("SHOW GLOBAL VARIABLES")}
    for option, value in NEEDED.items():
        assert read[option] == value
    assert read["server_id"] == options["server_id"]


# --- the whole file, as `docker compose up` runs it ---

ROOT = COMPOSE.parent
PORTS = {"source": 3306, "target": 3306, "store": 8000}
GATES = """
[gates]
min_mirrored_writes = 5
min_shadow_samples = 5
min_target_reads = 5
latency_floor_seconds = 5.0
[cutover]
fence = "app"
[app]
enabled = true
read_ramp = [50.0, 100.0]
ramp_step_seconds = 1.0
"""


class Stack:
    """The services under a name and on ports of their own, so that nobody else's are touched."""

    def __init__(self, folder: Path) -> None:
        override = folder / "ports.yml"
        services = (f'  {name}:\n    ports: !override ["127.0.0.1::{port}"]\n' for name, port in PORTS.items())
        override.write_text("services:\n" + "".join(services))
        plugin = subprocess.run([ROOT / ".ci" / "compose"], capture_output=True, text=True, check=True).stdout.split()[-1]
        self._command = [plugin, "-f", str(COMPOSE), "-f", str(override), "-p", f"dbmigrate-test-{os.getpid()}"]

    def run(self, *arguments: str) -> str:
        done = subprocess.run([*self._command, *arguments], capture_output=True, text=True, check=False, cwd=ROOT)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def address(self, name: str) -> str:
        return self.run("port", name, str(PORTS[name])).strip()

    def fetch(self, side: str, sql: str) -> str:
        client = "mariadb" if side == "source" else "mysql"
        return self.run("exec", "-T", "-e", "MYSQL_PWD=throw-away", side, client, "-h127.0.0.1", "-uroot", "-Nse", sql).strip()


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """Up, healthy, and removed with its volumes afterwards. The image is built from wheels: no index is asked inside."""
    wheels = ROOT / "images" / "wheels"
    shutil.rmtree(wheels, ignore_errors=True)  # those of an earlier run may lack what the store needs now
    packages = [f"{ROOT}[store]", "setuptools>=68", "wheel"]
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "-w", str(wheels), *packages], check=True)
    running = Stack(tmp_path)
    try:
        running.run("build", "--build-arg", "PIP_NO_INDEX=1")
        running.run("up", "-d", "--wait")
        yield running
    finally:
        running.run("down", "-v", "--rmi", "local")


@pytest.mark.containers
@pytest.mark.timeout(900)
def test_the_store_sells_on_the_source_and_moves_to_the_target(stack: Stack, tmp_path: Path) -> None:
    """What the comments of the file promise, with customers at the door: no request fails, and the target has the orders."""
    path = tmp_path / "dbmigrate.toml"
    environment = {**os.environ, "SOURCE_PASSWORD": "throw-away", "TARGET_PASSWORD": "throw-away"}

    def dbmigrate(*arguments: str) -> None:
        command = [sys.executable, "-m", "dbmigrate", *arguments, "-c", str(path)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=400)
        assert done.returncode == 0, done.stderr[-3000:]

    schemes = {"source": "mariadb", "target": "mysql"}
    urls = {side: f"{scheme}://root@{stack.address(side)}/shop" for side, scheme in schemes.items()}
    dbmigrate("init", "--id", "store", "--source", urls["source"], "--target", urls["target"])
    kept = path.read_text().split("\n[cutover]")[0].split("\n[gates]")[0]
    path.write_text(kept + GATES)
    load = subprocess.Popen(
        [sys.executable, "-m", "dbmigrate.store.load", f"http://{stack.address('store')}", "--seconds", "90", "--rate", "30"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    dbmigrate("check")
    dbmigrate("run", "--yes", "--until", "cutover")
    sold = int(stack.fetch("target", "SELECT COUNT(*) FROM shop.orders"))
    result = json.loads(load.communicate(timeout=200)[0])
    assert result["failed_requests"] == 0
    assert result["requests"] > 500
    assert int(stack.fetch("target", "SELECT COUNT(*) FROM shop.orders")) > sold
    assert stack.fetch("target", "SELECT owner FROM _dbmigrate.fence") == "target"
