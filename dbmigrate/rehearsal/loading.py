"""Giving the throwaway source its database, and the throwaway target what the move expects to find there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dbmigrate.config import Config
from dbmigrate.domain.errors import FatalError
from dbmigrate.domain.routes import Side
from dbmigrate.domain.schema import Schema, Table
from dbmigrate.rehearsal.creating import (
    create_database,
    create_definers,
    create_programs,
    create_tables,
    read_created_schema,
)
from dbmigrate.rehearsal.dumping import load_dump
from dbmigrate.rehearsal.generating import Generator, read_null_rates
from dbmigrate.rehearsal.sampling import Sampler
from dbmigrate.rehearsal.servers import StandIn
from dbmigrate.rehearsal.settings import DumpedRows, GeneratedRows, RehearsalSettings, SampledRows
from dbmigrate.rehearsal.shape import RealServer, read_real_source, source_snapshot

Say = Callable[[str], None]


@dataclass
class Loaded:
    """What was loaded: in words for the report, with what is not quite as in reality."""

    description: str
    notes: list[str] = field(default_factory=list)


class Loader:
    """Loads both sides of one rehearsal."""

    def __init__(
        self, config: Config, settings: RehearsalSettings, stand_ins: Mapping[Side, StandIn], directory: Path, say: Say
    ) -> None:
        self._config, self._settings, self._say = config, settings, say
        self._stand_ins, self._directory = stand_ins, directory

    def load(self, real: Mapping[Side, RealServer | None]) -> Loaded:
        """Fill the source, prepare the target.

        Raises:
            DbmigrateError: something could not be read, created or loaded.
        """
        source = self._stand_ins[Side.SOURCE]
        loaded = self._load_source(source, real[Side.SOURCE])
        self._prepare_target(real[Side.TARGET], read_created_schema(source), loaded)
        return loaded

    def _load_source(self, stand_in: StandIn, known: RealServer | None) -> Loaded:
        match self._settings.rows:
            case DumpedRows(path):
                create_database(stand_in, known.schema if known else None)
                self._say(f"loading {path}")
                load_dump(stand_in, path, self._directory)
                self._require_tables(stand_in, str(path))
                return Loaded(f"the SQL file {path.name}")
            case SampledRows() as wanted:
                return self._load_sample(stand_in, known or read_real_source(self._config), wanted)
            case GeneratedRows() as wanted:
                return self._load_generated(stand_in, known or read_real_source(self._config), wanted)

    def _require_tables(self, stand_in: StandIn, path: str) -> None:
        if not any(self._config.tables.selects(t.name.name) for t in read_created_schema(stand_in).tables):
            raise FatalError("the SQL file holds no table that would move", place=path, hint="check [tables] include")

    def _create(self, stand_in: StandIn, real: RealServer) -> list[Table]:
        create_database(stand_in, real.schema)
        create_definers(list(self._stand_ins.values()), real.schema.objects)
        tables = list(real.schema.tables)
        create_tables(stand_in, real, tables)
        return [table for table in tables if self._config.tables.selects(table.name.name)]

    def _load_sample(self, stand_in: StandIn, real: RealServer, wanted: SampledRows) -> Loaded:
        self._say("sampling the source (one snapshot, reads only)")
        moving = self._create(stand_in, real)
        with source_snapshot(real.section) as source, stand_in.session() as target:
            sampler = Sampler(source, target, real.schema, stand_in.schema)
            counts = sampler.copy(moving, wanted)
        create_programs(stand_in, real)
        share = f"{wanted.percent:g} % of each table" if wanted.percent is not None else f"{wanted.rows:,} rows a table"
        loaded = Loaded(f"a sample of the source, {share} and the rows they reference: {sum(counts.values()):,} rows")
        if sampler.orphans:
            loaded.notes.append(f"{sampler.orphans:,} referenced rows do not exist on the source either")
        return loaded

    def _load_generated(self, stand_in: StandIn, real: RealServer, wanted: GeneratedRows) -> Loaded:
        self._say("generating rows of the source's shape")
        moving = self._create(stand_in, real)
        with source_snapshot(real.section) as source:
            rates = read_null_rates(source, moving)
        with stand_in.session() as session:
            generator = Generator(session, real.schema, stand_in.schema, rates, wanted.seed)
            counts = generator.fill(_with_parents(moving, real.schema), wanted.rows)
        create_programs(stand_in, real)
        loaded = Loaded(f"generated rows, up to {wanted.rows:,} a table (seed {wanted.seed}): {sum(counts.values()):,} rows")
        if generator.refused:
            loaded.notes.append(f"{generator.refused:,} made-up rows were refused by a CHECK or a unique key")
        return loaded

    def _prepare_target(self, real: RealServer | None, source: Schema, loaded: Loaded) -> None:
        """Tables that the operator has prepared on the real target, empty; or what the SQL file for it says."""
        stand_in = self._stand_ins[Side.TARGET]
        if self._settings.target_schema is not None:
            create_database(stand_in)
            load_dump(stand_in, self._settings.target_schema, self._directory)
            return
        if real is None:
            return
        wanted = {
            self._config.tables.options_for(table.name.name).rename or table.name.name
            for table in source.tables
            if self._config.tables.selects(table.name.name)
        }
        prepared = [table for table in real.schema.tables if table.name.name in wanted]
        if prepared:
            create_database(stand_in, real.schema)
            create_tables(stand_in, real, prepared)
            loaded.notes.append(f"{len(prepared)} tables were prepared on the target, as on the configured one")


def _with_parents(moving: Sequence[Table], schema: Schema) -> list[Table]:
    """The moving tables, and those that they reference."""
    by_name = {table.name.name: table for table in schema.tables}
    found = {table.name.name: table for table in moving}
    waiting = list(moving)
    while waiting:
        for foreign_key in waiting.pop().foreign_keys:
            parent = by_name.get(foreign_key.referenced_table.name)
            if parent is not None and parent.name.name not in found:
                found[parent.name.name] = parent
                waiting.append(parent)
    return list(found.values())
