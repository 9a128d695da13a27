"""Changes of the source at each step of a chunk: the second of four, so there are rows before and after the cursor."""

from __future__ import annotations

import pytest

from dbmigrate.domain.routes import Side

from .racing import Moment, Race

STEPS = ("begin", "barrier", "read", "written", "committed")
# The chunk in hand holds the keys 102 to 200; 2 to 100 are copied, 202 to 400 are not. Odd keys are free.
CHANGES = {
    "updated": "UPDATE item SET note = 'changed' WHERE id IN (10, 150, 152, 300)",
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("step", STEPS)
def test_rows(step: str, change: str, race: Race) -> None:
    race.at(Moment(f"copy.chunk.{step}", 2), lambda: race.write_source(CHANGES[change]))
    race.move()
    race.require_equal()
