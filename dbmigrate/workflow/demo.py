"""The demo: a whole move, back and forth, on two private MariaDB servers while a small shop sells.

It shows the main job end to end and judges it by means of its own: the writers' journal and a row by row comparison
that shares nothing with the program's verifier.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dbmigrate.config import Config
from dbmigrate.config.loading import parse_config
from dbmigrate.domain.ownership import FenceRow, decide_owner
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Side
from dbmigrate.mysql.control import ControlStore
from dbmigrate.rehearsal.local_servers import LocalServer
from dbmigrate.rehearsal.row_comparison import compare
from dbmigrate.rehearsal.shop import create_shop, fill_shop
from dbmigrate.rehearsal.shop_writers import Writers
from dbmigrate.workflow.migration import Migration
from dbmigrate.workflow.requests import ask_runner, open_store
from dbmigrate.workflow.runner import Runner
from dbmigrate.workflow.switch import SWITCH
from dbmigrate.workflow.verification import VERIFICATION

SCHEMA = "shop"
SOAK_SECONDS = 3.0
APP_USER, APP_PASSWORD = "shop_app", "demo-only"

Say = Callable[[str], None]


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
    with tempfile.TemporaryDirectory(prefix="dbmigrate-demo-") as directory, _servers(Path(directory), say) as servers:
        say(f"filling a shop with about {rows:,} rows")
        connection = servers[Side.SOURCE].connect()
        create_shop(connection, SCHEMA)
        filled = fill_shop(connection, SCHEMA, rows)
        connection.close()
        say(f"{filled:,} rows; {writers} writers start selling")
        return _Demo(servers, Path(directory), writers, say).run(began)


@contextmanager
def _servers(directory: Path, say: Say) -> Iterator[dict[Side, LocalServer]]:
    say("starting two private MariaDB servers")
    with (
        LocalServer.mariadb(directory / "source", name="source") as source,
        LocalServer.mariadb(directory / "target", name="target") as target,
    ):
        for server in (source, target):
            server.create_user(APP_USER, APP_PASSWORD, f"ALL PRIVILEGES ON `{SCHEMA}`.*", "SELECT ON `_dbmigrate`.*")
        yield {Side.SOURCE: source, Side.TARGET: target}


class _Demo:
    def __init__(self, servers: dict[Side, LocalServer], directory: Path, writers: int, say: Say) -> None:
        self._servers, self._say = servers, say
        self._config = _build_config(servers, directory)
        self._writers = Writers(self._connect_to_owner, threads=writers)
        self._max_lag = 0.0
        self._streamed = 0

    def run(self, began: float) -> DemoReport:
        self._writers.start()
        try:
            self._move_there_and_back()
        finally:
            self._writers.stop()
        self._say("writers have stopped; the way back drains, then both sides are compared row by row")
        self._walk(until=Phase.SOAK)
        return self._judge(began)

    def _move_there_and_back(self) -> None:
        with self._running() as store:
            self._await_phase(store, Phase.SOAK)
            self._say(f"cut over: {_describe_last_switch(store)}; soaking, changes stream back")
            time.sleep(SOAK_SECONDS)
            self._say("going back")
            ask_runner(store, "revert")
        self._say(f"reverted: {_describe_last_switch(store)}; cutting over again")
        with self._running() as store:
            self._await_phase(store, Phase.SOAK)
            self._say(f"cut over again: {_describe_last_switch(store)}")
            time.sleep(SOAK_SECONDS)

    # --- running, as `dbmigrate run` would in another terminal ---

    @contextmanager
    def _running(self) -> Iterator[ControlStore]:
        """A runner works in the background during the block."""
        migration = Migration(self._config)
        runner = Runner(migration, assume_yes=True)
        failures: list[BaseException] = []

        def work() -> None:
            try:
                runner.run()
            except BaseException as failure:
                failures.append(failure)

        thread = threading.Thread(target=work, name="runner")
        self._failures = failures
        thread.start()
        try:
            yield open_store(self._config)
        finally:
            runner.interrupt()
            thread.join()
            self._note(runner)
            migration.close()
        if failures:
            raise failures[0]

    def _walk(self, *, until: Phase) -> None:
        migration = Migration(self._config)
        try:
            runner = Runner(migration, until=until, assume_yes=True)
            runner.run()
            self._note(runner)
        finally:
            migration.close()

    def _note(self, runner: Runner) -> None:
        status = runner.current.read_status() if runner.current else None
        if status is not None:
            self._max_lag = max(self._max_lag, status.max_lag_seconds)
            self._streamed += status.rows_streamed

    def _await_phase(self, store: ControlStore, phase: Phase) -> None:
        shown = ""
        while not self._failures:
            state = store.load_state() if store.exists() else None
            now = state.phase.value if state else ""
            if now != shown and now:
                shown = now
                self._say(f"phase {now}")
            if state is not None and state.phase is phase:
                return
            time.sleep(0.1)
        raise self._failures[0]

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
            changes_streamed=self._streamed, max_lag_seconds=round(self._max_lag, 3),
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


def _describe_last_switch(store: ControlStore) -> str:
    switch = store.load_evidence(SWITCH)
    return f"writes paused for {switch.content['pause_ms']:.0f} ms" if switch else "no switch"


def _build_config(servers: dict[Side, LocalServer], directory: Path) -> Config:
    """The configuration an operator would write, with the passwords in the environment."""
    sections = []
    for side, server in servers.items():
        variable = f"DBMIGRATE_DEMO_{side.value.upper()}_PASSWORD"
        os.environ[variable] = server.password
        sections.append(f'[{side.value}]\nurl = "{server.url(SCHEMA)}"\npassword_env = "{variable}"')
    text = '[migration]\nid = "demo"\n' + "\n".join(sections) + '\n[cutover]\napproval = "auto"\n'
    return parse_config(text, place="the demo's configuration", directory=directory)
