"""Loading an SQL file with the server's own client program, which knows delimiters, comments and character sets."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from dbmigrate.domain.errors import ConfigurationError, FatalError
from dbmigrate.domain.flavours import Flavour
from dbmigrate.rehearsal.servers import StandIn

_CLIENTS = {Flavour.MARIADB: ("mariadb", "mysql"), Flavour.MYSQL: ("mysql", "mariadb")}
_LOAD_SECONDS = 3600


def require_readable(path: Path, option: str) -> None:
    """Before anything is started.

    Raises:
        ConfigurationError: the file cannot be read.
    """
    try:
        with path.open("rb"):
            pass
    except OSError as fault:
        raise ConfigurationError(
            f"{path} cannot be read", place=option, cause=fault.strerror or "", hint="name an SQL file"
        ) from None


def find_client(flavour: Flavour) -> str:
    """The client program.

    Raises:
        ConfigurationError: there is none on this machine.
    """
    for name in _CLIENTS[flavour]:
        if found := shutil.which(name):
            return found
    raise ConfigurationError(
        "no client program to load an SQL file with", place=" or ".join(_CLIENTS[flavour]),
        hint="install mariadb-client or mysql-client",
    )  # fmt: skip


def load_dump(stand_in: StandIn, path: Path, directory: Path) -> None:
    """Run an SQL file in the stand-in's database.

    Raises:
        ConfigurationError: no client program.
        FatalError: a statement failed; the cause is the client's message.
    """
    options = directory / f"{stand_in.side.value}-client.cnf"
    options.touch(mode=0o600)
    options.write_text(
        f'[client]\nuser={stand_in.server.user}\npassword="{stand_in.server.password}"\nhost={stand_in.server.host}\n'
        f"port={stand_in.server.port}\nprotocol=tcp\ndefault-character-set=utf8mb4\n"
    )
    command = [find_client(stand_in.server.flavour), f"--defaults-file={options}", "--binary-mode", stand_in.schema]
    try:
        with path.open("rb") as dump:
            done = subprocess.run(  # noqa: S603  # a client program found above, no shell
                command, stdin=dump, capture_output=True, check=False, timeout=_LOAD_SECONDS
            )
    except subprocess.TimeoutExpired:
        raise FatalError(f"{path} was not loaded within an hour", place=stand_in.name, hint="take a smaller dump") from None
    finally:
        options.unlink(missing_ok=True)
    if done.returncode:
        raise FatalError(
            f"{path} could not be loaded", place=stand_in.name, cause=done.stderr.decode(errors="replace").strip()[-1000:],
            hint="dump one database without CREATE DATABASE and USE: mariadb-dump --single-transaction shop",
        )  # fmt: skip
