"""The store over HTTP: FastAPI endpoints, each one transaction of the session factory that is passed in.

Apart from ``checkout`` because it holds no rule of the store, and from ``serve`` because it knows nothing of servers,
settings and moves. An answer is given after the commit, so a 2xx is a promise.
"""

# Annotations are not postponed here: FastAPI reads them.
import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import Body, FastAPI, Path, Query, Request, Response, status
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from dbmigrate.store import checkout
from dbmigrate.store.checkout import NotFoundError, OutOfStockError, TokenTakenError, Wish
from dbmigrate.store.models import Customer, Order, Product

SessionFactory = Callable[[], Session]
"""SQLAlchemy's ``sessionmaker``, or anything that is called like it."""

_logger = logging.getLogger(__name__)

TokenText = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\x21-\x7e]+$")]
TokenInPath = Annotated[str, Path(min_length=1, max_length=64)]
Limit = Annotated[int, Query(ge=1, le=1000)]


class LineBody(BaseModel):
    """One line of an order that comes in."""

    product_id: int
    quantity: int = Field(ge=1, le=1000)


class OrderBody(BaseModel):
    """An order that comes in; ``token`` is the client's, and makes it safe to send it again."""

    token: TokenText
    customer_id: int
    lines: list[LineBody] = Field(min_length=1, max_length=20)


class RestockBody(BaseModel):
    """A delivery that comes in."""

    token: TokenText
    quantity: int = Field(ge=1, le=1_000_000)


class CustomerBody(BaseModel):
    """What of a customer can be changed."""

    name: str = Field(min_length=1, max_length=120)


def create_app(session_factory: SessionFactory, *, lifespan: Any = None) -> FastAPI:
    """The application; its endpoints run in threads and take one session for each request.

    ``lifespan`` is FastAPI's: what to do when the application starts and ends.
    """
    app = FastAPI(title="Sample store", lifespan=lifespan)
    _add_error_answers(app)
    _add_orders(app, session_factory)
    _add_products(app, session_factory)
    _add_customers(app, session_factory)

    @app.get("/health")
    def health() -> dict[str, Any]:
        with _transaction(session_factory) as session:
            session.execute(sa.text("SELECT 1"))
        return {"status": "ok", "pid": os.getpid()}

    return app


def _add_orders(app: FastAPI, session_factory: SessionFactory) -> None:
    @app.post("/orders", status_code=status.HTTP_201_CREATED)
    def place_order(body: OrderBody) -> dict[str, Any]:
        wishes = [Wish(line.product_id, line.quantity) for line in body.lines]
        try:
            with _transaction(session_factory) as session:
                return _show_order(
                    checkout.place_order(session, token=body.token, customer_id=body.customer_id, wishes=wishes)
                )
        except TokenTakenError:
            with _transaction(session_factory) as session:
                return _show_order(checkout.find_former_order(session, body.token, body.customer_id))

    @app.get("/orders/{token}")
    def read_order(token: TokenInPath) -> dict[str, Any]:
        with _transaction(session_factory) as session:
            return _show_order(checkout.find_order(session, token))

    @app.post("/orders/{token}/cancel")
    def cancel_order(token: TokenInPath) -> dict[str, Any]:
        with _transaction(session_factory) as session:
            return _show_order(checkout.cancel_order(session, token))


def _add_products(app: FastAPI, session_factory: SessionFactory) -> None:
    @app.get("/products")
    def list_products(limit: Limit = 20, after: int = 0) -> list[dict[str, Any]]:
        with _transaction(session_factory) as session:
            return [_show_product(product) for product in checkout.list_products(session, limit=limit, after=after)]

    @app.get("/products/{product_id}")
    def read_product(product_id: int) -> dict[str, Any]:
        with _transaction(session_factory) as session:
            return _show_product(checkout.find_product(session, product_id))

    @app.post("/products/{product_id}/restock")
    def restock(product_id: int, body: RestockBody) -> dict[str, Any]:
        with _transaction(session_factory) as session:
            quantity = checkout.restock(
                session, token=body.token, product_id=product_id, quantity=body.quantity
            )
            return {"id": product_id, "stock": quantity}


def _add_customers(app: FastAPI, session_factory: SessionFactory) -> None:
    @app.get("/customers")
    def list_customers(limit: Limit = 20, after: int = 0) -> list[dict[str, Any]]:
        with _transaction(session_factory) as session:
            return [
                _show_customer(customer) for customer in checkout.list_customers(session, limit=limit, after=after)
            ]

    @app.patch("/customers/{customer_id}")
    def rename_customer(customer_id: int, body: Annotated[CustomerBody, Body()]) -> dict[str, Any]:
        with _transaction(session_factory) as session:
            return _show_customer(checkout.rename_customer(session, customer_id, body.name))

    @app.get("/customers/{customer_id}/orders")
    def list_orders(customer_id: int, limit: Limit = 20) -> list[dict[str, Any]]:
        with _transaction(session_factory) as session:
            return [_show_order(order) for order in checkout.list_orders(session, customer_id, limit=limit)]


@contextlib.contextmanager
def _transaction(session_factory: SessionFactory) -> Iterator[Session]:
    """Commits at the end of the block, so what the block returns is sent after the commit; rolls back on an error."""
    with session_factory() as session, session.begin():
        yield session


def _add_error_answers(app: FastAPI) -> None:
    @app.exception_handler(OutOfStockError)
    def out_of_stock(request: Request, error: OutOfStockError) -> Response:
        return JSONResponse({"detail": str(error), "product_id": error.product_id}, status.HTTP_409_CONFLICT)

    @app.exception_handler(NotFoundError)
    def not_found(request: Request, error: NotFoundError) -> Response:
        return JSONResponse({"detail": str(error)}, status.HTTP_404_NOT_FOUND)

    @app.exception_handler(SQLAlchemyError)
    def database_failed(request: Request, error: SQLAlchemyError) -> Response:
        """Whether it was committed is not known here, so the answer must not say."""
        _logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
        cause = getattr(error, "orig", None) or error
        detail = f"database: {type(cause).__name__}: {cause}"
        return JSONResponse({"detail": detail}, status.HTTP_503_SERVICE_UNAVAILABLE)


def _show_order(order: Order) -> dict[str, Any]:
    return {
        "token": order.token,
        "id": order.id,
        "customer_id": order.customer_id,
        "status": order.status.value,
        "total": _show_money(order.total),
        "lines": [
            {
                "product_id": line.product_id,
                "quantity": line.quantity,
                "unit_price": _show_money(line.unit_price),
            }
            for line in order.lines
        ],
        "payments": [
            {"kind": payment.kind.value, "amount": _show_money(payment.amount)} for payment in order.payments
        ],
    }


def _show_product(product: Product) -> dict[str, Any]:
    return {
        "id": product.id,
        "sku": product.sku,
        "name": product.name,
        "price": _show_money(product.price),
        "stock": product.stock.quantity,
        "attributes": product.attributes,
    }


def _show_customer(customer: Customer) -> dict[str, Any]:
    return {"id": customer.id, "email": customer.email, "name": customer.name}


def _show_money(amount: Decimal) -> str:
    """As text: a float would round."""
    return f"{amount:.2f}"
