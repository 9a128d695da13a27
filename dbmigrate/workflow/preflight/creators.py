"""Whether triggers and functions may be created while the binlog is on."""

from __future__ import annotations

from dbmigrate.config import FenceKind
from dbmigrate.domain.schema import ObjectKind
from dbmigrate.mysql.sessions import Session
from dbmigrate.workflow.preflight.finding import Finding, Severity, Surroundings
from dbmigrate.workflow.preflight.privileges import parse_grants, read_grants
from dbmigrate.workflow.preflight.reading import is_on, read_variables


def check_creators(s: Surroundings) -> list[Finding]:
    """With the binlog on, servers let only SUPER create triggers and functions, or everybody by a setting."""
    has_own = bool(s.source_schema.of_kind(ObjectKind.TRIGGER, ObjectKind.FUNCTION))
    if not has_own and s.config.cutover.fence not in (FenceKind.LOCK_TABLES, FenceKind.APP):
        return []
    return [finding for session in (s.source, s.target) for finding in _check_server(session)]


def _check_server(session: Session) -> list[Finding]:
    if is_on(
        read_variables(session, ["log_bin_trust_function_creators"]).get("log_bin_trust_function_creators", "OFF")
    ):
        return []
    held = parse_grants(read_grants(session)).get(None, set())
    if held & {"SUPER", "ALL PRIVILEGES", "ALL"}:
        return []
    return [
        Finding(
            "creators",
            Severity.OBSTACLE,
            session.place,
            "the account may not create triggers and functions while the binlog is on",
            "SET GLOBAL log_bin_trust_function_creators = ON",
        )
    ]
