"""Everything one run works with, built once from the configuration and handed to the phases.

The only place that wires engines to servers. Clocks and sleeps come from outside, so tests can pass their own.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime

from dbmigrate.cluster.dask_client import DaskCluster, OnCluster
from dbmigrate.cluster.workers import Assignment
from dbmigrate.config import Config, ExecutorKind
from dbmigrate.copying.in_flight import ChunksInFlight
from dbmigrate.domain.errors import FatalError
from dbmigrate.domain.routes import Direction, Route, Side
from dbmigrate.domain.schema import Schema, TableName
from dbmigrate.domain.steps import StepHook, no_step
from dbmigrate.mysql.activity import read_threads_running
from dbmigrate.mysql.binlog import read_current_position
from dbmigrate.mysql.control import ControlStore, StreamCheckpoint
from dbmigrate.mysql.faults import Retry
from dbmigrate.mysql.introspection import read_schema
from dbmigrate.mysql.pacing import Pacer
from dbmigrate.mysql.servers import Server
from dbmigrate.mysql.sessions import Endpoint
from dbmigrate.mysql.tenure import Tenure
from dbmigrate.mysql.throttle import Throttle
from dbmigrate.mysql.workplace import ChunkExecutor, InProcess, Workplace
from dbmigrate.streaming.flusher import Flusher
from dbmigrate.streaming.stream import Stream
from dbmigrate.telemetry import Observer, SilentObserver
from dbmigrate.workflow.routing import RoutingProblem, build_forward_routes, build_reverse_routes

FLUSH_WORKERS = 4
HALVES = 64
"""Threads at most for the destination's halves of comparisons; they start as they are needed."""


@dataclass(frozen=True)
class Surroundings:
    """What a run takes from the outside world: clocks, sleep, an observer and step points."""

    clock: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    observer: Observer = field(default_factory=SilentObserver)
    on_step: StepHook = no_step


def build_endpoints(config: Config) -> dict[Side, Endpoint]:
    """Where both servers are."""
    return {Side.SOURCE: Endpoint("source", config.source), Side.TARGET: Endpoint("target", config.target)}


