"""The store's customers over HTTP: threads that order, cancel, restock and read at a steady rate, and remember it all.

A request is sent once. What is not answered by a 2xx, or by the 409 of an empty shelf, is a failed request, whatever
the reason: the store under a move has to behave as if there were none. ``http.client`` rather than a richer library,
because the load shares its processors with the store and the servers.

``python -m dbmigrate.store.load http://127.0.0.1:8000 --seconds 10`` runs one, and checks it where STORE_DATABASE_URL
names the database.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import random
import secrets
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa

from dbmigrate.store.audit import audit
from dbmigrate.store.journal import (
    DeliveryRecord,
    Journal,
    LoadResult,
    OrderRecord,
    Outcome,
    RenameRecord,
    Spread,
    find_gaps,
)

DEFAULT_TIMEOUT_SECONDS = 30.0

_KEPT_ERRORS = 20
_HOT_PRODUCTS = 3
_HOT_SHARE = 0.5
_MOST_LINES = 3
_MOST_PIECES = 3
_RESTOCK_PIECES = 100
_LATEST_ORDERS = 500
_READ_AFTER_SECONDS = 1.0  # nobody looks at his order earlier; a replica that is read from may be that late
_MS = 1000.0

_ORDER, _CANCEL, _RESTOCK, _RENAME = "order", "cancel", "restock", "rename"
_WRITES = {_ORDER: 70, _CANCEL: 12, _RESTOCK: 8, _RENAME: 10}
_READ_ORDER, _READ_PRODUCT, _LIST_PRODUCTS = "read order", "read product", "list products"
_READS = {_READ_ORDER: 40, _READ_PRODUCT: 50, _LIST_PRODUCTS: 10}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. ``status`` is 0 and ``error`` is set where nothing did."""

    status: int
    body: bytes = b""
    error: str = ""

    @property
    def outcome(self) -> Outcome:
        """What the sender may conclude."""
        if 200 <= self.status < 300:
            return Outcome.DONE
        if self.status == http.client.CONFLICT:
            return Outcome.REFUSED
        return Outcome.REJECTED if 400 <= self.status < 500 else Outcome.UNKNOWN

    def describe(self) -> str:
        """For a person."""
        return self.error or f"{self.status} {self.body[:500].decode(errors='replace')}"


class _Wire:
    """One connection that is kept open; after a failure the next request opens one to the next address."""

    def __init__(self, addresses: Sequence[tuple[str, int]], *, first: int, timeout_seconds: float) -> None:
        self._addresses = itertools.cycle([*addresses[first:], *addresses[:first]])
        self._timeout_seconds = timeout_seconds
        self._connection: http.client.HTTPConnection | None = None

    def ask(self, method: str, path: str, body: Any = None) -> Answer:
        """Send the request once."""
        if self._connection is None:
            self._connection = http.client.HTTPConnection(*next(self._addresses), timeout=self._timeout_seconds)
        try:
            content = None if body is None else json.dumps(body).encode()
            self._connection.request(method, path, content, {"Content-Type": "application/json"})
            response = self._connection.getresponse()
            return Answer(response.status, response.read())
        except (OSError, http.client.HTTPException) as error:
            self.hang_up()
            return Answer(0, error=f"no answer: {error!r}")

    def hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _LatestOrders:
    """Orders that were acknowledged a moment ago, for the readers. Safe between threads."""

    def __init__(self) -> None:
        self._orders: deque[tuple[float, str]] = deque(maxlen=_LATEST_ORDERS)

    def add(self, token: str) -> None:
        self._orders.append((time.monotonic(), token))

    def pick(self, chance: random.Random) -> str | None:
        """One that is old enough, if there is any."""
        ripe_at = time.monotonic() - _READ_AFTER_SECONDS
        try:
            candidates = (self._orders[chance.randrange(_LATEST_ORDERS) % len(self._orders)], self._orders[0])
        except (IndexError, ZeroDivisionError):  # none yet, or the deque has moved on
            return None
        return next((token for at, token in candidates if at <= ripe_at), None)


@dataclass(frozen=True, slots=True)
class _Common:
    """What all workers of one load share."""

    run: str
    products: Sequence[int]
    customers: Sequence[int]
    latest_orders: _LatestOrders
    stopping: threading.Event


