"""Throwaway servers in containers, through Testcontainers: any release that has an image.

Apart from ``local_servers`` because its packages are an extra, imported only when a container is asked for.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Mapping
from typing import Any

from dbmigrate.domain.errors import ConfigurationError, FatalError
from dbmigrate.domain.flavours import Flavour, ServerVersion
from dbmigrate.throwaway.administration import AdministeredServer, build_default_options

START_SECONDS = 240.0
"""The first start of an image initialises a data directory, which takes minutes on a busy machine."""
_STOP_SECONDS = 30
_POLL_SECONDS = 0.2
_LOG_TAIL_BYTES = 2000
_PORT = 3306

_server_ids = itertools.count(os.getpid() % 100_000 * 100 + 51)


def find_engine_trouble() -> str:
    """Why no container can be started here; empty where one can."""
    try:
        import docker
        import testcontainers.core.container  # noqa: F401  # whether it is there
    except ImportError as missing:
        return f"the Python package {missing.name or 'testcontainers'} is not installed"
    try:
        client = docker.from_env(timeout=10)
        try:
            client.ping()
        finally:
            client.close()
    except Exception as fault:  # docker raises its own errors, and those of the three libraries below it
        return f"no Docker engine answers ({type(fault).__name__})"
    return ""


def require_engine() -> None:
    """Say how to get containers where there are none.

    Raises:
        ConfigurationError: packages or the engine are missing.
    """
    if trouble := find_engine_trouble():
        raise ConfigurationError(
            f"containers cannot be used: {trouble}", place="Docker",
            hint="pip install 'dbmigrate[rehearsal]' and start Docker, or use private local servers: --servers local",
        )  # fmt: skip


def flavour_of_image(image: str) -> Flavour:
    """By the image's own name, without registry, folder and tag."""
    name = image.rsplit("/", 1)[-1].lower()
    return Flavour.MARIADB if "mariadb" in name else Flavour.MYSQL


def official_image(version: ServerVersion) -> str:
    """The official image of a release series: ``mariadb:10.11``, ``mysql:8.4``."""
    return f"{version.flavour.name.lower()}:{version.release[0]}.{version.release[1]}"


class ContainerServer(AdministeredServer):
    """One server in a container of ``image``, an official one or one that keeps to its environment variables.

    ``options`` are server options by name; they win over the defaults.
    """

    def __init__(self, image: str, *, name: str, options: Mapping[str, str] | None = None) -> None:
        super().__init__(flavour_of_image(image), name=name)
        self.image = image
        defaults = build_default_options(self.flavour) | {"server_id": str(next(_server_ids))}
        self.options = defaults | {key.replace("-", "_"): value for key, value in (options or {}).items()}
        self._container: Any = None

    def __repr__(self) -> str:
        return f"ContainerServer({self.name!r}, {self.image!r}, port={self.port})"

    def start(self) -> None:
        """Create the container, or start it again, and return once the server answers.

        Raises:
            ConfigurationError: there is no engine, or Testcontainers is not installed.
            FatalError: the image is not there, or the server did not answer in time.
        """
        if self._container is None:
            require_engine()
            self._create()
        else:
            self._container.get_wrapped_container().start()
        self._await_answer()

    def stop(self) -> None:
        """Remove the container with its data."""
        container, self._container = self._container, None
        if container is not None:
            container.stop(force=True, delete_volume=True)

    def restart(self) -> None:
        """Stop the server cleanly and start it again; the engine may publish it on another port.

        Raises:
            FatalError: the engine refuses, or the server did not answer in time.
        """
        try:
            self._container.get_wrapped_container().restart(timeout=_STOP_SECONDS)
        except Exception as fault:  # the engine's answer, whatever library brings it
            raise FatalError("the container could not be restarted", place=self.name, cause=str(fault)[:500]) from fault
        self._await_answer()

    def _create(self) -> None:
        from testcontainers.core.container import DockerContainer

        command = [f"--{key.replace('_', '-')}={value}" for key, value in self.options.items()]
        container = (
            DockerContainer(self.image)
            .with_env("MYSQL_ROOT_PASSWORD", self.password)
            .with_command(command)
            .with_exposed_ports(_PORT)
        )
        try:
            container.start()
        except Exception as fault:  # the engine's answer, whatever library brings it
            with contextlib.suppress(Exception):
                container.stop()
            raise FatalError(
                f"a container of {self.image} could not be started", place=self.name, cause=str(fault)[:500],
                hint=f"docker pull {self.image}, or name another image",
            ) from fault  # fmt: skip
        self._container = container

    def _await_answer(self) -> None:
        """Return once a root connection opens over TCP; the servers that only create accounts have no network."""
        until = time.monotonic() + START_SECONDS
        try:
            while time.monotonic() < until:
                if self._find_address() and self.answers():
                    return
                if not self._is_running():
                    break
                time.sleep(_POLL_SECONDS)
            cause = self._read_log_end()
        except BaseException:
            self.stop()
            raise
        self.stop()
        raise FatalError(f"the server in {self.image} did not answer", place=self.name, cause=cause)

    def _find_address(self) -> bool:
        with contextlib.suppress(Exception):  # while it restarts, the engine knows no port
            self._container.reload()
            host = self._container.get_container_host_ip()
            self.port = int(self._container.get_exposed_port(_PORT))
            self.host = "127.0.0.1" if host == "localhost" else host
            return True
        return False

    def _is_running(self) -> bool:
        wrapped = self._container.get_wrapped_container()
        wrapped.reload()
        return wrapped.status in ("running", "restarting", "created")

    def _read_log_end(self) -> str:
        with contextlib.suppress(Exception):
            return str(self._container.get_wrapped_container().logs(tail=20).decode(errors="replace"))[-_LOG_TAIL_BYTES:]
        return ""
