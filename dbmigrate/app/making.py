"""Session factories: what an application calls once."""

from __future__ import annotations

from typing import Any, TypeVar, overload

import sqlalchemy as sa
from sqlalchemy import orm

from dbmigrate.app.instance import Instance
from dbmigrate.app.options import Options
from dbmigrate.app.session import Session
from dbmigrate.domain.errors import ConfigurationError

_Session = TypeVar("_Session", bound=orm.Session)

_FLAVOURS = frozenset({"mysql", "mariadb"})


def require_engines(source: sa.Engine, target: sa.Engine) -> None:
    """Two different engines of a supported flavour.

    Raises:
        ConfigurationError: naming the engine and what is wrong with it.
    """
    for role, engine in (("source", source), ("target", target)):
        if not isinstance(engine, sa.Engine):
            raise ConfigurationError(
                f"the {role} is not an engine", place=role, cause=type(engine).__name__,
                hint="give sqlalchemy.create_engine(...), or use dbmigrate.app.asyncio for async engines",
            )  # fmt: skip
        if engine.dialect.name not in _FLAVOURS:
            raise ConfigurationError(
                f"the {role} is not MySQL or MariaDB", place=role, cause=engine.dialect.name, hint="check its URL"
            )
    if source is target or source.url == target.url:
        raise ConfigurationError(
            "source and target are the same database", place="target", hint="give the engine of the other server"
        )


def combine(class_: type[Any]) -> type[Any]:
    """The user's own session class, made to follow the owner."""
    if issubclass(class_, Session):
        return class_
    if class_ is orm.Session:
        return Session
    return type(f"Migrating{class_.__name__}", (Session, class_), {})


class SessionFactory(orm.sessionmaker[_Session]):
    """SQLAlchemy's own ``sessionmaker``, with an end: ``close`` when the application shuts down."""

    def close(self) -> None:
        """Stop following, and take this process out of the runner's list, so that it is waited for no longer.

        Without it the process is waited for until it expires. Sessions of this factory must not be used any more.
        """
        self.kw["dbmigrate_instance"].close()


@overload
def sessionmaker(
    source: sa.Engine,
    target: sa.Engine,
    *,
    migration_id: str,
    class_: type[_Session],
    options: Options | None = None,
    **session_options: Any,
) -> SessionFactory[_Session]: ...


@overload
def sessionmaker(
    source: sa.Engine,
    target: sa.Engine,
    *,
    migration_id: str,
    options: Options | None = None,
    **session_options: Any,
) -> SessionFactory[orm.Session]: ...


def sessionmaker(
    source: sa.Engine,
    target: sa.Engine,
    *,
    migration_id: str,
    class_: type[orm.Session] = orm.Session,
    options: Options | None = None,
    **session_options: Any,
) -> SessionFactory[Any]:
    """Stands in for ``sqlalchemy.orm.sessionmaker(source, ...)``; takes its options too.

    ``migration_id`` is the ``[migration] id`` of the configuration. Nothing is connected before the first session is
    used, so the target may be down, or not exist yet, for as long as there is no migration.

    Raises:
        ConfigurationError: an engine that cannot be moved, or an id that cannot be one.
    """
    require_engines(source, target)
    require_migration_id(migration_id)
    instance = Instance(source, target, migration_id, options or Options())
    return SessionFactory(source, class_=combine(class_), dbmigrate_instance=instance, **session_options)


def require_migration_id(migration_id: str) -> None:
    """An id that a migration can have.

    Raises:
        ConfigurationError: it cannot.
    """
    from pydantic import ValidationError

    from dbmigrate.config import MigrationSection

    try:
        MigrationSection(id=migration_id)
    except ValidationError as fault:
        raise ConfigurationError(
            "this cannot be the id of a migration", place="migration_id", cause=str(fault.errors()[0]["msg"]),
            hint="give the id under [migration] in dbmigrate.toml",
        ) from fault  # fmt: skip
