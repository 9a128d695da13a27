"""What all sections share: the strict frozen base and the kinds of values a key may hold.

Apart from the sections so that the rules for every value (strict types, hidden input, relative paths) stand
in one place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationInfo


class Section(BaseModel):
    """A table of the file: frozen, strict, and closed to keys it does not know."""

    # hide_input_in_errors: pydantic's own messages would print the URL somebody put a password into.
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, allow_inf_nan=False
    )


@dataclass(frozen=True, slots=True)
class Accepts:
    """What a key accepts, in words, where its type does not say enough.

    The value of an ``is_private`` key is never repeated: people write passwords there by mistake.
    """

    words: str
    is_private: bool = False


def _resolve(path: Path, info: ValidationInfo) -> Path:
    directory = (info.context or {}).get("directory")
    return Path(directory) / path if directory is not None else path


# strict=False on some: TOML has no tuples, paths or enums, so arrays and strings must be let in.
Text = Annotated[str, StringConstraints(min_length=1), Accepts("text")]
Texts = Annotated[tuple[Text, ...], Field(strict=False), Accepts("a list of texts")]
FilePath = Annotated[Path, Field(strict=False), AfterValidator(_resolve), Accepts("a path")]
Expressions = Annotated[Mapping[Text, Text], Accepts("a table of column = SQL expression")]
