"""The rules of the lint, one family a file; ``judge`` finds the one that counts for a change.

A change without a rule is refused, so that a kind of change cannot be added and forgotten here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dbmigrate.domain.lanes import Verdict
from dbmigrate.lanes import changes
from dbmigrate.lanes.rules import adding_columns, changing_columns, dropping, keys, rows_and_programs, tables
from dbmigrate.lanes.rules.rule import Rule, Surroundings

RULES: tuple[Rule, ...] = (
    *adding_columns.RULES, *changing_columns.RULES, *dropping.RULES, *keys.RULES, *tables.RULES, *rows_and_programs.RULES,
)  # fmt: skip
"""Every rule, for the documentation."""

_JUDGES: Mapping[type[changes.Change], Callable[[Any, Surroundings], Verdict]] = {
    changes.AddColumn: adding_columns.judge_added_column,
    changes.ModifyColumn: changing_columns.judge_modified_column,
    changes.SetDefault: changing_columns.judge_set_default,
    changes.SetColumnVisibility: changing_columns.judge_column_visibility,
    changes.RenameColumn: dropping.judge_renamed_column,
    changes.DropColumn: dropping.judge_dropped_column,
    changes.DropTable: dropping.judge_dropped_table,
    changes.RenameTable: dropping.judge_renamed_table,
    changes.TruncateTable: dropping.judge_truncated_table,
    changes.AddKey: keys.judge_added_key,
    changes.DropKey: keys.judge_dropped_key,
    changes.RenameIndex: keys.judge_renamed_index,
    changes.SetIndexVisibility: keys.judge_index_visibility,
    changes.CreateTable: tables.judge_created_table,
    changes.ConvertCharset: tables.judge_converted_charset,
    changes.SetOption: tables.judge_option,
    changes.ChangeRows: rows_and_programs.judge_rows,
    changes.ChangeProgram: rows_and_programs.judge_program,
    changes.Unread: rows_and_programs.judge_unread,
}


def judge(change: changes.Change, surroundings: Surroundings) -> Verdict:
    """The class of one change."""
    found = _JUDGES.get(type(change))
    if found is None:
        return rows_and_programs.UNREAD.verdict(cause=f"no rule for {type(change).__name__}")
    return found(change, surroundings)
