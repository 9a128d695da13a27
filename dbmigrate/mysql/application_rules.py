"""What the configuration says to every instance of the application, left for them in a control table.

Apart from the fence row, which write transactions lock and which therefore stays small: these are read in the background,
and a change takes effect within seconds, without an epoch.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy.dialects.mysql import insert as insert_into

from dbmigrate.mysql.control_tables import ASCII, TEXT, declare_table

APPLICATION = declare_table(
    "application",
    sa.Column("migration_id", ASCII, primary_key=True),
    sa.Column("rules", TEXT, nullable=False),
)


@dataclass(frozen=True, slots=True)
class ApplicationRules:
    """The part of ``[app]`` that instances follow by themselves, under the names of the configuration."""

    strict: bool = False
    shadow_threads: int = 2
    shadow_queue: int = 100
    shadow_timeout_seconds: float = 2.0
    shadow_may_store_values: bool = False
    shadow_ignore: tuple[str, ...] = ()
    shadow_ignore_statements: tuple[str, ...] = ()

    def to_json(self) -> str:
        """As the control table keeps it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of ``to_json``; what another version wrote beyond that is left out."""
        given: dict[str, Any] = json.loads(text)
        known = {each.name: given[each.name] for each in fields(cls) if each.name in given}
        lists = {name: tuple(value) for name, value in known.items() if isinstance(value, list)}
        return cls(**{**known, **lists})


def save_rules(connection: sa.Connection, migration_id: str, rules: ApplicationRules) -> None:
    """Replace the rules, in the caller's transaction."""
    insert = insert_into(APPLICATION).values(migration_id=migration_id, rules=rules.to_json())
    connection.execute(insert.on_duplicate_key_update(rules=insert.inserted.rules))


def load_rules(connection: sa.Connection, migration_id: str) -> ApplicationRules:
    """The rules; the defaults before the runner has written any."""
    query = sa.select(APPLICATION.c.rules).where(APPLICATION.c.migration_id == migration_id)
    text = connection.execute(query).scalar()
    return ApplicationRules() if text is None else ApplicationRules.from_json(text)
