"""Fills an empty store with customers and products, always the same ones for the same numbers.

``python -m dbmigrate.store.seed --customers 100 --products 50`` works on STORE_DATABASE_URL. Apart from the models
because a real store has its rows from elsewhere.
"""

from __future__ import annotations

import argparse
import os
import random
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dbmigrate.store.models import Base, Customer, Delivery, Product, Stock

SEED_TOKEN = "seed-"  # noqa: S105 - the first part of a delivery's key, not a secret

_BATCH_ROWS = 1_000
_FIRST_NAMES = ("Ada", "Çağla", "Grace", "José", "Märta", "Noor", "Yui", "Žofia")
_LAST_NAMES = ("Dvořák", "García", "Hopper", "Li", "Lovelace", "Nguyễn", "Øverland", "Smith")
_GOODS = ("Kettle", "Lamp", "Notebook", "Rucksack", "Teapot", "Umbrella")
_COLOURS = ("red", "grün", "bleu", "黒")


def create_schema(engine: sa.Engine) -> None:
    """The tables as ``migrations/`` makes them, without its history: for throwaway databases."""
    Base.metadata.create_all(engine)


def fill_store(session: Session, *, customers: int = 100, products: int = 50, stock: int = 1_000) -> None:
    """Write so many customers and products, each with ``stock`` delivered pieces; the caller commits.

    The store must be empty: a second filling meets the unique e-mail addresses.
    """
    chance = random.Random(f"{customers}/{products}")  # noqa: S311 - a catalogue, not a secret
    _insert(session, Customer, [_draw_customer(chance, number) for number in range(1, customers + 1)])
    _insert(session, Product, [_draw_product(chance, number) for number in range(1, products + 1)])
    numbers = session.scalars(sa.select(Product.id).order_by(Product.id)).all()
    _insert(session, Stock, [{"product_id": number, "quantity": stock} for number in numbers])
    _insert(
        session,
        Delivery,
        [{"token": f"{SEED_TOKEN}{number}", "product_id": number, "quantity": stock} for number in numbers],
    )


def _insert(session: Session, table: Any, rows: list[dict[str, Any]]) -> None:
    for first in range(0, len(rows), _BATCH_ROWS):
        session.execute(sa.insert(table), rows[first : first + _BATCH_ROWS])


def _draw_customer(chance: random.Random, number: int) -> dict[str, Any]:
    return {
        "email": f"customer-{number}@example.com",
        "name": f"{chance.choice(_FIRST_NAMES)} {chance.choice(_LAST_NAMES)}",
        "preferences": {"newsletter": chance.random() < 0.3, "language": chance.choice(("de", "en", "fr"))},
    }


def _draw_product(chance: random.Random, number: int) -> dict[str, Any]:
    return {
        "sku": f"SKU-{number:06}",
        "name": f"{chance.choice(_GOODS)} {number}",
        "price": Decimal(chance.randint(100, 20_000)) / 100,
        "is_listed": True,
        "attributes": {"colour": chance.choice(_COLOURS), "grams": chance.randint(10, 5_000)},
    }


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Fill the empty store at STORE_DATABASE_URL.")
    parser.add_argument("--customers", type=int, default=100)
    parser.add_argument("--products", type=int, default=50)
    parser.add_argument("--stock", type=int, default=1_000, help="pieces of each product")
    options = parser.parse_args(arguments)
    url = os.environ.get("STORE_DATABASE_URL")
    if not url:
        parser.error("set STORE_DATABASE_URL, for example to mysql+pymysql://user:password@host/store")
    engine = sa.create_engine(url, hide_parameters=True)
    with Session(engine) as session, session.begin():
        fill_store(session, customers=options.customers, products=options.products, stock=options.stock)
    engine.dispose()


if __name__ == "__main__":
    main()
