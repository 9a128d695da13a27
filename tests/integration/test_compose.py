"""docker-compose.yml offers servers that dbmigrate can work with: every option exists and says what the move needs.

Read as text: the file is simple, and a parser of YAML would be a dependency for this test alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from dbmigrate.domain.flavours import Flavour
from dbmigrate.rehearsal.local_servers import LocalServer

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
    ports = re.findall(r'^      - "(.*):(\d+):3306"', COMPOSE.read_text(), re.MULTILINE)
    assert [address for address, _ in ports] == ["127.0.0.1", "127.0.0.1"]
    assert len({port for _, port in ports}) == 2


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
