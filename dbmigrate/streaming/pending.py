"""The keys that changed and are not yet equal, and how far the binlog has been read.

The one place where the reading and the flushing thread meet. A snapshot takes the keys together with the position
that they reach, so a checkpoint can never be ahead of a pending key.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from dbmigrate.domain.keys import Key, MovedKey
from dbmigrate.domain.positions import Position
from dbmigrate.domain.schema import TableName

RUSH_CHANGES = 5_000
RUSH_SECONDS = 0.01
"""So many changes within so long are a rush: only statements that change many rows are read at half a million a second
(measured: single-row transactions arrive at 240,000 a second, such statements at a million; a flush writes 200,000)."""
MOST_RUSH_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything delivered up to now: flush it, and ``position`` and ``beat`` have been reached.

    ``moved`` are those of the keys whose rows went away or changed their key: what references them may have
    changed without events.
    """

    keys: Mapping[TableName, dict[Key, None]]
    moved: Mapping[TableName, set[Key]]
    truncated: tuple[TableName, ...]
    position: Position
    beat: int

    @property
    def is_empty(self) -> bool:
        """Whether nothing needs to be written."""
        return not self.keys and not self.truncated


@dataclass
class _Contents:
    keys: dict[TableName, dict[Key, None]] = field(default_factory=dict)
    moved: dict[TableName, set[Key]] = field(default_factory=dict)
    truncated: list[TableName] = field(default_factory=list)


class PendingKeys:
    """Pending keys by table, coalesced: ten changes of a row are one key. Thread-safe."""

    def __init__(self, position: Position, *, beat: int = 0, most_keys: int = 2_000_000) -> None:
        self._condition = threading.Condition()
        self._contents = _Contents()
        self._position = position
        self._beat = beat
        self._most_keys = most_keys
        self._taken_keys = 0
        self._changes = 0  # delivered since the last take, before they coalesce
        self._changed = False

    def add(self, keys: Mapping[TableName, Iterable[Key]], position: Position, beat: int | None) -> None:
        """Add delivered keys and the boundary that their delivery reached."""
        with self._condition:
            for table, found in keys.items():
                arrived = list(found)
                self._changes += len(arrived)
                self._contents.keys.setdefault(table, {}).update(dict.fromkeys(arrived))
                moved = {key for key in arrived if type(key) is MovedKey}
                if moved:
                    self._contents.moved.setdefault(table, set()).update(moved)
            self._position = position
            if beat is not None:
                self._beat = max(self._beat, beat)
            self._changed = True
            self._condition.notify_all()

    def add_truncated(self, table: TableName, position: Position) -> None:
        """The origin emptied a table. Its earlier keys stay: what their rows cascaded to is still to be looked up."""
        with self._condition:
            self._contents.truncated.append(table)
            self._position = position
            self._changed = True
            self._condition.notify_all()

    def take(self) -> Snapshot:
        """Everything pending, which counts as backlog until ``finish`` or ``put_back``."""
        with self._condition:
            contents, self._contents = self._contents, _Contents()
            self._changes = 0
            self._changed = False
            self._taken_keys = sum(map(len, contents.keys.values()))
            return Snapshot(contents.keys, contents.moved, tuple(contents.truncated), self._position, self._beat)

    def finish(self) -> None:
        """The last snapshot is equal on both sides."""
        with self._condition:
            self._taken_keys = 0
            self._condition.notify_all()

    def put_back(self, snapshot: Snapshot) -> None:
        """The last snapshot could not be flushed: its keys are pending again, before newer ones."""
        with self._condition:
            for table, keys in snapshot.keys.items():
                self._contents.keys[table] = {**keys, **self._contents.keys.get(table, {})}
            for table, moved in snapshot.moved.items():
                self._contents.moved.setdefault(table, set()).update(moved)
            self._contents.truncated[:0] = snapshot.truncated
            self._taken_keys = 0
            self._changed = True
            self._condition.notify_all()

    @property
    def backlog(self) -> int:
        """Keys not yet equal, those being flushed included."""
        with self._condition:
            return self._taken_keys + sum(map(len, self._contents.keys.values()))

    @property
    def position(self) -> Position:
        """The last transaction boundary delivered."""
        with self._condition:
            return self._position

    @property
    def beat(self) -> int:
        """The last heartbeat delivered."""
        with self._condition:
            return self._beat

    def wait_for_change(self, timeout_seconds: float) -> None:
        """Return when something was added since the last ``take``, or after the timeout."""
        with self._condition:
            self._condition.wait_for(lambda: self._changed, timeout_seconds)

    def wait_out_rush(self) -> None:
        """Return at once unless very many changes arrive very fast, else when they do no longer, or after a quarter second.

        What is still to come is read several times faster than it is flushed, and often changes the same rows again: to
        flush them once is worth the wait. A shop's own changes never come so fast, so they are not held up.
        """
        with self._condition:
            if self._changes < RUSH_CHANGES:
                return
            for _ in range(round(MOST_RUSH_SECONDS / RUSH_SECONDS)):
                before = self._changes
                self._condition.wait_for(lambda: False, RUSH_SECONDS)
                if self._changes - before < RUSH_CHANGES:
                    return

    def wait_for_room(self, should_stop: Callable[[], bool]) -> None:
        """Hold the reader back while too many keys are pending: memory stays bounded, the binlog keeps the rest."""
        with self._condition:
            while not should_stop():
                waiting = self._taken_keys + sum(map(len, self._contents.keys.values()))
                if waiting < self._most_keys and not self._contents.truncated:
                    return
                self._condition.wait(0.1)

    def wake(self) -> None:
        """Let waiting threads look at their stop conditions."""
        with self._condition:
            self._changed = True
            self._condition.notify_all()
