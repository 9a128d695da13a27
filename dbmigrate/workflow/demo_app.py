"""The demo with an application: the sample store under HTTP load moves there, back and there again by itself.

What is judged is what a customer sees: requests that failed, orders that are lost or doubled, and how long anybody
waited for a write. The store's own journal and audit say so, and a row by row comparison.
"""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from dbmigrate.domain.errors import ConfigurationError
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Side
from dbmigrate.mysql.control import ControlStore
from dbmigrate.store.child_server import ChildServer
from dbmigrate.store.journal import LoadResult, Spread
from dbmigrate.store.load import Load
from dbmigrate.store.seed import create_schema, fill_store
from dbmigrate.throwaway.local_servers import LocalServer
from dbmigrate.throwaway.row_comparison import compare
from dbmigrate.workflow.demo_move import DemoMove, Say, build_demo_config, describe_last_switch, private_servers
from dbmigrate.workflow.requests import ask_runner, open_store
from dbmigrate.workflow.switch import SWITCH

SCHEMA = "store"
APP_USER, APP_PASSWORD = "store_app", "demo-only"
GRANTS = (
    f"SELECT, INSERT, UPDATE, DELETE ON `{SCHEMA}`.*",
    "SELECT, INSERT, UPDATE, DELETE ON `_dbmigrate`.*",
)
SETTINGS = """
[app]
enabled = true
shadow_share = 20
read_ramp = [25, 100]
ramp_step_seconds = 1.0
mirror_in_soak = true
min_instances = {instances}
[gates]
min_mirrored_writes = 20
max_mirror_failure_ratio = 0.1
min_shadow_samples = 50
min_target_reads = 20
max_latency_p95_ratio = 1000.0
max_latency_p99_ratio = 1000.0
[cutover]
approval = "auto"
fence = "app"
retry_seconds = 0.5
"""
AROUND_A_SWITCH_SECONDS = 0.25
BETWEEN_SWITCHES_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class AppDemoReport:
    """What the demo saw. ``write_gap_ms`` is over the switches: of each, the longest time that any one writer of the
    store was between two successful writes; ``usual_gap_ms`` is the same over as many windows of the same length without a
    switch, right after it: what the store's own requests make of it. ``pause_steps_ms``: the median of each step."""

    load: LoadResult
    switches: int
    undone: int
    write_gap_ms: Spread
    usual_gap_ms: Spread
    write_pause_ms: tuple[float, ...]
    pause_steps_ms: dict[str, float]
    rows_compared: int
    differences: int
    seconds: float

    @property
    def is_clean(self) -> bool:
        """Nothing failed, nothing is lost or doubled, both sides are equal."""
        return self.load.is_clean and not self.differences

    def to_json(self) -> dict[str, Any]:
        """JSON-ready; the store's own findings stand beside those of the move."""
        own = {
            "switches": self.switches, "switches_undone": self.undone, "write_gap_ms": asdict(self.write_gap_ms),
            "usual_gap_ms": asdict(self.usual_gap_ms),
            "write_pause_ms": self.write_pause_ms, "pause_steps_ms": self.pause_steps_ms, "rows_compared": self.rows_compared, "differences": self.differences,
            "seconds": self.seconds,
        }  # fmt: skip
        return {**self.load.to_json(), "write_gap_ms_of_the_load": asdict(self.load.write_gap_ms), **own}


def format_app_demo(report: AppDemoReport) -> str:
    """The summary for a person."""
    load, gap, usual = report.load, report.write_gap_ms, report.usual_gap_ms
    return "\n".join(
        [
            f"requests          {load.requests:,}, {load.failed_requests} failed",
            f"orders            {load.orders:,} placed, {load.lost_orders} lost, {load.doubled_orders} doubled; "
            f"{load.wrong_stocks} products with a wrong stock",
            f"switches          {report.switches}, {report.undone} undone",
            f"longest gap       {gap.p50:.0f} ms p50, {gap.p99:.0f} ms p99, {gap.max:.0f} ms max, of any writer around a "
            "switch",
            f"without a switch  {usual.p50:.0f} ms p50, {usual.p99:.0f} ms p99, {usual.max:.0f} ms max, in as many windows "
            "of the same length",
            f"compared          {report.rows_compared:,} rows one by one, {report.differences} differences",
            f"took              {report.seconds:.0f} s",
            *(f"failed            {error}" for error in load.errors),
        ]
    )


def run_app_demo(*, switches: int, rate: float, workers: int, instances: int, say: Say) -> AppDemoReport:
    """Run it on throwaway servers and remove them.

    Raises:
        ConfigurationError: the packages of the sample store are missing.
        DbmigrateError: a server or the move failed.
    """
    _require_packages()
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="dbmigrate-demo-") as directory,
        private_servers(Path(directory), APP_USER, APP_PASSWORD, GRANTS, say) as servers,
    ):
        demo = _AppDemo(servers, Path(directory), say, instances)
        return demo.run(began, switches=switches, rate=rate, workers=workers)


def _require_packages() -> None:
    for name in ("fastapi", "uvicorn"):
        if importlib.util.find_spec(name) is None:
            raise ConfigurationError(
                "the sample store cannot run", place="--app", cause=f"{name} is not installed",
                hint="pip install 'dbmigrate[store]'",
            )  # fmt: skip


