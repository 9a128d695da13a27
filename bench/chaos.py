"""Faults for minutes on end while a shop sells, then the question that counts: is any row different, any write lost?

Round after round a shop moves from one server to the other, back, and over again, and a fault mix (``faults.py``) hits
the program, both servers and the network between them at random moments. Whatever ends the program starts it again,
as a supervisor would. At the end of a round the faults and the writers stop, what is left drains, and both sides are
compared row by row and with the writers' journal, by means that share nothing with the program.
"""

from __future__ import annotations

import os
import sys

sys.path.pop(0)  # this directory: its copy.py would hide the library's
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import contextlib
import json
import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql

from bench.faults import PROXIED_ACCOUNT, Faults
from bench.harness import (
    ROOT,
    SCHEMA,
    BenchError,
    build_parser,
    describe_machine,
    drop_everything,
    exiting_clearly,
    running_servers,
    say,
)
from dbmigrate.domain.ownership import FenceRow, decide_owner
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Side
from dbmigrate.throwaway.local_servers import LocalServer
from dbmigrate.throwaway.row_comparison import compare
from dbmigrate.throwaway.shop import create_shop, fill_shop
from dbmigrate.throwaway.shop_writers import Writers
from dbmigrate.throwaway.tcp_proxy import TcpProxy

ACCOUNT, PASSWORD = "shop_app", "throwaway"
BETWEEN_FAULTS_SECONDS = 0.8  # on average
FAULTY_SECONDS = 60.0  # after this long on one goal the faults wait until it is reached
STUCK_SECONDS = 240.0
WRITERS_PATIENCE_SECONDS = 300.0
# Done; refused (a lease, a gate); failed and safe to run again; killed; told to stop before it listened to signals.
MAY_RUN_AGAIN = {0, 3, 4, -9, -15}
KEPT_OUTPUT = 2000


