"""The user's ``dbmigrate.toml`` with the servers exchanged: everything else is rehearsed as it will be run.

What cannot be rehearsed as it stands (times of day, a week of soak, an application that is not there) is replaced, and
every replacement is a note in the report. Pure.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dbmigrate.config import FenceKind
from dbmigrate.config.describing import format_toml
from dbmigrate.domain.routes import Side

_BARE = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class RehearsedServer:
    """Where the move finds a side: a URL without a password, and the file that holds it."""

    url: str
    password_file: str


@dataclass(frozen=True, slots=True)
class RehearsedConfiguration:
    """The text of the rehearsal's configuration, and what was replaced."""

    text: str
    notes: tuple[str, ...]


def build_configuration(
    written: Mapping[str, Any], servers: Mapping[Side, RehearsedServer], *, soak_seconds: float, with_app: bool
) -> RehearsedConfiguration:
    """The rehearsal's configuration, from the user's as TOML gives it (checked before)."""
    content, notes = copy.deepcopy(dict(written)), list[str]()
    for side, server in servers.items():
        content[side.value] = {"url": server.url, "password_file": server.password_file, "tls": False}
    _replace_application(content, notes, with_app=with_app)
    _replace_times(content, notes, soak_seconds)
    # The rehearsal itself says yes, when faults have been injected and all is caught up.
    content.setdefault("cutover", {})["approval"] = "required"
    return RehearsedConfiguration(format_configuration(content), tuple(notes))


def _replace_application(content: dict[str, Any], notes: list[str], *, with_app: bool) -> None:
    app, cutover = content.get("app", {}), content.setdefault("cutover", {})
    if with_app:
        return
    if app.get("enabled"):
        content["app"] = {**app, "enabled": False}
        notes.append(
            "[app] enabled was taken as false: no application with dbmigrate.app takes part, so dual_write, shadow_read "
            "and ramp_reads are not rehearsed (--with-app, with a workload that uses the library)"
        )
    if cutover.get("fence") == FenceKind.APP.value:
        cutover["fence"] = FenceKind.READ_ONLY.value
        notes.append('[cutover] fence = "app" was replaced by "read_only", for the same reason')


def _replace_times(content: dict[str, Any], notes: list[str], soak_seconds: float) -> None:
    throttle = content.setdefault("throttle", {})
    if "max_source_write_ms" not in throttle:  # throwaway servers share a machine with their load, and would wait for it
        if throttle.get("max_source_write_factor"):
            notes.append("[throttle] max_source_write_factor was ignored: the servers share this machine with their load")
        throttle["max_source_write_factor"] = 0
    if throttle.pop("windows", None):
        notes.append("[throttle] windows were ignored: the copy ran at once")
    if throttle.pop("max_replica_lag_seconds", None) is not None:
        notes.append("[throttle] max_replica_lag_seconds was ignored: throwaway servers have no replicas")
    gates = content.get("gates", {})
    if gates.get("min_soak_seconds", 0) > soak_seconds:
        notes.append(f"[gates] min_soak_seconds was shortened from {gates['min_soak_seconds']:g} to {soak_seconds:g}")
        gates["min_soak_seconds"] = float(soak_seconds)


def format_configuration(content: Mapping[str, Any]) -> str:
    """TOML: every table of the file under its heading."""
    lines: list[str] = []
    for name, table in content.items():
        _format_table((name,), table, lines)
    return "\n".join(lines) + "\n"


def _format_table(path: tuple[str, ...], table: Mapping[str, Any], lines: list[str]) -> None:
    below = {key: value for key, value in table.items() if isinstance(value, dict)}
    lines.append(f"[{'.'.join(map(_format_key, path))}]")
    lines += [f"{_format_key(key)} = {_format(value)}" for key, value in table.items() if key not in below]
    for key, value in below.items():
        _format_table((*path, key), value, lines)


def _format_key(key: str) -> str:
    return key if _BARE.fullmatch(key) else json.dumps(key, ensure_ascii=False)


def _format(value: object) -> str:
    return format_toml(value)
