"""Where the server programs are, how they are run, and data directories ready to start from.

Apart from ``local_servers`` because it knows files and programs, not running servers. A program is taken from
this machine, or from a tree of another release (``.ci/mysql`` makes one) and run with its own libraries.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dbmigrate.domain.errors import FatalError
from dbmigrate.domain.flavours import Flavour

MYSQL_TREE_VARIABLE = "DBMIGRATE_MYSQL_TREE"
MARIADB_TREE_VARIABLE = "DBMIGRATE_MARIADB_TREE"

_PROGRAMS = {Flavour.MARIADB: ("mariadbd", "mysqld"), Flavour.MYSQL: ("mysqld",)}
_FOLDERS = ("/usr/sbin", "/usr/libexec", "/usr/local/sbin", "/usr/local/bin", "/usr/local/mysql/bin")
_TREE_FOLDERS = ("usr/sbin", "usr/libexec", "usr/bin", "bin", "sbin")
_HINTS = {
    Flavour.MARIADB: "install the package mariadb-server (Debian, Ubuntu); its service need not run",
    Flavour.MYSQL: f"run .ci/mysql and put the path it prints into {MYSQL_TREE_VARIABLE}",
}

# What is fixed when a data directory is made: a template serves only servers that agree on these.
_INITIAL_OPTIONS = (
    "innodb_page_size", "innodb_data_file_path", "innodb_undo_tablespaces", "innodb_checksum_algorithm",
    "lower_case_table_names", "character_set_server", "collation_server",
)  # fmt: skip
_TEMPLATE_GENERATION = "1"  # raise it when the way templates are made changes
_INITIALISE_SECONDS = 180
_NOT_INITIALISED = "the data directory could not be initialised"

# The order in which mariadb-install-db feeds them; the help tables are left out, they are half of the time.
_SYSTEM_SQL = (
    "system_tables.sql", "performance_tables.sql", "system_tables_data.sql",
    "maria_add_gis_sp_bootstrap.sql", "sys_schema.sql",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ServerBinary:
    """One server program. ``command`` starts it (a loader before it where it comes from a tree)."""

    flavour: Flavour
    command: tuple[str, ...]
    base: Path
    version: str


def find_server_binary(flavour: Flavour, root: Path | None = None) -> ServerBinary:
    """The program of this flavour: in ``root``, else in the tree the environment names, else on this machine.

    Raises:
        FatalError: there is none; the hint says how to get it.
    """
    tree = root or _tree_of(flavour)
    for command, base in _candidates(flavour, tree):
        version = _read_version(command)
        if version and ("mariadb" in version.lower()) is (flavour is Flavour.MARIADB):
            return ServerBinary(flavour, command, base, version)
    raise FatalError(
        f"no {flavour.value} server program was found",
        place=str(tree) if tree else "this machine",
        hint=_HINTS[flavour],
    )


def find_program_in_tree(flavour: Flavour, name: str) -> tuple[str, ...] | None:
    """The command of another program (a client) in the flavour's tree; None where there is no tree, or not in it."""
    tree = _tree_of(flavour)
    if tree is None:
        return None
    found = [tree / folder / name for folder in _TREE_FOLDERS if (tree / folder / name).is_file()]
    return _command_in_tree(tree, found[0]) if found else None


