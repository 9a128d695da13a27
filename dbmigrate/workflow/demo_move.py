"""A move as an operator would run it in another terminal: what the demos share.

Apart from them because they differ in what sells meanwhile, and in how it is judged.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dbmigrate.config import Config
from dbmigrate.config.loading import parse_config
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Side
from dbmigrate.mysql.control import ControlStore
from dbmigrate.throwaway.local_servers import LocalServer
from dbmigrate.workflow.migration import Migration, Surroundings
from dbmigrate.workflow.requests import open_store
from dbmigrate.workflow.runner import Runner
from dbmigrate.workflow.switch import SWITCH

Say = Callable[[str], None]

TURN_SECONDS = 0.0005
"""The runner shares the process with whatever makes the load; elsewhere it has one of its own, and waits for no turn."""


class DemoMove:
    """Runners on one configuration, one after the other."""

    def __init__(self, config: Config, say: Say) -> None:
        self._config, self._say = config, say
        self._failures: list[BaseException] = []
        self.pauses: list[tuple[float, float]] = []
        """When writers were held back, one attempt or several, until they went on on the other side (monotonic)."""
        self._paused_at: float | None = None
        self.max_lag_seconds = 0.0
        self.streamed = 0

    @contextmanager
    def running(self) -> Iterator[ControlStore]:
        """A runner works in the background during the block."""
        migration = Migration(self._config, around=Surroundings(on_step=self._on_step))
        runner = Runner(migration, assume_yes=True)
        failures: list[BaseException] = []

        def work() -> None:
            try:
                runner.run()
            except BaseException as failure:
                failures.append(failure)

        thread = threading.Thread(target=work, name="runner")
        self._failures = failures
        before = sys.getswitchinterval()
        sys.setswitchinterval(TURN_SECONDS)
        thread.start()
        try:
            yield open_store(self._config)
        finally:
            sys.setswitchinterval(before)
            runner.interrupt()
            thread.join()
            self._note(runner)
            migration.close()
        if failures:
            raise failures[0]

    def walk(self, *, until: Phase) -> None:
        """Run to the end of a phase, in this thread."""
        migration = Migration(self._config)
        try:
            runner = Runner(migration, until=until, assume_yes=True)
            runner.run()
            self._note(runner)
        finally:
            migration.close()

    def _on_step(self, name: str) -> None:
        if name == "switch.fence" and self._paused_at is None:
            self._paused_at = time.monotonic()
        elif name == "switch.destination_committed" and self._paused_at is not None:
            self.pauses.append((self._paused_at, time.monotonic()))
            self._paused_at = None

    def _note(self, runner: Runner) -> None:
        status = runner.current.read_status() if runner.current else None
        if status is not None:
            self.max_lag_seconds = max(self.max_lag_seconds, status.max_lag_seconds)
            self.streamed += status.rows_streamed

    def await_phase(self, store: ControlStore, phase: Phase) -> None:
        """Return once the migration is in this phase; say which it passes.

        Raises:
            DbmigrateError: the runner has failed.
        """
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


@contextmanager
def private_servers(
    directory: Path, user: str, password: str, grants: tuple[str, ...], say: Say
) -> Iterator[dict[Side, LocalServer]]:
    """Two throwaway servers with an account for what sells."""
    say("starting two private MariaDB servers")
    with (
        LocalServer.mariadb(directory / "source", name="source") as source,
        LocalServer.mariadb(directory / "target", name="target") as target,
    ):
        for server in (source, target):
            server.create_user(user, password, *grants)
        yield {Side.SOURCE: source, Side.TARGET: target}


def describe_last_switch(store: ControlStore) -> str:
    """How long writes paused."""
    switch = store.load_evidence(SWITCH)
    return f"writes paused for {switch.content['pause_ms']:.0f} ms" if switch else "no switch"


def build_demo_config(servers: dict[Side, LocalServer], schema: str, text: str, directory: Path) -> Config:
    """The configuration an operator would write, with the passwords in the environment.

    At full speed: both servers, the customers and the runner share a machine, so that a copy that leaves the source to
    its application would wait for the demo's own work.
    """
    sections = []
    for side, server in servers.items():
        variable = f"DBMIGRATE_DEMO_{side.value.upper()}_PASSWORD"
        os.environ[variable] = server.password
        sections.append(f'[{side.value}]\nurl = "{server.url(schema)}"\npassword_env = "{variable}"')
    speed = "[throttle]\nmax_source_write_factor = 0\n"
    text = '[migration]\nid = "demo"\n' + "\n".join(sections) + "\n" + speed + text
    return parse_config(text, place="the demo's configuration", directory=directory)
