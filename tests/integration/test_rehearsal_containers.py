"""A rehearsal in containers, between flavours: MariaDB 10.11 to MySQL 9.7, with every kind of fault."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from databases import Database, Pair

from dbmigrate.domain.errors import ExitCode
from dbmigrate.domain.routes import Side
from dbmigrate.rehearsal import Rehearsal, RehearsalReport, RehearsalSettings, SampledRows, ServerKind, parse_faults
from dbmigrate.rehearsal.servers import StandIn
from dbmigrate.throwaway.containers import ContainerServer, find_engine_trouble
from dbmigrate.throwaway.shop import create_shop, fill_shop

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]

FAULTS = ("runner-kill", "server-restart:target@cutover", "server-restart:source@soak", "network-cut:source@catch_up")


@pytest.fixture(autouse=True)
def _engine() -> None:
    if trouble := find_engine_trouble():
        reason = f'{trouble}; eval "$(.ci/docker)" starts one'
        if os.environ.get("CI", "").lower() in ("true", "1"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


@pytest.fixture
def shop(mariadb_pair: Pair) -> Database:
    connection = mariadb_pair.source.connect()
    create_shop(connection, mariadb_pair.source.schema)
    fill_shop(connection, mariadb_pair.source.schema, 20_000)
    connection.close()
    return mariadb_pair.source


def test_a_shop_moves_from_mariadb_to_mysql_and_back_and_survives_everything(
    shop: Database, mariadb_pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REAL", shop.server.password)
    path = tmp_path / "dbmigrate.toml"
    path.write_text(
        f'[migration]\nid = "shop"\n[source]\nurl = "{shop.url}"\npassword_env = "REAL"\n'
        f'[target]\nurl = "mysql://nobody@127.0.0.1:1/{shop.schema}"\n'
    )
    seen: dict[Side, str] = {}

    def look(stand_ins: dict[Side, StandIn], report: RehearsalReport) -> None:
        for side, stand_in in stand_ins.items():
            assert isinstance(stand_in.server, ContainerServer)
            seen[side] = stand_in.server.execute("SELECT VERSION()")[0][0]

    settings = RehearsalSettings(
        servers=ServerKind.DOCKER, target_image="mysql:9.7", rows=SampledRows(2_000), faults=parse_faults(FAULTS)
    )
    report = Rehearsal(path, settings, hold=look).run()
    assert report.exit_code is ExitCode.DONE, report
    assert all(fault.injected and fault.survived for fault in report.faults)
    assert report.differences == 0
    assert report.rows_compared > 2_000
    assert report.workload.committed > 100
    assert "MariaDB" in seen[Side.SOURCE]
    assert seen[Side.TARGET].startswith("9.7.")
    assert any("the configured target did not answer" in note for note in report.notes)


def test_an_image_that_is_not_there_says_so(tmp_path: Path) -> None:
    from dbmigrate.domain.errors import FatalError

    server = ContainerServer("127.0.0.1:1/no-such-mysql:1", name="source")
    with pytest.raises(FatalError, match="could not be started") as failed:
        server.start()
    assert "docker pull" in failed.value.hint
    assert server.password not in str(failed.value)