class Load:
    """Traffic for the store at ``base_url`` (or at several, in turns), from ``start`` to ``stop``; then ``check``.

    ``rate`` is requests per second of all ``workers`` together; ``write_share`` of both are writers, the others only
    read, so that a writer writes at an even pace. A pause is not made up for by a burst. A worker that was told that a
    shelf is empty restocks it at once. A request without an answer within ``timeout_seconds`` has failed.
    """

    def __init__(
        self,
        base_url: str | Sequence[str],
        *,
        workers: int = 8,
        rate: float = 200.0,
        write_share: float = 0.5,
        seed: int = 1,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    ) -> None:
        if workers < 2 or not 0 < write_share < 1 or rate <= 0:
            raise ValueError("a load needs two workers or more, a rate above 0, and a share of writes between 0 and 1")
        urls = [base_url] if isinstance(base_url, str) else list(base_url)
        self._addresses = [_parse_address(url) for url in urls]
        self._rate, self._seed, self._timeout_seconds = rate, seed, timeout_seconds
        self._write_share = write_share
        self._writers_count = min(max(round(workers * write_share), 1), workers - 1)
        self._readers_count = workers - self._writers_count
        self._run = f"{secrets.token_hex(6)}-"
        self._stopping = threading.Event()
        self._writers: list[_Writer] = []
        self._readers: list[_Reader] = []
        self._began_at = self._ended_at = 0.0

    def __enter__(self) -> Load:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    @property
    def write_period_ms(self) -> float:
        """How far a writer's writes are apart when nothing holds him up: the floor below every gap."""
        return self._writers_count / (self._rate * self._write_share) * _MS

    @property
    def requests(self) -> int:
        """Requests that were sent so far."""
        return sum(journal.requests for journal in self._journals())

    @property
    def failed_requests(self) -> int:
        """Requests so far that were not answered by a 2xx or 409."""
        return sum(journal.failed for journal in self._journals())

    @property
    def errors(self) -> list[str]:
        """The first failed requests, for a person."""
        return [text for journal in self._journals() for text in journal.errors][:_KEPT_ERRORS]

    def start(self) -> None:
        """Look at the store, then begin. Once only.

        Raises:
            ConnectionError: the store does not answer, or holds nothing to sell.
        """
        if self._writers:
            raise RuntimeError("a load is started once")
        common = _Common(self._run, *self._look_around(), _LatestOrders(), self._stopping)
        writer_period = self.write_period_ms / _MS
        reader_period = self._readers_count / (self._rate * (1 - self._write_share))
        self._writers = [
            _Writer(common, number, self._dial(number), self._chance(number), writer_period, self._writers_count)
            for number in range(self._writers_count)
        ]
        self._readers = [
            _Reader(common, number, self._dial(number), self._chance(number), reader_period, self._readers_count)
            for number in range(self._writers_count, self._writers_count + self._readers_count)
        ]
        self._began_at = time.monotonic()
        for worker in (*self._writers, *self._readers):
            worker.thread.start()

    def stop(self) -> None:
        """Let every worker finish the request it is at, and return when all have."""
        self._stopping.set()
        for worker in (*self._writers, *self._readers):
            worker.thread.join()
        self._ended_at = self._ended_at or time.monotonic()

    def gaps_between(self, began_at: float, ended_at: float) -> list[list[float]]:
        """For each writer the times between two successful writes that reach into the window, in milliseconds.

        Both times are ``time.monotonic()``. A gap counts whole, also what of it lies outside. One that no write has
        ended yet counts up to now, so ask a moment after the window. Works while the load runs.
        """
        return self._find_gaps((began_at, ended_at))

    def check(self, connection: sa.Connection) -> LoadResult:
        """Hold what was acknowledged against the store's database. Call it after ``stop``, and when nobody writes.

        ``connection`` is not in a transaction. The gaps are those of the whole load.
        """
        if not self._ended_at:
            raise RuntimeError("stop the load before it is checked")
        journals = self._journals()
        with connection.begin():
            findings = audit(connection, journals, token_prefix=self._run)
        orders = [record for journal in journals for record in journal.orders]
        return LoadResult(
            seconds=self._ended_at - self._began_at,
            requests=self.requests,
            failed_requests=self.failed_requests,
            out_of_stock=sum(journal.refused for journal in journals),
            unknown_outcomes=sum(journal.unknown_writes for journal in journals),
            orders=_count_done(order.outcome for order in orders),
            cancels=_count_done(order.cancel for order in orders),
            restocks=_count_done(record.outcome for journal in journals for record in journal.deliveries),
            renames=_count_done(record.outcome for journal in journals for record in journal.renames),
            **asdict(findings),
            write_gap_ms=Spread.of(itertools.chain(*self._find_gaps(None))),
            write_ms=Spread.of(seconds * _MS for journal in journals for seconds in journal.write_latencies),
            read_ms=Spread.of(seconds * _MS for journal in journals for seconds in journal.read_latencies),
            errors=tuple(self.errors),
        )

    def _journals(self) -> list[Journal]:
        return [worker.journal for worker in (*self._writers, *self._readers)]

    def _find_gaps(self, window: tuple[float, float] | None) -> list[list[float]]:
        ended_at = self._ended_at or time.monotonic()
        return [
            find_gaps(list(writer.journal.written_at), began_at=self._began_at, ended_at=ended_at, window=window)
            for writer in self._writers
        ]

    def _look_around(self) -> tuple[list[int], list[int]]:
        wire = self._dial(0)
        try:
            products = [row["id"] for row in _ask_for_list(wire, "/products?limit=1000")]
            customers = [row["id"] for row in _ask_for_list(wire, "/customers?limit=1000")]
        finally:
            wire.hang_up()
        if not products or len(customers) < self._writers_count:
            raise ConnectionError("the store has nothing to sell, or fewer customers than writers: fill it first")
        return products, customers

    def _dial(self, number: int) -> _Wire:
        return _Wire(self._addresses, first=number % len(self._addresses), timeout_seconds=self._timeout_seconds)

    def _chance(self, number: int) -> random.Random:
        return random.Random(f"{self._seed}/{number}")  # noqa: S311 - traffic, not secrets


