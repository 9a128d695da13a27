"""Work on the other side that the user's commit does not wait for beyond a limit.

Two ways to the same promise. With a sync driver the work runs in a thread, and who waits walks away; with an async one
it is cancelled where it waits. Either way what was walked away from never commits: its connection is thrown away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Protocol, TypeVar

from sqlalchemy.util import await_only, greenlet_spawn

_T = TypeVar("_T")


class Bounded(Protocol):
    """Runs work for at most so many seconds."""

    def run(self, work: Callable[[], _T], seconds: float) -> _T:
        """The work's result.

        Raises:
            TimeoutError: it did not end in time; it may still be running.
        """
        ...

    def close(self) -> None:
        """No more work is taken."""
        ...


class InThreads:
    """For sync drivers. Work that is stuck keeps its thread until its connection breaks."""

    def __init__(self, threads: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="dbmigrate-mirror")

    def run(self, work: Callable[[], _T], seconds: float) -> _T:
        """See ``Bounded``."""
        future: Future[_T] = self._executor.submit(work)
        try:
            return future.result(seconds)
        except FutureTimeoutError:
            future.cancel()
            raise TimeoutError from None

    def close(self) -> None:
        """See ``Bounded``."""
        self._executor.shutdown(wait=False, cancel_futures=True)


class InEventLoop:
    """For async drivers, called from within SQLAlchemy's greenlet."""

    def run(self, work: Callable[[], _T], seconds: float) -> _T:
        """See ``Bounded``."""

        async def bounded() -> _T:
            return await asyncio.wait_for(greenlet_spawn(work), seconds)

        return await_only(bounded())

    def close(self) -> None:
        """See ``Bounded``."""