class _AppDemo:
    def __init__(self, servers: dict[Side, LocalServer], directory: Path, say: Say, instances: int) -> None:
        self._servers, self._directory, self._say, self._instances = servers, directory, say, instances
        self._config = build_demo_config(servers, SCHEMA, SETTINGS.format(instances=instances), directory)
        self._move = DemoMove(self._config, say)
        self._gaps: list[float] = []
        self._usual_gaps: list[float] = []

    def run(self, began: float, *, switches: int, rate: float, workers: int) -> AppDemoReport:
        self._fill()
        with self._store_instances() as urls:
            self._say(f"{self._instances} instances of the store are open; {workers} workers, {rate:g} requests/s")
            load = Load(urls, workers=workers, rate=rate)
            load.start()
            try:
                self._switch_to_and_fro(load, switches)
            finally:
                load.stop()
        self._say("the store is closed; the stream drains, then both sides are compared row by row")
        self._move.walk(until=Phase.SOAK if switches % 2 else Phase.CATCH_UP)
        return self._judge(load, began, Side.TARGET if switches % 2 else Side.SOURCE)

    def _url(self, side: Side) -> str:
        port = self._servers[side].port
        return f"mysql+pymysql://{APP_USER}:{APP_PASSWORD}@127.0.0.1:{port}/{SCHEMA}?charset=utf8mb4"

    def _fill(self) -> None:
        for side in Side:
            self._servers[side].execute(f"CREATE DATABASE `{SCHEMA}` CHARACTER SET utf8mb4")
        server = self._servers[Side.SOURCE]
        engine = sa.create_engine(
            sa.URL.create("mysql+pymysql", "root", server.password, "127.0.0.1", server.port, SCHEMA)
        )
        create_schema(engine)
        with orm.Session(engine) as session, session.begin():
            fill_store(session)
        engine.dispose()

    @contextmanager
    def _store_instances(self) -> Iterator[list[str]]:
        with ExitStack() as stack:
            instances = [
                stack.enter_context(
                    ChildServer(
                        self._url(Side.SOURCE), log=self._directory / f"store-{number}.log",
                        target_url=self._url(Side.TARGET), migration_id="demo",
                    )
                )
                for number in range(self._instances)
            ]  # fmt: skip
            yield [instance.base_url for instance in instances]

    def _switch_to_and_fro(self, load: Load, switches: int) -> None:
        done = 0
        while done < switches:
            with self._move.running() as store:
                self._go(load, store, Phase.CUTOVER, Phase.SOAK)
                done += 1
                self._say(f"cut over: {describe_last_switch(store)}; longest gap of a writer {self._gaps[-1]:.0f} ms")
                time.sleep(BETWEEN_SWITCHES_SECONDS)
                if done < switches:
                    ask_runner(store, "revert")
                    self._go(load, store, Phase.REVERTING, Phase.CATCH_UP)
                    done += 1
                    self._say(f"reverted: {describe_last_switch(store)}; longest gap {self._gaps[-1]:.0f} ms")

    def _go(self, load: Load, store: ControlStore, begins: Phase, ends: Phase) -> None:
        """Wait for a switch, and note the longest gap around it."""
        if begins is Phase.CUTOVER:
            self._move.await_phase(store, begins)
        self._move.await_phase(store, ends)
        began_at, ended_at = self._move.pauses[-1]
        length = ended_at - began_at + 2 * AROUND_A_SWITCH_SECONDS
        time.sleep(max(0.0, ended_at + 3 * AROUND_A_SWITCH_SECONDS + length - time.monotonic()))
        self._gaps.append(_longest_gap(load, began_at - AROUND_A_SWITCH_SECONDS, length))
        self._usual_gaps.append(_longest_gap(load, ended_at + 2 * AROUND_A_SWITCH_SECONDS, length))

    def _judge(self, load: Load, began: float, owner: Side) -> AppDemoReport:
        control = open_store(self._config)
        source, target = (self._servers[side].connect(database=SCHEMA) for side in Side)
        compared = compare(source, target, SCHEMA)
        engine = sa.create_engine(self._url(owner))
        with engine.connect() as connection:
            result = load.check(connection)
        engine.dispose()
        evidence = control.load_all_evidence(SWITCH)
        return AppDemoReport(
            load=result, switches=len(self._gaps),
            undone=sum(t.from_phase is Phase.CUTOVER and t.to_phase is Phase.CATCH_UP for t in control.load_transitions()),
            write_gap_ms=Spread.of(self._gaps), usual_gap_ms=Spread.of(self._usual_gaps),
            write_pause_ms=tuple(e.content["pause_ms"] for e in evidence),
            pause_steps_ms=_median_steps([e.content["steps_ms"] for e in evidence]), rows_compared=compared.rows, differences=compared.differing,
            seconds=round(time.monotonic() - began, 1),
        )  # fmt: skip


def _longest_gap(load: Load, began_at: float, seconds: float) -> float:
    """Of any writer, in milliseconds, among the gaps that reach into the window."""
    return max(gap for of_writer in load.gaps_between(began_at, began_at + seconds) for gap in of_writer)


def _median_steps(switches: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for steps in switches for name in steps)
    return {name: round(median(steps[name] for steps in switches if name in steps), 1) for name in names}
