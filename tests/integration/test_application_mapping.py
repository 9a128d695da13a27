"""What a live application says of its models, by the library itself, and what the lanes make of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from app_rows import ID, FenceRows, wait_until
from databases import endpoint_of
from lanes_project import Project, build_runner
from sqlalchemy import orm

from dbmigrate.app import Options, sessionmaker
from dbmigrate.domain.errors import RefusedError
from dbmigrate.domain.lanes import Lane
from dbmigrate.domain.mappings import InstanceMapping
from dbmigrate.domain.ownership import FenceRow
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Side
from dbmigrate.mysql.control import ControlStore
from dbmigrate.mysql.evidence import load_reports
from dbmigrate.mysql.faults import Retry
from dbmigrate.mysql.mappings import load_mappings


class Base(orm.DeclarativeBase):
    pass


class Parcel(Base):
    __tablename__ = "parcel"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    weight: orm.Mapped[int] = orm.mapped_column("grams")


STAMPS = sa.MetaData()
sa.Table("stamp", STAMPS, sa.Column("colour", sa.String(10)))


@pytest.fixture
def rows(mariadb_pair: Any) -> Iterator[FenceRows]:
    """Both sides with a parcel, the target as the owner."""
    found = FenceRows(mariadb_pair)
    for engine in found.engines.values():
        Base.metadata.create_all(engine)
    found.create_fence()
    found.save_both(FenceRow(5, Side.TARGET, Phase.CONTRACT))
    yield found
    found.close()


@pytest.fixture
def store(rows: FenceRows) -> Iterator[ControlStore]:
    """The target's control tables."""
    made = ControlStore(endpoint_of(rows.pair.target), ID, retry=Retry(give_up_seconds=0.0))
    made.create_tables()
    yield made
    made.close()


def _read(store: ControlStore) -> tuple[InstanceMapping, ...]:
    return store.call(lambda connection: load_mappings(connection, ID, load_reports(connection, ID, 60)))


def test_an_instance_reports_what_its_models_map_and_forgets_it_when_it_ends(
    rows: FenceRows, store: ControlStore
) -> None:
    factory = sessionmaker(
        rows.engines[Side.SOURCE], rows.engines[Side.TARGET], migration_id=ID, options=Options(metadata=(STAMPS,))
    )
    instance = factory.kw["dbmigrate_instance"]
    try:
        with factory() as session:
            session.execute(sa.text("SELECT 1"))
        wait_until(lambda: any(one.columns is not None for one in _read(store)))
        (mapping,) = _read(store)
        assert mapping.columns is not None
        assert {"parcel.id", "parcel.grams", "stamp.colour"} <= mapping.columns
        assert "parcel.weight" not in mapping.columns
        saved = rows.pair.target.server.execute("SELECT COUNT(*) FROM _dbmigrate.mapping")
        assert saved == ((1,),)
    finally:
        instance.close()
    assert rows.pair.target.server.execute("SELECT COUNT(*) FROM _dbmigrate.mapping") == ((0,),)


def test_an_instance_that_may_not_say_it_still_reports_and_blocks_every_drop(
    rows: FenceRows, store: ControlStore, tmp_path: Any
) -> None:
    """As one of an older version does, or one without the grant: what it maps is not known."""
    rows.pair.target.server.execute("DROP TABLE _dbmigrate.mapping")
    factory = sessionmaker(rows.engines[Side.SOURCE], rows.engines[Side.TARGET], migration_id=ID)
    instance = factory.kw["dbmigrate_instance"]
    try:
        with factory() as session:
            session.execute(sa.text("SELECT 1"))
        wait_until(lambda: bool(store.call(lambda connection: load_reports(connection, ID, 60))))
        store.create_tables()
        instance._saved_mapping = "it believes to have said it"
        silent = _read(store)
        assert [one.columns for one in silent] == [None]
        project = Project(tmp_path / "migrations")
        project.revision("contract", "c1", ["DROP TABLE parcel"])
        with pytest.raises(RefusedError, match="reports no columns"):
            build_runner(project, endpoint_of(rows.pair.target), instances=silent).run(Lane.CONTRACT)
    finally:
        instance.close()
