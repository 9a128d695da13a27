"""The shop's customers: threads that keep writing through a move, and know what they were promised.

Each transaction also writes one journal row (client, number). The threads remember which ones the server
acknowledged, so that afterwards a lost or doubled write is a fact, not a suspicion. They behave as a well-written
shop does: what a closed fence or a lost connection stops is rolled back and tried again where the route leads then.
"""

from __future__ import annotations

import contextlib
import random
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from dbmigrate.throwaway.connections import Connection

CLOSED_FENCE = frozenset(
    {
        1290,  # read_only; also what MariaDB answers to the COMMIT of a transaction that was open
        1792, 1836,  # read-only transaction, read-only mode
        1223,  # a read lock is in the way
        1644,  # SIGNAL SQLSTATE '45000': a guarding trigger
        1044, 1045, 1142, 1143, 1227, 1370,  # the account was locked out
    }
)  # fmt: skip
ROLLED_BACK = frozenset({1205, 1213, 1020, 1317, 1969, 3024})
CONNECTION_LOST = frozenset(
    {0, 1040, 1053, 1077, 1079, 1152, 1158, 1159, 1160, 1161, 1927, 2002, 2003, 2006, 2013, 2014, 2055, 3169, 4031}
)
_RETRIED = CLOSED_FENCE | ROLLED_BACK | CONNECTION_LOST

_WORDS = ("Straße", "naïve", "Ünder", "SALE", "prix d'ami", "割引", "🎁")
_STATUSES = ("new", "paid", "shipped")
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.005, 0.1
_KEPT_ERRORS = 20


class JournalVerdict(NamedTuple):
    """What became of the acknowledged writes: how many are missing, how many were made more than once."""

    lost: int
    doubled: int


@dataclass(frozen=True, slots=True)
class _Extent:
    """What the shop holds when the writers come: the ids they choose from."""

    accounts: int
    products: int
    orders: int


@dataclass
class _Memory:
    """What one customer knows to be his own."""

    orders: list[int] = field(default_factory=list)
    coupons: list[str] = field(default_factory=list)


class _CommitInDoubtError(Exception):
    """The connection went while COMMIT was under way: only the journal knows what became of it."""


class Writers:
    """Customers at work: ``start``, ``stop``, then ask the counters and ``verify_journal``.

    ``route`` opens a connection to where the application's writes go *now*, with the shop's schema selected;
    it is asked again after every error. ``rate`` is transactions per second of all threads together. A transaction
    that is not acknowledged within ``give_up_seconds`` has failed.
    """

    def __init__(
        self,
        route: Callable[[], Connection],
        *,
        threads: int = 4,
        rate: float = 200.0,
        seed: int = 1,
        give_up_seconds: float = 60.0,
    ) -> None:
        self._stopping = threading.Event()
        # Distinct in every run: the journal of an earlier run may still be in the shop.
        run = secrets.token_hex(6)
        self._customers = [
            _Customer(
                client_id=f"{run}-{number}",
                route=route,
                chance=random.Random(f"{seed}/{number}"),  # noqa: S311 - traffic, not secrets
                period_seconds=threads / rate,
                give_up_seconds=give_up_seconds,
                stopping=self._stopping,
            )
            for number in range(threads)
        ]
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Writers:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to write."""
        self._stopping.clear()
        self._threads = [
            threading.Thread(target=customer.run, name=f"customer-{customer.client_id}", daemon=True)
            for customer in self._customers
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let every customer finish the transaction he is at, and return when all have."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        self._threads = []

    @property
    def attempted(self) -> int:
        """Transactions begun; each counts once, however often it was tried."""
        return sum(customer.attempted for customer in self._customers)

    @property
    def committed(self) -> int:
        """Transactions acknowledged."""
        return sum(len(customer.acknowledged) for customer in self._customers)

    @property
    def retried(self) -> int:
        """Tries after the first."""
        return sum(customer.retried for customer in self._customers)

    @property
    def failed(self) -> int:
        """Transactions given up: an error that no retry mends, or no acknowledgement in time."""
        return sum(customer.failed for customer in self._customers)

    @property
    def pause_gaps_ms(self) -> list[float]:
        """For each thread the longest time between two successful writes, in milliseconds."""
        return [customer.longest_gap_seconds * 1000 for customer in self._customers]

    @property
    def errors(self) -> list[str]:
        """The first errors that were given up on, for a person."""
        return [text for customer in self._customers for text in customer.errors]

    def forget_gaps(self) -> None:
        """Measure the gaps anew from here, so that a cutover's pause is not mixed with what was before."""
        for customer in self._customers:
            customer.longest_gap_seconds = 0.0

    def verify_journal(self, connection: Connection) -> JournalVerdict:
        """Hold what was acknowledged against the ledger that ``connection`` shows. Call it after ``stop``."""
        lost = doubled = 0
        for customer in self._customers:
            written = _read_journal(connection, customer.client_id)
            lost += sum(1 for seq in customer.acknowledged if not written[seq])
            doubled += sum(1 for times in written.values() if times > 1)
        return JournalVerdict(lost, doubled)


