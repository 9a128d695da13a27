"""The store's tables, as SQLAlchemy models; ``migrations/`` creates the same tables step by step.

Between them they have what makes a move hard: keys that the server gives, keys that the client gives, a composite
key, foreign keys, money, JSON, and columns that the server fills in and changes by itself.
"""

from __future__ import annotations

import enum
from datetime import datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

Money = sa.Numeric(12, 2)
Timestamp = mysql.DATETIME(fsp=6)  # UTC
Token = mysql.VARCHAR(64, charset="ascii", collation="ascii_bin")

_NOW = sa.text("CURRENT_TIMESTAMP(6)")
_NOW_AND_AT_EVERY_CHANGE = sa.text("CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6)")

# For both names that SQLAlchemy has for the dialect; one collation that both flavours know.
_TABLE_OPTIONS = {
    f"{dialect}_{option}": value
    for dialect in ("mysql", "mariadb")
    for option, value in {"engine": "InnoDB", "default_charset": "utf8mb4", "collate": "utf8mb4_unicode_ci"}.items()
}


class OrderStatus(enum.Enum):
    """Where an order stands."""

    PLACED = "placed"
    CANCELLED = "cancelled"


class PaymentKind(enum.Enum):
    """Which way the money went."""

    CHARGE = "charge"
    REFUND = "refund"


def _enum_of(values: type[enum.Enum]) -> sa.Enum:
    return sa.Enum(values, values_callable=lambda members: [member.value for member in members])


class Base(DeclarativeBase):
    """All tables of the store; every constraint has a name that a migration can mention."""

    metadata = sa.MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
        }
    )
    __table_args__: Any = _TABLE_OPTIONS


class Customer(Base):
    """Who buys."""

    __tablename__ = "customer"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(sa.String(190), unique=True)
    name: Mapped[str] = mapped_column(sa.String(120))
    preferences: Mapped[dict[str, Any] | None] = mapped_column(sa.JSON(none_as_null=True))
    registered_at: Mapped[datetime] = mapped_column(Timestamp, server_default=_NOW)
    changed_at: Mapped[datetime] = mapped_column(Timestamp, server_default=_NOW_AND_AT_EVERY_CHANGE)


class Product(Base):
    """What is sold, and for how much."""

    __tablename__ = "product"

    id: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str] = mapped_column(sa.String(40), unique=True)
    name: Mapped[str] = mapped_column(sa.String(120))
    price: Mapped[Decimal] = mapped_column(Money)
    is_listed: Mapped[bool] = mapped_column(server_default=sa.text("1"))
    attributes: Mapped[dict[str, Any]] = mapped_column(sa.JSON)

    stock: Mapped[Stock] = relationship(lazy="joined", innerjoin=True)


class Stock(Base):
    """How many pieces are there; the row that orders of one product wait for each other on.

    Always the sum of the product's deliveries without what standing orders hold.
    """

    __tablename__ = "stock"
    __table_args__ = (sa.CheckConstraint("quantity >= 0", name="quantity_not_negative"), _TABLE_OPTIONS)

    product_id: Mapped[int] = mapped_column(sa.ForeignKey("product.id"), primary_key=True, autoincrement=False)
    quantity: Mapped[int]
    changed_at: Mapped[datetime] = mapped_column(Timestamp, server_default=_NOW_AND_AT_EVERY_CHANGE)


class Delivery(Base):
    """Pieces that came in; its key comes from the client, so that the same delivery counts once."""

    __tablename__ = "delivery"

    token: Mapped[str] = mapped_column(Token, primary_key=True)
    product_id: Mapped[int] = mapped_column(sa.ForeignKey("product.id"), index=True)
    quantity: Mapped[int]
    delivered_at: Mapped[datetime] = mapped_column(Timestamp, server_default=_NOW)


class Order(Base):
    """What a customer asked for, once for each token he gives."""

    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True)
    token: Mapped[str] = mapped_column(Token, unique=True)
    customer_id: Mapped[int] = mapped_column(sa.ForeignKey("customer.id"), index=True)
    status: Mapped[OrderStatus] = mapped_column(_enum_of(OrderStatus))
    total: Mapped[Decimal] = mapped_column(Money)
    placed_at: Mapped[datetime] = mapped_column(Timestamp)
    cancelled_at: Mapped[datetime | None] = mapped_column(Timestamp)

    lines: Mapped[list[OrderLine]] = relationship(order_by="OrderLine.line_number", lazy="selectin")
    payments: Mapped[list[Payment]] = relationship(order_by="Payment.id", lazy="selectin")


class OrderLine(Base):
    """One product of an order, at the price of that day."""

    __tablename__ = "order_line"

    order_id: Mapped[int] = mapped_column(sa.ForeignKey("orders.id"), primary_key=True)
    line_number: Mapped[int] = mapped_column(sa.SmallInteger, primary_key=True, autoincrement=False)
    product_id: Mapped[int] = mapped_column(sa.ForeignKey("product.id"), index=True)
    quantity: Mapped[int]
    unit_price: Mapped[Decimal] = mapped_column(Money)


class Payment(Base):
    """Money taken for an order, or given back."""

    __tablename__ = "payment"

    id: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True)
    order_id: Mapped[int] = mapped_column(sa.ForeignKey("orders.id"), index=True)
    kind: Mapped[PaymentKind] = mapped_column(_enum_of(PaymentKind))
    amount: Mapped[Decimal] = mapped_column(Money)
    receipt: Mapped[dict[str, Any]] = mapped_column(sa.JSON)
    paid_at: Mapped[datetime] = mapped_column(Timestamp, server_default=_NOW)
