"""The Alembic environment: one connection, named by DBMIGRATE_ALEMBIC_URL. Lanes are not built yet; see README.md."""

from __future__ import annotations

import os

import sqlalchemy as sa
from alembic import context

URL_VARIABLE = "DBMIGRATE_ALEMBIC_URL"


def read_url() -> str:
    """Where to run; from the environment, because it may hold a password."""
    url = os.environ.get(URL_VARIABLE)
    if not url:
        raise SystemExit(f"set {URL_VARIABLE}, for example to mysql+pymysql://user@host/database")
    return url


def run_offline() -> None:
    """Print the statements of the revisions (``--sql``)."""
    context.configure(url=read_url(), literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()


def run_online() -> None:
    """Run the revisions."""
    engine = sa.create_engine(read_url(), poolclass=sa.pool.NullPool, hide_parameters=True)
    with engine.connect() as connection:
        context.configure(connection=connection)
        with context.begin_transaction():
            context.run_migrations()


if context.is_offline_mode():
    run_offline()
else:
    run_online()
