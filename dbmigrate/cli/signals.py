"""Ctrl-C as every long command takes it: the first stops cleanly, the second ends the process at once."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

from dbmigrate.domain.errors import ExitCode


class Stoppable(Protocol):
    """Something that can be asked to stop."""

    @property
    def is_interrupted(self) -> bool:
        """Whether somebody has asked already."""

    def interrupt(self) -> None:
        """Finish what is in flight and return."""


@contextmanager
def stopping_on_signals(work: Stoppable) -> Iterator[None]:
    """The first Ctrl-C (or SIGTERM) stops cleanly; the second one ends the process at once."""

    def stop(number: int, frame: FrameType | None) -> None:
        if work.is_interrupted:
            os._exit(int(ExitCode.FAILED))
        print("stopping after what is in flight; once more to end at once", file=sys.stderr)  # noqa: T201
        work.interrupt()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
