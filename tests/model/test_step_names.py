"""The model and the program cannot drift apart unnoticed: they share the names of their steps."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
CALLED = re.compile(r'(?:_on_step|on_step|self\._step)\("([a-z_.]+)"\)')
TIMED = re.compile(r'self\._(?:timed|bounded)\("([a-z_]+)"')
OF_THE_MODEL = re.compile(r'yield "((?:flush|copy|stream|switch)\.[a-z_.]+)"')
NOT_OF_THE_DATA_PATH = ("lanes.", "contract.")
NOT_MODELLED = {
    "switch.verify", "switch.carry", "switch.commit",  # left out, or split into what server and client do
    "switch.mirrors",  # of the application library
    "flush.batch.written", "copy.chunk.written", "copy.chunk.piece", "stream.delivered", "verify.range.compared",
}  # fmt: skip


def test_steps_of_the_model_are_step_points_of_the_program() -> None:
    """Every step with a dotted name exists in the program, and the model leaves out only what is listed."""
    source = "".join(path.read_text() for path in (ROOT / "dbmigrate").rglob("*.py"))
    program = {*CALLED.findall(source), *(f"switch.{name}" for name in TIMED.findall(source))}
    model = set(OF_THE_MODEL.findall((Path(__file__).parent / "program.py").read_text()))
    program = {name for name in program if not name.startswith(NOT_OF_THE_DATA_PATH)}
    assert model <= program
    assert program - model == NOT_MODELLED
