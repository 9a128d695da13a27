"""The sample store on a test's database: its address for SQLAlchemy, its tables, its goods."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

import sqlalchemy as sa
from databases import Database
from sqlalchemy.orm import Session

from dbmigrate.store.seed import create_schema, fill_store


def store_url(database: Database) -> str:
    """The administrator's address, password included."""
    server = database.server
    return (
        f"mysql+pymysql://{server.user}:{quote(server.password)}@{server.host}:{server.port}/{database.schema}"
        "?charset=utf8mb4"
    )


@contextmanager
def open_engine(database: Database) -> Iterator[sa.Engine]:
    """An engine that leaves no connection behind."""
    engine = sa.create_engine(store_url(database))
    try:
        yield engine
    finally:
        engine.dispose()


def build_store(database: Database, *, customers: int = 20, products: int = 20, stock: int = 1_000) -> None:
    """The store's tables with goods in them."""
    with open_engine(database) as engine:
        create_schema(engine)
        with Session(engine) as session, session.begin():
            fill_store(session, customers=customers, products=products, stock=stock)
