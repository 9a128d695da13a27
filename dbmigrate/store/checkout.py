"""What the store does for its customers: every function is the body of one transaction that the caller opens.

Apart from the web because tests and other frontends use the same rules. Locks are always taken in one order: products
(shared), the order, its customer (shared), its lines, stock by product; so no two requests wait for each other in a
circle. And they are taken before the first plain read: it would open the transaction's snapshot, and MariaDB 11.6 and
later refuse to lock a row that has changed since.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, joinedload, lazyload

from dbmigrate.store.models import (
    Customer,
    Delivery,
    Order,
    OrderLine,
    OrderStatus,
    Payment,
    PaymentKind,
    Product,
    Stock,
)


class NotFoundError(LookupError):
    """The store has no such thing. The transaction must be rolled back."""


class OutOfStockError(Exception):
    """Too few pieces are left: a normal answer, not a failure. The transaction must be rolled back."""

    def __init__(self, product_id: int, wanted: int, left: int) -> None:
        super().__init__(f"product {product_id}: {wanted} wanted, {left} left")
        self.product_id, self.wanted, self.left = product_id, wanted, left


class TokenTakenError(Exception):
    """An order has this token already, or its customer does not exist. The transaction must be rolled back."""


@dataclass(frozen=True, slots=True)
class Wish:
    """One line of what a customer asks for."""

    product_id: int
    quantity: int


def place_order(session: Session, *, token: str, customer_id: int, wishes: Sequence[Wish]) -> Order:
    """Write the order, charge for it, and take the pieces out of the stock.

    Raises:
        OutOfStockError: nothing is sold.
        TokenTakenError: ask for the order that has it, in a new transaction; it is the answer to this one, too.
        NotFoundError: no such customer or product.
    """
    prices = _read_prices(session, {wish.product_id for wish in wishes})
    lines = [
        OrderLine(
            line_number=number,
            product_id=wish.product_id,
            quantity=wish.quantity,
            unit_price=prices[wish.product_id],
        )
        for number, wish in enumerate(wishes, start=1)
    ]
    order = Order(
        token=token,
        customer_id=customer_id,
        status=OrderStatus.PLACED,
        total=sum((line.quantity * line.unit_price for line in lines), Decimal(0)),
        placed_at=_now(),
        lines=lines,
    )
    order.payments = [_pay(PaymentKind.CHARGE, order)]
    session.add(order)
    try:
        # Before the stock: whoever comes with the same token waits here until this transaction has ended.
        session.flush()
    except IntegrityError as error:
        raise TokenTakenError(token) from error
    _take_from_stock(session, wishes)
    return order


def cancel_order(session: Session, token: str) -> Order:
    """Give stock and money back. An order that is cancelled already stays as it is.

    Raises:
        NotFoundError: no such order.
    """
    locked = (
        sa.select(Order)
        .where(Order.token == token)
        .options(joinedload(Order.lines), lazyload(Order.payments))  # no plain read before the stock is locked
        .with_for_update()
    )
    order = session.scalars(locked).unique().one_or_none()
    if order is None:
        raise NotFoundError(f"no order {token}")
    if order.status is OrderStatus.PLACED:
        quantities = _sum_quantities(order.lines)
        for stock in _lock_stock(session, quantities):
            stock.quantity += quantities[stock.product_id]
        order.status = OrderStatus.CANCELLED
        order.cancelled_at = _now()
        order.payments.append(_pay(PaymentKind.REFUND, order))
        session.flush()
    return order


def restock(session: Session, *, token: str, product_id: int, quantity: int) -> int:
    """Put delivered pieces into the stock, once for each token; returns how many are there now.

    Raises:
        NotFoundError: no such product.
    """
    try:
        with session.begin_nested():
            session.add(Delivery(token=token, product_id=product_id, quantity=quantity))
    except IntegrityError:
        if session.get(Delivery, token) is None:
            raise NotFoundError(f"no product {product_id}") from None
    else:
        session.execute(
            sa.update(Stock)
            .where(Stock.product_id == product_id)
            .values(quantity=Stock.quantity + quantity)
            .execution_options(synchronize_session=False)
        )
    return session.scalars(sa.select(Stock.quantity).where(Stock.product_id == product_id)).one()


def rename_customer(session: Session, customer_id: int, name: str) -> Customer:
    """Raises NotFoundError."""
    customer = session.get(Customer, customer_id, with_for_update=True)
    if customer is None:
        raise NotFoundError(f"no customer {customer_id}")
    customer.name = name
    session.flush()
    return customer


def find_order(session: Session, token: str) -> Order:
    """Raises NotFoundError."""
    order = session.scalar(sa.select(Order).where(Order.token == token))
    if order is None:
        raise NotFoundError(f"no order {token}")
    return order


def find_former_order(session: Session, token: str, customer_id: int) -> Order:
    """What a token stands for that ``place_order`` found taken. Raises NotFoundError: it was the customer, then."""
    order = session.scalar(sa.select(Order).where(Order.token == token))
    if order is None:
        raise NotFoundError(f"no customer {customer_id}")
    return order


def list_orders(session: Session, customer_id: int, *, limit: int = 20) -> Sequence[Order]:
    """A customer's orders, the latest first."""
    latest = sa.select(Order).where(Order.customer_id == customer_id).order_by(Order.id.desc()).limit(limit)
    return session.scalars(latest).all()


