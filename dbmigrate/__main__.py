"""``python -m dbmigrate`` and the command ``dbmigrate``."""

from __future__ import annotations

import gc

SPARE_THRESHOLDS = (20_000, 20, 20)


def main() -> None:
    """Run the command line, with a garbage collector that leaves alone what imports made and keep for good.

    Walking over it took a quarter of a start's CPU time (1.7 s instead of 1.3), and 0.06 s again in every run.
    """
    gc.disable()
    from dbmigrate.cli import main as run_command_line  # here, so that the collector rests meanwhile

    spare_the_collector()
    gc.enable()
    run_command_line()


def spare_the_collector() -> None:
    """Never look at what exists by now, and look less often at what comes: rows and events are not garbage in cycles."""
    gc.freeze()
    gc.set_threshold(*SPARE_THRESHOLDS)


if __name__ == "__main__":
    main()
