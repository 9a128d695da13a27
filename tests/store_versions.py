"""Versions of the sample store's application, for a schema change that spans four of them: ``python -m store_versions``.

A version is the store with some lines of its models replaced; STORE_VERSION says which. 1 is the store as it is, 2 writes
the old and the new columns and reads the old ones, 3 writes both and reads the new ones, 4 knows the new ones only.
With STORE_REPEATS a transaction that the server asks to be repeated is: the log has a line for each.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import types
from pathlib import Path
from typing import Any

ASKS_TO_REPEAT = (1213, 1412)
MOST_REPEATS = 3
CUSTOMER_NAME = "    email: Mapped[str] = mapped_column(sa.String(190), unique=True)\n    name: Mapped[str] = mapped_column(sa.String(120))\n"
UNIT_PRICE = "    unit_price: Mapped[Decimal] = mapped_column(Money)\n"
_EMAIL = "    email: Mapped[str] = mapped_column(sa.String(190), unique=True)\n"
_NAMES = """\
    first_name: Mapped[str | None] = mapped_column(sa.String(120))
    last_name: Mapped[str | None] = mapped_column(sa.String(120))
"""
_CENTS = "    unit_cents: Mapped[int | None] = mapped_column(sa.BigInteger)\n"
_NAME_PROPERTY = """\
    @property
    def name(self):
        return f"{{self.first_name}} {{self.last_name}}" if self.last_name else self.first_name

    @name.setter
    def name(self, value):
        self.first_name, _, self.last_name = value.partition(" ")
{more}
"""
_PRICE_PROPERTY = """\
    @property
    def unit_price(self):
        return Decimal(self.unit_cents) / 100

    @unit_price.setter
    def unit_price(self, value):
        self.unit_cents = int(value * 100)
{more}
"""

REPLACED: dict[int, dict[str, str]] = {
    1: {},
    2: {
        CUSTOMER_NAME: CUSTOMER_NAME + _NAMES + """
    @sa.orm.validates("name")
    def _split(self, key, value):
        self.first_name, _, self.last_name = value.partition(" ")
        return value

""",
        UNIT_PRICE: UNIT_PRICE + _CENTS + """
    @sa.orm.validates("unit_price")
    def _count(self, key, value):
        self.unit_cents = int(value * 100)
        return value

""",
    },
    3: {
        CUSTOMER_NAME: _EMAIL + _NAMES + '    old_name: Mapped[str] = mapped_column("name", sa.String(120))\n'
        + _NAME_PROPERTY.format(more="        self.old_name = value"),
        UNIT_PRICE: _CENTS + '    old_unit_price: Mapped[Decimal] = mapped_column("unit_price", Money)\n'
        + _PRICE_PROPERTY.format(more="        self.old_unit_price = value"),
    },
    4: {
        CUSTOMER_NAME: _EMAIL + _NAMES + _NAME_PROPERTY.format(more=""),
        UNIT_PRICE: _CENTS + _PRICE_PROPERTY.format(more=""),
    },
}  # fmt: skip


def build_models(version: int) -> types.ModuleType:
    """The store's models as this version has them, in the place of the store's own."""
    name = "dbmigrate.store.models"
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    text = Path(spec.origin).read_text(encoding="utf-8")
    for old, new in REPLACED[version].items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    module = types.ModuleType(name)
    sys.modules[name] = module
    exec(compile(text, f"{spec.origin} (version {version})", "exec"), module.__dict__)
    return module


def repeat_transactions() -> None:
    """Each endpoint is one transaction, and has been rolled back when a deadlock or an outdated definition is reported."""
    from fastapi import routing
    from sqlalchemy.exc import DBAPIError

    once: Any = routing.run_endpoint_function

    async def run(**arguments: Any) -> Any:
        for _ in range(MOST_REPEATS):
            try:
                return await once(**arguments)
            except DBAPIError as fault:
                number = fault.orig.args[0] if fault.orig is not None else 0
                if number not in ASKS_TO_REPEAT:
                    raise
                sys.stderr.write(f"repeated after {number}\n")
        return await once(**arguments)

    routing.run_endpoint_function = run


if __name__ == "__main__":
    if os.environ.get("STORE_REPEATS"):
        repeat_transactions()
    build_models(int(os.environ.get("STORE_VERSION", "1")))
    from dbmigrate.store.serve import main

    main()
