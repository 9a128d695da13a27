"""Runs the store with uvicorn, as the environment says: this is where its owner decides about databases.

    STORE_DATABASE_URL   the database, as SQLAlchemy spells it
    STORE_TARGET_URL     where the database moves to; with it, and
    STORE_MIGRATION_ID   the move's id, the sessions follow the move by themselves
    STORE_HOST, STORE_PORT, STORE_WORKERS   where to listen (127.0.0.1, 8000), how many worker processes (1)

Apart from ``web`` because the application itself does not change for a move: only its session factory does.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import sqlalchemy as sa
from sqlalchemy.orm import sessionmaker

if TYPE_CHECKING:
    from fastapi import FastAPI

USAGE = 2
MISSING_EXTRA = "the sample store needs FastAPI and uvicorn: pip install 'dbmigrate[store]'"

# As many connections as FastAPI has threads: a request that holds a thread never waits for a connection.
_POOL = {"pool_size": 10, "max_overflow": 30}
# Longer than any client of ours is quiet: a connection closed in its hands would look like a lost request.
_KEEP_ALIVE_SECONDS = 75
_GRACE_SECONDS = 10


class SettingsError(ValueError):
    """The environment does not say what is needed."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment says."""

    database_url: str
    target_url: str
    migration_id: str
    host: str
    port: int
    workers: int

    def __repr__(self) -> str:
        return f"Settings({self.host}:{self.port}, workers={self.workers}, migration_id={self.migration_id!r})"

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Settings:
        """Raises SettingsError."""
        url = environment.get("STORE_DATABASE_URL", "")
        target, migration_id = environment.get("STORE_TARGET_URL", ""), environment.get("STORE_MIGRATION_ID", "")
        if not url:
            raise SettingsError(
                "set STORE_DATABASE_URL, for example to mysql+pymysql://user:password@host/store"
            )
        if bool(target) != bool(migration_id):
            raise SettingsError("STORE_TARGET_URL and STORE_MIGRATION_ID belong together: set both or none")
        _require_url("STORE_DATABASE_URL", url)
        _require_url("STORE_TARGET_URL", target or url)
        return cls(
            url,
            target,
            migration_id,
            environment.get("STORE_HOST") or "127.0.0.1",
            _read_number(environment, "STORE_PORT", default=8000, highest=65_535),
            _read_number(environment, "STORE_WORKERS", default=1, highest=64),
        )


def _require_url(name: str, url: str) -> None:
    """The text is not repeated: it may hold a password."""
    try:
        sa.make_url(url)
    except sa.exc.ArgumentError:
        raise SettingsError(f"{name} is not a URL that SQLAlchemy understands") from None


def _read_number(environment: Mapping[str, str], name: str, *, default: int, highest: int) -> int:
    text = environment.get(name) or str(default)
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= highest:
        raise SettingsError(f"{name} must be a number from 1 to {highest}, not {text!r}")
    return int(text)


def build_session_factory(settings: Settings) -> Any:
    """SQLAlchemy's own ``sessionmaker``; during a move the one of ``dbmigrate.app`` in its place."""
    source = _create_engine(settings.database_url)
    if not settings.target_url:
        return sessionmaker(source)
    app = importlib.import_module("dbmigrate.app")
    return app.sessionmaker(source, _create_engine(settings.target_url), migration_id=settings.migration_id)


def _create_engine(url: str) -> sa.Engine:
    return sa.create_engine(url, hide_parameters=True, **_POOL)


def build_app() -> FastAPI:
    """The application as the environment says; uvicorn calls it in every worker process."""
    from dbmigrate.store.web import create_app

    session_factory = build_session_factory(Settings.read(os.environ))

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        close = getattr(session_factory, "close", None)  # SQLAlchemy's own has nothing to close
        if close is not None:
            close()

    return create_app(session_factory, lifespan=lifespan)


def main() -> None:
    """``python -m dbmigrate.store``; exit code 2 where the settings or the packages are not right."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        settings = Settings.read(os.environ)
        import fastapi  # noqa: F401 - said here, rather than by a worker's traceback
        import uvicorn
    except ImportError as error:
        _refuse(f"{MISSING_EXTRA} ({error.name} is missing)")
    except SettingsError as error:
        _refuse(str(error))
    uvicorn.run(
        "dbmigrate.store.serve:build_app",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        access_log=False,
        log_level="warning",
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )


def _refuse(reason: str) -> NoReturn:
    sys.stderr.write(f"dbmigrate.store: {reason}\n")
    raise SystemExit(USAGE)
