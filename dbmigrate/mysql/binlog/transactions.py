"""The order of events: which transaction a row belongs to, and where a reader may start again.

Takes framed events, collects keys by table and moves the position from one transaction boundary to the next.
It is apart from the connection so that recorded or hand-made events can be judged without a server. Whatever
is not understood stops it.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from dbmigrate.domain.errors import FatalError
from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.domain.positions import Position
from dbmigrate.domain.schema import Table, TableName
from dbmigrate.mysql.binlog.deliveries import Delivery, PositionLost, SchemaChanged, Truncated
from dbmigrate.mysql.binlog.events import (
    FLAG_ARTIFICIAL,
    FLAG_IGNORABLE,
    HEADER_BYTES,
    ROW_EVENTS,
    SKIPPED_EVENTS,
    EventType,
    MalformedEvent,
    Query,
    parse_query,
    parse_rotate,
    parse_transaction_payload,
    parse_xa_prepare,
)
from dbmigrate.mysql.binlog.gtids import MariadbGtids, MysqlGtids, parse_tagged_gtid
from dbmigrate.mysql.binlog.packets import Batch, PayloadStream
from dbmigrate.mysql.binlog.queries import Classifier, Meaning, Verdict
from dbmigrate.mysql.binlog.rows import KeySink, TableDecoder, parse_table_map, parse_table_name, refuse_table

_QUERY_HEAD = struct.Struct("<8xB2xH")
_MYSQL_GTID = struct.Struct("<x16sQ")
_MARIADB_GTID = struct.Struct("<I10xQIB")  # from the server id in the event's header on
_MARIADB_GTID_AHEAD = HEADER_BYTES - 5
_FL_STANDALONE, _FL_GROUP_COMMIT_ID, _FL_PREPARED_XA = 1, 2, 64
_DUMMY_TABLE_ID = b"\xff\xff\xff\0\0\0"  # MariaDB ends some statements with a row event of no table
_MOST_TABLE_MAPS = 20_000  # cached by their bytes; a busy server reopens tables under new ids for years

_TABLE_MAP, _XID, _QUERY = int(EventType.TABLE_MAP), int(EventType.XID), int(EventType.QUERY)
_GTID, _MARIADB_GTID_TYPE = int(EventType.GTID), int(EventType.MARIADB_GTID)
_UNSEEN = object()


@dataclass(slots=True)
class _HeldTransaction:
    """A prepared XA transaction: its keys count when it commits. ``before`` is the boundary ahead of it."""

    before: Position
    keys: dict[TableName, list[bytes]] = field(default_factory=dict)
    rows: int = 0


class Changes:
    """Turns events into deliveries. ``restart`` begins anew at a boundary, as after a lost connection.

    Raises:
        FatalError: from ``decode``, for whatever must not be passed over; the place names file and offset.
    """

    def __init__(
        self,
        version: ServerVersion,
        start: Position,
        tables: Mapping[TableName, Table],
        *,
        marks_inserts: Collection[TableName] = (),
    ) -> None:
        self._version = version
        self._classifier = Classifier(tables)
        self._sinks = {
            name: KeySink(table, marks_inserts=name in marks_inserts) for name, table in tables.items()
        }
        self._maps: dict[bytes, TableDecoder | None] = {}
        self.restart(start)

    def restart(self, position: Position) -> None:
        """Forget everything that was collected, and expect the events behind ``position``."""
        self._start, self._is_untouched = position, True
        self._file, self._offset = position.file, position.offset
        self._stream_file = position.file
        self._gtid_set: type[MariadbGtids | MysqlGtids] = MariadbGtids if self._version.is_mariadb else MysqlGtids
        self._gtids: Any = self._gtid_set(position.gtids)
        # A set that begins empty in mid-log lacks what came before: it counts once the head of a file has given it.
        self._knows_gtids = bool(position.gtids)
        self._by_id: dict[bytes, TableDecoder | None] = {}
        self._gtid: tuple[bytes, int] | tuple[bytes, int, str] | tuple[int, int, int] | None = None
        self._in_group = False  # between a transaction's first event and its end
        self._in_transaction = False  # between BEGIN and COMMIT, so statements do not end it
        self._has_started = False
        self._rows = 0
        self._open_rows = 0
        self._events: list[Truncated | SchemaChanged] = []
        self._prepared: dict[str, _HeldTransaction] = {}
        self._xa_set_aside: dict[TableName, list[bytes]] | None = None
        self._xa_rows_before = 0
        self._delivered: Position = position
        self._place = position.offset
        self.payload: PayloadStream | None = None
        for sink in self._sinks.values():
            sink.keys = []

    @property
    def rows(self) -> int:
        """Row changes collected since the last delivery."""
        return self._rows

    @property
    def has_events(self) -> bool:
        """Whether a TRUNCATE or DDL waits to be delivered: nothing more may be decoded before."""
        return bool(self._events)

    @property
    def delivered(self) -> Position:
        """The position of the last delivery: where a new connection has to start."""
        return self._delivered

    def take_delivery(self) -> Delivery | None:
        """What was collected since the last delivery; None if that is nothing at all."""
        position = self._position()
        keys, rows = self._take_keys()
        if not keys and not self._events and position == self._delivered:
            return None
        is_boundary = not self._prepared and (self._xa_set_aside is not None or not self._open_rows)
        delivery = Delivery(keys, tuple(self._events), position, rows, is_boundary)
        self._events, self._delivered = [], position
        return delivery

    def _position(self) -> Position:
        for held in self._prepared.values():
            return held.before
        return self._boundary()

    def _boundary(self) -> Position:
        return Position(self._file, self._offset, str(self._gtids) if self._knows_gtids else "")

    def _take_keys(self) -> tuple[dict[TableName, list[bytes]], int]:
        """What may leave now, and how many row changes that was."""
        if self._xa_set_aside is None:
            rows, self._rows = self._rows, 0
            return self._empty_sinks(), rows
        # The sinks hold keys of an XA transaction that is not decided.
        rows, self._xa_rows_before, self._rows = self._xa_rows_before, 0, 0
        keys, self._xa_set_aside = self._xa_set_aside, {}
        return keys, rows

    def _empty_sinks(self) -> dict[TableName, list[bytes]]:
        keys = {}
        for name, sink in self._sinks.items():
            if sink.keys:
                keys[name] = sink.keys
                sink.keys = []
        return keys

    def decode(self, batch: Batch, index: int) -> int:
        """Take in events from ``index`` on; returns the index of the first that has to wait for the next
        call.

        Stops behind an event to be delivered, and in front of the events inside a transaction payload.
        """
        frames, buffer = batch.frames, batch.buffer
        try:
            return self._decode(buffer, frames, index)
        except (MalformedEvent, IndexError, struct.error, UnicodeDecodeError, ValueError) as error:
            raise FatalError(
                "the binlog cannot be read further",
                place=self._format_place(),
                cause=str(error) or type(error).__name__,
                hint="compare with mysqlbinlog at this place; if the server's log is sound, report this "
                "event. To go on without it: `dbmigrate run --resync`",
            ) from error

    def _decode(self, buffer: bytes, frames: list[tuple[int, int, int, int, int]], index: int) -> int:
        by_id, maps = self._by_id, self._maps
        for place in range(index, len(frames)):
            start, end, kind, log_pos, flags = frames[place]
            if kind in ROW_EVENTS:
                self._place = log_pos
                decoder = by_id.get(buffer[start : start + 6], _UNSEEN)
                if decoder is not None:
                    self._decode_rows(decoder, kind, buffer, start, end)
            elif kind == _TABLE_MAP:
                body = buffer[start:end]
                known = maps.get(body, _UNSEEN)
                if known is _UNSEEN:
                    self._place = log_pos
                    known = self._learn(body)
                by_id[body[:6]] = known  # type: ignore[assignment]  # _UNSEEN was just replaced
            elif kind == _XID:
                self._commit(log_pos)
            elif kind == _MARIADB_GTID_TYPE:
                self._place = log_pos
                self._begin_mariadb(buffer, start, end)
            elif kind == _GTID:
                self._place = log_pos
                self._begin_group(_MYSQL_GTID.unpack_from(buffer, start))
            elif kind == _QUERY and self._is_begin(buffer, start, end):
                self._in_transaction = True
            else:
                self._place = log_pos
                self._take_rare(kind, flags, buffer[start:end], log_pos)
                if self._events or self.payload is not None:
                    return place + 1
        return len(frames)

    @staticmethod
    def _is_begin(buffer: bytes, start: int, end: int) -> bool:
        """Whether this is MySQL's BEGIN, which heads most transactions."""
        if buffer[end - 6 : end] != b"\0BEGIN":
            return False
        schema_bytes, status_bytes = _QUERY_HEAD.unpack_from(buffer, start)
        return bool(start + 13 + status_bytes + schema_bytes + 6 == end)

    def _decode_rows(self, decoder: object, kind: int, buffer: bytes, start: int, end: int) -> None:
        if not isinstance(decoder, TableDecoder):
            if buffer[start : start + 6] == _DUMMY_TABLE_ID:
                return
            raise MalformedEvent("row event of a table that no table map has introduced")
        try:
            rows = decoder.decode(kind, buffer, start, end)
        except MalformedEvent as error:
            raise refuse_table(decoder.name, self._format_place(), str(error)) from error
        self._rows += rows
        self._open_rows += rows

    def _learn(self, body: bytes) -> TableDecoder | None:
        """The decoder for a new table map; None for a table that is not followed."""
        name = parse_table_name(body)
        sink = self._sinks.get(name)
        if sink is None:
            self._require_no_case_twin(name)
        decoder = None
        if sink is not None:
            try:
                decoder = TableDecoder(parse_table_map(body), sink, hides_hashes=self._version.is_mariadb)
            except MalformedEvent as error:
                raise refuse_table(name, self._format_place(), str(error)) from error
        if len(self._maps) >= _MOST_TABLE_MAPS:
            self._maps.clear()
        self._maps[body] = decoder
        return decoder

    def _require_no_case_twin(self, name: TableName) -> None:
        """No followed table differs from this one in case only: where names ignore case, they may be one."""
        folded = (name.schema.casefold(), name.name.casefold())
        for known in self._sinks:
            if (known.schema.casefold(), known.name.casefold()) == folded:
                raise MalformedEvent(f"rows of {name}, which differs only in case from the followed {known}")

    def _format_place(self) -> str:
        return f"{self._stream_file}:{self._place}"

    # --- transactions ---------------------------------------------------------------------------------------

    def _begin_group(self, gtid: tuple[bytes, int] | tuple[bytes, int, str] | tuple[int, int, int] | None) -> None:
        if self._in_group:
            raise MalformedEvent("a transaction begins before the last one has ended")
        self._is_untouched = False
        self._gtid = gtid
        self._in_group = True

    def _begin_mariadb(self, buffer: bytes, start: int, end: int) -> None:
        server, sequence, domain, flags = _MARIADB_GTID.unpack_from(buffer, start - _MARIADB_GTID_AHEAD)
        self._begin_group((domain, server, sequence))
        self._in_transaction = not flags & _FL_STANDALONE
        if flags & _FL_PREPARED_XA:
            self._begin_xa()

    def _commit(self, log_pos: int) -> None:
        """The transaction ends here: a boundary."""
        self._file, self._offset = self._stream_file, log_pos
        if self._gtid is not None:
            self._gtids.add(*self._gtid)
            self._gtid = None
        self._in_group = self._in_transaction = False
        self._open_rows = 0

    def _begin_xa(self) -> None:
        """Set aside what was collected, so that the sinks take only the keys of this transaction."""
        self._in_transaction = True
        self._xa_set_aside = self._empty_sinks()
        self._xa_rows_before = self._rows

    def _prepare_xa(self, xid: str, log_pos: int, *, commits: bool) -> None:
        if self._xa_set_aside is None:
            raise MalformedEvent(f"XA transaction {xid} is prepared but was not begun")
        keys, rows = self._empty_sinks(), self._open_rows
        for name, older in self._xa_set_aside.items():
            self._sinks[name].keys = older
        self._xa_set_aside = None
        self._rows = self._xa_rows_before
        held = _HeldTransaction(self._boundary(), keys, rows)
        if commits:
            self._deliver_held(held)
        else:
            self._prepared[xid] = held
        self._commit(log_pos)

    def _deliver_held(self, held: _HeldTransaction) -> None:
        for name, keys in held.keys.items():
            self._sinks[name].keys.extend(keys)
        self._rows += held.rows

    def _decide_xa(self, verdict: Verdict, statement: str) -> None:
        held = self._prepared.pop(verdict.xid, None)
        if verdict.meaning is Meaning.XA_ROLLBACK:
            return
        if held is None:
            raise PositionLost(
                f"XA transaction {verdict.xid} commits, but it was prepared before the stream began",
                place=self._format_place(),
                cause="its rows are in a part of the binlog that was not read",
                hint="`dbmigrate run --resync` streams from now and repairs what was missed",
            )
        self._deliver_held(held)

    # --- rare events ----------------------------------------------------------------------------------------

    def _take_rare(self, kind: int, flags: int, body: bytes, log_pos: int) -> None:
        if kind == EventType.QUERY:
            self._take_query(parse_query(body), log_pos)
        elif kind == EventType.MARIADB_QUERY_COMPRESSED:
            self._take_query(parse_query(body, is_compressed=True), log_pos)
        elif kind == EventType.EXECUTE_LOAD_QUERY:
            self._take_query(parse_query(body, is_load=True), log_pos)
        elif kind == EventType.ANONYMOUS_GTID:
            self._begin_group(None)
        elif kind == EventType.GTID_TAGGED:
            self._begin_group(parse_tagged_gtid(body))
        elif kind == EventType.XA_PREPARE:
            xid, commits = parse_xa_prepare(body)
            self._prepare_xa(xid, log_pos, commits=commits)
        elif kind == EventType.TRANSACTION_PAYLOAD:
            self.payload = PayloadStream(parse_transaction_payload(body), log_pos)
        elif kind == EventType.ROTATE:
            self._rotate(*parse_rotate(body), is_artificial=bool(flags & FLAG_ARTIFICIAL))
        elif kind == EventType.FORMAT_DESCRIPTION:
            self._enter_file()
        elif kind in (EventType.PREVIOUS_GTIDS, EventType.MARIADB_GTID_LIST):
            self._learn_gtids(body, is_artificial=bool(flags & FLAG_ARTIFICIAL))
        elif kind == EventType.INCIDENT:
            self._take_incident(log_pos)
        elif kind not in SKIPPED_EVENTS and not flags & FLAG_IGNORABLE:
            raise FatalError(
                f"binlog event type {kind} is not understood",
                place=self._format_place(),
                cause="passing over it could lose changes",
                hint="look at this place with mysqlbinlog; turn off the server feature that writes this "
                "event, `dbmigrate run --resync` streams from now and repairs what was missed",
            )

    def _rotate(self, file: str, offset: int, *, is_artificial: bool) -> None:
        """The next file. The server makes one up when a dump starts and when a file had no proper end."""
        if not is_artificial or (self._has_started and file != self._stream_file):
            self._abandon_group()
            self._file, self._offset = file, offset
        self._stream_file = file

    def _enter_file(self) -> None:
        self._has_started = True
        self._by_id.clear()

    def _learn_gtids(self, body: bytes, *, is_artificial: bool) -> None:
        """The head of a file lists all transactions before it."""
        if not self._knows_gtids and not is_artificial:
            self._gtids = self._gtid_set.decode(body)
            self._knows_gtids = bool(str(self._gtids))

    def _abandon_group(self) -> None:
        """A file that ends inside a transaction was cut by a crash; the server rolled it back."""
        self._gtid = None
        self._in_group = self._in_transaction = False
        if self._xa_set_aside is not None:
            self._empty_sinks()
            for name, older in self._xa_set_aside.items():
                self._sinks[name].keys = older
            self._xa_set_aside = None
        self._open_rows = 0

    def _take_incident(self, log_pos: int) -> None:
        if self._is_untouched and self._stream_file == self._start.file and log_pos <= self._start.offset:
            # MariaDB finds a GTID by reading the file from its head, and sends what belongs to no transaction.
            return
        raise FatalError(
            "the server logged an incident: changes are missing from its binlog",
            place=self._format_place(),
            hint="find its cause in the server's error log; then `dbmigrate run --resync`, which streams from now and repairs what was missed",
        )

    # --- statements -----------------------------------------------------------------------------------------

    def _take_query(self, query: Query, log_pos: int) -> None:
        verdict = self._classifier.judge(query)
        meaning = verdict.meaning
        if meaning is Meaning.BEGIN:
            self._in_transaction = True
            return
        if meaning is Meaning.XA_START:
            self._begin_xa()
            return
        if meaning is Meaning.ROWS_AS_STATEMENT:
            self._refuse_statement(query)
        if meaning in (Meaning.XA_COMMIT, Meaning.XA_ROLLBACK):
            self._decide_xa(verdict, query.statement)
            self._in_transaction = False
        if meaning is Meaning.COMMIT or not self._in_transaction:
            self._commit(log_pos)
        if meaning is Meaning.TRUNCATED:
            self._events.append(Truncated(verdict.tables[0], self._boundary()))
        elif meaning is Meaning.SCHEMA_CHANGED:
            self._events.append(SchemaChanged(query.statement, query.schema, verdict.tables, self._boundary()))

    def _refuse_statement(self, query: Query) -> None:
        statement = query.statement if len(query.statement) <= 200 else f"{query.statement[:200]}..."
        raise FatalError(
            "rows of a followed database were changed by a statement, without row events",
            place=self._format_place(),
            cause=f"in database {query.schema or '(none)'}: {statement}",
            hint="find the session that sets binlog_format and make it ROW; then `dbmigrate run --resync`, which "
            "streams from now and repairs what was missed",
        )
