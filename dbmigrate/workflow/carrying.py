"""What changes sides at the switch besides ownership: triggers, events, AUTO_INCREMENT and sequences.

Triggers and events live only on the side that owns the data, else they would fire on streamed rows. Their
definitions are saved before they are removed anywhere, so the way back puts the source's own ones back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.domain.routes import Side
from dbmigrate.domain.schema import ObjectKind, Schema, StoredObject, TableName
from dbmigrate.mysql.counters import (
    build_auto_increment,
    build_sequence_set,
    find_behind,
    read_auto_increments,
    read_sequences,
)
from dbmigrate.mysql.definitions import translate_object
from dbmigrate.mysql.fence import GUARD_PREFIX
from dbmigrate.mysql.identifiers import quote_identifier, quote_string
from dbmigrate.mysql.servers import Server
from dbmigrate.mysql.sessions import EXACT_SQL_MODE, Session


@dataclass(frozen=True, slots=True)
class Program:
    """A trigger or event: how it is made on each side. ``is_enabled`` is an event's state on the owner."""

    kind: str
    name: str
    is_enabled: bool
    on_source: tuple[str, ...]
    on_target: tuple[str, ...]

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Program:
        """What ``asdict`` wrote."""
        return cls(**{**content, "on_source": tuple(content["on_source"]), "on_target": tuple(content["on_target"])})

    def statements(self, side: Side) -> tuple[str, ...]:
        """How it is created on a side."""
        return self.on_source if side is Side.SOURCE else self.on_target


def build_programs(
    source: Schema, tables: Sequence[TableName], *, source_version: ServerVersion, target_version: ServerVersion,
    target_schema: str,
) -> tuple[Program, ...]:  # fmt: skip
    """The triggers of the moving tables and the events of the source's schema, with both sides' statements."""
    moving = set(tables)
    chosen = [
        stored
        for stored in source.of_kind(ObjectKind.TRIGGER, ObjectKind.EVENT)
        if not stored.name.name.startswith(GUARD_PREFIX) and (stored.table is None or stored.table in moving)
    ]
    return tuple(_build_program(s, source, source_version, target_version, target_schema) for s in chosen)


def _build_program(
    stored: StoredObject, source: Schema, source_version: ServerVersion, target_version: ServerVersion, target: str
) -> Program:
    there = translate_object(
        stored, source=source_version, target=target_version, source_schema=source.name, target_schema=target
    )
    here = translate_object(
        stored, source=source_version, target=source_version, source_schema=source.name, target_schema=source.name
    )
    return Program(
        stored.kind.value, stored.name.name, stored.is_enabled,
        tuple(here), tuple(there),
    )  # fmt: skip


def dump_programs(programs: Sequence[Program]) -> dict[str, Any]:
    """As evidence content."""
    return {"programs": [asdict(program) for program in programs]}


def load_programs(content: Mapping[str, Any]) -> tuple[Program, ...]:
    """From evidence content."""
    return tuple(Program.from_json(one) for one in content["programs"])


# --- programs on a side -------------------------------------------------------------------------------------------


def prepare_events(session: Session, programs: Sequence[Program], side: Side, schema: str) -> None:
    """Create the events, disabled as their translation has them, on the side that will own the data: before the write pause, since DDL is slow."""
    session.execute(f"USE {quote_identifier(schema)}")
    for program in _of_kind(programs, ObjectKind.EVENT):
        session.execute(_drop(program, schema))
        for statement in program.statements(side):
            session.execute(statement, doing=f"creating event {program.name}")
    _restore_session(session)


def create_triggers(session: Session, programs: Sequence[Program], side: Side, schema: str) -> None:
    """Create the triggers on the side that will own the data: inside the pause, else they fire on streamed rows."""
    session.execute(f"USE {quote_identifier(schema)}")
    for program in _of_kind(programs, ObjectKind.TRIGGER):
        session.execute(_drop(program, schema))
        for statement in program.statements(side):
            session.execute(statement, doing=f"creating trigger {program.name}")
    _restore_session(session)


def _of_kind(programs: Sequence[Program], kind: ObjectKind) -> list[Program]:
    return [program for program in programs if program.kind == kind.value]


def _restore_session(session: Session) -> None:
    session.execute("SET NAMES utf8mb4")
    session.execute(f"SET SESSION sql_mode = {quote_string(EXACT_SQL_MODE)}")


def disable_events(session: Session, programs: Sequence[Program], schema: str) -> None:
    """Stop the events on the side that gives up ownership; they write, too."""
    for program in programs:
        if program.kind == ObjectKind.EVENT.value and program.is_enabled:
            session.execute(f"ALTER EVENT {_name(program, schema)} DISABLE", doing=f"event {program.name}")


def enable_events(session: Session, programs: Sequence[Program], schema: str) -> None:
    """Undo ``disable_events``."""
    for program in programs:
        if program.kind == ObjectKind.EVENT.value and program.is_enabled:
            session.execute(f"ALTER EVENT {_name(program, schema)} ENABLE", doing=f"event {program.name}")


def drop_triggers(session: Session, programs: Sequence[Program], schema: str) -> None:
    """Remove the triggers from a side that receives streamed rows."""
    for program in programs:
        if program.kind == ObjectKind.TRIGGER.value:
            session.execute(f"DROP TRIGGER IF EXISTS {_name(program, schema)}", doing=f"trigger {program.name}")


def drop_events(session: Session, programs: Sequence[Program], schema: str) -> None:
    """Remove the events that a switch created, when it is undone."""
    for program in programs:
        if program.kind == ObjectKind.EVENT.value:
            session.execute(_drop(program, schema), doing=f"event {program.name}")


def _name(program: Program, schema: str) -> str:
    return f"{quote_identifier(schema)}.{quote_identifier(program.name)}"


def _drop(program: Program, schema: str) -> str:
    return f"DROP {program.kind.upper()} IF EXISTS {_name(program, schema)}"


# --- counters -----------------------------------------------------------------------------------------------------


def find_counters_behind(
    origin: Server, destination: Server, names: Mapping[TableName, TableName], sequences: Mapping[TableName, TableName]
) -> list[str]:
    """The statements that raise AUTO_INCREMENT and sequence values of the destination to the origin's; repeatable.

    ``names`` and ``sequences`` map the origin's names to the destination's. Executed once before the write pause, so
    that inside it hardly anything is left.
    """
    if not names and not sequences:
        return []
    with origin.pool.borrow() as session:
        wanted: dict[TableName, int] = {}
        for schema in sorted({table.schema for table in names}):
            wanted |= read_auto_increments(session, origin.version, schema)
        sequence_values = read_sequences(session, list(sequences))
    with destination.pool.borrow() as session:
        present: dict[TableName, int] = {}
        for schema in sorted({table.schema for table in names.values()}):
            present |= read_auto_increments(session, destination.version, schema)
        behind = find_behind({names[t]: v for t, v in wanted.items() if t in names}, present)
    statements = [build_auto_increment(table, value) for table, value in behind.items()]
    return statements + [build_sequence_set(sequences[name], value) for name, value in sequence_values.items()]
