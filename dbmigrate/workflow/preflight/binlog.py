"""The binlogs: the source's feeds the move, the target's the way back."""

from __future__ import annotations

from dbmigrate.domain.flavours import ServerVersion
from dbmigrate.mysql.sessions import Session
from dbmigrate.workflow.preflight.finding import Finding, Severity, Surroundings
from dbmigrate.workflow.preflight.reading import is_on, read_rows, read_variables

_NAMES = (
    "log_bin", "binlog_format", "binlog_order_commits", "binlog_row_image", "server_id", "log_replica_updates",
    "log_slave_updates",
)  # fmt: skip


def check_binlog(s: Surroundings) -> list[Finding]:
    """On, in ROW format, unfiltered, committing in order, on both servers."""
    return [
        *_check_server(s.source, s.source_version, s.config.source.schema, "the stream reads"),
        *_check_server(s.target, s.target_version, s.config.target.schema, "the way back needs"),
    ]


def _check_server(session: Session, version: ServerVersion, schema: str, why: str) -> list[Finding]:
    found = read_variables(session, _NAMES)
    findings: list[Finding] = []

    def obstacle(message: str, remedy: str) -> None:
        findings.append(Finding("binlog", Severity.OBSTACLE, session.place, message, remedy))

    if not is_on(found.get("log_bin", "OFF")):
        obstacle(f"the binlog is off, and {why} it", "set log_bin in the server's configuration and restart it")
        return findings
    if found.get("binlog_format", "ROW").upper() != "ROW":
        obstacle(
            f"binlog_format is {found['binlog_format']}, and {why} row events (ROW)",
            "SET GLOBAL binlog_format = 'ROW'; then let the application reconnect",
        )
    if found.get("server_id") == "0":
        obstacle("server_id is 0, and such a server serves no binlog", "SET GLOBAL server_id = <a number of its own>")
    if not version.is_mariadb and not is_on(found.get("binlog_order_commits", "ON")):
        obstacle(
            "binlog_order_commits is OFF, so a heartbeat proves nothing about earlier commits",
            "SET GLOBAL binlog_order_commits = ON",
        )
    findings += _check_filters(session, version, schema)
    findings += _check_replica(session, version, found)
    return findings


def _check_filters(session: Session, version: ServerVersion, schema: str) -> list[Finding]:
    rows = read_rows(session, version.binlog_status_statement)
    if not rows:
        return []
    does, ignores = (set(filter(None, part.split(","))) for part in (rows[0][2], rows[0][3]))
    wanted = {schema, "_dbmigrate"}
    if (does and not wanted <= does) or wanted & ignores:
        return [
            Finding(
                "binlog", Severity.OBSTACLE, session.place, f"binlog filters leave out {schema} or _dbmigrate",
                "remove binlog_do_db and binlog_ignore_db from the server's configuration and restart it",
            )
        ]  # fmt: skip
    return []


def _check_replica(session: Session, version: ServerVersion, found: dict[str, str]) -> list[Finding]:
    statement = "SHOW ALL SLAVES STATUS" if version.is_mariadb else "SHOW REPLICA STATUS"
    updates = found.get("log_replica_updates", found.get("log_slave_updates", "ON"))
    if is_on(updates) or not read_rows(session, statement):
        return []
    return [
        Finding(
            "binlog", Severity.OBSTACLE, session.place, "it is a replica that does not log what it replicates",
            "set log_slave_updates = ON in its configuration and restart it",
        )
    ]  # fmt: skip
