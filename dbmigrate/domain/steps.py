"""Named step points: places in the protocols where a test can step in.

Each engine calls ``on_step(name)`` at the moments that races are made of; in production that is ``no_step``. A test
passes a hook that writes, waits or kills exactly there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

StepHook: TypeAlias = Callable[[str], None]


def no_step(name: str) -> None:
    """Do nothing at step point ``name``."""