class _Worker:
    """One thread that sends one request after the other, at its pace."""

    def __init__(
        self,
        common: _Common,
        number: int,
        wire: _Wire,
        chance: random.Random,
        period_seconds: float,
        colleagues: int,
    ) -> None:
        self.journal = Journal()
        self.thread = threading.Thread(target=self.run, name=f"load-{number}", daemon=True)
        self._common, self._number, self._wire, self._chance = common, number, wire, chance
        self._period_seconds, self._colleagues = period_seconds, colleagues

    def run(self) -> None:
        """Until told to stop. The workers begin one after the other, spread over one period."""
        due = time.monotonic() + self._period_seconds * (self._number % self._colleagues) / self._colleagues
        while not self._common.stopping.wait(max(due - time.monotonic(), 0)):
            try:
                self.act()
            except Exception as error:  # an answer nobody expected; the worker goes on
                self._fail(f"{error!r}")
            due = max(due + self._period_seconds, time.monotonic())
        self._wire.hang_up()

    def act(self) -> None:
        """Send the next request."""
        raise NotImplementedError

    def _ask(self, latencies: list[float], method: str, path: str, body: Any = None) -> Answer:
        began_at = time.monotonic()
        answer = self._wire.ask(method, path, body)
        latencies.append(time.monotonic() - began_at)
        self.journal.requests += 1
        self.journal.refused += answer.outcome is Outcome.REFUSED
        if answer.outcome.is_failure:
            self._fail(f"{method} {path}: {answer.describe()}")
        return answer

    def _fail(self, description: str) -> None:
        self.journal.failed += 1
        if len(self.journal.errors) < _KEPT_ERRORS:
            self.journal.errors.append(description)

    def _pick_product(self) -> int:
        """Half of all interest is in the first few, so that their rows are contended."""
        products = self._common.products
        return self._chance.choice(products[:_HOT_PRODUCTS] if self._chance.random() < _HOT_SHARE else products)


class _Reader(_Worker):
    """Looks at products and at orders of others."""

    def act(self) -> None:
        """One read."""
        self._ask(self.journal.read_latencies, "GET", self._pick_path())

    def _pick_path(self) -> str:
        read = self._chance.choices(list(_READS), list(_READS.values()))[0]
        token = self._common.latest_orders.pick(self._chance) if read is _READ_ORDER else None
        if token:
            return f"/orders/{token}"
        return "/products" if read is _LIST_PRODUCTS else f"/products/{self._pick_product()}"