def cache_folder() -> Path:
    """Where trees and templates are kept between runs."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dbmigrate"
    return Path(os.environ.get("DBMIGRATE_CACHE") or default)


def copy_template(binary: ServerBinary, options: Mapping[str, str], destination: Path) -> None:
    """Fill ``destination`` with a fresh data directory, made once per program and copied from then on.

    Safe when several processes ask at once: one makes the template, the others wait for it.

    Raises:
        FatalError: the server could not initialise a data directory.
    """
    initial = {name: options[name] for name in _INITIAL_OPTIONS if name in options}
    account = str(os.geteuid())
    facts = (_TEMPLATE_GENERATION, *binary.command, binary.version, repr(sorted(initial.items())), account)
    name = hashlib.sha256("\0".join(facts).encode()).hexdigest()[:16]
    folder = cache_folder() / "templates"
    folder.mkdir(parents=True, exist_ok=True)
    template = folder / f"{binary.flavour.name.lower()}-{name}"
    with (folder / f"{template.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not template.is_dir():
            _make_template(binary, initial, template)
    shutil.copytree(template, destination)


def _tree_of(flavour: Flavour) -> Path | None:
    variable = MYSQL_TREE_VARIABLE if flavour is Flavour.MYSQL else MARIADB_TREE_VARIABLE
    named = os.environ.get(variable)
    if named:
        return Path(named)
    cached = cache_folder() / "mysql"  # where .ci/mysql puts it
    return cached if flavour is Flavour.MYSQL and (cached / "usr/sbin/mysqld").exists() else None


def _candidates(flavour: Flavour, tree: Path | None) -> list[tuple[tuple[str, ...], Path]]:
    if tree is not None:
        programs = [tree / folder / name for name in _PROGRAMS[flavour] for folder in _TREE_FOLDERS]
        return [(_command_in_tree(tree, program), tree / "usr") for program in programs if program.is_file()]
    path = os.pathsep.join((os.environ.get("PATH", ""), *_FOLDERS))
    found = [shutil.which(name, path=path) for name in _PROGRAMS[flavour]]
    return [((program,), Path(program).resolve().parent.parent) for program in found if program]


def _command_in_tree(tree: Path, program: Path) -> tuple[str, ...]:
    """A program of another release needs that release's libraries, and they need its loader."""
    loaders = sorted(tree.glob("lib64/ld-linux-*.so.*")) or sorted(tree.glob("usr/lib/ld-linux-*.so.*"))
    if not loaders:
        return (str(program),)
    folders = [*tree.glob("usr/lib/*-linux-gnu*"), *tree.glob("lib/*-linux-gnu*")]
    return (str(loaders[0]), "--library-path", ":".join(map(str, folders)), str(program))


def _read_version(command: Sequence[str]) -> str:
    try:
        asked = subprocess.run(  # noqa: S603 - a program found above, no shell
            [*command, "--no-defaults", "--version"], capture_output=True, text=True, check=False, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout.strip() if asked.returncode == 0 else ""


def _make_template(binary: ServerBinary, initial: Mapping[str, str], template: Path) -> None:
    with tempfile.TemporaryDirectory(dir=template.parent, prefix=f"{template.name}.") as scratch:
        data = Path(scratch, "data")
        data.mkdir()
        arguments = [
            *binary.command,
            "--no-defaults",
            f"--basedir={binary.base}",
            f"--datadir={data}",
            f"--tmpdir={scratch}",
            *(f"--{name.replace('_', '-')}={value}" for name, value in initial.items()),
            *(["--user=root"] if os.geteuid() == 0 else []),
        ]
        if binary.flavour is Flavour.MARIADB:
            arguments += ["--bootstrap", "--innodb-log-file-size=8M", "--skip-log-bin"]
            sql = _read_system_sql(binary.base)
        else:
            arguments += ["--initialize-insecure", "--innodb-redo-log-capacity=8M", "--skip-log-bin"]
            sql = b""
        _run_to_end(arguments, sql, place=str(template))
        (data / "auto.cnf").unlink(missing_ok=True)  # the server's UUID: each copy makes its own
        data.rename(template)


def _run_to_end(arguments: Sequence[str], sql: bytes, *, place: str) -> None:
    try:
        done = subprocess.run(  # noqa: S603 - the server program, no shell
            list(arguments), input=sql, capture_output=True, check=False, timeout=_INITIALISE_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FatalError(_NOT_INITIALISED, place=place, cause=str(error)) from error
    if done.returncode:
        end = (done.stderr + done.stdout).decode(errors="replace")[-2000:]
        raise FatalError(_NOT_INITIALISED, place=place, cause=end)


def _read_system_sql(base: Path) -> bytes:
    """The statements that create MariaDB's own tables; releases differ in folder and file prefix."""
    folders = [base / "share" / name for name in ("mysql", "mariadb", "")]
    prefixes = ("mariadb_", "mysql_", "")
    parts = [b"CREATE DATABASE IF NOT EXISTS mysql;\nUSE mysql;\nSET @auth_root_socket = NULL;\n"]
    for name in _SYSTEM_SQL:
        spellings = [folder / f"{prefix}{name}" for folder in folders for prefix in prefixes]
        found = next((path for path in spellings if path.is_file()), None)
        if found is None:
            raise FatalError(f"MariaDB's {name} is missing", place=str(base), hint=_HINTS[Flavour.MARIADB])
        parts.append(b"".join(line for line in found.open("rb") if b"@current_hostname" not in line))
    return b"\n".join(parts)