class Conductor:
    """One round: a fresh shop, moved until the goals are reached or the time is up, then judged."""

    def __init__(
        self, servers: dict[str, LocalServer], proxies: dict[str, TcpProxy], counts: Counter[str], *, seed: int
    ) -> None:
        self._servers, self._proxies, self._counts = servers, proxies, counts
        self._chance = random.Random(seed)
        self._faults = Faults(servers, proxies, lambda: self._runner, self._chance)
        self._runner: subprocess.Popen[str] | None = None
        self._config = servers["source"].directory.parent / "dbmigrate.toml"
        self._output = servers["source"].directory.parent / "runner.log"

    def run(self, *, rows: int, writers: int, rate: float, until: float) -> None:
        """The round. Raises BenchError when the move is stuck or ends in a way that is not safe to run again."""
        self._set_up(rows)
        with Writers(self._connect_to_owner, threads=writers, rate=rate, give_up_seconds=WRITERS_PATIENCE_SECONDS) as at_work:
            try:
                self._go_to_and_fro(until)
            finally:
                self._counts.update(self._faults.counts)
                self._mend()
        self._await_exit("run", "--until", "soak", "--yes")
        self._judge(at_work)

    def _set_up(self, rows: int) -> None:
        for server in self._servers.values():
            server.execute("SET GLOBAL read_only = OFF")
        drop_everything(*self._servers.values(), schemas=[SCHEMA, "_dbmigrate"])
        with contextlib.closing(self._servers["source"].connect()) as connection:
            create_shop(connection, SCHEMA)
            fill_shop(connection, SCHEMA, rows)

    # --- the move ---

    def _go_to_and_fro(self, until: float) -> None:
        """Over, and back and over as often as the time allows; ends on the target."""
        stop = threading.Event()
        self._is_calm = False
        chaos = threading.Thread(target=self._break_things, args=(stop,), name="faults", daemon=True)
        chaos.start()
        try:
            self._reach(Side.TARGET, "run", "--yes")
            while time.monotonic() < until:
                self._reach(Side.SOURCE, "revert")
                self._reach(Side.TARGET, "run", "--yes")
        finally:
            stop.set()
            chaos.join()
            self._stop_runner()

    def _break_things(self, stop: threading.Event) -> None:
        while not stop.wait(self._chance.expovariate(1 / BETWEEN_FAULTS_SECONDS)):
            if not self._is_calm:
                phase, before = self._read_phase(), self._faults.counts["kills"]
                self._faults.do_one()
                self._counts[f"kills in {phase or 'plan'}"] += self._faults.counts["kills"] - before

    def _reach(self, owner: Side, *command: str) -> None:
        """Keep the command running, whatever ends it, until this side owns the data; stay there for a moment."""
        began = time.monotonic()
        while self._read_owner() is not owner or not self._is_settled(owner):
            waited = time.monotonic() - began
            self._is_calm = waited > FAULTY_SECONDS
            if waited > STUCK_SECONDS:
                raise BenchError(f"stuck on the way to the {owner.value}: {self._read_output()}")
            self._keep_running(*command)
            time.sleep(0.05)
        self._is_calm = False
        self._counts["switches" if owner is Side.TARGET else "reverts"] += 1
        say(f"the {owner.value} owns the data after {time.monotonic() - began:.0f} s; {self._faults.counts.total()} faults")
        linger = time.monotonic() + self._chance.uniform(0.5, 4)
        while time.monotonic() < linger:
            self._keep_running("run", "--yes") if owner is Side.TARGET else time.sleep(0.1)
            time.sleep(0.05)
        self._stop_runner()

    def _keep_running(self, *command: str) -> None:
        """Start the command unless it runs; a runner that was killed left a lease, which ends at once here."""
        if self._runner is not None and self._runner.poll() is None:
            return
        self._note_exit()
        if not all(server.is_running for server in self._servers.values()):
            return
        with contextlib.suppress(pymysql.err.MySQLError):
            self._servers["target"].execute("UPDATE _dbmigrate.migration SET lease_until = NULL")
        self._runner = self._start(*command)

    def _note_exit(self) -> None:
        runner, self._runner = self._runner, None
        if runner is None:
            return
        self._counts["runs"] += 1
        if runner.returncode not in MAY_RUN_AGAIN:
            raise BenchError(f"the program ended with exit code {runner.returncode}: {self._read_output()}")
        if runner.returncode == 4:
            self._counts["failed and run again"] += 1

    def _stop_runner(self) -> None:
        """An orderly end, as Ctrl-C gives."""
        runner = self._runner
        if runner is not None and runner.poll() is None:
            runner.terminate()
            try:
                runner.wait(60)
            except subprocess.TimeoutExpired:
                runner.kill()
                runner.wait()
                raise BenchError(f"the program did not stop when asked to: {self._read_output()}") from None
        self._note_exit()

    def _await_exit(self, *command: str) -> None:
        """Run without faults to the end; it must succeed."""
        with contextlib.suppress(pymysql.err.MySQLError):
            self._servers["target"].execute("UPDATE _dbmigrate.migration SET lease_until = NULL")
        process = self._start(*command)
        if process.wait(STUCK_SECONDS):
            raise BenchError(f"without faults: exit code {process.returncode}: {self._read_output()}")

    def _start(self, *command: str) -> subprocess.Popen[str]:
        environment = os.environ | {"CHAOS_PASSWORD": PASSWORD}
        with self._output.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "dbmigrate", *command, "-c", str(self._config)], text=True, cwd=ROOT,
                env=environment, stdout=output, stderr=output, stdin=subprocess.DEVNULL,
            )  # fmt: skip

    def _read_output(self) -> str:
        return self._output.read_bytes()[-KEPT_OUTPUT:].decode(errors="replace")

    def _mend(self) -> None:
        for proxy in self._proxies.values():
            proxy.restore()
        for server in self._servers.values():
            server.start()

    # --- who owns the data, as the shop's service discovery would ask ---

    def _read_owner(self) -> Side:
        row = decide_owner(self._read_fence("source"), self._read_fence("target"))
        return row.owner if row else Side.SOURCE

    def _is_settled(self, owner: Side) -> bool:
        """Whether the phase has followed the owner."""
        phase = self._read_phase()
        return bool(phase) and (phase == "soak") == (owner is Side.TARGET) and phase != "reverting"

    def _read_phase(self) -> str:
        """As the control tables say; empty before they exist, and while their server is away."""
        try:
            rows = self._servers["target"].execute("SELECT phase FROM _dbmigrate.migration")
        except (pymysql.err.MySQLError, OSError):
            return ""
        return str(rows[0][0]) if rows else ""

    def _read_fence(self, side: str) -> FenceRow | None:
        try:
            rows = self._servers[side].execute("SELECT epoch, owner, phase FROM _dbmigrate.fence")
        except (pymysql.err.MySQLError, OSError):
            return None
        return FenceRow(rows[0][0], Side(rows[0][1]), Phase(rows[0][2])) if rows else None

    def _connect_to_owner(self) -> Any:
        server = self._servers[self._read_owner().value]
        return server.connect(user=ACCOUNT, password=PASSWORD, database=SCHEMA)

    # --- judging ---

    def _judge(self, writers: Writers) -> None:
        with (
            contextlib.closing(self._servers["source"].connect()) as source,
            contextlib.closing(self._servers["target"].connect()) as target,
        ):
            compared = compare(source, target, SCHEMA)
            target.select_db(SCHEMA)
            lost, doubled = writers.verify_journal(target)
        undone = self._servers["target"].execute("SELECT COUNT(*) FROM _dbmigrate.evidence WHERE kind = 'switch_undone'")
        self._counts.update(
            {
                "rounds": 1, "rows compared": compared.rows, "differences": compared.differing,
                "writes": writers.committed, "failed writes": writers.failed, "lost writes": lost,
                "doubled writes": doubled, "switches undone": undone[0][0],
            }
        )
        say(
            f"round {self._counts['rounds']}: {compared.rows:,} rows compared, {compared.differing} differences; "
            f"{writers.committed:,} writes, {lost} lost, {doubled} doubled, {writers.failed} failed"
        )
        if compared.differing:
            say(f"first difference: {compared.first}")
        for error in writers.errors[:3]:
            say(f"a writer gave up: {error}")


