"""What the store takes from its environment, and what it says where something is missing."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import types
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session, sessionmaker

from dbmigrate.store.serve import Settings, SettingsError, build_app, build_session_factory

URL = "mysql+pymysql://shop:made-up@127.0.0.1:1/store"
TARGET = "mysql+pymysql://shop:made-up@127.0.0.1:2/store"

WITHOUT_EXTRA = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"fastapi", "uvicorn", "starlette"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
"""


def test_one_url_is_enough() -> None:
    assert Settings.read({"STORE_DATABASE_URL": URL}) == Settings(URL, "", "", "127.0.0.1", 8000, 1)


def test_everything_can_be_said() -> None:
    environment = {
        "STORE_DATABASE_URL": URL,
        "STORE_TARGET_URL": TARGET,
        "STORE_MIGRATION_ID": "m1",
        "STORE_HOST": "0.0.0.0",
        "STORE_PORT": "8123",
        "STORE_WORKERS": "4",
    }
    assert Settings.read(environment) == Settings(URL, TARGET, "m1", "0.0.0.0", 8123, 4)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"STORE_DATABASE_URL": ""}, "set STORE_DATABASE_URL"),
        ({"STORE_TARGET_URL": TARGET}, "belong together"),
        ({"STORE_MIGRATION_ID": "m1"}, "belong together"),
        ({"STORE_PORT": "http"}, "STORE_PORT must be a number"),
        ({"STORE_PORT": "65536"}, "STORE_PORT must be a number"),
        ({"STORE_PORT": "0"}, "STORE_PORT must be a number"),
        ({"STORE_WORKERS": "-1"}, "STORE_WORKERS must be a number"),
        ({"STORE_WORKERS": "٣"}, "STORE_WORKERS must be a number"),
    ],
)
def test_wrong_settings_are_told(change: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Settings.read({"STORE_DATABASE_URL": URL} | change)


def test_settings_do_not_show_passwords() -> None:
    assert "made-up" not in repr(Settings(URL, TARGET, "m1", "127.0.0.1", 8000, 1))


def test_one_database_means_the_plain_sessions_of_sqlalchemy() -> None:
    factory = build_session_factory(Settings.read({"STORE_DATABASE_URL": URL}))
    assert type(factory) is sessionmaker
    assert type(factory()).__mro__[1] is Session  # every sessionmaker makes a class of its own


def test_move_means_the_sessions_of_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Called as it is documented: two engines, then the migration's id by name."""
    called: list[Any] = []

    def stand_in(source: sa.Engine, target: sa.Engine, *, migration_id: str) -> str:
        called.append((source.url.port, target.url.port, migration_id))
        return "its sessions"

    monkeypatch.setitem(sys.modules, "dbmigrate.app", types.SimpleNamespace(sessionmaker=stand_in))
    assert build_session_factory(Settings(URL, TARGET, "m1", "", 8000, 1)) == "its sessions"
    assert called == [(1, 2, "m1")]


def test_sessions_of_the_library_are_closed_with_the_application(monkeypatch: pytest.MonkeyPatch) -> None:
    """They follow the move in a thread of their own; SQLAlchemy's have nothing to close."""
    for name, value in {"DATABASE_URL": URL, "TARGET_URL": TARGET, "MIGRATION_ID": "m1"}.items():
        monkeypatch.setenv(f"STORE_{name}", value)
    closed: list[str] = []
    sessions = types.SimpleNamespace(close=lambda: closed.append("closed"))
    stand_in = types.SimpleNamespace(sessionmaker=lambda *engines, migration_id: sessions)
    monkeypatch.setitem(sys.modules, "dbmigrate.app", stand_in)

    async def live() -> None:
        app = build_app()
        async with app.router.lifespan_context(app):
            assert closed == []

    asyncio.run(live())
    assert closed == ["closed"]
    monkeypatch.setenv("STORE_TARGET_URL", "")
    monkeypatch.setenv("STORE_MIGRATION_ID", "")
    asyncio.run(live_plainly())


async def live_plainly() -> None:
    app = build_app()
    async with app.router.lifespan_context(app):
        pass


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | environment, timeout=60
    )


def test_store_without_its_extra_says_what_to_install() -> None:
    code = WITHOUT_EXTRA + "import runpy; runpy.run_module('dbmigrate.store', run_name='__main__')"
    ended = run(code, STORE_DATABASE_URL=URL)
    assert ended.returncode == 2
    assert ended.stderr == (
        "dbmigrate.store: the sample store needs FastAPI and uvicorn: pip install 'dbmigrate[store]' "
        "(fastapi is missing)\n"
    )


def test_everything_else_works_without_the_extra() -> None:
    code = WITHOUT_EXTRA + (
        "import importlib, pkgutil, dbmigrate\n"
        "for module in pkgutil.walk_packages(dbmigrate.__path__, 'dbmigrate.'):\n"
        "    if not module.name.endswith('__main__') and module.name != 'dbmigrate.store.web':\n"
        "        importlib.import_module(module.name)\n"
        "assert 'dbmigrate.store.load' in importlib.sys.modules and 'dbmigrate.cli' in importlib.sys.modules\n"
    )
    ended = run(code)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize(
    "environment",
    [
        {"STORE_DATABASE_URL": ""},
        {"STORE_DATABASE_URL": "not a url made-up"},
        {"STORE_DATABASE_URL": URL, "STORE_TARGET_URL": "made-up", "STORE_MIGRATION_ID": "m1"},
    ],
)
def test_wrong_environment_ends_with_the_code_of_wrong_usage(environment: dict[str, str]) -> None:
    ended = run("import runpy; runpy.run_module('dbmigrate.store', run_name='__main__')", **environment)
    assert ended.returncode == 2
    assert ended.stderr.startswith("dbmigrate.store: ")
    assert ended.stderr.count("\n") == 1
    assert "made-up" not in ended.stderr
