"""A run of a lane that kills itself at a named step point: ``python -m tests.chaos.dying_lanes DIRECTORY URL PASSWORD_FILE
LANE STEP COUNT``. With the lane ``undo-LANE`` it takes the lane's last revision back.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from lanes_project import Project, build_runner

from dbmigrate.config import ServerSection
from dbmigrate.domain.lanes import Lane
from dbmigrate.mysql.sessions import Endpoint


def main(directory: str, url: str, password_file: str, lane: str, step: str, count: str) -> None:
    """Run until the step kills us."""
    left = int(count)

    def on_step(name: str) -> None:
        nonlocal left
        if name == step or step == "any":
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    endpoint = Endpoint("target", ServerSection(url=url, password_file=Path(password_file)))
    runner = build_runner(Project(Path(directory)), endpoint, on_step=on_step, lints=False)
    if lane.startswith("undo-"):
        runner.undo(Lane(lane.removeprefix("undo-")))
    else:
        runner.run(Lane(lane))


if __name__ == "__main__":
    main(*sys.argv[1:])
