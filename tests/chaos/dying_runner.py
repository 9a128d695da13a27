"""A runner that kills itself at a named step point: ``python -m tests.chaos.dying_runner FILE STEP COUNT [REQUEST]``.

SIGKILL at the COUNT-th time the step is passed, so nothing is tidied up: what kill -9 does, exactly there. The
environment variable DEATH names another signal (SIGSTOP freezes it there).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from dbmigrate.config import load_config
from dbmigrate.copying import copier, loading
from dbmigrate.domain.phases import Phase
from dbmigrate.workflow.migration import Migration, Surroundings
from dbmigrate.workflow.runner import Runner


def main(path: str, step: str, count: str, request: str = "") -> None:
    """Run until the step kills us, or to the cutover."""
    left, lock = int(count), threading.Lock()
    death = signal.Signals[os.environ.get("DEATH", "SIGKILL")]

    def on_step(name: str) -> None:
        nonlocal left
        if name == step:
            with lock:
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), death)

    copier.PIECE_BYTES = 2_000  # a small shop's chunks have pieces, too
    loading.has_short_rows = lambda table: len(table.columns) % 2 == 0  # and some tables are loaded, others take parameters
    migration = Migration(load_config(Path(path)), around=Surroundings(on_step=on_step))
    Runner(migration, until=None if request else Phase.CUTOVER, assume_yes=True, request=request).run()
    migration.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
