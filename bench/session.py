"""What our session costs an application: a write transaction and a read, against SQLAlchemy's own session.

Contenders take turns every few transactions on the same two servers, so a noisy second hits all of them alike. Each
situation is a fence row of its own migration; nothing moves, the sessions just obey it.
"""

from __future__ import annotations

import os
import sys

sys.path.pop(0)  # this directory: its copy.py would hide the library's
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import argparse
import contextlib
import gc
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from bench.arithmetic import Report, Spread, Target, alternate, percentile, ratios_of, significant
from bench.harness import (
    BenchError,
    build_parser,
    describe_machine,
    exiting_clearly,
    finish,
    relax,
    running_servers,
    say,
)
from dbmigrate.app import sessionmaker
from dbmigrate.config import TablesSection
from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.domain.ownership import FenceRow
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Direction, Side
from dbmigrate.domain.schema import Schema
from dbmigrate.mysql import mirror_plan
from dbmigrate.mysql.control_tables import METADATA
from dbmigrate.mysql.fence import build_fence_save, create_fence_tables
from dbmigrate.mysql.introspection import read_schema
from dbmigrate.mysql.sessions import Session as ServerSession
from dbmigrate.throwaway.local_servers import LocalServer
from dbmigrate.workflow.routing import build_forward_routes

PLAIN = "plain"
SCHEMA = "shop"
ROWS = 5_000
QUICK_ROUNDS, FULL_ROUNDS = 250, 1500
IN_A_ROW = 4
READS_PER_WRITE = 4
GROUPS = 5
"""Rounds are cut into so many groups; a ratio is the median over them, its spread their extremes."""


class Base(orm.DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "item"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str] = orm.mapped_column(sa.String(50))
    stock: orm.Mapped[int]


class Sale(Base):
    __tablename__ = "sale"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    item_id: orm.Mapped[int]
    quantity: orm.Mapped[int]


@dataclass(frozen=True)
class Situation:
    """What the fence row says, and what a write and a read may cost then, relative to a plain session. None: no target."""

    row: FenceRow | None
    write_limit: float
    read_limit: float | None = 1.05


SITUATIONS = {
    "idle": Situation(None, 1.05),
    "fence only": Situation(FenceRow(1, Side.SOURCE, Phase.CATCH_UP), 1.5),
    "dual write": Situation(FenceRow(1, Side.SOURCE, Phase.DUAL_WRITE, mirror=True), 2.5),
    "shadow reads": Situation(FenceRow(1, Side.SOURCE, Phase.SHADOW_READ, mirror=True, shadow_share=10.0), 2.5),
    "ramp reads": Situation(
        FenceRow(1, Side.SOURCE, Phase.RAMP_READS, mirror=True, read_share=100.0, shadow_share=10.0), 2.5, None
    ),
    "soak": Situation(FenceRow(1, Side.TARGET, Phase.SOAK), 1.5),
}


@dataclass
class Contender:
    """One session factory and what its transactions took, in seconds."""

    factory: Callable[[], orm.Session]
    writes: list[float] = field(default_factory=list)
    reads: list[float] = field(default_factory=list)

    def write(self, number: int) -> None:
        """One write transaction, timed from the making of the session to its end."""
        key = number * 7919 % ROWS + 1
        began = time.perf_counter()
        with self.factory() as session:
            session.add(Sale(item_id=key, quantity=1))
            session.get_one(Item, key).stock -= 1
            session.commit()
        self.writes.append(time.perf_counter() - began)

    def read(self, number: int) -> None:
        """A few transactions that read one row."""
        key = number * 7919 % ROWS + 1
        for offset in range(READS_PER_WRITE):
            began = time.perf_counter()
            with self.factory() as session:
                session.get_one(Item, (key + offset * 997) % ROWS + 1)
            self.reads.append(time.perf_counter() - began)


# --- the shop, and the runner's part ----------------------------------------------------------------------------


def build_engine(server: LocalServer) -> sa.Engine:
    """An application's engine, one per contender and side: nobody finds another's connections warm."""
    return sa.create_engine(
        sa.URL.create("mysql+pymysql", server.user, server.password, server.host, server.port, SCHEMA)
    )


def create_shop(*servers: LocalServer) -> None:
    """The same tables and rows on both sides, and the control tables."""
    say(f"filling {ROWS:,} rows on both sides")
    for server in servers:
        server.execute(f"CREATE DATABASE {SCHEMA} CHARACTER SET utf8mb4")
        engine = build_engine(server)
        Base.metadata.create_all(engine)
        with engine.begin() as connection:
            rows = [{"id": number, "name": f"item {number}", "stock": 1_000_000} for number in range(1, ROWS + 1)]
            connection.execute(sa.insert(Item), rows)
        with contextlib.closing(server.connect()) as connection:
            create_fence_tables(ServerSession(connection, server.name))
        METADATA.create_all(engine)
        engine.dispose()


