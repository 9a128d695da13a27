"""DESIGN section 7 as a test: who may import whom, what the domain may not touch, how modules are named.

The rules read source text, so that a rule can be shown to fail on a module written wrong on purpose.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import dbmigrate

PACKAGE = Path(dbmigrate.__file__).parent

LAYERS = (
    {"domain"},
    {"config", "telemetry"},
    {"mysql"},
    {"cluster", "copying", "streaming", "verifying", "app", "lanes", "throwaway"},
    {"store"},
    {"workflow"},
    {"rehearsal"},
    {"cli", "__main__", "pytest_plugin"},
)
RANKS = {room: rank for rank, layer in enumerate(LAYERS) for room in layer}

SIBLINGS = {
    (
        "config",
        "telemetry",
    ): "a password is registered for redaction where it is read, so no reader can forget",
    ("__main__", "cli"): "python -m dbmigrate is the same command",
}

CONFINED = {
    "click": "cli", "rich": "cli", "pymysql": "mysql", "pymysqlreplication": "mysql", "fastapi": "store", "uvicorn": "store", "alembic": "lanes",
    "distributed": "cluster",
}  # fmt: skip

STORE_IMPORTS = {"app"}
"""The sample store is a user's application: it knows the library that lives in applications, and nothing else."""

STORE_IMPORTERS = ("dbmigrate.workflow.demo", "dbmigrate.cli")
"""Who shows the store. A module that begins with one of these names is one of them."""

CONFINED_EXCEPTIONS = {
    (
        "dbmigrate.throwaway.administration",
        "pymysql",
    ): "administrative connections wait for a server that "
    "was just started and create its accounts; no data of a move passes through them",
}

NOT_IN_DOMAIN = {
    "asyncio", "concurrent", "ctypes", "fcntl", "glob", "http", "io", "logging", "mmap", "multiprocessing",
    "os", "pathlib", "queue", "random", "sched", "secrets", "select", "selectors", "shutil", "signal",
    "socket", "socketserver", "sqlite3", "ssl", "subprocess", "tempfile", "threading", "time", "urllib",
    "uuid",
}  # fmt: skip
"""Standard modules that do I/O, wait, keep time, or differ from run to run."""

NOT_CALLED_IN_DOMAIN = {"open", "print", "input", "now", "utcnow", "today"}

VAGUE_NAMES = {"util", "utils", "helper", "helpers", "manager", "managers"}


def find_faults(name: str, source: str, *, is_package: bool = False) -> list[str]:
    """Everything wrong with the module ``name``, one sentence each."""
    tree = ast.parse(source)
    rules = (_faults_of_layers, _faults_of_store, _faults_of_confinement, _faults_of_domain)
    imported = set(_imports(name, tree, is_package=is_package))
    faults = [fault for rule in rules for fault in rule(name, imported)]
    return faults + list(_faults_of_calls(name, tree)) + list(_faults_of_form(name, tree))