class _Customer:
    """One thread's worth of traffic."""

    def __init__(
        self,
        *,
        client_id: str,
        route: Callable[[], Connection],
        chance: random.Random,
        period_seconds: float,
        give_up_seconds: float,
        stopping: threading.Event,
    ) -> None:
        self.client_id = client_id
        self.acknowledged: list[int] = []
        self.attempted = self.retried = self.failed = 0
        self.longest_gap_seconds = 0.0
        self.errors: list[str] = []
        self._route = route
        self._chance = chance
        self._period_seconds = period_seconds
        self._give_up_seconds = give_up_seconds
        self._stopping = stopping
        self._connection: Connection | None = None
        self._extent: _Extent | None = None
        self._memory = _Memory()
        self._promised: list[Callable[[], object]] = []  # what to remember once this try is acknowledged

    def run(self) -> None:
        """Write until told to stop, at the rate given; a pause is not made up for by a burst."""
        last_success = due = time.monotonic()
        while not self._stopping.is_set():
            if self._write_one():
                now = time.monotonic()
                self.longest_gap_seconds = max(self.longest_gap_seconds, now - last_success)
                last_success = now
            due = max(due + self._period_seconds, time.monotonic())
            self._stopping.wait(due - time.monotonic())
        self._hang_up()

    def _write_one(self) -> bool:
        """One transaction, tried until it is acknowledged; whether it was."""
        self.attempted += 1
        seq = self.attempted
        deed = self._chance.choices(_DEEDS, _WEIGHTS)[0]
        give_up_at = time.monotonic() + self._give_up_seconds
        wait_seconds = _FIRST_WAIT_SECONDS
        is_in_doubt = False
        while True:
            try:
                if not (is_in_doubt and self._has_journal_row(seq)):
                    is_in_doubt = False
                    self._try(deed, seq)
            except Exception as error:
                is_in_doubt = is_in_doubt or isinstance(error, _CommitInDoubtError)
                if not _may_retry(error) or time.monotonic() > give_up_at:
                    self._give_up(deed, error)
                    return False
                self._hang_up()
            else:
                self.acknowledged.append(seq)
                for remember in self._promised:
                    remember()
                return True
            self.retried += 1
            time.sleep(wait_seconds)
            wait_seconds = min(wait_seconds * 2, _LONGEST_WAIT_SECONDS)

    def _try(self, deed: _Deed, seq: int) -> None:
        self._promised = []
        connection = self._call()
        connection.begin()
        with connection.cursor() as cursor:
            deed(self, cursor)
            cursor.execute(
                "INSERT INTO ledger (client_id, seq, deed, written_at) VALUES (%s, %s, %s, NOW(6))",
                (self.client_id, seq, deed.__name__.lstrip("_")),
            )
        try:
            connection.commit()
        except Exception as error:
            if _error_number(error) in CONNECTION_LOST:
                raise _CommitInDoubtError from error
            raise

    def _has_journal_row(self, seq: int) -> bool:
        """Ask with a lock: it waits for a transaction of ours that is still being committed."""
        connection = self._call()
        connection.begin()
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT COUNT(*) FROM ledger WHERE client_id = %s AND seq = %s LOCK IN SHARE MODE",
                (self.client_id, seq),
            )
            (count,) = cursor.fetchone()
        connection.rollback()
        return bool(count)

    def _call(self) -> Connection:
        if self._connection is None:
            self._connection = self._route()
        return self._connection

    def _hang_up(self) -> None:
        """Roll back and close; the next call follows the route anew."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.rollback()
            with contextlib.suppress(Exception):
                connection.close()

    def _give_up(self, deed: _Deed, error: Exception) -> None:
        self._hang_up()
        self.failed += 1
        if len(self.errors) < _KEPT_ERRORS:
            self.errors.append(f"{self.client_id} {deed.__name__.lstrip('_')}: {error!r}")

    # --- deeds: each is the body of one transaction ------------------------------------------------------------

    def _place_order(self, cursor: Any) -> None:
        lines = self._chance.randint(1, 4)
        cursor.execute(
            "INSERT INTO orders (account_id, status, total, note, created_at) VALUES (%s, 'new', %s, %s, NOW(6))",
            (self._some_account(cursor), self._some_price(), self._some_word()),
        )
        order_id = cursor.lastrowid
        rows = [
            (order_id, line, self._some_product(cursor), self._chance.randint(1, 5), self._some_price())
            for line in range(1, lines + 1)
        ]
        cursor.executemany(
            "INSERT INTO order_lines (order_id, line_no, product_id, quantity, price) VALUES (%s, %s, %s, %s, %s)",
            rows,
        )
        self._promised.append(lambda: self._memory.orders.append(order_id))

    def _advance_order(self, cursor: Any) -> None:
        """The trigger writes the history."""
        cursor.execute(
            "UPDATE orders SET status = %s, total = %s WHERE id = %s",
            (self._chance.choice(_STATUSES), self._some_price(), self._some_order(cursor)),
        )

    def _cancel_order(self, cursor: Any) -> None:
        cursor.execute("CALL cancel_order(%s)", (self._some_order(cursor),))

    def _delete_order(self, cursor: Any) -> None:
        """Its lines go by cascade: most servers log no event for them."""
        order_id = self._some_order(cursor)
        cursor.execute("DELETE FROM orders WHERE id = %s", (order_id,))
        if order_id in self._memory.orders:
            self._promised.append(lambda: self._memory.orders.remove(order_id))

    def _renumber_line(self, cursor: Any) -> None:
        """A row whose composite primary key changes."""
        order_id = self._some_order(cursor)
        cursor.execute(
            "UPDATE order_lines SET line_no = line_no + 100 WHERE order_id = %s ORDER BY line_no DESC LIMIT 1",
            (order_id,),
        )

    def _move_money(self, cursor: Any) -> None:
        """From one account to another: the sum of all balances never changes."""
        amount = self._some_price()
        payer, payee = self._some_account(cursor), self._some_account(cursor)
        cursor.execute(
            "UPDATE accounts SET balance = balance - %s WHERE id = %s AND balance >= %s", (amount, payer, amount)
        )
        if cursor.rowcount:
            cursor.execute("UPDATE accounts SET balance = balance + %s WHERE id = %s", (amount, payee))

    def _issue_coupon(self, cursor: Any) -> None:
        """An upsert: the second half the times the code is there already."""
        known = self._memory.coupons
        is_known = bool(known) and self._chance.random() < 0.5
        code = self._chance.choice(known) if is_known else self._new_code()
        cursor.execute(
            "INSERT INTO coupons (code, percent, valid_until) VALUES (%s, %s, '2031-12-31') "
            "ON DUPLICATE KEY UPDATE used = used + 1",
            (code, self._chance.randint(1, 90)),
        )
        if not is_known:
            self._promised.append(lambda: known.append(code))

    def _rename_coupon(self, cursor: Any) -> None:
        """A row whose string key changes."""
        known = self._memory.coupons
        if not known:
            self._issue_coupon(cursor)
            return
        before, after = self._chance.choice(known), self._new_code()
        cursor.execute("UPDATE coupons SET code = %s WHERE code = %s", (after, before))
        self._promised.append(lambda: known.__setitem__(known.index(before), after))

    def _edit_product(self, cursor: Any) -> None:
        picture = self._chance.randbytes(self._chance.randint(0, 4000)) if self._chance.random() < 0.5 else None
        cursor.execute(
            "UPDATE products SET attributes = JSON_SET(attributes, '$.weight', %s, '$.note', %s), "
            "picture = IF(%s, %s, picture), price = %s WHERE id = %s",
            (
                self._chance.randint(1, 10**6),
                self._some_word(),
                picture is not None,
                picture,
                self._some_price(),
                self._some_product(cursor),
            ),
        )

    def _swap_skus(self, cursor: Any) -> None:
        """Two rows exchange the value of a secondary unique key."""
        low, high = sorted((self._some_product(cursor), self._some_product(cursor)))
        cursor.execute("SELECT id, sku FROM products WHERE id IN (%s, %s) ORDER BY id FOR UPDATE", (low, high))
        skus = dict(cursor.fetchall())
        if len(skus) < 2:
            return
        cursor.execute("UPDATE products SET sku = %s WHERE id = %s", (f"moving-{self.client_id}", low))
        cursor.execute("UPDATE products SET sku = %s WHERE id = %s", (skus[low], high))
        cursor.execute("UPDATE products SET sku = %s WHERE id = %s", (skus[high], low))

    # --- choices -----------------------------------------------------------------------------------------------

    def _read_extent(self, cursor: Any) -> _Extent:
        if self._extent is None:
            tables = ("accounts", "products", "orders")
            cursor.execute("SELECT " + ", ".join(f"(SELECT COALESCE(MAX(id), 1) FROM {t})" for t in tables))
            self._extent = _Extent(*map(int, cursor.fetchone()))
        return self._extent

    def _some_account(self, cursor: Any) -> int:
        return self._chance.randint(1, self._read_extent(cursor).accounts)

    def _some_product(self, cursor: Any) -> int:
        return self._chance.randint(1, self._read_extent(cursor).products)

    def _some_order(self, cursor: Any) -> int:
        """One of his own as often as one of the shop's first: fresh rows are the ones that races hit."""
        own = self._memory.orders[-50:]
        return self._chance.choice(own) if own and self._chance.random() < 0.5 else self._some_first_order(cursor)

    def _some_first_order(self, cursor: Any) -> int:
        return self._chance.randint(1, self._read_extent(cursor).orders)

    def _some_price(self) -> str:
        return f"{self._chance.randint(1, 9999) / 100:.2f}"

    def _some_word(self) -> str:
        return self._chance.choice(_WORDS)

    def _new_code(self) -> str:
        return f"{self._some_word()}-{self.client_id}-{self._chance.randrange(10**9)}"


