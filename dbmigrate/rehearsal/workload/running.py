"""What every workload can do: start, be stopped, and say what it did."""

from __future__ import annotations

import threading
from types import TracebackType

from dbmigrate.rehearsal.report import WorkloadDone
from dbmigrate.rehearsal.settings import WorkloadKind
from dbmigrate.rehearsal.workload.counting import Tally


class Workload:
    """A context manager around threads; this one does nothing."""

    kind = WorkloadKind.NONE

    def __init__(self) -> None:
        self.tally = Tally()
        self.stop_event = threading.Event()
        self.note = ""
        self.failure: Exception | None = None
        self._threads: list[threading.Thread] = []

    def prepare(self) -> None:
        """What must be there before the move begins."""

    def __enter__(self) -> Workload:
        for number in range(self.threads_wanted()):
            thread = threading.Thread(target=self._work_guarded, args=(number,), name=f"workload-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def threads_wanted(self) -> int:
        """How many threads call ``work``."""
        return 0

    def work(self, number: int) -> None:
        """One thread's part, until ``stop_event``."""

    def stop(self) -> None:
        """End it and wait for it; fine when it has ended."""
        self.stop_event.set()
        for thread in self._threads:
            thread.join(timeout=60)

    def _work_guarded(self, number: int) -> None:
        try:
            self.work(number)
        except Exception as fault:  # of the user's code, too
            self.failure = self.failure or fault

    def read_done(self) -> WorkloadDone:
        """What it came to."""
        return WorkloadDone(
            self.kind.value, self.tally.committed, self.tally.failed, self.tally.failures, self.tally.longest_gap_ms, self.note
        )