@contextlib.contextmanager
def standing_between(servers: dict[str, LocalServer]) -> Iterator[dict[str, TcpProxy]]:
    """A proxy before each server, for the program alone: the writers are on the servers' side of the network."""
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(TcpProxy(server.host, server.port)) for name, server in servers.items()}


def write_chaos_config(servers: dict[str, LocalServer], proxies: dict[str, TcpProxy]) -> Path:
    """The configuration of the move, with the proxies' addresses."""
    sections = [
        f'[{name}]\nurl = "mariadb://{PROXIED_ACCOUNT}@{proxy.host}:{proxy.port}/{SCHEMA}"\npassword_env = "CHAOS_PASSWORD"'
        for name, proxy in proxies.items()
    ]
    path = servers["source"].directory.parent / "dbmigrate.toml"
    path.write_text(
        '[migration]\nid = "chaos"\n' + "\n".join(sections)
        + '\n[copy]\nworkers = 2\n[throttle]\nmax_rows_per_second = 5000\nmax_source_write_factor = 0\n[cutover]\napproval = "auto"\nmax_write_pause_seconds = 2.0\nretry_seconds = 0.5\n'
        + "max_attempts = 1000\n"
    )  # fmt: skip
    return path


def run_chaos(*, seconds: float, rows: int, writers: int, rate: float, round_seconds: float, seed: int) -> dict[str, Any]:
    """All rounds; the counts, with the machine."""
    counts: Counter[str] = Counter()
    began = time.monotonic()
    with running_servers("source", "target") as started:
        servers = dict(zip(("source", "target"), started, strict=True))
        machine = describe_machine(servers["source"])
        for server in started:
            server.create_user(ACCOUNT, PASSWORD, f"ALL PRIVILEGES ON `{SCHEMA}`.*", "SELECT ON `_dbmigrate`.*")
            server.create_user(PROXIED_ACCOUNT, PASSWORD, "ALL PRIVILEGES ON *.*")
        with standing_between(servers) as proxies:
            write_chaos_config(servers, proxies)
            number = 0
            while not counts["rounds"] or time.monotonic() - began < seconds - 20:
                until = min(began + seconds - 15, time.monotonic() + round_seconds)
                conductor = Conductor(servers, proxies, counts, seed=seed + number)
                conductor.run(rows=rows, writers=writers, rate=rate, until=until)
                number += 1
    return {"machine": machine, "seconds": round(time.monotonic() - began), "seed": seed, "counts": counts}


FIRST = ("kills", "restarts", "cuts", "switches", "reverts", "differences", "lost writes", "doubled writes")


def main() -> None:
    """The command line. Exit code 1 when anything was different, lost or doubled."""
    parser = build_parser("Break everything for some minutes and look for a difference.")
    parser.add_argument("--minutes", type=float, default=5.0, help="how long, all rounds together")
    parser.add_argument("--rows", type=int, default=20_000, help="rows of the shop at the beginning of a round")
    parser.add_argument("--rate", type=float, default=150.0, help="writes per second of all writers")
    parser.add_argument("--seed", type=int, default=1, help="of the fault mix")
    options = parser.parse_args()
    with exiting_clearly():
        outcome = run_chaos(
            seconds=40.0 if options.quick else options.minutes * 60, rows=5_000 if options.quick else options.rows,
            writers=4, rate=options.rate, round_seconds=60.0, seed=options.seed,
        )  # fmt: skip
    counts = outcome["counts"]
    ordered = {name.replace(" ", "_"): counts[name] for name in (*FIRST, *sorted(counts.keys() - set(FIRST)))}
    is_bad = any(counts[name] for name in ("differences", "lost writes", "doubled writes", "failed writes"))
    if options.json:
        head = {"bench": "chaos", "mode": "quick" if options.quick else "full", "machine": outcome["machine"]}
        print(json.dumps(head | {"seconds": outcome["seconds"], "seed": outcome["seed"], "ratios": {}} | ordered))
    else:
        print("chaos, " + ", ".join(f"{k} {v}" for k, v in outcome["machine"].items()))
        print(f"  {outcome['seconds']} s, seed {outcome['seed']}")
        for name, count in ordered.items():
            print(f"  {name.replace('_', ' ')}: {count:,}")
    raise SystemExit(int(is_bad))


if __name__ == "__main__":
    main()