def _imports(name: str, tree: ast.AST, *, is_package: bool) -> Iterator[str]:
    """Dotted names, wherever they are imported: in functions and under TYPE_CHECKING too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _resolve(name, node, is_package=is_package)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _resolve(name: str, node: ast.ImportFrom, *, is_package: bool) -> str:
    if not node.level:
        return node.module or ""
    parts = name.split(".")
    kept = parts[: len(parts) - node.level + int(is_package)]
    return ".".join([*kept, *filter(None, [node.module])])


def _room(name: str) -> str:
    """The folder or module right below ``dbmigrate``; empty for the package itself."""
    return [*name.split("."), ""][1]


def _faults_of_layers(name: str, imported: set[str]) -> Iterator[str]:
    here = _room(name)
    if here and here not in RANKS:
        yield f"{name} is in no layer of DESIGN section 7"
        return
    for there in {_room(other) for other in imported if other.split(".")[0] == "dbmigrate"} - {here}:
        if there not in RANKS:
            continue  # a name of dbmigrate/__init__.py, which imports nothing itself
        if not here:
            yield f"{name} is imported by everything and must import nothing, not {there}"
        elif RANKS[there] > RANKS[here]:
            yield f"{name} imports {there}, which is above it"
        elif RANKS[there] == RANKS[here] and (here, there) not in SIBLINGS:
            yield f"{name} imports its sibling {there}"


def _faults_of_store(name: str, imported: set[str]) -> Iterator[str]:
    here, rooms = _room(name), {_room(other) for other in imported if other.split(".")[0] == "dbmigrate"}
    if here == "store":
        for there in sorted(rooms & RANKS.keys() - STORE_IMPORTS - {here}):
            if RANKS[there] < RANKS[here]:
                yield f"{name} imports {there}, which a user's application would not"
    elif "store" in rooms and RANKS.get(here, 0) > RANKS["store"] and not name.startswith(STORE_IMPORTERS):
        yield f"{name} imports store, which only the demo and the command line may"


def _faults_of_confinement(name: str, imported: set[str]) -> Iterator[str]:
    for top in {other.split(".")[0] for other in imported}:
        room = CONFINED.get(top)
        if room and _room(name) != room and (name, top) not in CONFINED_EXCEPTIONS:
            yield f"{name} imports {top}, which only {room} may"


def _faults_of_domain(name: str, imported: set[str]) -> Iterator[str]:
    if _room(name) != "domain":
        return
    for top in {other.split(".")[0] for other in imported} - {"dbmigrate"}:
        if top not in sys.stdlib_module_names:
            yield f"{name} imports {top}, which is not in the standard library"
        elif top in NOT_IN_DOMAIN:
            yield f"{name} imports {top}, but the domain does no I/O, waits for nothing and knows no clock"


def _faults_of_calls(name: str, tree: ast.AST) -> Iterator[str]:
    if _room(name) != "domain":
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if called in NOT_CALLED_IN_DOMAIN:
                yield f"{name} calls {called}() but the domain does no I/O and knows no clock"


def _faults_of_form(name: str, tree: ast.Module) -> Iterator[str]:
    if VAGUE_NAMES & set(name.split(".")[-1].split("_")):
        yield f"{name} is a name for anything; say what is in it"
    opening = (ast.get_docstring(tree) or "").split("\n\n")[0].strip()
    if len(opening.split()) < 3 or not any(mark in opening for mark in (".", ":")):
        yield f"{name} does not say in a sentence what it is for"


def _modules() -> dict[str, Path]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = (PACKAGE.name, *path.relative_to(PACKAGE).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@pytest.mark.parametrize("name", _modules())
def test_module_keeps_to_the_architecture(name: str) -> None:
    """Every module of the package obeys every rule."""
    path = _modules()[name]
    source = path.read_text(encoding="utf-8")
    assert find_faults(name, source, is_package=path.name == "__init__.py") == []


@pytest.mark.parametrize(("name", "module"), CONFINED_EXCEPTIONS)
def test_exception_is_still_needed(name: str, module: str) -> None:
    """An exception whose module no longer uses it must be taken off the list."""
    path = _modules().get(name)
    if path is None:
        return  # not written yet
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert module in {other.split(".")[0] for other in _imports(name, tree, is_package=False)}


WRONG = [
    ("dbmigrate.domain.keys", "import socket", "imports socket"),
    ("dbmigrate.domain.keys", "import os.path", "imports os"),
    ("dbmigrate.domain.keys", "from time import sleep", "imports time"),
    ("dbmigrate.domain.keys", "import pydantic", "not in the standard library"),
    ("dbmigrate.domain.keys", "from dbmigrate.config import Config", "config, which is above"),
    ("dbmigrate.domain.keys", "from datetime import datetime\nAT = datetime.now()", "calls now()"),
    ("dbmigrate.domain.keys", "def f():\n    open('x')", "calls open()"),
    ("dbmigrate.config", "from dbmigrate.mysql.sessions import Endpoint", "mysql, which is above"),
    ("dbmigrate.telemetry", "from dbmigrate import config", "imports its sibling config"),
    ("dbmigrate.mysql.binlog", "from dbmigrate.streaming import stream", "streaming, which is above"),
    ("dbmigrate.mysql.binlog", "from ..streaming import stream", "streaming, which is above"),
    ("dbmigrate.copying.chunks", "from dbmigrate.streaming import stream", "imports its sibling streaming"),
    ("dbmigrate.copying.chunks", "from dbmigrate import streaming", "imports its sibling streaming"),
    ("dbmigrate.copying.chunks", "def f():\n    import dbmigrate.verifying", "imports its sibling verifying"),
    (
        "dbmigrate.copying.chunks",
        "if TYPE_CHECKING:\n    import dbmigrate.workflow",
        "workflow, which is above",
    ),
    ("dbmigrate.copying.chunks", "from pymysql.err import OperationalError", "pymysql, which only mysql may"),
    ("dbmigrate.streaming.stream", "import pymysqlreplication", "pymysqlreplication, which only mysql may"),
    ("dbmigrate.throwaway.demo", "import pymysql", "pymysql, which only mysql may"),
    ("dbmigrate.workflow.run", "import click", "click, which only cli may"),
    ("dbmigrate.workflow.run", "from rich.table import Table", "rich, which only cli may"),
    ("dbmigrate.workflow.run", "from dbmigrate.cli import main", "cli, which is above"),
    ("dbmigrate.workflow.runner", "import fastapi", "fastapi, which only store may"),
    ("dbmigrate.workflow.runner", "from alembic import command", "alembic, which only lanes may"),
    ("dbmigrate.workflow.runner", "from dbmigrate.store.load import Load", "store, which only the demo and"),
    ("dbmigrate.throwaway.shop", "from dbmigrate.store.load import Load", "store, which is above"),
    ("dbmigrate.app.session", "from dbmigrate.store import models", "store, which is above"),
    ("dbmigrate.store.web", "from dbmigrate.mysql.sessions import Session", "mysql, which a user's application"),
    ("dbmigrate.store.serve", "from dbmigrate.throwaway import shop", "throwaway, which a user's application"),
    ("dbmigrate.store.serve", "from dbmigrate.workflow import demo", "workflow, which is above"),
    ("dbmigrate", "from dbmigrate.config import Config", "must import nothing"),
    ("dbmigrate.tools.x", "", "is in no layer"),
    ("dbmigrate.mysql.utils", "", "a name for anything"),
    ("dbmigrate.mysql.session_manager", "", "a name for anything"),
]


@pytest.mark.parametrize(("name", "body", "fault"), WRONG)
def test_checker_sees_what_is_wrong(name: str, body: str, fault: str) -> None:
    """A module written wrong in one way is reported for just that."""
    faults = find_faults(name, f'"""What this module is for: a sample."""\n{body}')
    assert len(faults) == 1
    assert fault in faults[0]


@pytest.mark.parametrize("source", ["", '"""dbmigrate/mysql"""', '"""Things."""'])
def test_checker_sees_a_missing_sentence(source: str) -> None:
    """No docstring, a path or a single word are not a sentence."""
    assert find_faults("dbmigrate.mysql.x", source) == ["dbmigrate.mysql.x does not say in a sentence what it is for"]


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("dbmigrate.cli.main", "import click\nfrom dbmigrate.workflow.run import run"),
        ("dbmigrate.cli.main", "from dbmigrate.config import Config"),
        ("dbmigrate.mysql.sessions", "import pymysql\nfrom dbmigrate.config import ServerSection"),
        ("dbmigrate.copying.chunks", "import threading\nfrom dbmigrate.mysql.sessions import Session"),
        ("dbmigrate.copying.chunks", "from .sizing import size\nfrom dbmigrate.domain.keys import Key"),
        ("dbmigrate.config.servers", "from dbmigrate.telemetry import register_secret"),
        ("dbmigrate.throwaway.administration", "import pymysql"),
        ("dbmigrate.store.serve", "import uvicorn\nimport dbmigrate.app\nfrom dbmigrate.store.web import create_app"),
        ("dbmigrate.workflow.demo_app", "from dbmigrate.store.load import Load"),
        ("dbmigrate.cli.commands.trying", "from dbmigrate.store.load import Load"),
        (
            "dbmigrate.domain.keys",
            "import enum\nfrom datetime import datetime\nfrom .errors import FatalError",
        ),
    ],
)
def test_checker_lets_right_modules_pass(name: str, body: str) -> None:
    """What DESIGN allows is not reported."""
    assert find_faults(name, f'"""What this module is for: a sample."""\n{body}') == []
