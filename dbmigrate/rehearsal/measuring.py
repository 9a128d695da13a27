"""From a migration's own audit rows to durations and rates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime

from dbmigrate.config import Config
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.schema import Schema
from dbmigrate.mysql.control import ControlStore, Transition
from dbmigrate.mysql.identifiers import quote_table
from dbmigrate.rehearsal.extrapolation import GROWS_WITH_SIZE, Size, extrapolate
from dbmigrate.rehearsal.report import PhaseTaken, SwitchMade, TableUsed
from dbmigrate.rehearsal.servers import StandIn
from dbmigrate.rehearsal.shape import RealServer
from dbmigrate.workflow.switch import SWITCH


def sum_up_phases(began_at: datetime, transitions: Sequence[Transition]) -> dict[Phase, float]:
    """Seconds in each phase, oldest transition first: the way there up to the first soak, then that soak and the way back.

    A phase that was entered twice on the way there (evidence went stale) counts with both.
    """
    taken: defaultdict[Phase, float] = defaultdict(float)
    since, has_switched = began_at, False
    for transition in transitions:
        phase = transition.from_phase
        if has_switched and phase not in (Phase.SOAK, Phase.REVERTING):
            break
        taken[phase] += (transition.at - since).total_seconds()
        since = transition.at
        has_switched = has_switched or phase is Phase.SOAK
    return dict(taken)


def describe_phases(
    seconds: dict[Phase, float], rows: int, factor: float | None, disturbed: Collection[Phase]
) -> tuple[PhaseTaken, ...]:
    """Each phase with its rate and its estimate, in the order of the phases."""
    found = []
    for phase in sorted(seconds, key=list(Phase).index):
        taken, is_disturbed = round(seconds[phase], 2), phase in disturbed
        estimate = extrapolate(phase, taken, factor, disturbed=is_disturbed)
        rate = round(rows / taken, 1) if phase in GROWS_WITH_SIZE and taken > 0 and not is_disturbed else None
        in_whole = round(estimate.seconds, 1) if estimate.seconds is not None else None
        found.append(PhaseTaken(phase.value, taken, in_whole, estimate.basis, rate, is_disturbed))
    return tuple(found)


def load_switches(store: ControlStore) -> tuple[SwitchMade, ...]:
    """Every switch that was made, oldest first."""
    return tuple(
        SwitchMade(str(e.content.get("direction", "")), float(e.content["pause_ms"])) for e in store.load_all_evidence(SWITCH)
    )


def refresh_statistics(stand_in: StandIn, schema: Schema) -> None:
    """Let the server look at its tables' sizes, as they are now that they have been filled."""
    with stand_in.session() as session:
        for table in schema.tables:
            session.execute(f"ANALYZE NO_WRITE_TO_BINLOG TABLE {quote_table(table.name)}", doing="refreshing statistics")


def measure_tables(config: Config, stand_in: StandIn, schema: Schema, real: RealServer | None) -> tuple[TableUsed, ...]:
    """The tables that move: counted here, estimated there."""
    there = {table.name.name: table for table in real.schema.tables} if real else {}
    found = []
    with stand_in.session() as session:
        for table in schema.tables:
            if not config.tables.selects(table.name.name):
                continue
            rows = int(session.fetch_value(f"SELECT COUNT(*) FROM {quote_table(table.name)}", doing="counting rows") or 0)
            twin = there.get(table.name.name)
            size = table.data_bytes + table.index_bytes
            found.append(
                TableUsed(
                    table.name.name, rows, size, twin.estimated_rows if twin else None,
                    twin.data_bytes + twin.index_bytes if twin else None,
                )
            )  # fmt: skip
    return tuple(found)


def add_up(tables: Sequence[TableUsed]) -> Size:
    """All tables together."""
    return Size(sum(table.rows for table in tables), sum(table.bytes for table in tables))
