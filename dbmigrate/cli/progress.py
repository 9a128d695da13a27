"""What a running migration shows: a live table on a terminal, plain lines everywhere else. Always on stderr."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live

from dbmigrate.cli.rendering import render_status, summarise
from dbmigrate.workflow.status import RunStatus

LIVE_SECONDS = 0.5
LINE_SECONDS = 10.0


@contextmanager
def showing(read_status: Callable[[], RunStatus | None]) -> Iterator[None]:
    """Show the status until the block ends."""
    ended = threading.Event()
    show = _show_live if sys.stderr.isatty() else _show_lines
    thread = threading.Thread(target=show, args=(read_status, ended), name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=5)


def _show_live(read_status: Callable[[], RunStatus | None], ended: threading.Event) -> None:
    console = Console(file=sys.stderr)
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        while not ended.wait(LIVE_SECONDS):
            status = read_status()
            if status is not None:
                live.update(render_status(status, most_tables=max(5, console.height - 6)))


def _show_lines(read_status: Callable[[], RunStatus | None], ended: threading.Event) -> None:
    """A line at every change of phase, and one every ten seconds."""
    phase, waited = "", 0.0
    while not ended.wait(LIVE_SECONDS):
        waited += LIVE_SECONDS
        status = read_status()
        if status is not None and (status.phase != phase or waited >= LINE_SECONDS):
            phase, waited = status.phase, 0.0
            print(summarise(status), file=sys.stderr, flush=True)  # noqa: T201  # progress goes to stderr