_Deed: TypeAlias = Callable[[_Customer, Any], None]

_TRAFFIC: dict[_Deed, int] = {
    _Customer._place_order: 30,
    _Customer._advance_order: 15,
    _Customer._cancel_order: 4,
    _Customer._delete_order: 8,
    _Customer._renumber_line: 4,
    _Customer._move_money: 20,
    _Customer._issue_coupon: 6,
    _Customer._rename_coupon: 4,
    _Customer._edit_product: 6,
    _Customer._swap_skus: 3,
}
"""How often each deed is done, out of 100."""
_DEEDS, _WEIGHTS = list(_TRAFFIC), list(_TRAFFIC.values())


def _error_number(error: Exception) -> int | None:
    """The server's number, as every PyMySQL error carries it first; 0 where the connection just broke."""
    if isinstance(error, OSError):
        return 0
    number = error.args[0] if error.args else None
    return number if isinstance(number, int) else None


def _may_retry(error: Exception) -> bool:
    return isinstance(error, _CommitInDoubtError) or _error_number(error) in _RETRIED


def _read_journal(connection: Connection, client_id: str) -> Counter[int]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT seq, COUNT(*) FROM ledger WHERE client_id = %s GROUP BY seq", (client_id,))
        return Counter(dict(cursor.fetchall()))
