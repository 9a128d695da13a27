"""The shop that the demo, the rehearsal and the tests move: its tables, its data, its traffic and its judge.

Everything here works through connections given by the caller and knows nothing of how a move is done, so that
it can judge one: ``Writers`` count every acknowledged write, ``compare`` reads every row by itself.
"""

from __future__ import annotations

from dbmigrate.throwaway.connections import Connection
from dbmigrate.throwaway.row_comparison import Comparison, Difference, compare
from dbmigrate.throwaway.shop_writers import JournalVerdict, Writers

__all__ = [
    "Comparison",
    "Difference",
    "JournalVerdict",
    "Writers",
    "compare",
    "create_shop",
    "fill_shop",
    "read_total_balance",
]

# One collation that both flavours have, and that makes keys equal which are not the same bytes.
_TABLE_OPTIONS = "ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci"

_TABLES = (
    """CREATE TABLE accounts (
        id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
        owner VARCHAR(100) NOT NULL,
        balance DECIMAL(14,2) NOT NULL,
        is_business BOOLEAN NOT NULL DEFAULT FALSE,
        opened_on DATE NOT NULL,
        CONSTRAINT balance_is_never_negative CHECK (balance >= 0)
    )""",
    """CREATE TABLE products (
        id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
        sku VARCHAR(40) NOT NULL,
        title VARCHAR(200) NOT NULL,
        price DECIMAL(12,2) NOT NULL,
        attributes JSON NOT NULL,
        picture BLOB,
        updated_at TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3),
        UNIQUE KEY sku (sku)
    )""",
    """CREATE TABLE orders (
        id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
        account_id INT UNSIGNED NOT NULL,
        status ENUM('new', 'paid', 'shipped', 'cancelled') NOT NULL DEFAULT 'new',
        total DECIMAL(12,2) NOT NULL,
        note VARCHAR(200),
        created_at DATETIME(6) NOT NULL,
        updated_at TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3),
        KEY account (account_id, created_at),
        KEY status (status)
    )""",
    """CREATE TABLE order_lines (
        order_id BIGINT UNSIGNED NOT NULL,
        line_no SMALLINT UNSIGNED NOT NULL,
        product_id INT UNSIGNED NOT NULL,
        quantity INT NOT NULL,
        price DECIMAL(12,2) NOT NULL,
        PRIMARY KEY (order_id, line_no),
        KEY product (product_id),
        CONSTRAINT line_of_order FOREIGN KEY (order_id) REFERENCES orders (id) ON DELETE CASCADE
    )""",
    """CREATE TABLE order_history (
        id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
        order_id BIGINT UNSIGNED NOT NULL,
        was VARCHAR(20) NOT NULL,
        became VARCHAR(20) NOT NULL,
        KEY order_id (order_id)
    )""",
    """CREATE TABLE coupons (
        code VARCHAR(60) NOT NULL PRIMARY KEY,
        percent TINYINT UNSIGNED NOT NULL,
        used INT NOT NULL DEFAULT 0,
        valid_until DATE NOT NULL
    )""",
    # No unique key on (client_id, seq): a write that was made twice must be possible, to be counted.
    """CREATE TABLE ledger (
        id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
        client_id VARCHAR(40) NOT NULL,
        seq BIGINT UNSIGNED NOT NULL,
        deed VARCHAR(40) NOT NULL,
        written_at DATETIME(6) NOT NULL,
        KEY client (client_id, seq)
    )""",
)

# Each kind of stored object once. The trigger writes rows: where it fires on copied rows, ``compare`` sees it.
_OBJECTS = (
    """CREATE TRIGGER orders_keep_history AFTER UPDATE ON orders FOR EACH ROW
    BEGIN
        IF NEW.status <> OLD.status THEN
            INSERT INTO order_history (order_id, was, became) VALUES (NEW.id, OLD.status, NEW.status);
        END IF;
    END""",
    """CREATE VIEW open_orders AS
        SELECT o.id, o.account_id, a.owner, o.total, o.created_at
        FROM orders o JOIN accounts a ON a.id = o.account_id WHERE o.status IN ('new', 'paid')""",
    """CREATE PROCEDURE cancel_order(IN cancelled_id BIGINT UNSIGNED)
    BEGIN
        UPDATE orders SET status = 'cancelled' WHERE id = cancelled_id AND status <> 'shipped';
    END""",
    """CREATE EVENT forget_old_coupons ON SCHEDULE EVERY 1 HOUR
        DO DELETE FROM coupons WHERE valid_until < '2000-01-01'""",
)

# Shares of all rows asked for. An order has two lines on average.
_SHARES = {"accounts": 0.04, "products": 0.025, "orders": 0.31, "coupons": 0.005}
_DIGITS = "(SELECT 0 d UNION ALL " + " UNION ALL ".join(f"SELECT {digit}" for digit in range(1, 10)) + ")"


