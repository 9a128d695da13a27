"""What our two accounts must be allowed to do, and the exact GRANT for what is missing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from dbmigrate.config import FenceKind
from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.domain.schema import Table
from dbmigrate.mysql.identifiers import quote_identifier
from dbmigrate.mysql.sessions import Session
from dbmigrate.workflow.preflight.finding import Finding, Severity, Surroundings
from dbmigrate.workflow.preflight.reading import read_rows

_DATA = ("SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "ALTER", "DROP", "INDEX", "REFERENCES")
_OBJECTS = ("CREATE VIEW", "SHOW VIEW", "CREATE ROUTINE", "ALTER ROUTINE", "EXECUTE", "TRIGGER", "EVENT", "LOCK TABLES")
_CONTROL = ("SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "ALTER", "DROP", "INDEX")


@dataclass(frozen=True, slots=True)
class Requirement:
    """Privileges on a scope: a database, or everything (None)."""

    schema: str | None
    privileges: frozenset[str]


_WARNED_OF = frozenset({"utf8mb3", "utf8", "ucs2"})


def has_keys_warned_of(tables: Iterable[Table]) -> bool:
    """Whether MySQL warns of every literal of some table's key, because it calls the charset deprecated."""
    return any(column.charset in _WARNED_OF for table in tables for column in table.key_columns)


def required_privileges(
    schema: str, version: ServerVersion, fence: FenceKind, *, sees_many_warnings: bool = False
) -> tuple[Requirement, ...]:
    """What an account needs on either side: both may give up and take over ownership."""
    everywhere = {"PROCESS", "REPLICATION SLAVE"}
    everywhere.add("BINLOG MONITOR" if version.is_mariadb else "REPLICATION CLIENT")
    if version.is_mariadb:
        # READ_ONLY ADMIN is spelt with a blank where SHOW GRANTS prints it; SUPER held it before 10.11.
        everywhere.add("SLAVE MONITOR")  # whether the server is itself a replica
        everywhere.add("READ ONLY ADMIN" if fence is FenceKind.READ_ONLY else "PROCESS")
    elif fence is FenceKind.READ_ONLY:
        everywhere |= {"SYSTEM_VARIABLES_ADMIN", "CONNECTION_ADMIN"}
    if sees_many_warnings and not version.is_mariadb:
        everywhere.add("SESSION_VARIABLES_ADMIN")
    return (
        Requirement(None, frozenset(everywhere)),
        Requirement(schema, frozenset(_DATA + _OBJECTS)),
        Requirement(
            "_dbmigrate", frozenset((*_CONTROL, "LOCK TABLES") if fence is FenceKind.LOCK_TABLES else _CONTROL)
        ),
    )


_GRANT = re.compile(r"^GRANT (?P<what>.+?) ON (?P<scope>\S+) TO ", re.IGNORECASE)
_REVOKE = re.compile(r"^REVOKE (?P<what>.+?) ON (?P<scope>\S+) FROM ", re.IGNORECASE)


def parse_grants(lines: Iterable[str]) -> dict[str | None, set[str]]:
    """Privileges by database pattern (None: everywhere) from SHOW GRANTS; column and object grants are left out."""
    granted: dict[str | None, set[str]] = {}
    for line in lines:
        match = _GRANT.match(line)
        if match and not re.match(r"(?i)GRANT\s+[`'\"]", line):
            scope = _parse_scope(match["scope"])
            if scope is not _OBJECT:
                names = {name.strip().upper() for name in re.sub(r"\([^)]*\)", "", match["what"]).split(",")}
                granted.setdefault(scope, set()).update(names)
    return granted


def parse_revokes(lines: Iterable[str]) -> dict[str, set[str]]:
    """MySQL's partial revokes: privileges taken away again on single databases."""
    revoked: dict[str, set[str]] = {}
    for line in lines:
        match = _REVOKE.match(line)
        scope = _parse_scope(match["scope"]) if match else None
        if match and scope:
            revoked.setdefault(scope, set()).update(name.strip().upper() for name in match["what"].split(","))
    return revoked


_OBJECT = ""
"""The scope of a grant on a single table or routine."""


def _parse_scope(text: str) -> str | None:
    """A database pattern, None for everything, ``_OBJECT`` for a single object."""
    if text == "*.*":
        return None
    match = re.fullmatch(r"`((?:[^`]|``)+)`\.\*", text)
    return match[1].replace("``", "`") if match else _OBJECT


def _matches(pattern: str, schema: str) -> bool:
    """Database names in grants are LIKE patterns: ``_`` and ``%`` are wildcards unless escaped."""
    expression, escaped = "", False
    for character in pattern:
        if escaped or character not in "\\_%":
            expression, escaped = expression + re.escape(character), False
        elif character == "\\":
            escaped = True
        else:
            expression += "." if character == "_" else ".*"
    return re.fullmatch(expression, schema) is not None


def find_missing(
    requirement: Requirement, granted: dict[str | None, set[str]], revoked: dict[str, set[str]]
) -> set[str]:
    """The privileges of a requirement that the grants do not give."""
    held = set(granted.get(None, set()))
    if requirement.schema is not None:
        held -= revoked.get(requirement.schema, set())
        for pattern, names in granted.items():
            if pattern is not None and _matches(pattern, requirement.schema):
                held |= names
    if held & {"ALL PRIVILEGES", "ALL"}:
        return set()
    aliases = {"SLAVE MONITOR": {"REPLICA MONITOR", "SUPER"}, "READ ONLY ADMIN": {"READ_ONLY ADMIN", "SUPER"}, "BINLOG MONITOR": {"REPLICATION CLIENT", "SUPER"},
               "SYSTEM_VARIABLES_ADMIN": {"SUPER"}, "CONNECTION_ADMIN": {"SUPER"},
               "SESSION_VARIABLES_ADMIN": {"SYSTEM_VARIABLES_ADMIN", "SUPER"}}  # fmt: skip
    return {p for p in requirement.privileges if p not in held and not aliases.get(p, set()) & held}


def check_privileges(s: Surroundings) -> list[Finding]:
    """One finding an account, with the statements that grant all that is missing."""
    fence, many = s.config.cutover.fence, has_keys_warned_of(s.tables)
    sides = (
        (s.source, s.config.source.schema, s.source_version),
        (s.target, s.config.target.schema, s.target_version),
    )
    return [
        finding
        for session, schema, version in sides
        for finding in _check_account(
            session, required_privileges(schema, version, fence, sees_many_warnings=many)
        )
    ]


def _check_account(session: Session, requirements: tuple[Requirement, ...]) -> list[Finding]:
    lines = read_grants(session)
    granted, revoked = parse_grants(lines), parse_revokes(lines)
    account = read_rows(session, "SELECT CURRENT_USER()")[0][0]
    user, _, host = account.rpartition("@")
    statements, named = [], set()
    for requirement in requirements:
        missing = find_missing(requirement, granted, revoked)
        if missing:
            named |= missing
            scope = f"{quote_identifier(requirement.schema)}.*" if requirement.schema else "*.*"
            statements.append(f"GRANT {', '.join(sorted(missing))} ON {scope} TO '{user}'@'{host}'")
    if not statements:
        return []
    return [
        Finding(
            "privileges", Severity.OBSTACLE, session.place, f"the account {account} lacks {', '.join(sorted(named))}",
            "; ".join(statements),
        )
    ]  # fmt: skip


def read_grants(session: Session) -> list[str]:
    """Our own grants, those of active roles included."""
    rows = read_rows(session, "SHOW GRANTS")
    return [row[0] for row in rows]
