"""The Alembic environment of the sample store: one connection, to the store's database, the models it compares, and
three lanes into which `--autogenerate` is split.

The URL comes from STORE_DATABASE_URL, or from ``-x url=...`` where it holds no password.
"""

from __future__ import annotations

import os

import sqlalchemy as sa
from alembic import context

from dbmigrate.lanes.splitting import split_into_lanes
from dbmigrate.store.models import Base

URL_VARIABLE = "STORE_DATABASE_URL"


def read_url() -> str:
    """Where to run."""
    url = context.get_x_argument(as_dictionary=True).get("url") or os.environ.get(URL_VARIABLE)
    if not url:
        raise SystemExit(f"set {URL_VARIABLE}, for example to mysql+pymysql://user:password@host/store")
    return url


def run_offline() -> None:
    """Print the statements of the revisions (``--sql``)."""
    context.configure(url=read_url(), target_metadata=Base.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()


def run_online() -> None:
    """Run the revisions, or compare the models with the database (``check``, ``revision --autogenerate``)."""
    engine = sa.create_engine(read_url(), poolclass=sa.pool.NullPool, hide_parameters=True)
    with engine.connect() as connection:
        context.configure(
            connection=connection, target_metadata=Base.metadata, process_revision_directives=split_into_lanes
        )
        with context.begin_transaction():
            context.run_migrations()


if context.is_offline_mode():
    run_offline()
else:
    run_online()