class Migration:
    """One migration while a process works on it: servers, control tables, routes, executors and streams."""

    def __init__(self, config: Config, *, around: Surroundings | None = None) -> None:
        self.config = config
        self.around = around or Surroundings()
        self.id = config.migration.id
        self.stopping = threading.Event()
        self.retry = Retry(stop=self.stopping)
        endpoints = build_endpoints(config)
        first_contact = Retry(stop=self.stopping, give_up_seconds=0.0)  # at the start a wrong address must show at once
        self.servers: Mapping[Side, Server] = {
            side: Server(endpoint, self.id, clock=self.around.clock, retry=first_contact)
            for side, endpoint in endpoints.items()
        }
        for server in self.servers.values():
            server.retry = self.retry
            server.heartbeat.retry = self.retry
        self.store = ControlStore(endpoints[Side.TARGET], self.id, retry=self.retry)
        self.in_flight = ChunksInFlight()
        self.flush_executor = ThreadPoolExecutor(FLUSH_WORKERS, thread_name_prefix="flush")
        self.throttle = self._build_throttle()
        self._generation: int | None = None
        self._tenures: dict[Side, Tenure] = {}
        self._schemas: dict[Side, Schema] = {}
        self._halves = ThreadPoolExecutor(HALVES, thread_name_prefix="half")
        self._cluster: DaskCluster | None = None

    def _build_throttle(self) -> Throttle:
        pools = [server.pool for server in self.servers.values()]
        limits, heartbeat = self.config.throttle, self.servers[Side.SOURCE].heartbeat
        pacer = None
        if limits.max_source_write_factor and limits.max_source_write_ms is None:
            pacer = Pacer(
                limits.max_source_write_factor, time_write=heartbeat.time_commit, clock=self.around.clock,
                sleep=self.stopping.wait,
            )  # fmt: skip
        return Throttle(
            limits,
            load_readings=[lambda pool=pool: read_threads_running(pool) for pool in pools],  # type: ignore[misc]
            measure_write=heartbeat.measure_commit_seconds, pacer=pacer,
            clock=self.around.clock, now=self.around.now, sleep=self.stopping.wait,
        )  # fmt: skip

    @property
    def source(self) -> Server:
        """The server that owned the data at the beginning."""
        return self.servers[Side.SOURCE]

    @property
    def target(self) -> Server:
        """The server the data moves to."""
        return self.servers[Side.TARGET]

    def schema_name(self, side: Side) -> str:
        """The database on a side."""
        section = self.config.source if side is Side.SOURCE else self.config.target
        return section.schema

    def read_schema(self, side: Side, *, anew: bool = False) -> Schema:
        """What the side's database consists of; read once unless ``anew``."""
        if anew or side not in self._schemas:
            server = self.servers[side]
            connection = server.endpoint.connect()
            try:
                self._schemas[side] = read_schema(connection, server.version, self.schema_name(side))
            finally:
                connection.close()
        return self._schemas[side]

    # --- tenure ---

    def begin_tenure(self, generation: int) -> None:
        """Take over writing on both sides for this lease; earlier runners' writes have ended on return."""
        self._generation = generation
        for side, server in self.servers.items():
            tenure = Tenure(server.pool, self.id, generation, retry=self.retry, clock=self.around.clock)
            tenure.begin()
            self._tenures[side] = tenure

    def tenure(self, side: Side) -> Tenure:
        """The right to write rows on a side."""
        if side not in self._tenures:
            raise FatalError("rows cannot be written before the lease is held", place=side.value)
        return self._tenures[side]

    # --- chunk work ---

    def build_chunk_executor(self, kind: ExecutorKind) -> ChunkExecutor:
        """Where chunks are copied or compared from now on.

        Raises:
            ConfigurationError, FatalError: the cluster cannot be used.
        """
        if kind is ExecutorKind.DASK:
            self._cluster = self._cluster or DaskCluster(self.config.cluster)
            return OnCluster(self._cluster, self.build_assignment())
        around = self.around
        return InProcess(Workplace(self.id, self.servers, self._tenures, self._halves, around.clock, around.on_step))

    def build_assignment(self) -> Assignment:
        """What the processes of a cluster are told about this run."""
        target = self._tenures.get(Side.TARGET)
        return Assignment(
            self.id, self.config.source, self.config.target,
            generation=self._generation, up_seconds=target.up_seconds if target else 0.0,
        )  # fmt: skip

    # --- routes and streams ---

    def build_routes(self, direction: Direction) -> tuple[tuple[Route, ...], tuple[RoutingProblem, ...]]:
        """The tables' ways in this direction, and what stands in the way."""
        build = build_forward_routes if direction is Direction.FORWARD else build_reverse_routes
        return build(self.config.tables, self.read_schema(Side.SOURCE), self.read_schema(Side.TARGET))

    def require_routes(self, direction: Direction) -> tuple[Route, ...]:
        """The routes, all of them.

        Raises:
            FatalError: a table cannot travel.
        """
        routes, problems = self.build_routes(direction)
        if problems:
            first = problems[0]
            raise FatalError(first.message, place=str(first.table), hint=first.remedy)
        return routes

    def table_names(self, side: Side) -> tuple[TableName, ...]:
        """The moving tables as they are called on a side."""
        routes = self.require_routes(Direction.FORWARD)
        return tuple(route.origin.name if side is Side.SOURCE else route.destination.name for route in routes)

    def note_start(self, direction: Direction) -> StreamCheckpoint:
        """A position from which the stream of this direction misses nothing: noted first, proved by a barrier."""
        server = self.servers[direction.origin]
        with server.control_connection() as connection:
            position = read_current_position(connection, server.version)
        self.around.on_step("stream.position_noted")
        beat = server.heartbeat.pass_barrier()
        return StreamCheckpoint(position, beat - 1)

    def build_stream(self, direction: Direction, start: StreamCheckpoint) -> Stream:
        """The stream of a direction, not yet started."""
        origin, destination = self.servers[direction.origin], self.servers[direction.origin.other]
        routes = self.require_routes(direction)
        observer = self.around.observer
        flusher = Flusher(
            routes, origin=origin, destination=destination, tenure=self.tenure(direction.origin.other),
            executor=self.flush_executor, is_mirrored=self._may_be_mirrored_to(direction.origin.other),
            wait_for_chunks=self.in_flight.wait_for, on_step=self.around.on_step,
        )  # fmt: skip
        return Stream(
            direction, routes, origin=origin, flusher=flusher, store=self.store, start=start,
            server_id=_server_id(self.id, direction), clock=self.around.clock,
            on_flushed=observer.keys_flushed, on_step=self.around.on_step,
        )  # fmt: skip

    def _may_be_mirrored_to(self, side: Side) -> bool:
        """Whether an application may mirror its writes to this side."""
        app = self.config.app
        return app.enabled and (app.mirror if side is Side.TARGET else app.mirror_in_soak)

    def close(self) -> None:
        """Release threads and connections."""
        self.stopping.set()
        self.flush_executor.shutdown(wait=True)
        self._halves.shutdown(wait=True)
        if self._cluster is not None:
            self._cluster.forget(self.build_assignment())
            self._cluster.close()
        self.store.close()
        for server in self.servers.values():
            server.close()


def _server_id(migration_id: str, direction: Direction) -> int:
    """A replica's server id of our own: stable for a migration, unlikely to be anybody else's."""
    return 0x40000000 | (zlib.crc32(f"{migration_id}/{direction.value}".encode()) & 0x3FFFFFFF)
