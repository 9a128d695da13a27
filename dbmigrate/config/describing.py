"""What each key accepts, in words: one list of options, read from the models.

Apart from the models because three readers need it (error messages, the template, ``docs/configuration.md``)
and none of them may drift from what is really checked.
"""

from __future__ import annotations

import inspect
import json
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from dbmigrate.config.fields import Accepts
from dbmigrate.config.models import Config
from dbmigrate.config.windows import TimeWindow

TABLE_PLACEHOLDER = "NAME"

_KIND_WORDS: Mapping[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
}


@dataclass(frozen=True, slots=True)
class Option:
    """One key. ``default`` and ``example`` are TOML text; empty where there is none."""

    key: str
    accepts: str
    is_private: bool
    is_required: bool
    default: str
    example: str
    description: str


@dataclass(frozen=True, slots=True)
class OptionTable:
    """One table of the file. ``name`` is as in its header; a table's own name stands as NAME."""

    name: str
    description: str
    options: tuple[Option, ...]


def list_tables() -> tuple[OptionTable, ...]:
    """Every table that may be written, in the order of the file."""
    return tuple(_walk(Config))


def _walk(model: type[BaseModel], prefix: str = "") -> Iterator[OptionTable]:
    for key, field in _fields(model).items():
        section, is_by_name = section_of(field)
        if section is None:
            continue
        if is_by_name:
            yield from _table(section, f"{prefix}{TABLE_PLACEHOLDER}")
        else:
            yield from _table(section, f"{prefix}{key}")


def _table(model: type[BaseModel], name: str) -> Iterator[OptionTable]:
    options = tuple(describe(key, field) for key, field in _fields(model).items())
    yield OptionTable(name, inspect.cleandoc(model.__doc__ or ""), options)
    yield from _walk(model, f"{name}.")


def known_keys(model: type[BaseModel]) -> tuple[str, ...]:
    """The keys of ``model`` as they are written in the file."""
    return tuple(_fields(model))


def find_field(path: Sequence[str | int]) -> tuple[type[BaseModel], FieldInfo | None]:
    """The innermost model on ``path`` and the field its next part names (None: there is no such key)."""
    model: type[BaseModel] = Config
    field: FieldInfo | None = None
    parts = [str(part) for part in path]
    while parts:
        key, *parts = parts
        field = _fields(model).get(key)
        section, is_by_name = section_of(field) if field else (None, False)
        if section is None or len(parts) <= int(is_by_name):
            break
        model, parts = section, parts[int(is_by_name) :]
    return model, field


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


def section_of(field: FieldInfo) -> tuple[type[BaseModel] | None, bool]:
    """The model of the table that ``field`` holds, and whether it holds one for every name."""
    kind, _ = _unwrap(field.annotation, field.metadata)
    if get_origin(kind) is Mapping:
        inner, _ = _unwrap(get_args(kind)[1], [])
        return (inner, True) if _is_model(inner) else (None, False)
    return (kind, False) if _is_model(kind) else (None, False)


def _is_model(kind: Any) -> bool:
    return inspect.isclass(kind) and issubclass(kind, BaseModel)


def _unwrap(annotation: Any, metadata: Sequence[Any]) -> tuple[Any, list[Any]]:
    """The type below ``Annotated`` and ``| None``, and all metadata, outermost first."""
    found = list(metadata)
    while True:
        origin, arguments = get_origin(annotation), get_args(annotation)
        if origin is Annotated:
            annotation, inner = arguments[0], arguments[1:]
            found.extend(reversed(inner))
        elif origin in (Union, types.UnionType):
            annotation = next(a for a in arguments if a is not type(None))
        else:
            return annotation, found


def describe(key: str, field: FieldInfo) -> Option:
    """What there is to say about one key."""
    kind, metadata = _unwrap(field.annotation, field.metadata)
    accepts = next((m for m in metadata if isinstance(m, Accepts)), None)
    default = field.get_default(call_default_factory=True)
    has_default = default is not PydanticUndefined and default is not None
    examples = field.examples or ()
    return Option(
        key=key,
        accepts=accepts.words if accepts else _accepted_words(kind, metadata),
        is_private=accepts is not None and accepts.is_private,
        is_required=field.is_required(),
        default=format_toml(default) if has_default else "",
        example=format_toml(examples[0]) if examples else "",
        description=field.description or "",
    )


def describe_item(field: FieldInfo) -> str:
    """What one element of a list, or one value of a table, accepts."""
    kind, _ = _unwrap(field.annotation, field.metadata)
    item, metadata = _unwrap(get_args(kind)[int(get_origin(kind) is Mapping)], [])
    accepts = next((m for m in metadata if isinstance(m, Accepts)), None)
    return accepts.words if accepts else _accepted_words(item, metadata)


def _accepted_words(kind: Any, metadata: Sequence[Any]) -> str:
    if inspect.isclass(kind) and issubclass(kind, Enum):
        return join_choices([json.dumps(member.value) for member in kind])
    words = _KIND_WORDS.get(kind, "a table")
    above = _bound(metadata, "gt")
    least, most = _bound(metadata, "ge"), _bound(metadata, "le")
    if above is not None:
        words += f" above {above:g}"
    if least is not None:
        words += f" from {least}"
    if most is not None:
        words += f" {'to' if least is not None else 'up to'} {most}"
    return words


def _bound(metadata: Sequence[Any], name: str) -> float | None:
    return next((getattr(m, name) for m in metadata if getattr(m, name, None) is not None), None)


def join_choices(choices: Sequence[str]) -> str:
    """``a, b or c``."""
    return " or ".join(filter(None, [", ".join(choices[:-1]), choices[-1]]))


def format_toml(value: object) -> str:
    """``value`` as it is written behind the equals sign."""
    match value:
        case Enum():
            return format_toml(value.value)
        case bool() | int() | float():
            return str(value).lower()
        case Path() | TimeWindow():
            return format_toml(str(value))
        case Mapping():
            pairs = ", ".join(f"{key} = {format_toml(item)}" for key, item in value.items())
            return f"{{ {pairs} }}" if pairs else "{}"
        case tuple() | list():
            return f"[{', '.join(map(format_toml, value))}]"
        case _:
            # A TOML basic string is a JSON string, but for DEL, which JSON leaves as it is.
            return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
