"""The checkout: orders, their lines, and the payments for them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TIMESTAMP = mysql.DATETIME(fsp=6)
TOKEN = mysql.VARCHAR(64, charset="ascii", collation="ascii_bin")
OPTIONS = {
    f"{dialect}_{option}": value
    for dialect in ("mysql", "mariadb")
    for option, value in {"engine": "InnoDB", "default_charset": "utf8mb4", "collate": "utf8mb4_unicode_ci"}.items()
}


def upgrade() -> None:
    op.create_table(
        "orders",
        sa.Column("id", sa.BigInteger, primary_key=True),
        sa.Column("token", TOKEN, nullable=False),
        sa.Column("customer_id", sa.Integer, nullable=False),
        sa.Column("status", sa.Enum("placed", "cancelled"), nullable=False),
        sa.Column("total", sa.Numeric(12, 2), nullable=False),
        sa.Column("placed_at", TIMESTAMP, nullable=False),
        sa.Column("cancelled_at", TIMESTAMP),
        sa.UniqueConstraint("token", name=op.f("uq_orders_token")),
        sa.Index(op.f("ix_orders_customer_id"), "customer_id"),
        sa.ForeignKeyConstraint(["customer_id"], ["customer.id"], name=op.f("fk_orders_customer_id")),
        **OPTIONS,
    )
    op.create_table(
        "order_line",
        sa.Column("order_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("line_number", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("product_id", sa.Integer, nullable=False),
        sa.Column("quantity", sa.Integer, nullable=False),
        sa.Column("unit_price", sa.Numeric(12, 2), nullable=False),
        sa.Index(op.f("ix_order_line_product_id"), "product_id"),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name=op.f("fk_order_line_order_id")),
        sa.ForeignKeyConstraint(["product_id"], ["product.id"], name=op.f("fk_order_line_product_id")),
        **OPTIONS,
    )
    op.create_table(
        "payment",
        sa.Column("id", sa.BigInteger, primary_key=True),
        sa.Column("order_id", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.Enum("charge", "refund"), nullable=False),
        sa.Column("amount", sa.Numeric(12, 2), nullable=False),
        sa.Column("receipt", sa.JSON, nullable=False),
        sa.Column("paid_at", TIMESTAMP, nullable=False, server_default=sa.text("CURRENT_TIMESTAMP(6)")),
        sa.Index(op.f("ix_payment_order_id"), "order_id"),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name=op.f("fk_payment_order_id")),
        **OPTIONS,
    )


def downgrade() -> None:
    for table in ("payment", "order_line", "orders"):
        op.drop_table(table)
