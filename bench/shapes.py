"""Tables of different shapes, filled by the server itself: what a copy costs depends on what a row is made of.

Every shape is one table ``shop.orders`` whose rows are a pure function of their number, by expressions that MariaDB and
MySQL understand alike, so both flavours copy the same rows.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.harness import COLUMNS, CREATE_TABLE, SCHEMA, TABLE, let_rest, make_durable, relax, say
from dbmigrate.throwaway.local_servers import LocalServer

NUMBERS = "bench_numbers"
_STEP = 100_000
_SUFFIX = "ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4"

# Without its default: mydumper 0.10 takes a column of MySQL with a DEFAULT CURRENT_TIMESTAMP for a generated one, and
# leaves it out without a word.
_SHOP = CREATE_TABLE.replace("NOT NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3)", "NOT NULL")
_TWO_KEYS = "  KEY customer (customer_id, created_at),\n  KEY sku (sku)\n"
_FIVE_KEYS = (
    "  KEY customer (customer_id, created_at),\n  KEY sku (sku),\n  KEY created (created_at),\n"
    "  KEY status (status, total),\n  KEY updated (updated_at, customer_id)\n"
)
_SHOP_VALUES = (
    "MOD(n * 7919, 50000), CONCAT('SKU-', LEFT(SHA2(n, 256), 32)), 1 + MOD(n, 4), 1 + MOD(n, 9), "
    "MOD(n * 31, 1000000) / 100, IF(MOD(n, 5) = 0, NULL, n / 7), "
    "IF(MOD(n, 3) = 0, NULL, CONCAT('please ring at O''Brien, floor ', MOD(n, 40), ' – grüße ', n)), "
    "TIMESTAMP('2026-01-01') + INTERVAL n SECOND, TIMESTAMP('2026-01-02') + INTERVAL n SECOND"
)
_TEXT = "REPEAT(CONCAT(SHA2(n, 256), ' It''s a \\\\ line – grüße ', n, '\\n'), 20)"
_JSON = (
    "JSON_OBJECT('id', n, 'tags', JSON_ARRAY('new', CONCAT('t', MOD(n, 50)), SHA2(n, 256)), 'price', MOD(n, 10000) / 1e2, "
    "'address', JSON_OBJECT('street', CONCAT('Straße ', n), 'zip', MOD(n, 99999)), 'note', REPEAT(SHA2(n + 1, 256), 4))"
)
# A megabyte that does not compress to nothing, without a megabyte of work per row.
_BLOB = "CONCAT(UNHEX(SHA2(n, 256)), REPEAT(UNHEX(CONCAT(SHA2(n, 256), SHA2(n + 1, 512), SHA2(n + 2, 512))), 6553))"


@dataclass(frozen=True, slots=True)
class Shape:
    """One table. ``rows`` of a full and of a quick run take a few seconds to copy on a small machine."""

    name: str
    says: str
    definition: str
    columns: str
    values: str
    rows: int
    quick_rows: int
    step: int = _STEP


_SHAPES = (
    Shape("shop", "ten columns, two secondary indexes", _SHOP, f"id, {COLUMNS}", f"n, {_SHOP_VALUES}", 400_000, 60_000),
    Shape(
        "indexes", "the same ten columns, five secondary indexes", _SHOP.replace(_TWO_KEYS, _FIVE_KEYS),
        f"id, {COLUMNS}", f"n, {_SHOP_VALUES}", 400_000, 60_000,
    ),
    Shape(
        "narrow", "four integers", f"CREATE TABLE {SCHEMA}.{TABLE} (id INT NOT NULL PRIMARY KEY, a INT NOT NULL, "
        f"b INT NOT NULL, c BIGINT NOT NULL) {_SUFFIX}",
        "id, a, b, c", "n, MOD(n * 7919, 50000), MOD(n, 9), n * 1000003", 1_200_000, 150_000,
    ),
    Shape(
        "wide", "about 2 KB of text and 0.6 KB of JSON", f"CREATE TABLE {SCHEMA}.{TABLE} (id INT NOT NULL PRIMARY KEY, "
        f"title VARCHAR(200) NOT NULL, body TEXT NOT NULL, document JSON NOT NULL) {_SUFFIX}",
        "id, title, body, document", f"n, CONCAT('title ', n), {_TEXT}, {_JSON}", 120_000, 8_000, 10_000,
    ),
    Shape(
        "blobs", "one binary value of 1 MB", f"CREATE TABLE {SCHEMA}.{TABLE} (id INT NOT NULL PRIMARY KEY, "
        f"name VARCHAR(40) NOT NULL, picture LONGBLOB NOT NULL) {_SUFFIX}",
        "id, name, picture", f"n, CONCAT('picture ', n), {_BLOB}", 500, 40, 20,
    ),
    Shape(
        "strings", "a primary key of two strings", f"CREATE TABLE {SCHEMA}.{TABLE} (tenant VARCHAR(20) NOT NULL, "
        f"code VARCHAR(40) NOT NULL, quantity INT NOT NULL, price DECIMAL(10,2) NOT NULL, "
        f"PRIMARY KEY (tenant, code)) {_SUFFIX}",
        "tenant, code, quantity, price",
        "CONCAT('tenant-', LPAD(MOD(n, 200), 4, '0')), CONCAT(LEFT(SHA2(n, 256), 20), '-', n), MOD(n, 100), MOD(n * 31, 100000) / 100",
        500_000, 60_000,
    ),
)  # fmt: skip
SHAPES = {shape.name: shape for shape in _SHAPES}


def fill_shape(server: LocalServer, shape: Shape, rows: int) -> None:
    """Create the table, replacing one that is there, and let the server make ``rows`` rows. The result is on disk."""
    say(f"filling {rows:,} rows of {shape.name} ({shape.says})")
    server.execute(
        f"CREATE DATABASE IF NOT EXISTS {SCHEMA} CHARACTER SET utf8mb4", f"DROP TABLE IF EXISTS {SCHEMA}.{TABLE}",
        shape.definition,
    )  # fmt: skip
    relax(server)
    _make_numbers(server)
    for start in range(0, rows, shape.step):
        count = min(rows - start, shape.step)
        server.execute(
            f"INSERT INTO {SCHEMA}.{TABLE} ({shape.columns}) SELECT {shape.values} FROM "
            f"(SELECT n + {start} AS n FROM {NUMBERS}.numbers WHERE n <= {count}) AS numbered"
        )
    make_durable(server)
    server.execute(f"ANALYZE TABLE {SCHEMA}.{TABLE}")
    let_rest(server)


def _make_numbers(server: LocalServer) -> None:
    """1 to 100,000, where they are not there yet: MySQL has no sequence tables."""
    server.execute(f"CREATE DATABASE IF NOT EXISTS {NUMBERS}", f"CREATE TABLE IF NOT EXISTS {NUMBERS}.numbers (n INT PRIMARY KEY)")
    if not server.execute(f"SELECT COUNT(*) FROM {NUMBERS}.numbers")[0][0]:
        digits = "(SELECT 0 d " + " ".join(f"UNION ALL SELECT {digit}" for digit in range(1, 10)) + ")"
        joined = ", ".join(f"{digits} d{power}" for power in range(5))
        total = " + ".join(f"d{power}.d * {10**power}" for power in range(5))
        server.execute(f"INSERT INTO {NUMBERS}.numbers SELECT 1 + {total} FROM {joined}")