def create_shop(connection: Connection, schema: str) -> None:
    """Create the schema with all tables and objects, empty, and select it on ``connection``."""
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE IF NOT EXISTS `{schema}` CHARACTER SET utf8mb4")
        cursor.execute(f"USE `{schema}`")
        for table in _TABLES:
            cursor.execute(f"{table} {_TABLE_OPTIONS}")
        for stored_object in _OBJECTS:
            cursor.execute(stored_object)


def fill_shop(connection: Connection, schema: str, rows: int = 200_000, seed: int = 1) -> int:
    """Fill an empty shop with about ``rows`` rows, the same for the same seed; returns how many there are.

    The server makes the rows itself (INSERT ... SELECT), so that a large shop is ready in seconds.
    """
    counts = {table: max(2, int(rows * share)) for table, share in _SHARES.items()}
    with connection.cursor() as cursor:
        cursor.execute(f"USE `{schema}`")
        written = sum(cursor.execute(statement) for statement in _build_fill(counts, seed))
    connection.commit()
    return int(written)


def read_total_balance(connection: Connection) -> object:
    """The sum of all balances: moving money never changes it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT SUM(balance) FROM accounts")
        row = cursor.fetchone()
    return row[0] if row else None


def _build_fill(counts: dict[str, int], seed: int) -> list[str]:
    def number(salt: str, below: int) -> str:
        return f"MOD(CRC32(CONCAT('{seed}/{salt}/', n)), {below})"

    moment = "TIMESTAMP('2026-01-01 00:00:00') + INTERVAL n SECOND"
    orders = counts["orders"]
    first_lines = f"SELECT n, 1 AS line_no FROM {_build_numbers(orders)}"
    more_lines = [
        f"SELECT n, {line} FROM {_build_numbers(orders)} WHERE {number('lines', 3)} >= {line - 1}" for line in (2, 3)
    ]
    return [
        "INSERT INTO accounts (id, owner, balance, is_business, opened_on) "
        f"SELECT n, CONCAT('Käufer № ', n), 1000 + {number('balance', 100000)} / 100, {number('kind', 10)} = 0, "
        f"DATE('2020-01-01') + INTERVAL {number('opened', 2000)} DAY FROM {_build_numbers(counts['accounts'])}",
        "INSERT INTO products (id, sku, title, price, attributes, picture, updated_at) "
        f"SELECT n, CONCAT('SKU-', LPAD(n, 8, '0')), CONCAT('Artikel \\'', n, '\\' 🛒'), "
        f"{number('price', 99900)} / 100 + 1, "
        f"JSON_OBJECT('colour', ELT(1 + {number('colour', 4)}, 'rot', 'grün', 'blau', NULL), 'weight', n, "
        "'tags', JSON_ARRAY('a\"b', 'ü', '🎁')), "
        f"IF({number('picture', 5)} = 0, NULL, "
        f"REPEAT(UNHEX(SHA2(CONCAT('{seed}/', n), 512)), 1 + {number('size', 8)})), "
        f"{moment} FROM {_build_numbers(counts['products'])}",
        "INSERT INTO orders (id, account_id, status, total, note, created_at, updated_at) "
        f"SELECT n, 1 + {number('account', counts['accounts'])}, 1 + {number('status', 4)}, "
        f"{number('total', 50000)} / 100, IF({number('note', 3)} = 0, CONCAT('bitte klingeln: ', n), NULL), "
        f"{moment}, {moment} FROM {_build_numbers(orders)}",
        "INSERT INTO order_lines (order_id, line_no, product_id, quantity, price) "
        f"SELECT n, line_no, 1 + {number('product', counts['products'])}, 1 + {number('quantity', 5)}, "
        f"{number('line price', 20000)} / 100 "
        f"FROM ({' UNION ALL '.join([first_lines, *more_lines])}) AS line",
        "INSERT INTO coupons (code, percent, used, valid_until) "
        f"SELECT CONCAT(ELT(1 + {number('word', 3)}, 'Straße', 'naïve', 'SALE'), '-', n), 5 + {number('percent', 45)}, "
        f"{number('used', 20)}, DATE('2030-01-01') + INTERVAL {number('until', 700)} DAY "
        f"FROM {_build_numbers(counts['coupons'])}",
    ]


def _build_numbers(count: int) -> str:
    """A derived table ``n`` of 1..count; recursion would be limited to 1,000 steps on MySQL."""
    places = range(len(str(count)))
    value = " + ".join(f"d{place}.d * {10**place}" for place in places)
    digits = " JOIN ".join(f"{_DIGITS} d{place}" for place in places)
    return f"(SELECT 1 + {value} AS n FROM {digits} HAVING n <= {count}) AS numbers"