def find_product(session: Session, product_id: int) -> Product:
    """The product with its stock. Raises NotFoundError."""
    product = session.get(Product, product_id)
    if product is None:
        raise NotFoundError(f"no product {product_id}")
    return product


def list_products(session: Session, *, limit: int = 20, after: int = 0) -> Sequence[Product]:
    """Listed products with their stock, by number, from the first above ``after``."""
    listed = sa.select(Product).where(Product.is_listed, Product.id > after).order_by(Product.id).limit(limit)
    return session.scalars(listed).all()


def list_customers(session: Session, *, limit: int = 20, after: int = 0) -> Sequence[Customer]:
    """Customers by number, from the first above ``after``."""
    return session.scalars(sa.select(Customer).where(Customer.id > after).order_by(Customer.id).limit(limit)).all()


def _take_from_stock(session: Session, wishes: Sequence[Wish]) -> None:
    quantities = _sum_quantities(wishes)
    for stock in _lock_stock(session, quantities):
        wanted = quantities[stock.product_id]
        if stock.quantity < wanted:
            raise OutOfStockError(stock.product_id, wanted, stock.quantity)
        stock.quantity -= wanted


def _sum_quantities(lines: Iterable[Wish | OrderLine]) -> Counter[int]:
    """By product: an order may name one twice."""
    quantities: Counter[int] = Counter()
    for line in lines:
        quantities[line.product_id] += line.quantity
    return quantities


def _lock_stock(session: Session, product_ids: Iterable[int]) -> Sequence[Stock]:
    return session.scalars(
        sa.select(Stock)
        .where(Stock.product_id.in_(sorted(product_ids)))
        .order_by(Stock.product_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()


def _read_prices(session: Session, product_ids: Set[int]) -> dict[int, Decimal]:
    """With the lock that the lines' foreign key takes anyway."""
    locked = (
        sa.select(Product.id, Product.price).where(Product.id.in_(sorted(product_ids))).with_for_update(read=True)
    )
    prices = {row.id: row.price for row in session.execute(locked)}
    missing = product_ids - prices.keys()
    if missing:
        raise NotFoundError(f"no product {min(missing)}")
    return prices


def _pay(kind: PaymentKind, order: Order) -> Payment:
    receipt = {"order": order.token, "lines": len(order.lines), "currency": "EUR"}
    return Payment(kind=kind, amount=order.total, receipt=receipt)


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
