"""The same pair in containers, as a team with Docker has it: started by Testcontainers, reached over mapped ports."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing

import pymysql
import pytest

from dbmigrate.throwaway.shop import Writers, compare, create_shop, fill_shop

pytestmark = pytest.mark.containers

IMAGES = ("mariadb:10.11", "mysql:9.7")
PASSWORD = "made-up"


@pytest.fixture(scope="module")
def docker_engine() -> None:
    """Skip at home without an engine, with the way to get one; in CI that is a failure."""
    docker = pytest.importorskip("docker")
    try:
        docker.from_env().ping()
    except docker.errors.DockerException as error:
        reason = f'no Docker engine answers ({error}); eval "$(.ci/docker)" starts one'
        if os.environ.get("CI", "").lower() in ("true", "1"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


@pytest.fixture(scope="module")
def addresses(docker_engine: None) -> Iterator[dict[str, tuple[str, int]]]:
    """Host and port of a running container for each image."""
    from testcontainers.community.mysql import MySqlContainer

    containers = {image: MySqlContainer(image, root_password=PASSWORD, dbname="shop") for image in IMAGES}
    try:
        yield {
            image: (container.start().get_container_host_ip(), int(container.get_exposed_port(3306)))
            for image, container in containers.items()
        }
    finally:
        for container in containers.values():
            container.stop()


def connect(address: tuple[str, int]) -> pymysql.connections.Connection[pymysql.cursors.Cursor]:
    host, port = address
    return pymysql.connect(
        host=host, port=port, user="root", password=PASSWORD, database="shop", charset="utf8mb4", autocommit=True
    )


@pytest.mark.parametrize(("image", "version"), [("mariadb:10.11", "10.11."), ("mysql:9.7", "9.7.")])
def test_container_runs_the_release_its_name_says(
    addresses: dict[str, tuple[str, int]], image: str, version: str
) -> None:
    with closing(connect(addresses[image])) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT VERSION()")
        assert cursor.fetchone()[0].startswith(version)


def test_shop_is_the_same_in_both_containers_and_takes_writes(addresses: dict[str, tuple[str, int]]) -> None:
    with closing(connect(addresses[IMAGES[0]])) as source, closing(connect(addresses[IMAGES[1]])) as target:
        for connection in (source, target):
            create_shop(connection, "shop")
            fill_shop(connection, "shop", 2_000)
        assert compare(source, target, "shop").differing == 0
        with Writers(lambda: connect(addresses[IMAGES[1]]), rate=100) as writers:
            while writers.committed < 50 and not writers.failed:
                time.sleep(0.05)
        assert writers.errors == []
        assert writers.verify_journal(target) == (0, 0)
