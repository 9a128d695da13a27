"""The same for async engines: ``dbmigrate.app.asyncio.async_sessionmaker(source, target, migration_id=...)``.

SQLAlchemy's async session is a sync one inside a greenlet, so everything that the sync session does holds here; only
the limits on the mirror are kept by cancelling instead of by walking away from a thread.
"""

from __future__ import annotations

from typing import Any, TypeVar, overload

from sqlalchemy.ext import asyncio as sa_asyncio

from dbmigrate.app.instance import Instance
from dbmigrate.app.making import combine, require_engines, require_migration_id
from dbmigrate.app.options import Options
from dbmigrate.domain.errors import ConfigurationError

_Session = TypeVar("_Session", bound=sa_asyncio.AsyncSession)


class AsyncSessionFactory(sa_asyncio.async_sessionmaker[_Session]):
    """SQLAlchemy's own ``async_sessionmaker``, with an end: ``close`` when the application shuts down."""

    def close(self) -> None:
        """Stop following; see ``dbmigrate.app.making.SessionFactory.close``. Blocks for a moment."""
        self.kw["dbmigrate_instance"].close()


@overload
def async_sessionmaker(
    source: sa_asyncio.AsyncEngine,
    target: sa_asyncio.AsyncEngine,
    *,
    migration_id: str,
    class_: type[_Session],
    options: Options | None = None,
    **session_options: Any,
) -> AsyncSessionFactory[_Session]: ...


@overload
def async_sessionmaker(
    source: sa_asyncio.AsyncEngine,
    target: sa_asyncio.AsyncEngine,
    *,
    migration_id: str,
    options: Options | None = None,
    **session_options: Any,
) -> AsyncSessionFactory[sa_asyncio.AsyncSession]: ...


def async_sessionmaker(
    source: sa_asyncio.AsyncEngine,
    target: sa_asyncio.AsyncEngine,
    *,
    migration_id: str,
    class_: type[sa_asyncio.AsyncSession] = sa_asyncio.AsyncSession,
    options: Options | None = None,
    **session_options: Any,
) -> AsyncSessionFactory[Any]:
    """Stands in for ``sqlalchemy.ext.asyncio.async_sessionmaker(source, ...)``; takes its options too.

    Raises:
        ConfigurationError: an engine that cannot be moved, or an id that cannot be one.
    """
    for role, engine in (("source", source), ("target", target)):
        if not isinstance(engine, sa_asyncio.AsyncEngine):
            raise ConfigurationError(
                f"the {role} is not an async engine", place=role, cause=type(engine).__name__,
                hint="give sqlalchemy.ext.asyncio.create_async_engine(...), or use dbmigrate.app for sync engines",
            )  # fmt: skip
    require_engines(source.sync_engine, target.sync_engine)
    require_migration_id(migration_id)
    instance = Instance(source.sync_engine, target.sync_engine, migration_id, options or Options(), is_async=True)
    sync_class = session_options.pop("sync_session_class", class_.sync_session_class)
    return AsyncSessionFactory(
        source, class_=class_, sync_session_class=combine(sync_class), dbmigrate_instance=instance, **session_options
    )
