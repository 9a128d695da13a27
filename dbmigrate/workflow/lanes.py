"""The lanes in a move: which may run in which phase, and a runner of them built from the configuration.

Lanes run on the target. Before the copy its tables are empty, so the expand lane costs nothing there; between copy and
the end of the way back the streams rely on both schemas as they are, so no lane runs; afterwards all may.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

from dbmigrate.config import Config, LanesSection, ThrottleSection
from dbmigrate.domain.errors import RefusedError
from dbmigrate.domain.lanes import Lane
from dbmigrate.domain.mappings import InstanceMapping
from dbmigrate.domain.phases import Phase
from dbmigrate.domain.routes import Side
from dbmigrate.lanes.environment import load_environment
from dbmigrate.lanes.patience import Patience
from dbmigrate.lanes.running import LaneRunner
from dbmigrate.lanes.steps import LaneDatabase, LaneSettings, LaneSurroundings
from dbmigrate.mysql.activity import read_threads_running
from dbmigrate.mysql.control import ControlStore
from dbmigrate.mysql.evidence import load_reports
from dbmigrate.mysql.faults import Retry
from dbmigrate.mysql.introspection import read_server_version
from dbmigrate.mysql.mappings import load_mappings
from dbmigrate.mysql.sessions import Endpoint, SessionPool
from dbmigrate.mysql.throttle import Throttle
from dbmigrate.workflow.migration import Surroundings, build_endpoints
from dbmigrate.workflow.requests import open_store

_EVERY = frozenset(Lane)
ALLOWED: Mapping[Phase, frozenset[Lane]] = {
    Phase.EXPAND: frozenset({Lane.EXPAND}),
    Phase.CONTRACT: _EVERY,
    Phase.DONE: _EVERY,
    Phase.ABORTED: _EVERY,
}
"""Elsewhere none. A database that no move has touched is like one whose move is over."""


def judge_lane(lane: Lane, phase: Phase | None) -> str:
    """Why a lane may not run in this phase; empty where it may. None: there is no move."""
    if phase is None or lane in ALLOWED.get(phase, frozenset()):
        return ""
    if lane is Lane.CONTRACT:
        return f"the move is in phase {phase.value}, and contract runs only after soak has passed"
    return f"the move is in phase {phase.value}, in which the streams rely on both schemas as they are"


@dataclass(frozen=True)
class LanesPlace:
    """A database whose lanes run, and how: the target of a configuration, or any other without one (``config`` is None)."""

    endpoint: Endpoint
    directory: Path
    settings: LanesSection = field(default_factory=LanesSection)
    limits: ThrottleSection = field(default_factory=ThrottleSection)
    config: Config | None = None

    @property
    def migration_id(self) -> str:
        """What is measured is marked with it; empty without a configuration."""
        return self.config.migration.id if self.config else ""


def target_of(config: Config, directory: Path) -> LanesPlace:
    """The target's database."""
    return LanesPlace(build_endpoints(config)[Side.TARGET], directory, config.lanes, config.throttle, config)


def find_obstacles(place: LanesPlace) -> dict[Lane, str]:
    """Why each lane may not run now; empty where it may. Without a configuration every move there counts."""
    store = ControlStore(place.endpoint, place.migration_id, retry=Retry(give_up_seconds=0.0))
    try:
        phases = store.load_phases() if store.exists() else {}
    finally:
        store.close()
    ours = {name: phase for name, phase in phases.items() if name == place.migration_id or place.config is None}
    reasons = {lane: [judge_lane(lane, phase) for phase in ours.values()] for lane in Lane}
    return {lane: next(filter(None, found), "") for lane, found in reasons.items()}


def require_lane_allowed(place: LanesPlace, lane: Lane) -> None:
    """Lanes wait for a move that is under way.

    Raises:
        RefusedError: they may not run now.
    """
    if reason := find_obstacles(place)[lane]:
        raise RefusedError(
            f"the {lane.value} lane does not run now", place=place.endpoint.place, cause=reason,
            hint="the phase expand runs the expand lane by itself; `dbmigrate contract` ends the way back, then all may run",
        )  # fmt: skip


def open_lanes(
    place: LanesPlace, *, may_copy: Sequence[str] = (), accepted: Sequence[str] = (), lints: bool = True,
    around: Surroundings | None = None, stopping: threading.Event | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> LaneRunner:  # fmt: skip
    """The lanes of a database.

    Raises:
        ConfigurationError: there are no lanes, or the server does not let us in.
    """
    stopping = stopping or threading.Event()
    environment = load_environment(place.directory)
    connection = place.endpoint.connect()
    try:
        version = read_server_version(connection)
    finally:
        connection.close()
    lanes, config = place.settings, place.config
    settings = LaneSettings(
        Patience(lanes.lock_wait_seconds, lanes.max_attempts, lanes.retry_seconds, lanes.quick_seconds), frozenset(may_copy),
        lanes.dwell_seconds, lanes.quiet_seconds, tuple(accepted), lints,
    )  # fmt: skip
    return LaneRunner(
        LaneDatabase(place.endpoint, version, place.endpoint.section.schema, place.migration_id), environment, settings,
        around=_build_surroundings(place, around or Surroundings(), stopping, should_stop or stopping.is_set),
        read_instances=lambda: read_mappings(config) if config else (),
    )  # fmt: skip


def _build_surroundings(
    place: LanesPlace, around: Surroundings, stopping: threading.Event, should_stop: Callable[[], bool]
) -> LaneSurroundings:
    pool = SessionPool(place.endpoint, statements=())
    throttle = Throttle(
        place.limits, load_readings=[lambda: read_threads_running(pool)], clock=around.clock, now=around.now,
        sleep=stopping.wait,
    )  # fmt: skip
    return LaneSurroundings(
        pause=stopping.wait, wait_for_batch=lambda: throttle.wait(should_stop), should_stop=should_stop,
        on_step=around.on_step, clock=around.clock,
    )  # fmt: skip


def read_mappings(config: Config) -> tuple[InstanceMapping, ...]:
    """What the application's live instances say of their models; nothing where no move ever was."""
    store = open_store(config)
    try:
        if not store.exists():
            return ()
        store.create_tables()  # one that an older version has made lacks what instances write to
        return store.call(lambda connection: _load_mappings(store, connection, config))
    finally:
        store.close()


def _load_mappings(store: ControlStore, connection: sa.Connection, config: Config) -> tuple[InstanceMapping, ...]:
    live = load_reports(connection, store.migration_id, config.app.instance_expiry_seconds)
    return load_mappings(connection, store.migration_id, live)
