"""The catalogue: customers, products, their stock, and the deliveries that fill it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision = None
branch_labels = ("expand",)
depends_on = None

TIMESTAMP = mysql.DATETIME(fsp=6)
TOKEN = mysql.VARCHAR(64, charset="ascii", collation="ascii_bin")
NOW = sa.text("CURRENT_TIMESTAMP(6)")
NOW_AND_AT_EVERY_CHANGE = sa.text("CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6)")
OPTIONS = {
    f"{dialect}_{option}": value
    for dialect in ("mysql", "mariadb")
    for option, value in {"engine": "InnoDB", "default_charset": "utf8mb4", "collate": "utf8mb4_unicode_ci"}.items()
}


def upgrade() -> None:
    op.create_table(
        "customer",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("email", sa.String(190), nullable=False),
        sa.Column("name", sa.String(120), nullable=False),
        sa.Column("preferences", sa.JSON),
        sa.Column("registered_at", TIMESTAMP, nullable=False, server_default=NOW),
        sa.Column("changed_at", TIMESTAMP, nullable=False, server_default=NOW_AND_AT_EVERY_CHANGE),
        sa.UniqueConstraint("email", name=op.f("uq_customer_email")),
        **OPTIONS,
    )
    op.create_table(
        "product",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("sku", sa.String(40), nullable=False),
        sa.Column("name", sa.String(120), nullable=False),
        sa.Column("price", sa.Numeric(12, 2), nullable=False),
        sa.Column("is_listed", sa.Boolean, nullable=False, server_default=sa.text("1")),
        sa.Column("attributes", sa.JSON, nullable=False),
        sa.UniqueConstraint("sku", name=op.f("uq_product_sku")),
        **OPTIONS,
    )
    op.create_table(
        "stock",
        sa.Column("product_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("quantity", sa.Integer, nullable=False),
        sa.Column("changed_at", TIMESTAMP, nullable=False, server_default=NOW_AND_AT_EVERY_CHANGE),
        sa.CheckConstraint("quantity >= 0", name=op.f("ck_stock_quantity_not_negative")),
        sa.ForeignKeyConstraint(["product_id"], ["product.id"], name=op.f("fk_stock_product_id")),
        **OPTIONS,
    )
    op.create_table(
        "delivery",
        sa.Column("token", TOKEN, primary_key=True),
        sa.Column("product_id", sa.Integer, nullable=False),
        sa.Column("quantity", sa.Integer, nullable=False),
        sa.Column("delivered_at", TIMESTAMP, nullable=False, server_default=NOW),
        sa.Index(op.f("ix_delivery_product_id"), "product_id"),
        sa.ForeignKeyConstraint(["product_id"], ["product.id"], name=op.f("fk_delivery_product_id")),
        **OPTIONS,
    )


def downgrade() -> None:
    for table in ("delivery", "stock", "product", "customer"):
        op.drop_table(table)
