"""Work on the other side that the user's commit does not wait for beyond a limit.

Two ways to the same promise. With a sync driver the work runs in a thread, and who waits walks away; with an async one
it is cancelled where it waits. Either way what was walked away from never commits: its connection is thrown away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Generic, Protocol, TypeVar

from sqlalchemy.util import await_only, greenlet_spawn

_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)


class Running(Protocol[_T_co]):
    """Work that has begun."""

    def wait(self, seconds: float) -> _T_co:
        """The work's result, after at most so many seconds from now.

        Raises:
            TimeoutError: it has not ended; it may still be running.
        """
        ...


class Bounded(Protocol):
    """Runs work beside the caller, who waits for at most so many seconds."""

    def start(self, work: Callable[[], _T]) -> Running[_T]:
        """Begin; whoever starts work also waits for it."""
        ...

    def start_anew(self) -> None:
        """In the child of a fork, which has no threads."""
        ...

    def close(self) -> None:
        """No more work is taken."""
        ...


class InThreads:
    """For sync drivers. Work that is stuck keeps its thread until its connection breaks."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self.start_anew()

    def start_anew(self) -> None:
        """See ``Bounded``."""
        self._executor = ThreadPoolExecutor(self._threads, thread_name_prefix="dbmigrate-mirror")

    def start(self, work: Callable[[], _T]) -> Running[_T]:
        """See ``Bounded``."""
        return _InThread(self._executor.submit(work))

    def close(self) -> None:
        """See ``Bounded``."""
        self._executor.shutdown(wait=False, cancel_futures=True)


class _InThread(Generic[_T]):
    def __init__(self, future: Future[_T]) -> None:
        self._future = future

    def wait(self, seconds: float) -> _T:
        try:
            return self._future.result(seconds)
        except FutureTimeoutError:
            self._future.cancel()
            raise TimeoutError from None


class InEventLoop:
    """For async drivers, called from within SQLAlchemy's greenlet."""

    def start(self, work: Callable[[], _T]) -> Running[_T]:
        """See ``Bounded``."""
        return _InTask(asyncio.ensure_future(greenlet_spawn(work)))

    def start_anew(self) -> None:
        """See ``Bounded``."""

    def close(self) -> None:
        """See ``Bounded``."""


class _InTask(Generic[_T]):
    def __init__(self, task: asyncio.Future[_T]) -> None:
        self._task = task

    def wait(self, seconds: float) -> _T:
        return await_only(asyncio.wait_for(self._task, seconds))
