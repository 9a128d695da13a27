"""The client programs of a flavour: dump and client, from this machine or from the tree that the servers come from."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from bench.harness import MISSING_PEER, BenchError
from dbmigrate.domain.flavours import Flavour
from dbmigrate.throwaway.server_binaries import find_program_in_tree


@dataclass(frozen=True, slots=True)
class ClientPrograms:
    """Commands without their options. ``dump_options`` are what this flavour's dump needs to be comparable."""

    dump: tuple[str, ...]
    client: tuple[str, ...]
    dump_options: tuple[str, ...] = ()


def find_client_programs(flavour: Flavour) -> ClientPrograms:
    """Raises BenchError (exit 2) where they are not installed."""
    names = ("mariadb-dump", "mariadb") if flavour is Flavour.MARIADB else ("mysqldump", "mysql")
    found = [find_program_in_tree(flavour, name) or _find_here(name) for name in names]
    # Without GTIDs in the dump: the target has some of its own.
    return ClientPrograms(found[0], found[1], () if flavour is Flavour.MARIADB else ("--set-gtid-purged=OFF",))


def _find_here(name: str) -> tuple[str, ...]:
    path = shutil.which(name)
    if path is None:
        raise BenchError(f"{name} not found: apt-get install mariadb-client, or run .ci/mysql", exit_code=MISSING_PEER)
    return (path,)
