"""Stripes that are claimed anew: what the control table says, and tables that a version before this one made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dbmigrate.config import ServerSection
from dbmigrate.domain.schema import TableName
from dbmigrate.mysql.control import ControlStore
from dbmigrate.mysql.faults import Retry
from dbmigrate.mysql.sessions import Endpoint
from dbmigrate.mysql.stripes import StripeState, build_cursor_save, claim_stripe, load_stripes, save_stripes

STRIPE = StripeState(TableName("shop", "orders"), 0, None, b"900", None, 0, is_done=False)


@pytest.fixture(params=["mariadb_pair", pytest.param("mysql_pair", marks=pytest.mark.mysql)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[ControlStore, Any]]:
    """Control tables with one stripe, and their server."""
    database = request.getfixturevalue(request.param).target
    password = tmp_path / "password"
    password.write_text(database.server.password)
    section = ServerSection(url=database.server.url(database.schema), password_file=password)
    store = ControlStore(Endpoint("target", section), "claims", retry=Retry(give_up_seconds=0))
    store.create_tables()
    store.call(lambda connection: save_stripes(connection, "claims", [STRIPE]))
    yield store, database.server
    store.close()
    database.server.execute("DROP DATABASE _dbmigrate")


def claim(control: ControlStore) -> StripeState:
    return control.call(lambda connection: claim_stripe(connection, "claims", STRIPE))


def load(control: ControlStore) -> tuple[StripeState, ...]:
    return control.call(lambda connection: load_stripes(connection, "claims"))


def test_whoever_had_it_before_saves_nothing_any_more(store: tuple[ControlStore, Any]) -> None:
    control, server = store
    further = replace(STRIPE, cursor=b"100", rows=100)
    claimed = claim(control)
    assert claimed == replace(STRIPE, claim=1)
    server.execute(build_cursor_save("claims", further, before=STRIPE))
    assert load(control) == (claimed,)
    server.execute(build_cursor_save("claims", further, before=claimed))
    assert load(control) == (replace(further, claim=1),)


def test_who_comes_second_saves_nothing(store: tuple[ControlStore, Any]) -> None:
    control, server = store
    for rows in (100, 99):
        server.execute(build_cursor_save("claims", replace(STRIPE, cursor=b"100", rows=rows), before=STRIPE))
    assert load(control) == (replace(STRIPE, cursor=b"100", rows=100),)
    done = replace(STRIPE, cursor=b"900", rows=900, is_done=True)
    server.execute(build_cursor_save("claims", done, before=replace(STRIPE, cursor=b"100")))
    server.execute(build_cursor_save("claims", STRIPE, before=done))
    assert load(control) == (done,)


def test_stripes_of_an_earlier_version_can_be_claimed(store: tuple[ControlStore, Any]) -> None:
    control, server = store
    server.execute("ALTER TABLE _dbmigrate.stripe DROP COLUMN claim")
    control.create_tables()
    assert load(control) == (STRIPE,)
    assert claim(control).claim == 1
