"""Holds what the store's customers were promised against what is in the database.

Apart from ``load`` because it asks the tables, by statements of its own, and believes neither the answers of the store
nor its rules.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import sqlalchemy as sa

from dbmigrate.store.journal import Journal, OrderRecord, Outcome
from dbmigrate.store.models import Customer, Delivery, Order, OrderLine, OrderStatus, Payment, PaymentKind, Stock


@dataclass(frozen=True, slots=True)
class Findings:
    """How many of each; the names are those of ``LoadResult``."""

    lost_orders: int
    doubled_orders: int
    unasked_orders: int
    lost_cancels: int
    lost_restocks: int
    lost_renames: int
    wrong_stocks: int


@dataclass
class _StoredOrder:
    customer_id: int
    status: OrderStatus
    total: Decimal
    lines: list[tuple[int, int]] = field(default_factory=list)
    worth: Decimal = Decimal(0)
    payments: list[tuple[PaymentKind, Decimal]] = field(default_factory=list)

    @property
    def is_paid_twice(self) -> bool:
        times = Counter(kind for kind, _ in self.payments)
        return any(count > 1 for count in times.values())


def audit(connection: sa.Connection, journals: Sequence[Journal], *, token_prefix: str) -> Findings:
    """Compare, in the transaction that ``connection`` is in. Nobody writes meanwhile."""
    stored = _read_orders(connection, token_prefix)
    records = {record.token: record for journal in journals for record in journal.orders}
    return Findings(
        lost_orders=sum(_is_lost(record, stored.get(record.token, [])) for record in records.values()),
        doubled_orders=sum(_is_doubled(orders) for orders in stored.values()),
        unasked_orders=sum(_is_unasked(records.get(token)) for token in stored),
        lost_cancels=sum(_is_cancel_lost(record, stored.get(record.token, [])) for record in records.values()),
        lost_restocks=_count_lost_restocks(connection, journals, token_prefix),
        lost_renames=_count_lost_renames(connection, journals),
        wrong_stocks=_count_wrong_stocks(connection),
    )


def _read_orders(connection: sa.Connection, token_prefix: str) -> dict[str, list[_StoredOrder]]:
    """This load's orders by token: a list, because a token may be there twice."""
    mine = Order.token.startswith(token_prefix, autoescape=True)
    by_id: dict[int, _StoredOrder] = {}
    by_token: dict[str, list[_StoredOrder]] = defaultdict(list)
    orders = sa.select(Order.id, Order.token, Order.customer_id, Order.status, Order.total).where(mine)
    for order_id, token, customer_id, status, total in connection.execute(orders):
        by_id[order_id] = _StoredOrder(customer_id, status, total)
        by_token[token].append(by_id[order_id])
    lines = (
        sa.select(OrderLine.order_id, OrderLine.product_id, OrderLine.quantity, OrderLine.unit_price)
        .join(Order, Order.id == OrderLine.order_id)
        .where(mine)
        .order_by(OrderLine.order_id, OrderLine.line_number)
    )
    for order_id, product_id, quantity, unit_price in connection.execute(lines):
        by_id[order_id].lines.append((product_id, quantity))
        by_id[order_id].worth += quantity * unit_price
    payments = (
        sa.select(Payment.order_id, Payment.kind, Payment.amount).join(Order, Order.id == Payment.order_id).where(mine)
    )
    for order_id, kind, amount in connection.execute(payments):
        by_id[order_id].payments.append((kind, amount))
    return by_token


def _is_lost(record: OrderRecord, stored: Sequence[_StoredOrder]) -> bool:
    """An order of unknown outcome may be absent, but what is there of it must be whole."""
    if record.outcome is Outcome.DONE or (record.outcome is Outcome.UNKNOWN and stored):
        return not any(_is_as_promised(record, order) for order in stored)
    return False


def _is_as_promised(record: OrderRecord, order: _StoredOrder) -> bool:
    """A doubled charge is not a lost order: it is counted as what it is."""
    total = record.total if record.outcome is Outcome.DONE else order.worth
    return (
        order.customer_id == record.customer_id
        and tuple(order.lines) == record.lines
        and order.total == order.worth == total
        and (PaymentKind.CHARGE, total) in order.payments
    )


def _is_doubled(orders: Sequence[_StoredOrder]) -> bool:
    return len(orders) > 1 or any(order.is_paid_twice for order in orders)


def _is_unasked(record: OrderRecord | None) -> bool:
    return record is None or record.outcome in (Outcome.REFUSED, Outcome.REJECTED)


def _is_cancel_lost(record: OrderRecord, stored: Sequence[_StoredOrder]) -> bool:
    """Also where it was never asked for, and is there. An unknown outcome may be either, but not half."""
    if record.outcome is not Outcome.DONE:
        return False
    for order in stored:
        is_cancelled = order.status is OrderStatus.CANCELLED
        is_refunded = (PaymentKind.REFUND, order.total) in order.payments
        if is_cancelled is not is_refunded:
            return True
        if record.cancel is not Outcome.UNKNOWN and is_cancelled is not (record.cancel is Outcome.DONE):
            return True
    return False


def _count_lost_restocks(connection: sa.Connection, journals: Sequence[Journal], token_prefix: str) -> int:
    mine = Delivery.token.startswith(token_prefix, autoescape=True)
    rows = connection.execute(sa.select(Delivery.token, Delivery.product_id, Delivery.quantity).where(mine))
    stored = {token: (product_id, quantity) for token, product_id, quantity in rows}
    return sum(
        stored.get(record.token) != (record.product_id, record.quantity)
        for journal in journals
        for record in journal.deliveries
        if record.outcome is Outcome.DONE
    )


def _count_lost_renames(connection: sa.Connection, journals: Sequence[Journal]) -> int:
    """A customer must have the latest name that was acknowledged, or one of unknown outcome: it may arrive late."""
    names = {row.id: row.name for row in connection.execute(sa.select(Customer.id, Customer.name))}
    lost = 0
    for journal in journals:
        latest = {record.customer_id: record.name for record in journal.renames if record.outcome is Outcome.DONE}
        unknown = {(record.customer_id, record.name) for record in journal.renames if record.outcome is Outcome.UNKNOWN}
        lost += sum(
            names.get(customer_id) != name and (customer_id, names.get(customer_id)) not in unknown
            for customer_id, name in latest.items()
        )
    return lost


def _count_wrong_stocks(connection: sa.Connection) -> int:
    """Delivered - in standing orders == stock, for every product; the first filling is a delivery, too."""
    delivered = connection.execute(
        sa.select(Delivery.product_id, sa.func.sum(Delivery.quantity)).group_by(Delivery.product_id)
    )
    sold = connection.execute(
        sa.select(OrderLine.product_id, sa.func.sum(OrderLine.quantity))
        .join(Order, Order.id == OrderLine.order_id)
        .where(Order.status == OrderStatus.PLACED)
        .group_by(OrderLine.product_id)
    )
    expected: Counter[int] = Counter({product_id: int(quantity) for product_id, quantity in delivered})
    expected.subtract({product_id: int(quantity) for product_id, quantity in sold})
    stock = {row.product_id: row.quantity for row in connection.execute(sa.select(Stock.product_id, Stock.quantity))}
    return sum(expected[product_id] != stock.get(product_id) for product_id in expected.keys() | stock.keys())
