"""The demo's shop moves with its customers in it, in every direction between the flavours, and comes back."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from dbmigrate.domain.routes import Side
from dbmigrate.throwaway.row_comparison import compare
from dbmigrate.throwaway.shop import create_shop, fill_shop
from dbmigrate.throwaway.shop_writers import Writers

AUTO = '[cutover]\napproval = "auto"\nmax_write_pause_seconds = 5.0\n'


def test_the_shop_moves_and_comes_back_with_every_write(flavour_pair: Any, move_factory: Callable[..., Any]) -> None:
    """Cutover, revert, cutover: no write lost, none doubled, every row equal, triggers and events where they belong."""
    with flavour_pair.source.connect() as connection:
        create_shop(connection, flavour_pair.source.schema)
        fill_shop(connection, flavour_pair.source.schema, 5_000)
    move = move_factory(flavour_pair, AUTO)
    move.create_application_user()
    with Writers(move.connect_to_owner, threads=2, rate=100) as writers:
        move.run("run", "--until", "cutover")
        time.sleep(0.5)
        move.run("revert")
        time.sleep(0.5)
        move.run("run", "--until", "cutover")
        time.sleep(0.5)
    move.run("run", "--until", "soak")
    assert move.read_owner() is Side.TARGET
    with flavour_pair.source.connect() as source, flavour_pair.target.connect() as target:
        result = compare(source, target, flavour_pair.source.schema)
        assert result.differing == 0, result.first
        assert writers.verify_journal(target) == (0, 0)
    assert writers.failed == 0, writers.errors
    assert writers.committed > 50
    schema = flavour_pair.source.schema
    triggers = f"SELECT COUNT(*) FROM information_schema.triggers WHERE trigger_schema = '{schema}'"
    assert flavour_pair.source.execute(triggers) == ((0,),)
    assert flavour_pair.target.execute(triggers) == ((1,),)
    events = f"SELECT status FROM information_schema.events WHERE event_schema = '{schema}'"
    assert flavour_pair.source.execute(events) == (("DISABLED",),)
    assert flavour_pair.target.execute(events) == (("ENABLED",),)
