"""An application that follows the fence row, in plain SQL: the protocol of the application library without the library.

Every instance has one thread that sells and one that reports. A sale is one transaction: it locks the fence row in
share mode on the side believed to own the data, obeys what it reads, inserts an order and counts up a hot row; where
the row says so it writes the same rows to the other side before the owner commits, and commits them after it. The
journal of acknowledged sales is kept here, so a lost or doubled one cannot hide.
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

import pymysql
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from dbmigrate.domain.evidence import InstanceReport, LatencyHistogram, ReadCounts, ShadowCounts, WriteCounts
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Side
from dbmigrate.mysql.evidence import register_instance, save_report

ACCOUNT, PASSWORD = "shop_app", "app"
SCHEMA = (
    "CREATE TABLE orders (id BIGINT AUTO_INCREMENT PRIMARY KEY, token CHAR(32) NOT NULL, total INT NOT NULL)",
    "CREATE TABLE stock (id INT PRIMARY KEY, sold BIGINT NOT NULL)",
    "INSERT INTO stock VALUES (1, 0)",
)
READ_ROW = (
    "SELECT epoch, owner, phase, mirror, read_share, shadow_share FROM _dbmigrate.fence "
    "WHERE migration_id = 'move' LOCK IN SHARE MODE"
)
SIDE_GRANTS = ("SELECT, UPDATE ON _dbmigrate.fence",)
SOURCE_GRANTS = (*SIDE_GRANTS, "SELECT ON _dbmigrate.heartbeat")
TARGET_GRANTS = (
    *SIDE_GRANTS,
    "SELECT ON _dbmigrate.application",
    "SELECT ON _dbmigrate.checkpoint",
    "SELECT ON _dbmigrate.mirror_plan",
    "SELECT, INSERT, UPDATE, DELETE ON _dbmigrate.instance",
    "SELECT, INSERT, UPDATE, DELETE ON _dbmigrate.mapping",
    "SELECT, INSERT, UPDATE, DELETE ON _dbmigrate.mismatch",
)  # fmt: skip
REPORT_SECONDS = 0.1
PAUSE_SECONDS = 0.005


def prepare_application(pair: Any) -> None:
    """Tables that sell, and an account that may write to them on both sides."""
    pair.source.execute(*SCHEMA)
    for database in (pair.source, pair.target):
        database.server.create_user(ACCOUNT, PASSWORD, f"SELECT, INSERT, UPDATE, DELETE ON `{database.schema}`.*")


def grant_control(pair: Any) -> None:
    """What the application needs of the control tables, which must exist: no more than docs/runbook.md says."""
    for database, grants in ((pair.source, SOURCE_GRANTS), (pair.target, TARGET_GRANTS)):
        for grant in grants:
            privileges, table = grant.rsplit(" ON ", 1)
            database.server.execute(f"GRANT {privileges} ON {table} TO '{ACCOUNT}'@'{database.server.host}'")


@dataclass
class Instance:
    """One application process: ``start`` it, ``stop`` it; what it did can be read at any time.

    ``follows``: whether it acknowledges new epochs. ``reports``: whether it says that it lives. ``real`` and
    ``fallbacks`` are what its reads find from now on.
    """

    pair: Any
    name: str
    follows: bool = True
    reports: bool = True
    real: int = 0
    fallbacks: int = 0
    sales: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    completed: int = 0
    longest_gap: float = 0.0
    row: tuple[Any, ...] | None = None
    counts: dict[str, int] = field(default_factory=dict)
    _owner: Side = Side.SOURCE
    _known: int = 0
    _phase: str = ""
    _connections: dict[Side, Any] = field(default_factory=dict)
    _ended: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> Instance:
        """Begin to sell and to report."""
        for work in (self._sell, self._report):
            thread = threading.Thread(target=work, name=f"{self.name}-{work.__name__}", daemon=True)
            self._threads.append(thread)
            thread.start()
        return self

    def stop(self) -> None:
        """End after the sale under way."""
        self._ended.set()
        for thread in self._threads:
            thread.join(timeout=60)
            assert not thread.is_alive()
        for connection in self._connections.values():
            with contextlib.suppress(Exception):
                connection.close()

    def await_sales(self, number: int) -> None:
        """Wait until so many more sales were acknowledged."""
        wanted = len(self.sales) + number
        until = time.monotonic() + 60
        while len(self.sales) < wanted:
            assert time.monotonic() < until, f"no sales any more: {self.errors[-3:]}"
            time.sleep(0.01)

    # --- selling ---

    def _connect(self, side: Side) -> Any:
        if side not in self._connections:
            database = self.pair.source if side is Side.SOURCE else self.pair.target
            self._connections[side] = database.connect(user=ACCOUNT, password=PASSWORD, autocommit=False)
        return self._connections[side]

    def _sell(self) -> None:
        sold_at = time.monotonic()
        while not self._ended.is_set():
            try:
                if self._sell_once():
                    now = time.monotonic()
                    self.longest_gap, sold_at = max(self.longest_gap, now - sold_at), now
            except Exception as fault:
                self.errors.append(repr(fault))
                for connection in self._connections.values():
                    with contextlib.suppress(Exception):
                        connection.rollback()
            time.sleep(PAUSE_SECONDS)

    def _read_row(self, connection: Any) -> tuple[Any, ...] | None:
        with connection.cursor() as cursor:
            try:
                cursor.execute(READ_ROW)
            except (pymysql.err.ProgrammingError, pymysql.err.OperationalError) as fault:
                if fault.args[0] in (1142, 1146):
                    return None  # before the move has begun
                raise
            return cursor.fetchone()

    def _sell_once(self) -> bool:
        owner = self._connect(self._owner)
        owner.begin()
        row = self._read_row(owner)
        if row is not None and Side(row[1]) is not self._owner:
            owner.rollback()
            self._change_sides(row)
            return False
        self.row = row
        token = uuid.uuid4().hex
        with owner.cursor() as cursor:
            cursor.execute("INSERT INTO orders (token, total) VALUES (%s, 5)", (token,))
            order = cursor.lastrowid
            cursor.execute("UPDATE stock SET sold = sold + 1 WHERE id = 1")
        mirror = self._mirror(owner, row, order) if row is not None and row[3] else None
        owner.commit()
        self.sales.append(token)
        self._count("transactions")
        if mirror is not None:
            mirror.commit()
            self._count("mirrored")
        return True

    def _change_sides(self, row: tuple[Any, ...]) -> None:
        """The side left is ahead: follow, and complete the other side's row where the switch did not come to it."""
        self._owner = Side(row[1])
        there = self._connect(self._owner)
        with there.cursor() as cursor:
            changed = cursor.execute(
                "UPDATE _dbmigrate.fence SET epoch = %s, owner = %s, phase = %s, mirror = %s, read_share = %s, "
                "shadow_share = %s WHERE migration_id = 'move' AND epoch < %s",
                (*row, row[0]),
            )
        there.commit()
        self.completed += changed

    def _mirror(self, owner: Any, row: tuple[Any, ...], order: int) -> Any:
        """Write the rows, as they are inside the owner's transaction, to the other side; None where that fails."""
        other = self._connect(self._owner.other)
        try:
            other.begin()
            with owner.cursor() as reading, other.cursor() as writing:
                there = self._read_row(other)
                if there is None or there[0] != row[0]:
                    other.rollback()
                    self._count("mirror_skipped")
                    return None
                writing.execute("SET @dbmigrate_epoch = %s", (row[0],))
                for table, key in (("orders", order), ("stock", 1)):
                    reading.execute(f"SELECT * FROM {table} WHERE id = %s", (key,))
                    values = reading.fetchone()
                    places = ", ".join(["%s"] * len(values))
                    writing.execute(f"REPLACE INTO {table} VALUES ({places})", values)
            return other
        except pymysql.err.MySQLError as fault:
            self.errors.extend([f"mirror: {fault!r}"] if fault.args[0] not in (1205, 1213) else [])
            self._count("mirror_failed")
            other.rollback()
            return None

    def _count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    # --- reporting ---

    def _report(self) -> None:
        database = self.pair.target
        engine = sa.create_engine(
            "mysql+pymysql://", poolclass=NullPool, creator=lambda: database.connect(user=ACCOUNT, password=PASSWORD)
        )
        save = register_instance
        while not self._ended.wait(REPORT_SECONDS):
            if not self.reports or self.row is None:
                continue
            try:
                with engine.begin() as connection:
                    save(connection, "move", self._build_report())
                save = save_report
            except sa.exc.DBAPIError as fault:
                if fault.orig is None or fault.orig.args[0] not in (1142, 1146):
                    self.errors.append(f"report: {fault!r}")

    def _build_report(self) -> InstanceReport:
        assert self.row is not None
        epoch, _, phase, _, read_share, shadow_share = self.row
        if self.follows:
            if phase != self._phase:
                self._phase, self.counts = phase, {}
            self._known = epoch
        fast = LatencyHistogram().with_sample(0.001)
        if shadow_share:
            self.counts["samples"] = self.counts.get("samples", 0) + 5
        if read_share:
            self.counts["target"] = self.counts.get("target", 0) + 5
        counts = self.counts
        samples, target = counts.get("samples", 0), counts.get("target", 0)
        return InstanceReport(
            self.name, "web-1", 4711, "plain", self._known, Phase(self._phase or phase),
            WriteCounts(
                transactions=counts.get("transactions", 0), mirrored=counts.get("mirrored", 0),
                mirror_failed=counts.get("mirror_failed", 0), mirror_skipped=counts.get("mirror_skipped", 0),
            ),
            ShadowCounts(
                samples=samples + self.real, matches=samples, real=self.real, control=fast, candidate=fast
            ),
            ReadCounts(owner=100, target=target, fallbacks=self.fallbacks, owner_latency=fast, target_latency=fast),
        )  # fmt: skip


def require_nothing_lost(owner: Any, instances: list[Instance]) -> None:
    """Each acknowledged sale is in the owner's table exactly once, and no other is; the hot row counts them all."""
    sold = [token for instance in instances for token in instance.sales]
    stored = [row[0] for row in owner.execute("SELECT token FROM orders")]
    assert sorted(stored) == sorted(sold)
    assert owner.execute("SELECT sold FROM stock WHERE id = 1")[0][0] == len(sold)
