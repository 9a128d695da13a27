"""The demo: a whole move, back and forth, on two private MariaDB servers while a small shop sells.

It shows the main job end to end and judges it by means of its own: the writers' journal and a row by row comparison
that shares nothing with the program's verifier.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dbmigrate.domain.ownership import FenceRow, decide_owner
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Side
from dbmigrate.mysql.control import ControlStore
from dbmigrate.throwaway.local_servers import LocalServer
from dbmigrate.throwaway.row_comparison import compare
from dbmigrate.throwaway.shop import create_shop, fill_shop
from dbmigrate.throwaway.shop_writers import Writers
from dbmigrate.workflow.demo_move import DemoMove, Say, build_demo_config, describe_last_switch, private_servers
from dbmigrate.workflow.requests import ask_runner, open_store
from dbmigrate.workflow.switch import SWITCH
from dbmigrate.workflow.verification import VERIFICATION

SCHEMA = "shop"
SOAK_SECONDS = 3.0
APP_USER, APP_PASSWORD = "shop_app", "demo-only"
APP_GRANTS = (f"ALL PRIVILEGES ON `{SCHEMA}`.*", "SELECT ON `_dbmigrate`.*")
AUTO = '[cutover]\napproval = "auto"\n'


@dataclass(frozen=True, slots=True)
class DemoReport:
    """What the demo saw. ``differences`` is by its own comparison, ``lost_writes`` by the writers' journal."""

    rows_copied: int
    copy_rows_per_second: float
    changes_streamed: int
    max_lag_seconds: float
    rows_verified: int
    verification_mismatches: int
    rows_compared: int
    differences: int
    committed_writes: int
    failed_writes: int
    lost_writes: int
    doubled_writes: int
    write_pause_ms: tuple[float, ...]
    longest_gap_ms: float
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def format_demo(report: DemoReport) -> str:
    """The summary for a person."""
    pauses = ", ".join(f"{ms:.0f} ms" for ms in report.write_pause_ms)
    return "\n".join(
        [
            f"copied            {report.rows_copied:,} rows at {report.copy_rows_per_second:,.0f} rows/s",
            f"changes streamed  {report.changes_streamed:,}, highest lag {report.max_lag_seconds:.2f} s",
            f"verified          {report.rows_verified:,} rows, {report.verification_mismatches} mismatches",
            f"compared          {report.rows_compared:,} rows one by one, {report.differences} differences",
            f"write pauses      {pauses} (cutover, revert, cutover); longest gap of a writer {report.longest_gap_ms:.0f} ms",
            f"writes            {report.committed_writes:,} committed, {report.failed_writes} failed, "
            f"{report.lost_writes} lost, {report.doubled_writes} doubled",
            f"took              {report.seconds:.0f} s",
        ]
    )


def run_demo(*, rows: int, writers: int, say: Say) -> DemoReport:
    """Run it on throwaway servers and remove them.

    Raises:
        DbmigrateError: a server or the move failed.
    """
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="dbmigrate-demo-") as directory,
        private_servers(Path(directory), APP_USER, APP_PASSWORD, APP_GRANTS, say) as servers,
    ):
        say(f"filling a shop with about {rows:,} rows")
        connection = servers[Side.SOURCE].connect()
        create_shop(connection, SCHEMA)
        filled = fill_shop(connection, SCHEMA, rows)
        connection.close()
        say(f"{filled:,} rows; {writers} writers start selling")
        return _Demo(servers, Path(directory), writers, say).run(began)


class _Demo:
    def __init__(self, servers: dict[Side, LocalServer], directory: Path, writers: int, say: Say) -> None:
        self._servers, self._say = servers, say
        self._config = build_demo_config(servers, SCHEMA, AUTO, directory)
        self._writers = Writers(self._connect_to_owner, threads=writers)
        self._move = DemoMove(self._config, say)

    def run(self, began: float) -> DemoReport:
        self._writers.start()
        try:
            self._move_there_and_back()
        finally:
            self._writers.stop()
        self._say("writers have stopped; the way back drains, then both sides are compared row by row")
        self._move.walk(until=Phase.SOAK)
        return self._judge(began)

    def _move_there_and_back(self) -> None:
        with self._move.running() as store:
            self._move.await_phase(store, Phase.SOAK)
            self._say(f"cut over: {describe_last_switch(store)}; soaking, changes stream back")
            time.sleep(SOAK_SECONDS)
            self._say("going back")
            ask_runner(store, "revert")
        self._say(f"reverted: {describe_last_switch(store)}; cutting over again")
        with self._move.running() as store:
            self._move.await_phase(store, Phase.SOAK)
            self._say(f"cut over again: {describe_last_switch(store)}")
            time.sleep(SOAK_SECONDS)

    def _connect_to_owner(self) -> Any:
        """Where the shop's writes go now: like a service discovery, it asks the fence rows who owns the data."""
        row = decide_owner(self._read_fence(Side.SOURCE), self._read_fence(Side.TARGET))
        owner = row.owner if row else Side.SOURCE
        return self._servers[owner].connect(user=APP_USER, password=APP_PASSWORD, database=SCHEMA)

    def _read_fence(self, side: Side) -> FenceRow | None:
        connection = self._servers[side].connect(user=APP_USER, password=APP_PASSWORD)
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT epoch, owner, phase FROM _dbmigrate.fence")
                row = cursor.fetchone()
            return FenceRow(row[0], Side(row[1]), Phase(row[2])) if row else None
        except Exception:
            return None  # before the move starts there is no fence table
        finally:
            connection.close()

    # --- judging ---

    def _judge(self, began: float) -> DemoReport:
        store = open_store(self._config)
        source, target = (self._servers[side].connect(database=SCHEMA) for side in Side)
        compared = compare(source, target, SCHEMA)
        lost, doubled = self._writers.verify_journal(target)
        copied = store.load_evidence("copy")
        verified = store.load_evidence(VERIFICATION)
        seconds = _copy_seconds(store)
        rows = int(copied.content["rows"]) if copied else 0
        return DemoReport(
            rows_copied=rows, copy_rows_per_second=round(rows / max(seconds, 0.001), 1),
            changes_streamed=self._move.streamed, max_lag_seconds=round(self._move.max_lag_seconds, 3),
            rows_verified=int(verified.content["rows"]) if verified else 0,
            verification_mismatches=int(verified.content["mismatches"]) if verified else -1,
            rows_compared=compared.rows, differences=compared.differing,
            committed_writes=self._writers.committed, failed_writes=self._writers.failed, lost_writes=lost,
            doubled_writes=doubled,
            write_pause_ms=tuple(e.content["pause_ms"] for e in store.load_all_evidence(SWITCH)),
            longest_gap_ms=round(max(self._writers.pause_gaps_ms, default=0.0), 1),
            seconds=round(time.monotonic() - began, 1),
        )  # fmt: skip


def _copy_seconds(store: ControlStore) -> float:
    """How long the copy phase took, by its audit rows."""
    entered = {t.to_phase: t.at for t in reversed(store.load_transitions())}
    if Phase.COPY not in entered or Phase.CATCH_UP not in entered:
        return 0.0
    return (entered[Phase.CATCH_UP] - entered[Phase.COPY]).total_seconds()
