"""From a file to a ``Config``, or to one error that lists every problem with its place.

Apart from the models because an operator mends a file, not a model: a problem is told by table, key and line,
with what was found, what is accepted and which key was probably meant. No message repeats a value that may
be a secret: neither unknown keys' values, nor anything written where an address or a password belongs.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from dbmigrate.config.describing import (
    describe,
    describe_item,
    find_field,
    join_choices,
    known_keys,
    list_tables,
    section_of,
)
from dbmigrate.config.lines import find_lines
from dbmigrate.config.models import Config
from dbmigrate.domain.errors import ConfigurationError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

Place = tuple[str | int, ...]

_LONGEST_SHOWN = 60
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to mend: where, and what is wrong with it."""

    place: Place
    line: int | None
    complaint: str

    def __str__(self) -> str:
        line = f" (line {self.line})" if self.line else ""
        return f"{format_place(self.place)}{line}: {self.complaint}"


def load_config(path: Path) -> Config:
    """The configuration in ``path``.

    Raises:
        ConfigurationError: it cannot be read, is not TOML, or holds mistakes: all of them are listed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise ConfigurationError(
            "the configuration cannot be read",
            place=str(path),
            cause=fault.strerror or "" if isinstance(fault, OSError) else "it is not UTF-8 text",
            hint="name the file with -c FILE, or write a first one with: dbmigrate init",
        ) from None
    return parse_config(text, place=str(path), directory=path.parent)


def parse_config(text: str, *, place: str, directory: Path) -> Config:
    """The configuration in ``text``; relative paths count from ``directory``.

    Raises:
        ConfigurationError: every mistake at once, named by ``place``.
    """
    try:
        written = tomllib.loads(text)
    except tomllib.TOMLDecodeError as fault:
        # Of the text itself, tomllib repeats single characters and key names only.
        raise ConfigurationError(
            "the configuration is not valid TOML", place=place, cause=str(fault), hint="texts need quotes"
        ) from None
    try:
        return Config.model_validate(written, context={"directory": directory})
    except ValidationError as fault:
        found = fault.errors(include_url=False, include_input=False)
    lines = find_lines(text)
    problems = sorted((_problem(e, written, lines) for e in found), key=lambda p: p.line or 0)
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    raise ConfigurationError(
        "\n  - ".join([f"{count} in the configuration", *map(str, problems)]),
        place=place,
        hint="docs/configuration.md explains every key",
    )


def format_place(place: Place) -> str:
    """``[copy] workers``, ``[throttle] windows[0]``, ``[source]``."""
    if not place:
        return "the file"
    names = [
        part if _BARE_KEY.fullmatch(part) else json.dumps(part) for part in place if isinstance(part, str)
    ]
    indexes = "".join(f"[{part}]" for part in place if isinstance(part, int))
    if len(names) == 1:
        return f"[{names[0]}]{indexes}"
    return f"[{'.'.join(names[:-1])}] {names[-1]}{indexes}"


def _problem(
    error: ErrorDetails, written: Mapping[str, Any], lines: Mapping[tuple[str, ...], int]
) -> Problem:
    place = _place_in_file(error["loc"], written)
    names = tuple(str(part) for part in place if isinstance(part, str))
    line = next((lines[names[:n]] for n in range(len(names), 0, -1) if names[:n] in lines), None)
    return Problem(place, line, _complain(error, _read_at(written, place)))


def _place_in_file(location: Place, written: Mapping[str, Any]) -> Place:
    """``location`` in terms of the file: without the parts that only the models have."""
    parts = [part for part in location if part != "[key]"]
    if parts[:2] == ["tables", "by_name"] and parts[2:3]:
        by_name = written["tables"].get("by_name")
        if not isinstance(by_name, dict) or parts[2] not in by_name:
            del parts[1]
    for depth in range(1, len(parts)):
        if not isinstance(_read_at(written, parts[:depth]), dict | list):
            return tuple(parts[:depth])
    return tuple(parts)


def _read_at(written: Mapping[str, Any], place: Sequence[str | int]) -> Any:
    value: Any = written
    for part in place:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _complain(error: ErrorDetails, value: object) -> str:
    model, field = find_field(error["loc"])
    if error["loc"][-1:] == ("[key]",):
        return "the name is empty"
    match error["type"]:
        case "extra_forbidden":
            return _complain_of_unknown(str(error["loc"][-1]), model)
        case "missing":
            return f"is missing; expected {_expected(error['loc'])}"
        case "value_error":
            reason = str(error.get("ctx", {}).get("error", error["msg"]))
            shown = _show(value, field)
            return f"{shown} {reason}" if shown and isinstance(value, str) else reason
        case _:
            shown = _show(value, field) or _kind(value)
            return f"found {shown}, expected {_expected(error['loc'])}"


def _complain_of_unknown(key: str, model: type[BaseModel]) -> str:
    noun = "table" if model is Config else "key"
    known = known_keys(model)
    if close := difflib.get_close_matches(key, known, n=1):
        return f"unknown {noun}; did you mean {close[0]}?"
    homes = [f"[{table.name}]" for table in list_tables() if key in {o.key for o in table.options}]
    if homes:
        return f"unknown {noun} here; it belongs to {join_choices(homes)}"
    return f"unknown {noun}; known are {', '.join(known)}"


def _expected(location: Place) -> str:
    model, field = find_field(location)
    if field is None:
        return "a table"
    key = str(location[-1])
    return describe(key, field).accepts if key in known_keys(model) else describe_item(field)


def _show(value: object, field: FieldInfo | None) -> str:
    """``value`` as it may be repeated; empty where it may hold a secret or is no plain value."""
    if field is None or section_of(field)[0] is not None or describe("", field).is_private:
        return ""
    match value:
        case bool() | int() | float():
            return str(value).lower()
        case str():
            return json.dumps(value[:_LONGEST_SHOWN] + ("..." if len(value) > _LONGEST_SHOWN else ""))
        case _:
            return ""


def _kind(value: object) -> str:
    match value:
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case dict():
            return "a table"
        case list():
            return "a list"
        case _:
            return "a date or time"