def read_shop(server: LocalServer) -> Schema:
    """The definitions of one side."""
    with contextlib.closing(server.connect(database=SCHEMA)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT @@version, @@version_comment")
        return read_schema(connection, ServerVersion.parse(*cursor.fetchone()), SCHEMA)


def begin_migration(migration_id: str, row: FenceRow, source: LocalServer, target: LocalServer) -> None:
    """Leave plans and fence rows as a runner does."""
    routes, _ = build_forward_routes(TablesSection(), read_shop(source), read_shop(target))
    plans = [mirror_plan.build_mirror_plan(route, children=[], has_triggers=False) for route in routes]
    engine = build_engine(target)
    with engine.begin() as connection:
        mirror_plan.save_plans(connection, migration_id, Direction.FORWARD, plans)
    engine.dispose()
    for server in (target, source):
        server.execute(build_fence_save(migration_id, row))


# --- measuring --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def build_contenders(source: LocalServer, target: LocalServer) -> Iterator[dict[str, Contender]]:
    """The plain session and ours in every situation, each with engines of its own."""
    contenders = {PLAIN: Contender(orm.sessionmaker(build_engine(source)))}
    for name, situation in SITUATIONS.items():
        migration_id = name.replace(" ", "-")
        if situation.row is not None:
            begin_migration(migration_id, situation.row, source, target)
        factory = sessionmaker(build_engine(source), build_engine(target), migration_id=migration_id)
        contenders[name] = Contender(factory)
        wait_for_look(factory, situation)
    try:
        yield contenders
    finally:
        for name in SITUATIONS:
            instance_of(contenders[name]).close()


def instance_of(contender: Contender) -> Any:
    """What the factory's sessions share."""
    return contender.factory.kw["dbmigrate_instance"]  # type: ignore[attr-defined]


def wait_for_look(factory: Any, situation: Situation) -> None:
    """Until the instance knows its situation. Raises BenchError when it does not learn it."""
    deadline = time.monotonic() + 20
    with factory() as session:
        session.get(Item, 1)
    while factory.kw["dbmigrate_instance"].known != situation.row:
        if time.monotonic() > deadline:
            raise BenchError(f"the fence row was not seen: {situation}")
        time.sleep(0.01)


def compare(ours: Sequence[float], plain: Sequence[float], share: float) -> Spread:
    """The ratio of a percentile, group by group."""
    size = len(plain) // GROUPS
    groups = [slice(n * size, (n + 1) * size) for n in range(GROUPS)]
    return ratios_of([percentile(ours[one], share) for one in groups], [percentile(plain[one], share) for one in groups])


def measure(options: argparse.Namespace) -> Report:
    """The whole benchmark."""
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else FULL_ROUNDS)
    with running_servers("source", "target", innodb_buffer_pool_size="256M") as (source, target):
        machine = describe_machine(source)
        if not options.durable:
            relax(source, target)  # the harder comparison: what a plain commit waits for the disk hides what we add
        create_shop(source, target)
        with build_contenders(source, target) as contenders:
            for number in range(2 * IN_A_ROW):
                for contender in contenders.values():
                    contender.write(number)
                    contender.read(number)
            for contender in contenders.values():
                contender.writes.clear()
                contender.reads.clear()
            gc.freeze()
            say(f"{rounds} rounds of {IN_A_ROW} transactions")
            # Writes and reads apart: what two servers still do about a write would count against the next read.
            for kind in (Contender.write, Contender.read):
                for number, name in alternate(tuple(contenders), rounds):
                    for step in range(IN_A_ROW):
                        kind(contenders[name], number * IN_A_ROW + step)
            counts = {name: instance_of(contenders[name]).counts.writes() for name in SITUATIONS}
            compared = instance_of(contenders["shadow reads"]).shadowing.counts().samples
            say(f"{compared} shadow reads were compared")
            if not compared:
                raise BenchError("no read was repeated: shadow reads were not measured")
    return build_report(options, machine, contenders, counts, rounds)


def build_report(
    options: argparse.Namespace, machine: Any, contenders: dict[str, Contender], counts: Any, rounds: int
) -> Report:
    """Ratios of every situation that was one: mirrors that did not happen are not measured by their absence."""
    ratios, targets, skipped = {}, {}, []
    plain = contenders[PLAIN]
    for name, situation in SITUATIONS.items():
        if situation.row is not None and situation.row.mirror and counts[name].mirrored < rounds * IN_A_ROW // 2:
            skipped.append(f"{name}: {counts[name].mirrored} of {rounds * IN_A_ROW} transactions were mirrored")
            continue
        ours = contenders[name]
        for kind, mine, theirs, limit in (
            ("write", ours.writes, plain.writes, situation.write_limit),
            ("read", ours.reads, plain.reads, situation.read_limit),
        ):
            for label, share in (("p50", 0.5), ("p99", 0.99)):
                ratios[f"{name}, {kind} {label}"] = compare(mine, theirs, share)
            if limit is not None:
                targets[f"{name}, {kind} p50"] = Target(limit, is_upper=True)
    seconds = {
        f"{name}, {kind} {label}": [percentile(values, share)]
        for name, contender in contenders.items()
        for kind, values in (("write", contender.writes), ("read", contender.reads))
        for label, share in (("p50", 0.5), ("p99", 0.99))
    }
    details: dict[str, Any] = {"transactions": rounds * IN_A_ROW, "durable": options.durable, "not_measured": skipped}
    return Report("session", "quick" if options.quick else "full", machine, ratios, seconds, targets, details)


def to_json(report: Report) -> dict[str, Any]:
    """The report with its ratios by situation: ``{p50, p99, spread}``, the spread being that of p50."""
    names = [name.removesuffix(" p50") for name in report.ratios if name.endswith(" p50")]
    ratios = {
        name: {
            "p50": significant(report.ratios[f"{name} p50"].median),
            "p99": significant(report.ratios[f"{name} p99"].median),
            "spread": [significant(report.ratios[f"{name} p50"].low), significant(report.ratios[f"{name} p50"].high)],
        }
        for name in names
    }
    return report.to_json() | {"ratios": ratios}


def main() -> None:
    """The command line."""
    parser = build_parser("Our session against SQLAlchemy's own, in every situation.")
    parser.add_argument("--rounds", type=int, default=0, help=f"rounds of {IN_A_ROW} transactions of each")
    parser.add_argument("--durable", action="store_true", help="every commit on disk")
    options = parser.parse_args()
    with exiting_clearly():
        report = measure(options)
        if options.json:
            print(json.dumps(to_json(report)), flush=True)
        else:
            finish(report, as_json=False)


if __name__ == "__main__":
    main()