class _Writer(_Worker):
    """Orders, cancels orders of its own, restocks, and renames customers that only it renames."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._tokens = (f"{self._common.run}{self._number}-{seq}" for seq in itertools.count(1))
        self._standing: list[OrderRecord] = []
        self._renamed = self._common.customers[self._number :: self._colleagues]
        self._empty_shelf: int | None = None
        self._acts: dict[str, Callable[[], Outcome]] = {
            _ORDER: self._order,
            _CANCEL: self._cancel,
            _RESTOCK: lambda: self._restock(self._pick_product()),
            _RENAME: self._rename,
        }

    def act(self) -> None:
        """One write; after an empty shelf, the delivery at once, so that no gap is the shelf's."""
        self._note(self._acts[self._chance.choices(list(_WRITES), list(_WRITES.values()))[0]]())
        if self._empty_shelf is not None:
            product_id, self._empty_shelf = self._empty_shelf, None
            self._note(self._restock(product_id))

    def _note(self, outcome: Outcome) -> None:
        if outcome is Outcome.DONE:
            self.journal.written_at.append(time.monotonic())
        self.journal.unknown_writes += outcome is Outcome.UNKNOWN

    def _order(self) -> Outcome:
        lines = tuple(
            (self._pick_product(), self._chance.randint(1, _MOST_PIECES))
            for _ in range(self._chance.randint(1, _MOST_LINES))
        )
        record = OrderRecord(next(self._tokens), self._chance.choice(self._common.customers), lines, Outcome.UNKNOWN)
        self.journal.orders.append(record)
        answer = self._write("POST", "/orders", {
            "token": record.token,
            "customer_id": record.customer_id,
            "lines": [{"product_id": product_id, "quantity": quantity} for product_id, quantity in lines],
        })  # fmt: skip
        record.outcome = answer.outcome
        if record.outcome is Outcome.DONE:
            record.total = Decimal(json.loads(answer.body)["total"])
            self._standing.append(record)
            self._common.latest_orders.add(record.token)
        elif record.outcome is Outcome.REFUSED:
            self._empty_shelf = json.loads(answer.body)["product_id"]
        return record.outcome

    def _cancel(self) -> Outcome:
        if not self._standing:
            return self._order()
        record = self._standing.pop(self._chance.randrange(len(self._standing)))
        record.cancel = Outcome.UNKNOWN
        record.cancel = self._write("POST", f"/orders/{record.token}/cancel").outcome
        return record.cancel

    def _restock(self, product_id: int) -> Outcome:
        token = next(self._tokens)
        quantity = self._chance.randint(1, _RESTOCK_PIECES)
        answer = self._write("POST", f"/products/{product_id}/restock", {"token": token, "quantity": quantity})
        self.journal.deliveries.append(DeliveryRecord(token, product_id, quantity, answer.outcome))
        return answer.outcome

    def _rename(self) -> Outcome:
        customer_id = self._chance.choice(self._renamed)
        name = f"Straße {secrets.token_hex(4)}"
        answer = self._write("PATCH", f"/customers/{customer_id}", {"name": name})
        self.journal.renames.append(RenameRecord(customer_id, name, answer.outcome))
        return answer.outcome

    def _write(self, method: str, path: str, body: Any = None) -> Answer:
        return self._ask(self.journal.write_latencies, method, path, body)


def _count_done(outcomes: Any) -> int:
    return sum(outcome is Outcome.DONE for outcome in outcomes)


def _parse_address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError(f"not an http:// address: {url!r}")
    return parts.hostname, parts.port or 80


def _ask_for_list(wire: _Wire, path: str) -> list[dict[str, Any]]:
    answer = wire.ask("GET", path)
    if answer.outcome is not Outcome.DONE:
        raise ConnectionError(f"GET {path}: {answer.describe()}")
    rows: list[dict[str, Any]] = json.loads(answer.body)
    return rows


def main(arguments: list[str] | None = None) -> None:
    """The command line: exit code 1 where something failed or was lost."""
    parser = argparse.ArgumentParser(description="Put load on a running store.")
    parser.add_argument("url", nargs="+")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--rate", type=float, default=200.0, help="requests per second of all workers together")
    options = parser.parse_args(arguments)
    with Load(options.url, workers=options.workers, rate=options.rate) as load:
        time.sleep(options.seconds)
    url = os.environ.get("STORE_DATABASE_URL")
    if not url:
        sys.stdout.write(json.dumps({"requests": load.requests, "failed_requests": load.failed_requests}) + "\n")
        raise SystemExit(load.failed_requests > 0)
    with sa.create_engine(url, poolclass=sa.pool.NullPool, hide_parameters=True).connect() as connection:
        result = load.check(connection)
    sys.stdout.write(json.dumps(result.to_json(), ensure_ascii=False, indent=2) + "\n")
    raise SystemExit(not result.is_clean)


if __name__ == "__main__":
    main()
