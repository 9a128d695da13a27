"""The generated part of ``docs/lanes.md``: every rule of the lint with its class, and the sequence to write instead.

Apart from the pages that are generated whole, because the rest of that page is written by hand.
"""

from __future__ import annotations

from collections.abc import Iterator

from dbmigrate.domain.lanes import Lane, Stage
from dbmigrate.lanes.lint import RULES as REVISION_RULES
from dbmigrate.lanes.rules import RULES
from dbmigrate.lanes.rules.rule import EXAMPLE, Rule, Sequence, fill

BEGIN = "<!-- Rules: written by python -m dbmigrate.cli.reference. Change the code, then run it again. -->"
END = "<!-- End of the rules. -->"

_CODE_STAGES = frozenset({Stage.EXPAND, Stage.TIGHTEN, Stage.CONTRACT})
_EXAMPLE = {
    **EXAMPLE, "default": "UUID()", "expression": "quantity * 2", "appended": "state ENUM('placed','paid','sent')",
    "cause": "the reason", "restated": 'op.alter_column("orders", "total", ..., existing_comment="...")',
}  # fmt: skip


def replace_rules(page: str) -> str:
    """``page`` with its generated part as the code has it now.

    Raises:
        ValueError: the marks are not in it.
    """
    before, _, rest = page.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise ValueError("the page has no place for the rules")
    return f"{before}{render_rules()}{after}"


def render_rules() -> str:
    """Both tables and the sequences, between their marks."""
    placed = [rule for rule in RULES if rule.lane is not None]
    refused = [*(rule for rule in RULES if rule.lane is None), *REVISION_RULES]
    parts = [
        BEGIN, "### Placed in a lane", "\n".join(_placed_rows(placed)),
        "### Refused", "\n".join(_refused_rows(refused)),
        "### What to write instead", *_sequences(refused), END,
    ]  # fmt: skip
    return "\n\n".join(parts)


def _placed_rows(rules: list[Rule]) -> Iterator[str]:
    yield "| operation | lane | what to mind | rule |"
    yield "|---|---|---|---|"
    for lane in Lane:
        for rule in (rule for rule in rules if rule.lane is lane):
            yield _row(rule.operation, f"`{lane.value}`", rule.why, f"`{rule.name}`")


def _refused_rows(rules: list[Rule]) -> Iterator[str]:
    yield "| operation | what would lock or break | rule |"
    yield "|---|---|---|"
    for rule in rules:
        yield _row(rule.operation, fill(rule.why, _EXAMPLE), f"`{rule.name}`")


def _row(*cells: str) -> str:
    return " | ".join(["", *(cell.replace("|", r"\|") for cell in cells), ""]).strip()


def _sequences(rules: list[Rule]) -> Iterator[str]:
    """One example for all rules that share a sequence."""
    by_sequence: dict[Sequence, list[str]] = {}
    for rule in rules:
        by_sequence.setdefault(rule.instead, []).append(rule.name)
    for sequence, names in by_sequence.items():
        yield ", ".join(f"`{name}`:" if name == names[-1] else f"`{name}`" for name in names)
        yield "\n".join(_steps(sequence))


def _steps(sequence: Sequence) -> Iterator[str]:
    yield "```python"
    for stage, text in sequence:
        filled = fill(text, _EXAMPLE)
        is_code = stage in _CODE_STAGES or filled.startswith("backfill = ")
        yield f"# {stage.value}" + ("" if is_code else f": {filled}")
        if is_code:
            yield filled
    yield "```"
